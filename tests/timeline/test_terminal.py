"""The timeline in a terminal: golden text, widths, encodings, colour."""

import io
import re
import sys

import pytest

from toolbox import catalog
from toolbox.timeline import reading, terminal

pytestmark = pytest.mark.xdist_group("page")  # one process: lessons are recorded once
BY_STEP = """\
tea.py · Python 3.13.0 · 4 个任务 · 51 步 · 0.20 秒
    步  1                      20                      40
Task-1 │ ░███████████┄ 烧水,waiter ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄░█████✓
烧水   │      ░░░░░░░░████────────────░█████✓
waiter │        ░░░░░░░░░░░██▒▒▒▒▒▒▒▒▒▒▒▒▒░░░█████✗
闲人   │          ░░░░░░░░░░░░░██─ sleep 60 ───────────░░░░██⊘
█ 运行  ░ 就绪（排队）  ─ 睡（定时器）  ▒ 等锁、队列、事件
┄ 等别的任务  ✓ 完成  ✗ 失败  ⊘ 被取消
"""

BY_TIME_IN_ASCII = """\
tea.py | Python 3.13.0 | 4 tasks | 51 steps | 0.20 s
  time  0              50ms           100ms           150ms
Task-1 |# A,waiter ==================================================#+
A      |# sleep 0.2 -------------------------------------------------#+
waiter |# Queue#1.get %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%#!
B      |# sleep 60 --------------------------------------------------#x
# running  o ready  - timer  % lock/queue/event  = other tasks  + done
! error  x cancelled
"""


class Window(io.TextIOWrapper):
    """A terminal, as far as `show` asks."""

    def __init__(self, encoding: str, terminal: bool):
        super().__init__(io.BytesIO(), encoding=encoding, newline="")
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)


def shown(trace, monkeypatch, encoding="utf-8", terminal_=True, columns=100, **variables) -> str:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"COLUMNS": str(columns), **variables}.items():
        monkeypatch.setenv(name, value)
    window = Window(encoding, terminal_)
    terminal.show(trace, window)
    return window.text()


def test_golden_by_step(tea):
    assert terminal.draw(tea, 72) == BY_STEP


def test_golden_by_time_in_ascii(tea):
    tea["tasks"][1]["name"], tea["tasks"][3]["name"] = "A", "B"
    drawn = terminal.draw(tea, 72, by_time=True, ascii_only=True, chinese=False)
    assert drawn == BY_TIME_IN_ASCII
    assert drawn.isascii()


@pytest.mark.parametrize("width", [40, 60, 79, 120, 200])
@pytest.mark.parametrize("by_time", [False, True])
def test_no_line_is_wider_than_the_window(recorded, width, by_time):
    trace = recorded("02_asyncio_core/03_task_demo.py")
    for line in terminal.draw(trace, width, by_time=by_time).splitlines():
        assert terminal.columns(line) <= width, line


def test_chinese_takes_two_columns(tea):
    assert terminal.columns("烧水a") == 5
    assert terminal.clip("烧水壶", 5) == "烧水…"
    assert terminal.clip("烧水", 6) == "烧水  "
    tea["tasks"][1]["name"] = "把水烧开把水烧开把水烧开"
    bars = terminal.draw(tea, 80).splitlines()[2:6]
    assert len({terminal.columns(line.partition("│")[0]) for line in bars}) == 1


def test_a_name_cannot_move_the_cursor(tea):
    tea["tasks"][1]["name"] = "a\x1b[2J\r\nb"
    drawn = terminal.draw(tea, 80)
    assert "\x1b" not in drawn and "\r" not in drawn
    assert len(drawn.splitlines()) == len(BY_STEP.splitlines())


