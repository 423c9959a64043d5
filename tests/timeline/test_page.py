"""The page, as a learner meets it: in a real browser, from a file, offline."""

import itertools
import json
import re
import time

import pytest

from toolbox.recorder.model import Model
from toolbox.timeline import page, reading

pytestmark = [
    pytest.mark.xdist_group("page"),  # one process: lessons are recorded once
    pytest.mark.timeout(180),  # recording one, and then its page, have limits of their own
]
LESSONS = [
    "01_coroutine_basics/01_greenlet_demo.py",
    "01_coroutine_basics/02_yield_demo.py",
    "02_asyncio_core/01_event_loop_demo.py",
    "02_asyncio_core/03_task_demo.py",
    "02_asyncio_core/05_thread_pool_demo.py",
]
each_lesson = pytest.mark.parametrize("file", LESSONS)

# Walk through all steps, draw some 300 of them; report what is wrong, and the lanes' states at the
# end.
WALK = """() => {
  const wrong = [];
  const stride = Math.ceil(STEPS.length / 300);
  for (let n = 0; n < STEPS.length; n++) {
    if (n % stride === 0) show(n);
    const state = stateAfter(STEPS[n]);
    const perLoop = new Map();
    state.lanes.forEach((lane, T) => {
      const hidden = state.frames.some((frame) => "in" in frame && frame.in === T);
      if (lane.s !== "run" || hidden || LANES[T].lane) return;
      const loop = LANES[T].loop ?? 0;
      if (perLoop.has(loop)) wrong.push(`step ${n}: ${perLoop.get(loop)} and ${T} run`);
      perLoop.set(loop, T);
    });
    for (const queue of state.ready.values()) {
      const tasks = queue.filter((entry) => entry.T != null).map((entry) => entry.T);
      if (new Set(tasks).size !== tasks.length) wrong.push(`step ${n}: a task queues twice`);
    }
    if (!document.getElementById("sentence").textContent) wrong.push(`step ${n}: silence`);
  }
  return { wrong, states: stateAfter(EVENTS.length - 1).lanes.map((lane) => lane.s) };
}"""

# Some hundred states as texts to compare, in the order in which they are visited.
SNAPSHOTS = """(steps) => steps.map((n) => {
  const state = stateAfter(STEPS[n]);
  return JSON.stringify([[...state.ready], [...state.timers], [...state.jobs], state.lanes,
                         state.frames, [...state.asleep], state.outputs, [...state.lines]]);
})"""


def sentence(tab) -> str:
    return re.sub(r"\s+", " ", tab.locator("#sentence").inner_text())


def step(tab) -> int:
    return int(tab.evaluate("document.body.dataset.step"))


def until(tab, condition: str) -> None:
    """Wait until the page says so; Playwright's own way needs eval, which the page forbids."""
    deadline = time.monotonic() + 15
    while not tab.evaluate(condition):
        assert time.monotonic() < deadline, condition
        tab.wait_for_timeout(50)


def go(tab, **wanted) -> int:
    """Go to the first step whose event has these values."""
    found = tab.evaluate(
        "(wanted) => STEPS.findIndex((i) => Object.entries(wanted).every("
        "([key, value]) => EVENTS[i][key] === value))",
        wanted,
    )
    assert found >= 0, wanted
    tab.evaluate("(n) => show(n)", found)
    return found


def lane_names(tab) -> list[str]:
    """All of them: those in view have labels."""
    return tab.evaluate(
        """() => LANES.map((_, T) => {
          choose(T);
          return document.querySelector(`.label[data-lane="${T}"] .name`).textContent;
        })"""
    )


@each_lesson
def test_lanes_are_the_tasks_and_end_as_they_were_recorded(open_page, recorded, file):
    trace = recorded(file)
    tab = open_page(trace, offline=True)
    assert lane_names(tab) == [lane["name"] for lane in trace["tasks"]]
    walked = tab.evaluate(WALK)
    assert walked["wrong"] == []
    recorded_states = [lane["state"] for lane in trace["tasks"]]
    seen = [
        "pending" if state in ("wait", "ready", "run", "new", "gone") else state
        for state in walked["states"]
    ]
    assert seen == recorded_states