@pytest.mark.parametrize(
    ("tty", "variables", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_where_it_is_wanted(tea, monkeypatch, tty, variables, coloured):
    text = shown(tea, monkeypatch, terminal_=tty, **variables)
    assert ("\033[" in text) is coloured


def test_colour_changes_no_character(tea):
    coloured = terminal.draw(tea, 72, colour=True)
    plain = "".join(part.partition("m")[2] for part in f"\033[m{coloured}".split("\033[")[1:])
    assert [line.rstrip() for line in plain.splitlines()] == BY_STEP.splitlines()


@pytest.mark.parametrize(
    ("encoding", "words"), [("ascii", "running"), ("latin-1", "running"), ("gbk", "运行")]
)
def test_what_is_not_utf_8_gets_ascii_bars(tea, monkeypatch, encoding, words):
    text = shown(tea, monkeypatch, encoding=encoding, terminal_=False)
    assert words in text
    assert "#" in text and "|" in text
    assert not set(text) & set("█░│✓…")


def test_it_fits_the_window(tea, monkeypatch):
    for columns in (60, 140):
        lines = shown(tea, monkeypatch, terminal_=False, columns=columns).splitlines()
        widest = max(map(terminal.columns, lines))
        assert columns - 16 < widest < columns


def test_the_two_tasks_that_close_a_loop_are_left_out(tea):
    assert "Task-5" in [lane["name"] for lane in tea["tasks"]]
    assert "Task-5" not in terminal.draw(tea, 72)


def test_many_lanes_are_cut_to_the_most_telling(tea):
    idle = [{**tea["tasks"][3], "id": i, "name": f"茶{i}"} for i in range(100)]
    tea["tasks"] = idle + [{**lane, "id": 100 + lane["id"]} for lane in tea["tasks"]]
    for event in tea["ev"]:
        if "T" in event and event["T"] is not None:
            event["T"] += 100
    drawn = terminal.draw(tea, 72)
    assert len(drawn.splitlines()) < 60
    assert "还有 64 条没有画，网页里都有" in drawn
    names = [line.split()[0] for line in drawn.splitlines() if "│" in line]
    assert names[-4:] == ["Task-1", "烧水", "waiter", "闲人"]
    assert len(names) == 40


def test_ends_and_legend_are_of_what_is_drawn(tea, monkeypatch):
    """A trace that is cut before a task's end has no mark for it, whatever came of it."""
    last = max(i for i, event in enumerate(tea["ev"]) if event.get("state") == "error")
    tea["ev"] = tea["ev"][:last]
    drawn = terminal.draw(tea, 72)
    assert "✗" not in drawn and "失败" not in drawn and "✓" in drawn
    library = {**tea["tasks"][3], "def": None}
    tea["tasks"] = [{**lane, "id": n} for n, lane in enumerate([library] * 9 + tea["tasks"])]
    for event in tea["ev"]:
        if event.get("T") is not None:
            event["T"] += 9
    tea["ev"].append({"k": "run", "t": tea["ev"][-1]["t"], "T": 0, "h": 99})
    tea["ev"].append({**tea["ev"][-1], "k": "end", "state": "wait", "w": {"kind": "thread"}})
    assert "等线程" in terminal.draw(tea, 72)
    monkeypatch.setattr(terminal, "MOST_LANES", 3)
    assert "等线程" not in terminal.draw(tea, 72)


def test_many_short_runs_do_not_hide_what_is_waited_for(tea):
    """A task that sleeps for three steps out of five, 200 times."""
    tea["tasks"] = [{**tea["tasks"][1], "id": 0, "state": "done"}]
    tea["ev"] = [{"k": "new", "t": 0, "T": 0}]
    for n in range(200):
        tea["ev"] += [
            {"k": "run", "t": n * 1000, "h": 2 * n, "T": 0},
            {"k": "end", "t": n * 1000 + 1, "T": 0, "state": "wait", "w": {"kind": "sleep"}},
            *({"k": "job", "t": n * 1000 + 2, "j": n * 3 + job} for job in range(3)),
        ]
    for by_time in (False, True):
        bar = terminal.draw(tea, 72, by_time=by_time).splitlines()[2]
        assert bar.count("─") > 50 > 5 > bar.count("█"), bar


def test_a_trace_without_lanes_or_events_is_one_line(tea):
    tea["tasks"], tea["ev"] = [], []
    for by_time in (False, True):
        assert terminal.draw(tea, 72, by_time=by_time) == (
            "tea.py · Python 3.13.0 · 没有任务 · 0 步 · 0.00 秒\n"
        )


def test_several_of_one_name_are_told_apart(recorded):
    trace = recorded("02_asyncio_core/03_task_demo.py")
    names = reading.names(trace)
    assert len(set(names)) == len(names)
    assert "烧水#1" in names


@pytest.mark.parametrize("readme", ["README.md", "README.en.md"])
def test_the_readme_shows_what_lesson_2_3_draws(recorded, readme):
    """Who is there and how each ended; times, and the numbers that asyncio gives, differ."""

    def lanes(text: str) -> list[tuple[str, str]]:
        rows = [line.partition("│") for line in text.splitlines() if "│" in line]
        return [(re.sub(r"Task-\d+", "Task", name).strip(), bar[-1]) for name, _, bar in rows]

    text = (catalog.ROOT / readme).read_text(encoding="utf-8")
    shown = lanes(re.search(r"```text\n03_task_demo\.py · (.*?)```", text, re.DOTALL)[1])
    drawn = lanes(terminal.draw(recorded("02_asyncio_core/03_task_demo.py"), 90, by_time=True))
    if sys.version_info < (3, 12):  # which has no eager tasks
        shown = shown[:-2]
    assert drawn == shown