@each_lesson
def test_going_back_shows_what_going_forward_showed(open_page, recorded, file):
    tab = open_page(recorded(file))
    last = tab.evaluate("STEPS.length") - 1
    steps = list(range(0, last, max(3, last // 500)))
    forward = tab.evaluate(SNAPSHOTS, steps)
    backward = tab.evaluate(SNAPSHOTS, steps[::-1])
    assert backward == forward[::-1]
    assert len(set(forward)) > 20


@pytest.mark.parametrize("file", LESSONS[2:])
def test_queue_and_timers_are_the_recorders_model(open_page, recorded, file):
    trace = recorded(file)
    tab = open_page(trace)
    shown = tab.evaluate(
        """() => EVENTS.map((_, i) => {
          const state = stateAfter(i);
          const loops = [...state.ready].map(([L, queue]) => [L, queue.map((entry) => entry.h)]);
          return [loops.filter(([, queue]) => queue.length).sort((a, b) => a[0] - b[0]),
                  [...state.timers.keys()].sort((a, b) => a - b)];
        })"""
    )
    model = Model()
    for event, (queues, timers) in zip(reading.shorten(trace).trace["ev"], shown, strict=True):
        model.apply(event)
        expected = [[L, loop.ready] for L, loop in sorted(model.loops.items()) if loop.ready]
        assert queues == expected, event
        ours = itertools.chain.from_iterable(loop.timers for loop in model.loops.values())
        assert timers == sorted(ours), event


def test_two_loops_in_two_threads(open_page, recorded, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(
        "import asyncio, threading\n\n"
        "async def clerk(name):\n"
        "    async with asyncio.TaskGroup() as group:\n"
        "        for i in range(3):\n"
        "            group.create_task(asyncio.sleep(0.02), name=f'{name}{i}')\n\n"
        "for name in '甲乙':\n"
        "    threading.Thread(target=lambda: asyncio.run(clerk(name)), name=name).start()\n",
        encoding="utf-8",
    )
    trace = recorded(script)
    assert len(trace["loops"]) == 2
    tab = open_page(trace)
    walked = tab.evaluate(WALK)
    assert walked["wrong"] == []
    assert set(walked["states"]) == {"done"}
    shown = tab.evaluate("STEPS.map((_, n) => (show(n), $('running').textContent)).join()")
    assert "循环 1" in shown and "循环 2" in shown


def test_a_loop_inside_of_a_greenlet(open_page, recorded, tmp_path):
    script = tmp_path / "inside.py"
    script.write_text(
        "import asyncio, threading, greenlet\n\n"
        "async def nap():\n"
        "    await asyncio.sleep(0.02)\n\n"
        "greenlet.greenlet(print).switch()\n"
        "thread = threading.Thread(target=lambda: asyncio.run(nap()))\n"
        "thread.start()\n"
        "thread.join()\n"
        "asyncio.run(nap())\n",
        encoding="utf-8",
    )
    tab = open_page(recorded(script))
    other, own = tab.evaluate("EVENTS.filter((e) => e.k === 'line' && e.l === 4).map((e) => e.T)")
    at_its_line = "(T) => show(STEPS.findIndex((i) => EVENTS[i].k === 'line' && EVENTS[i].T === T))"
    running = "$('running').textContent.replace(/\\d(?=[mT])/g, ' ')"
    tab.evaluate(at_its_line, own)
    nap = "await asyncio.sleep(0.02)"
    assert tab.evaluate(running) == f"循环 2 main▸ {lane_names(tab)[own]}{nap}"
    tab.evaluate(at_its_line, other)
    assert tab.evaluate(running).endswith(f"循环 1 {lane_names(tab)[other]}{nap}")
    assert tab.locator(".tag.run").count() == 2  # both threads run
    asleep = tab.evaluate("STEPS.findLastIndex((i) => EVENTS[i].k === 'poll')")
    tab.evaluate("(n) => show(n)", asleep)
    assert tab.evaluate(running) == "循环 2 main▸z z z · 循环睡着了"
    assert sentence(tab).startswith("循环 2 里没有人就绪：循环睡下，最迟")


# ── what a learner reads ──


def test_sentences_say_what_happened_and_why(open_page, tea):
    tab = open_page(tea)
    go(tab, k="soon", T=1)
    assert sentence(tab) == "0 Task-1 建了 1 烧水 ：它排到就绪队列末尾，还一行也没有执行。"
    go(tab, k="due")
    assert sentence(tab) == "1 烧水 的定时器到期：它的回调从定时器堆移到就绪队列。"
    go(tab, k="soon", T=2, why="wake")
    assert sentence(tab) == "1 烧水 往 Queue#1 里放了东西： 2 waiter 从等待变成就绪，排到队尾。"
    go(tab, k="end", T=2, state="wait")
    assert "停在 await orders.get() ：Queue#1 是空的，等别人放东西。" in sentence(tab)
    go(tab, k="end", T=2, state="error")
    assert "RuntimeError('打翻了')" in sentence(tab)
    go(tab, k="soon", why="cancel")
    assert sentence(tab).startswith("0 Task-1 取消了 3 闲人 ：它排进就绪队列")
    go(tab, k="poll", ready=0)
    assert "最迟 200 ms 后被 1 烧水 的定时器叫醒" in sentence(tab)


def test_no_sentence_speaks_of_asyncios_private_callbacks(open_page, recorded):
    tab = open_page(recorded("02_asyncio_core/03_task_demo.py"))
    said = tab.evaluate("STEPS.map((_, n) => (show(n), document.body.innerText))")
    assert not any("_set_result_unless_cancelled" in text for text in said)


def test_panels_show_who_runs_queues_and_sleeps(open_page, tea):
    tab = open_page(tea)
    go(tab, k="run", T=1)
    assert tab.locator("#running .chip.now").inner_text().split() == ["1", "烧水"]
    assert [text.split()[-1] for text in tab.locator("#ready .chip").all_inner_texts()] == [
        "waiter",
        "闲人",
    ]
    go(tab, k="poll", ready=0)
    rows = [" ".join(text.split()) for text in tab.locator("#timers .timer").all_inner_texts()]
    assert rows == ["1 烧水 还有 200 ms", "3 闲人 还有 60.00 s"]
    assert "循环睡着了" in tab.locator("#running").inner_text()
    go(tab, k="out")
    assert tab.locator("#output").inner_text() == "上茶: 龙井\n"


def test_source_marks_where_tasks_stand_and_what_they_await(open_page, tea):
    tab = open_page(tea)
    go(tab, k="poll", ready=0)
    assert tab.locator("mark").all_inner_texts() == [
        "await asyncio.sleep(0.2)",
        "await orders.get()",
        "await asyncio.wait([boiling, serving])",
    ]
    assert "烧水" in tab.locator('.line[data-line="7"] .tag.wait').inner_text()
    go(tab, k="line", l=14)
    assert tab.locator(".line.current").get_attribute("data-line") == "14"
    assert tab.locator(".line.current").get_attribute("aria-current") == "true"  # "" means false
    assert tab.locator("[aria-current]").count() == 1
    assert "waiter" in tab.locator(".line.current .tag.run").inner_text()


def test_a_jump_to_a_sleeping_loop_shows_where_it_was_left(open_page, recorded):
    trace = recorded("02_asyncio_core/03_task_demo.py")
    steps = reading.steps(trace)
    asleep = [n for n, i in enumerate(steps, 1) if trace["ev"][i]["k"] == "poll"]
    tab = open_page(trace, f"#step={asleep[4]}")
    tab.wait_for_timeout(100)
    box = tab.locator("#source").bounding_box()
    seen = [mark.bounding_box()["y"] for mark in tab.locator("mark").all()]
    assert any(box["y"] < y < box["y"] + box["height"] for y in seen)


def test_mark_is_right_behind_chinese(open_page, tea):
    text = '    "茶" and await orders.get()'
    tea["src"]["tea.py"][12] = text
    begin = len(text.partition("await")[0].encode())
    for event in tea["ev"]:
        if event.get("w", {}).get("at", [0, 0])[1] == 13:
            event["w"]["at"] = ["tea.py", 13, 13, begin, len(text.encode())]
    tab = open_page(tea)
    go(tab, k="poll", ready=0)
    assert tab.locator('.line[data-line="13"] mark').inner_text() == "await orders.get()"


def test_pieces_of_one_print_are_one_output(open_page, tea):
    at = next(i for i, event in enumerate(tea["ev"]) if event["k"] == "out")
    whole = tea["ev"].pop(at)
    tea["ev"][at:at] = [{**whole, "text": piece} for piece in ("上茶: ", "龙井", "\n")]
    tab = open_page(tea)
    go(tab, k="out")
    assert tab.locator("#output").inner_text() == "上茶: 龙井\n"
    assert tab.evaluate("OUTPUT.length") == 1


def test_an_eager_child_is_nested_in_its_parent(open_page, tea):
    start = {"k": "run", "t": 1, "T": 1, "in": 0, "eager": True}
    stop = {"k": "end", "t": 1, "T": 1, "state": "wait", "w": {"kind": "future"}}
    at = next(i for i, e in enumerate(tea["ev"]) if e["k"] == "soon" and e.get("T") == 1)
    handle = tea["ev"][at]["h"]
    tea["ev"] = [event for event in tea["ev"] if event.get("h") != handle]
    tea["ev"][at:at] = [start, stop]
    tab = open_page(tea)
    go(tab, k="run", eager=True)
    chips = [text.split()[-1] for text in tab.locator("#running .chip").all_inner_texts()]
    assert chips == ["Task-1", "烧水"]
    assert "急切任务" in sentence(tab)
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#running .chip.now").inner_text().split()[-1] == "Task-1"


def test_what_runs_beside_the_loop_is_shown(open_page, recorded, tmp_path):
    script = tmp_path / "beside.py"
    script.write_text(
        "import asyncio\n\n"
        "def job():\n"
        "    return 1\n\n"
        "def tick():\n"
        "    return 2\n\n"
        "async def main():\n"
        "    asyncio.get_running_loop().call_soon(tick)\n"
        "    await asyncio.gather(asyncio.to_thread(job))\n"
        "    await asyncio.sleep(0)\n\n"
        "asyncio.run(main())\n"
    )
    tab = open_page(recorded(script))
    go(tab, k="line", l=4)
    assert sentence(tab) == "线程 asyncio_0 执行第 4 行： return 1"
    assert tab.locator("#running").inner_text().split() == ["线程", "asyncio_0", "return", "1"]
    assert tab.locator(".line.current").get_attribute("data-line") == "4"
    go(tab, k="line", l=7)
    assert sentence(tab) == "回调 tick 执行第 7 行： return 2"
    assert tab.locator("#running").inner_text().split() == ["回调", "tick", "return", "2"]
    # The job is there until the loop has fetched its result.
    go(tab, k="jobdone")
    assert "做完了，结果在路上" in tab.locator("#jobs").inner_text()
    shown = tab.evaluate("STEPS.map((_, n) => (show(n), $('jobs').textContent))")
    done = tab.evaluate("STEPS.findIndex((i) => EVENTS[i].k === 'jobdone')")
    assert shown[-1] == "没有"
    assert not any("做完了" in text for text in shown[:done])
    assert tab.evaluate("stateAfter(EVENTS.length - 1).jobs.size") == 0


def test_a_line_that_may_be_over_is_not_marked(open_page, tea):
    """Some lines of the task were left out before it printed."""
    at = next(i for i, event in enumerate(tea["ev"]) if event["k"] == "out")
    line = max(i for i in range(at) if tea["ev"][i]["k"] == "line")
    tea["ev"][line]["more"] = True
    tab = open_page(tea)
    tab.evaluate("(i) => show(stepOf[i])", line)
    assert tab.locator(".line.current").count() == 1
    go(tab, k="out")
    assert tab.locator(".line.current").count() == 0


def test_a_librarys_task_is_shown_where_the_script_made_it(open_page, tea):
    tab = open_page(tea)
    go(tab, k="run", T=3)  # 闲人 is asyncio.sleep(60) itself
    line = tea["tasks"][3]["at"][1]
    assert tab.evaluate("placeOf(stateAfter(STEPS[step]), EVENTS[STEPS[step]])") == ["tea.py", line]


def test_a_script_without_a_loop_has_no_loop(open_page, recorded):
    tab = open_page(recorded("01_coroutine_basics/02_yield_demo.py"))
    said = tab.evaluate("STEPS.map((_, n) => (show(n), $('running').textContent)).join()")
    assert "程序" in said
    assert "循环" not in said


def test_closing_tasks_are_no_tasks_of_the_scripts(open_page, tea):
    tab = open_page(tea)
    assert "· 4 个任务 ·" in tab.locator("#facts").inner_text()
    go(tab, k="soon", T=4)
    assert sentence(tab).startswith("收尾：把 4 Task-5 交给事件循环")


# ── moving about ──


def test_a_link_leads_to_its_step(open_page, tea):
    tab = open_page(tea, "#step=9")
    assert step(tab) == 9
    tab.keyboard.press("ArrowRight")
    until(tab, "location.hash === '#step=10'")
    tab.evaluate("location.hash = '#step=3'")
    until(tab, "document.body.dataset.step === '3'")


@pytest.mark.parametrize("fragment", ["#step=0", "#step=99999", "#step=x", "#%00"])
def test_a_broken_link_leads_somewhere(open_page, tea, fragment):
    assert 1 <= step(open_page(tea, fragment)) <= len(reading.steps(tea))


def test_keyboard_alone_is_enough(open_page, tea):
    tab = open_page(tea)
    last = len(reading.steps(tea))
    for keys, expected in [
        (["ArrowRight", "ArrowRight", "ArrowLeft"], 2),
        (["End"], last),
        (["Home"], 1),
        (["PageDown"], 11),
        (["PageUp"], 1),
    ]:
        for pressed in keys:
            tab.keyboard.press(pressed)
        assert step(tab) == expected, keys
    for _ in range(3):
        tab.keyboard.press("ArrowDown")
    chosen = tab.locator('#labels .label[aria-pressed="true"] .name')
    assert chosen.all_inner_texts() == ["waiter"]
    for _ in range(4):
        tab.keyboard.press("Shift+ArrowRight")
        assert tab.evaluate("EVENTS[STEPS[step]].T") == 2
    tab.keyboard.press("ArrowUp")
    tab.evaluate("show(0)")
    seen = set()
    for _ in range(20):
        tab.keyboard.press("Shift+ArrowRight")
        seen.add(tab.evaluate("EVENTS[STEPS[step]].k"))
    assert {"soon", "run", "line", "timer", "due", "end"} <= seen  # 烧水, and its timer
    tab.keyboard.press("Escape")
    assert chosen.count() == 0
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()
    tab.keyboard.press("Escape")
    assert not tab.locator("#help").is_visible()
    tab.keyboard.press("t")
    assert tab.locator("#axis").inner_text() == "横轴：时间"
    tab.keyboard.press("+")
    tab.keyboard.press("-")
    tab.keyboard.press("0")


def test_play_goes_on_by_itself_until_paused(open_page, tea):
    tab = open_page(tea)
    tab.keyboard.press(" ")
    until(tab, "Number(document.body.dataset.step) >= 3")
    tab.keyboard.press(" ")
    assert tab.evaluate("playing") is None


def test_a_line_picked_by_keyboard_leads_to_its_execution(open_page, tea):
    tab = open_page(tea)
    tab.locator("#source").focus()
    tab.evaluate("pickLine(13)")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert tab.evaluate("EVENTS[STEPS[step]].l") == 14


def test_clicks_on_a_lane_and_on_a_line_jump(open_page, tea):
    tab = open_page(tea)
    tab.locator('.line[data-line="9"] .code').click()
    assert tab.evaluate("EVENTS[STEPS[step]].l") == 9
    tab.locator('.line[data-line="10"] .code').click()  # an empty one
    assert tab.evaluate("EVENTS[STEPS[step]].l") == 9
    assert sentence(tab) == "第 10 行在录像里没有执行过。"
    box = tab.locator("#view").bounding_box()
    x = tab.evaluate("timeline.xOfStep(19)") + 2
    tab.mouse.click(box["x"] + x, box["y"] + 18 + 22 * 2 + 11)
    assert step(tab) == 20
    assert tab.evaluate("timeline.chosen") == 2


def test_arrows_move_the_focus_among_the_labels(open_page, tea):
    tab = open_page(tea)
    tab.locator(".label").first.focus()
    focused = "document.activeElement.dataset.lane + document.activeElement.tabIndex"
    seen = []
    for pressed in ("ArrowDown", "ArrowDown", "ArrowUp"):
        tab.keyboard.press(pressed)
        seen.append(tab.evaluate(focused))
    assert seen == ["10", "20", "10"]
    assert tab.locator(".label[tabindex='0']").count() == 1


def test_the_output_scrolls_by_keyboard(open_page, tea):
    at = next(i for i, event in enumerate(tea["ev"]) if event["k"] == "out")
    lines = [{**tea["ev"][at], "text": f"第 {n} 杯\n", "T": n % 2} for n in range(60)]
    tea["ev"][at:at] = lines
    tab = open_page(tea)
    tab.keyboard.press("End")
    before = tab.evaluate("$('output').scrollTop"), step(tab)
    tab.locator("#output").focus()
    tab.keyboard.press("PageUp")
    until(tab, f"$('output').scrollTop < {before[0]}")
    tab.keyboard.press("ArrowUp")
    assert step(tab) == before[1]
    assert tab.evaluate("timeline.chosen") is None


def test_every_control_has_a_name_and_can_be_reached(open_page, tea):
    tab = open_page(tea)
    unnamed = tab.evaluate(
        """() => [...document.querySelectorAll("button, input, [tabindex='0']")]
          .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.title))
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    for role in ("toolbar", "group", "listbox", "log"):
        assert tab.locator(f'[role="{role}"]').get_attribute("aria-label"), role
    assert tab.locator('[role="list"]').count() == 0  # whose children would have to be items
    reached = set()
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id || document.activeElement.className"))
    wanted = {"play", "forward", "scrub", "source", "output", "theme", "language", "help-button"}
    assert wanted <= reached
    tab.locator("#theme").focus()
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


# ── two languages, two themes ──


def test_english_says_everything_in_english(open_page, tea):
    for lane in tea["tasks"]:
        lane["name"] = lane["coro"]
    tea["src"] = {}
    for event in tea["ev"]:
        event.update({"text": "tea\n"} if event["k"] == "out" else {})
        event.update({"result": "1"} if event.get("result") else {})
        event.update({"exc": "E()"} if event.get("exc") else {})
    tab = open_page(tea)
    tab.keyboard.press("l")
    assert tab.evaluate("document.documentElement.lang") == "en"
    said = tab.evaluate("STEPS.map((_, n) => (show(n), document.body.innerText)).join('\\n')")
    assert set(re.findall(r"[\u3000-\u9fff]+", said)) == {"中文"}
    tab.keyboard.press("l")
    assert "就绪队列" in tab.locator("body").inner_text()


def test_both_languages_have_the_same_words(open_page, tea):
    tab = open_page(tea)
    same = tab.evaluate(
        "Object.keys(ZH).filter((key) => JSON.stringify(ZH[key]) === JSON.stringify(EN[key])"
        " && typeof ZH[key] === 'string')"
    )
    assert same == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_can_be_switched(open_page, tea, scheme):
    tab = open_page(tea, color_scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(background)
    tab.keyboard.press("d")
    after = tab.evaluate(background)
    assert before != after
    dark, light = (before, after) if scheme == "dark" else (after, before)
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (dark, light)]
    assert brightness[0] < 200 < 600 < brightness[1]
    tab.reload()
    assert tab.evaluate(background) == after
    tab.keyboard.press("d")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(open_page, tea, scheme):
    """WCAG AA: 4.5 for text, 3 for the marks of the timeline."""
    tab = open_page(tea, color_scheme=scheme)
    colours = tab.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const names = ["panel", "text", "soft", "keyword", "string", "comment", "defined",
            "running", "ready", "sync", "task", "future", "outside", "io", "turn",
            ...Array.from({ length: 8 }, (_, i) => `c${i}`)];
          const value = (name) => [name, style.getPropertyValue(`--${name}`)];
          return Object.fromEntries(names.map(value));
        }"""
    )
    ground = colours.pop("panel")
    marks = {"running", "ready", "sync", "task", "future", "outside", "io", "turn"}
    for name, colour in colours.items():
        assert contrast(colour, ground) >= (3 if name in marks else 4.5), name


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("size", [(1280, 720), (1600, 1000), (900, 600)])
def test_nothing_is_pushed_out_of_the_window(open_page, recorded, size):
    tab = open_page(recorded("02_asyncio_core/03_task_demo.py"), "#step=100")
    tab.set_viewport_size({"width": size[0], "height": size[1]})
    assert tab.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    ) == list(size)
    for name in ("#source", "#sentence", "#play", "#labels", "#legend", "#output"):
        box = tab.locator(name).bounding_box()
        assert box["y"] + box["height"] <= size[1] + 1, name
        assert box["height"] >= 15, name


@pytest.mark.parametrize("size", [(1280, 720), (900, 600)])
def test_long_names_leave_room(open_page, tea, size):
    """For the line of source, and for two timers."""
    for lane in tea["tasks"]:
        lane["name"] = "把水烧开" * 20
    tab = open_page(tea)
    tab.set_viewport_size({"width": size[0], "height": size[1]})
    go(tab, k="poll", ready=0)
    width = tab.locator("#source").bounding_box()["width"]
    for tag in tab.locator(".tag").all():
        assert tag.bounding_box()["width"] < width / 2
    panel = tab.locator("#timers").bounding_box()
    for timer in tab.locator("#timers .timer").all():
        box, chip = timer.bounding_box(), timer.locator(".chip").bounding_box()
        assert box["y"] + box["height"] <= panel["y"] + panel["height"] + 1
        assert chip["width"] >= 60


def test_a_name_that_turns_the_writing_turns_only_itself(open_page, tea):
    tea["tasks"][1]["name"] = "\u202eABC"
    tab = open_page(tea)
    go(tab, k="run", T=1)
    bidi = "(e) => getComputedStyle(e).unicodeBidi"
    for name in ("#running .chip", '.label[data-lane="1"] .name', "#sentence .chip"):
        assert tab.locator(name).evaluate(bidi) == "isolate"


# ── hostile and long traces ──


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&lt;\"'<!--\u2028"


def test_text_of_a_script_stays_text(open_page, tea):
    tea["script"] = tea["died"] = HOSTILE
    tea["argv"] = tea["notes"] = [HOSTILE]
    tea["src"] = {"tea.py": [HOSTILE] * 29, HOSTILE: [HOSTILE]}
    for lane in tea["tasks"]:
        lane["name"] = lane["coro"] = HOSTILE
    for event in tea["ev"]:
        for key in ("text", "cb", "exc", "result"):
            event.update({key: HOSTILE} if key in event else {})
        if wait := event.get("w"):
            wait.update(expr=HOSTILE, api=HOSTILE, obj=HOSTILE)
    tab = open_page(tea)
    assert tab.evaluate(WALK)["wrong"] == []
    assert tab.locator("img").count() == 0
    assert tab.locator("script").count() == 2
    assert HOSTILE in tab.locator("#output").text_content()
    assert HOSTILE in tab.locator("#script").text_content()


def test_braces_in_a_script_are_left_alone(open_page, tea):
    tea["src"]["tea.py"][0] = "{{css}} {{data}} \\1 \\g<0>"
    tab = open_page(tea)
    assert tab.locator('.line[data-line="1"] .code').text_content() == "{{css}} {{data}} \\1 \\g<0>"


def long_trace(tea: dict, tasks: int, lines: int) -> dict:
    """Many tasks, each created, run and finished, with source lines in between."""
    tea["tasks"] = [
        {"id": T, "name": f"茶{T}", "coro": "serve", "def": ["tea.py", 12], "by": {}, "at": None}
        | {"state": "done", "result": "None"}
        for T in range(tasks)
    ]
    events = []
    for T in range(tasks):
        events += [
            {"k": "new", "t": T, "T": T},
            {"k": "soon", "t": T, "h": T + 1, "T": T, "why": "create", "by": {}},
            {"k": "run", "t": T, "h": T + 1, "T": T},
            *({"k": "line", "t": T, "T": T, "f": "tea.py", "l": 13} for _ in range(lines)),
            {"k": "end", "t": T, "h": T + 1, "T": T, "state": "done", "result": "None"},
        ]
    return {**tea, "ev": events}


def test_lines_that_were_not_recorded_are_said_so(open_page, recorded, tmp_path):
    script = tmp_path / "busy.py"
    script.write_text(
        "import asyncio\n\n"
        "async def count():\n"
        "    for n in range(300):\n"
        "        n += 1\n"
        "    await asyncio.sleep(0)\n\n"
        "asyncio.run(count())\n",
        encoding="utf-8",
    )
    tab = open_page(recorded(script))
    go(tab, k="line", more=True)
    assert sentence(tab).endswith("（后面的行省略了）")
    assert "只录了开头" in tab.locator("#notes").inner_text()
    tab.keyboard.press("l")
    assert sentence(tab).endswith("(the lines after it are left out)")
    assert "only the first of them were recorded" in tab.locator("#notes").inner_text()
    tab.keyboard.press("ArrowLeft")
    assert "left out" not in sentence(tab)


def test_a_trace_without_lines_is_said_so(open_page, tea):
    tea["ev"] = [event for event in tea["ev"] if event["k"] != "line"]
    tab = open_page(tea)
    assert tab.locator("#notes").inner_text() == "没有录源代码的逐行执行，切换和等待都在。"
    tab.keyboard.press("l")
    assert "Single lines were not recorded" in tab.locator("#notes").inner_text()


def test_many_lines_are_thinned_and_the_page_says_so(open_page, tea):
    trace = long_trace(tea, 1000, 100)
    tab = open_page(trace)
    assert "每跑一次只画开头" in tab.locator("#notes").inner_text()
    assert set(tab.evaluate("stateAfter(EVENTS.length - 1).lanes.map((lane) => lane.s)")) == {
        "done"
    }


def test_many_tasks_are_cut_and_the_page_says_so(open_page, tea):
    trace = long_trace(tea, 20_000, 1)
    tab = open_page(trace)
    assert "只画出前 20000 个事件，一共录了 100000 个" in tab.locator("#notes").inner_text()
    tab.keyboard.press("End")
    assert len(page.build(trace).encode()) <= 3_000_000


def test_a_mark_for_an_end_stands_where_the_end_is(open_page, tea):
    """A trace that is cut shows the ends that it has."""
    last = next(i for i, event in enumerate(tea["ev"]) if event.get("state") == "done")
    tab = open_page(tea, limit=last + 10)
    ends = tab.evaluate("TRACE.ends")
    assert "done" in ends and None in ends
    states = tab.evaluate("stateAfter(EVENTS.length - 1).lanes.map((lane) => lane.s)")
    assert [end for end in ends if end] == [
        s for s in states if s in ("done", "error", "cancelled")
    ]


def test_only_what_is_in_view_is_on_the_page(open_page, tea):
    """Thousands of lanes and of printed lines cost a step no more than twenty."""
    trace = long_trace(tea, 3000, 0)
    for n in range(0, 3000):
        trace["ev"].insert(5 * n, {"k": "out", "t": n, "T": n, "s": "stdout", "text": f"{n}\n"})
    tab = open_page(trace)
    tab.evaluate("(n) => show(n)", tab.evaluate("STEPS.length") // 2)
    assert tab.locator(".label").count() < 20
    pieces = [int(text) for text in tab.locator(".piece").all_text_contents()]
    few = tab.evaluate("printed.lines") + 8
    assert few < 20
    assert pieces == list(range(pieces[0], pieces[0] + few))
    assert tab.locator(".earlier").text_content() == f"……前面还有 {pieces[0]} 段\n"
    for n in (100, -150, -700, 2000, 0):  # a little forward and back, far away
        tab.evaluate("(n) => show(n ? step + n : 0)", n)
        shown = [int(text) for text in tab.locator(".piece").all_text_contents()]
        count = tab.evaluate("stateAfter(STEPS[step]).outputs")
        assert shown == list(range(max(0, count - few), count))
    # Who reads back gets more, and keeps the place.
    tab.evaluate("show(STEPS.length - 1)")
    first = "document.querySelector('.piece')"
    tab.evaluate(f"(window.place = {first}, $('output').scrollTop = 20)")
    top = tab.evaluate("place.getBoundingClientRect().top")
    until(tab, f"{first} !== place")
    assert abs(tab.evaluate("place.getBoundingClientRect().top") - top) < 2
    shown = [int(text) for text in tab.locator(".piece").all_text_contents()]
    assert shown == list(range(2600, 3000))
    tab.evaluate("show(step - 1)")
    assert tab.locator(".piece").count() == few
    frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    tab.evaluate(frame)  # so the scroll event has come: it is no wish to read back
    assert tab.locator(".piece").count() == few
    tab.set_viewport_size({"width": 1600, "height": 1600})
    until(tab, "document.querySelectorAll('.piece').length > 40")
    assert tab.evaluate("$('output').scrollHeight > $('output').clientHeight")
    tab.evaluate("choose(2999)")
    assert tab.locator('.label[data-lane="2999"]').get_attribute("aria-pressed") == "true"


def test_a_callback_is_about_the_task_that_set_it(open_page, tea):
    trace = long_trace(tea, 100, 0)
    run = next(i for i, event in enumerate(trace["ev"]) if event["k"] == "run" and event["T"] == 90)
    timer = {"k": "timer", "t": 90, "h": 999, "when": 5, "cb": "print", "by": {"T": 90}}
    called = [{"k": "due", "t": 95, "h": 999}, {"k": "run", "t": 95, "h": 999, "cb": "print"}]
    trace["ev"][run + 1 : run + 1] = [timer]
    trace["ev"] += called
    tab = open_page(trace)
    assert tab.locator('.label[data-lane="90"]').count() == 0
    go(tab, k="timer")
    assert tab.locator('.label[data-lane="90"]').count() == 1
    assert tab.locator("#chosen").inner_text().split() == ["90", "茶90"]
    tab.evaluate("show(0)")
    go(tab, k="run", cb="print")
    assert tab.locator('.label[data-lane="90"]').count() == 1
    assert tab.locator("#chosen").inner_text().split() == ["90", "茶90"]


def test_too_much_output_and_source_are_cut_and_the_page_says_so(open_page, tea):
    at = next(i for i, event in enumerate(tea["ev"]) if event["k"] == "out")
    wide = [{**tea["ev"][at], "text": "茶" * 1900 + "\n"} for n in range(3000)]
    tea["ev"][at:at] = wide
    tea["src"]["data.py"] = ["    1,"] * 200_000
    tea["src"]["long.py"] = ["x" * 100_000, "y"]
    tab = open_page(tea)
    notes = tab.locator("#notes").inner_text()
    assert "印出的太多了：每次只留开头" in notes
    assert "源代码太长了，只留开头：data.py" in notes
    assert tab.evaluate("TRACE.src['tea.py'].length") == len(tea["src"]["tea.py"])
    assert tab.evaluate("TRACE.src['long.py'].map((line) => line.length)") == [1001, 1]
    assert len(page.build(tea).encode()) <= 3_000_000
    tab.keyboard.press("l")
    assert "Too much was printed" in tab.locator("#notes").inner_text()


def test_a_page_of_the_longest_trace_is_at_most_3_mb(tea):
    """20,000 events as rich as the recorder's: every fourth a wait with its place and stack."""
    wait = next(event["w"] for event in tea["ev"] if "w" in event)
    trace = long_trace(tea, 5000, 0)
    for number, event in enumerate(trace["ev"]):
        if event["k"] == "end":
            stack = [["serve", "tea.py", line] for line in range(8)]
            event.update(state="wait", w={**wait, "stack": stack, "timer": number})
    assert len(trace["ev"]) == 20_000
    assert len(page.build(trace).encode()) <= 3_000_000


def test_an_empty_trace_is_an_empty_page(open_page, tea):
    tea["tasks"], tea["ev"], tea["src"], tea["loops"] = [], [], {}, []
    tab = open_page(tea)
    for pressed in ("ArrowRight", "ArrowDown", " ", "End", "l", "d", "t"):
        tab.keyboard.press(pressed)
    assert tab.locator("#script").inner_text() == "tea.py"


def test_the_page_carries_the_trace_itself(tea):
    text = page.build(tea)
    data = re.search(r'<script type="application/json" id="trace">(.*)</script>', text)[1]
    carried = json.loads(data)
    assert carried["tasks"] == tea["tasks"]
    for event, original in zip(carried["ev"], tea["ev"], strict=True):
        if wait := event.pop("w", None):
            place = carried["places"][wait.pop("p")]
            event["w"] = {**place, **wait}
        assert event == original
