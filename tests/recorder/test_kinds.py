"""All ways to run a loop; libraries; greenlets and generators; scripts that are too much."""

import json
import os
import sys

import pytest

from tests import processes
from toolbox import catalog
from toolbox.recorder import recording

NAP = """
    import asyncio
    async def nap(seconds=0.001):
        await asyncio.sleep(seconds)
        return "rested"
"""
WAYS = {
    "run": "asyncio.run(nap())",
    "Runner": "with asyncio.Runner() as runner: runner.run(nap()); runner.run(nap())",
    "run_until_complete": (
        "loop = asyncio.new_event_loop(); loop.run_until_complete(nap()); loop.close()"
    ),
    "subclass": """
    class Mine(asyncio.SelectorEventLoop):
        def call_soon(self, callback, *args, context=None):
            return super().call_soon(callback, *args, context=context)
        def create_task(self, coro, **options):
            return super().create_task(coro, **options)
    loop = Mine(); loop.run_until_complete(nap()); loop.close()""",
    "in threads": """
    import threading
    threads = [threading.Thread(target=asyncio.run, args=[nap()]) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()""",
    "debug": "asyncio.run(nap(), debug=True)",
    "a task of pure Python": """
    loop = asyncio.new_event_loop()
    loop.set_task_factory(lambda loop, coro, **how: asyncio.tasks._PyTask(coro, loop=loop))
    loop.run_until_complete(nap()); loop.close()""",
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_run_a_loop(way, script, recorded):
    run = recorded(script(NAP + "\n    " + WAYS[way].strip() + "\n"))
    assert (run.code, run.stderr) == (0, b"")
    naps = [lane for lane in run.trace["tasks"] if lane["coro"] == "nap"]
    assert len(naps) == {"Runner": 2, "in threads": 3}.get(way, 1)
    for lane in naps:
        assert (lane["state"], lane["result"]) == ("done", "'rested'")
        steps = [e for e in run.of("run", "end") if e.get("T") == lane["id"]]
        assert [e["k"] for e in steps] == ["run", "end", "run", "end"]
        assert steps[1]["w"]["kind"] == "sleep"
    assert len({lane.get("loop", 0) for lane in naps}) == (3 if way == "in threads" else 1)


def test_other_libraries(script, recorded):
    """aiohttp asks a FastAPI that uvicorn serves in the same loop."""
    run = recorded(
        script(
            """
            import asyncio, aiohttp, fastapi, socket, uvicorn
            app = fastapi.FastAPI()
            @app.get("/")
            async def home():
                await asyncio.sleep(0.01)
                return {"hello": "world"}
            async def main():
                with socket.create_server(("127.0.0.1", 0)) as sock:
                    server = uvicorn.Server(uvicorn.Config(app, log_level="error", loop="none"))
                    serving = asyncio.create_task(server.serve([sock]), name="server")
                    url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
                    async with aiohttp.ClientSession() as session, session.get(url) as answer:
                        print(await answer.json())
                    server.should_exit = True
                    await serving
            asyncio.run(main())
            """
        ),
        flags=(),
    )
    assert (run.code, run.stdout, run.stderr) == (0, b"{'hello': 'world'}\n", b"")
    functions = {w["stack"][-1][0] for e in run.of("end") if (w := e.get("w")) and w.get("stack")}
    assert {"home", "main"} <= functions
    assert run.lanes["server"]["state"] == "done"


def test_uvloop_as_well_as_it_can_be_seen(script, recorded):
    pytest.importorskip("uvloop")
    path = script(NAP + "\n    import uvloop\n    uvloop.run(nap())\n")
    run = recorded(path, quiet=False)
    assert (run.code, run.stderr) == (0, b"")
    assert [note.partition(":")[0] for note in run.trace["notes"]] == ["uvloop"]
    assert {wait["kind"] for wait in run.waits("Task-1")} == {"sleep"}
    assert run.lanes["Task-1"]["state"] == "done"


def test_greenlets_of_lesson_1_1(recorded):
    run = recorded(catalog.ROOT / "01_coroutine_basics" / "01_greenlet_demo.py")
    assert {lane["lane"] for lane in run.trace["tasks"]} == {"greenlet"}
    switches = [
        (event["k"], run.trace["tasks"][event["T"]]["name"])
        for event in run.of("run", "end")
        if run.trace["tasks"][event["T"]]["name"] in ("romeo", "juliet")
    ]
    assert switches[:8] == [
        ("run", "romeo"),
        ("end", "romeo"),
        ("run", "juliet"),
        ("end", "juliet"),
        ("run", "romeo"),
        ("end", "romeo"),
        ("run", "juliet"),
        ("end", "juliet"),
    ]
    assert [wait["expr"] for wait in run.waits("romeo")] == ["juliet_part.switch()"] * 2
    assert run.lanes["juliet"]["state"] == "done"
    assert run.lanes["main"]["state"] == "pending"
    said = [run.trace["tasks"][e["T"]]["name"] for e in run.of("out") if e["T"] is not None][:4]
    assert said == ["romeo", "juliet", "romeo", "juliet"]


def test_generators_of_lesson_1_2(recorded):
    run = recorded(catalog.ROOT / "01_coroutine_basics" / "02_yield_demo.py")
    assert {lane["lane"] for lane in run.trace["tasks"]} == {"generator"}
    assert [wait["value"] for wait in run.waits("romeo")] == [
        "'1 罗密欧: 我凭月亮起誓。'",
        "'2 罗密欧: 那我凭什么起誓？'",
    ]
    assert run.waits("romeo")[0]["expr"] == 'yield "1 罗密欧: 我凭月亮起誓。"'
    assert run.lanes["juliet_answers"]["result"] == "'不必起誓'"
    assert run.lanes["juliet_at_the_window"]["state"] == "cancelled"
    inner = run.of("run", name="juliet")[0]
    assert inner["in"] == run.lanes["romeo_delegates"]["id"]


def test_generators_end_in_every_way(script, recorded):
    run = recorded(
        script(
            """
            def fails():
                yield 1
                raise KeyError("x")
            def catches():
                while True:
                    try:
                        yield 2
                    except ValueError:
                        pass
            def closed():
                try:
                    yield 3
                finally:
                    pass
            for generator in (fails(), catches()):
                next(generator)
                try:
                    generator.throw(ValueError())
                    generator.throw(OSError())
                except Exception:
                    pass
            generator = closed()
            next(generator)
            generator.close()
            one = fails()
            next(one)
            try:
                next(one)
            except KeyError:
                pass
            print(sum(x for x in range(5)))
            plain = fails()
            next(plain)
            plain.close()
            plain.close()
            """
        )
    )
    assert run.code == 0
    assert {name: (lane["state"], lane.get("exc")) for name, lane in run.lanes.items()} == {
        "fails": ("error", "ValueError()"),
        "catches": ("error", "OSError()"),
        "closed": ("cancelled", "GeneratorExit()"),
        "fails#2": ("error", "KeyError('x')"),
        "fails#3": ("cancelled", "GeneratorExit()"),  # there is nothing in it for close() to run
    }
    thrown = {name: [e.get("thrown") for e in run.of("run", name=name)] for name in run.lanes}
    assert thrown == {
        "fails": [None, "ValueError()"],
        "catches": [None, "ValueError()", "OSError()"],
        "closed": [None, "GeneratorExit()"],
        "fails#2": [None, None],
        "fails#3": [None, "GeneratorExit()"],
    }


def test_a_generator_hands_back_to_the_task_that_called_it(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            def count():
                yield 1
            async def main():
                print(list(count()))
                for _ in range(250):
                    list(count())
            asyncio.run(main())
            """
        ),
        quiet=False,
    )
    assert [event["T"] for event in run.of("out")] == [run.lanes["Task-1"]["id"]]
    assert {event["in"] for event in run.of("run", name="count#2")} == {run.lanes["Task-1"]["id"]}
    assert run.trace["notes"] == ["generators: only the first 200 have a lane"]
    assert sum(lane.get("lane") == "generator" for lane in run.trace["tasks"]) == 200


@pytest.mark.parametrize("lines", [True, False])
def test_greenlets_end_in_every_way(lines, script, recorded):
    run = recorded(
        script(
            """
            import greenlet
            def fails():
                raise ValueError("x")
            def waits():
                main.switch()
            def catches():
                try:
                    main.switch()
                except KeyError:
                    return 3
            main = greenlet.getcurrent()
            try:
                greenlet.greenlet(fails).switch()
            except ValueError:
                pass
            for error in ([], [KeyError("k")]):
                one = greenlet.greenlet(waits)
                one.switch()
                try:
                    one.throw(*error)
                except KeyError:
                    pass
            one = greenlet.greenlet(catches)
            one.switch()
            one.throw(KeyError("k"))
            """
        ),
        options={"lines": lines},
    )
    assert run.code == 0
    ends = {name: (lane["state"], lane.get("exc")) for name, lane in run.lanes.items()}
    assert ends.pop("main") == ("pending", None)
    into_main = [event.get("thrown") for event in run.of("run", name="main")]
    if not lines:  # greenlet does not tell of what a greenlet died
        assert list(ends.values())[:3] == [
            ("error", "…"),
            ("cancelled", "GreenletExit()"),
            ("error", "…"),
        ]
        assert into_main == [None, "…", None, None, None, "…", None, None]
        return
    assert ends == {
        "fails": ("error", "ValueError('x')"),
        "waits": ("cancelled", "GreenletExit()"),
        "waits#2": ("error", "KeyError('k')"),
        "catches": ("done", None),
    }
    assert into_main == [None, "ValueError('x')", None, None, None, "KeyError('k')", None, None]
    assert [event.get("thrown") for event in run.of("run", name="catches")] == [None, "…"]


def test_a_greenlet_of_a_lambda_has_a_name(script, recorded):
    source = "from greenlet import greenlet\ngreenlet(lambda: print('hello')).switch()\n"
    run = recorded(script(source))
    assert (run.code, run.stdout) == (0, b"hello\n")
    assert run.lanes["<lambda>"]["coro"] == "<lambda>"


@pytest.mark.parametrize("lesson", catalog.lessons()[:4], ids=lambda lesson: lesson.number)
def test_every_run_has_its_end(lesson, recorded):
    """Nested runs end inside of what they are nested in."""
    run = recorded(lesson.path)
    stacks: dict = {}
    for event in run.of("run", "end"):
        lane = event.get("T")
        if lane is None:
            continue
        stack = stacks.setdefault(run.trace["tasks"][lane].get("lane"), [])
        if event["k"] == "run":
            stack.append(lane)
        else:
            assert stack.pop() == lane


def test_an_endless_loop_of_lines_is_cut(script, recorded):
    run = recorded(
        script(
            """
            total = 0
            for number in range(100_000):
                total += number
            print(total)
            """
        )
    )
    assert run.trace["truncated"] is False
    assert 190 < len(run.of("line")) < 410
    assert [event.get("more") for event in run.of("line")].count(True) == 1


def test_lines_take_at_most_half_of_the_room(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            async def main():
                for n in range(300):
                    n += 1
                    n += 1
                    n += 1
                    n += 1
                    n += 1
                    n += 1
                    await asyncio.sleep(0)
                print("end")
            asyncio.run(main())
            """
        ),
        options={"max_events": 4000},
        quiet=False,
    )
    assert len(run.of("line")) == 2000
    assert [note.partition(":")[0] for note in run.trace["notes"]] == ["lines"]
    assert run.trace["truncated"] is False
    assert (len(run.of("run", name="Task-1")), run.of("out")[0]["text"]) == (301, "end\n")


def test_tasks_started_eagerly_behind_our_back_are_noted(script, recorded):
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with 3.12")
    run = recorded(
        script(
            """
            import asyncio
            async def nap():
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
            async def main():
                loop = asyncio.get_running_loop()
                await asyncio.Task(nap(), loop=loop, eager_start=True, name="direct")
                await asyncio.eager_task_factory(loop, nap(), name="by hand")
                await asyncio.Task(asyncio.sleep(0.002), loop=loop, eager_start=True, name="last")
                loop.set_task_factory(asyncio.eager_task_factory)
                await asyncio.create_task(asyncio.sleep(0.003), name="seen")
            asyncio.run(main())
            """
        ),
        quiet=False,
    )
    assert (run.code, run.stderr) == (0, b"")
    assert [note.partition(":")[0] for note in run.trace["notes"]] == ["eager"]
    for name in ("direct", "by hand"):
        assert [event["why"] for event in run.of("soon", name=name)] == ["yield", "wake"]
        assert run.lanes[name]["state"] == "done"
    # A timer of a first step that was not seen is nobody's, rather than the creator's.
    names = {lane["id"]: lane["name"] for lane in run.trace["tasks"]}
    owners = [names.get(event.get("T")) for event in run.of("timer")]
    assert owners == ["direct", "by hand", None, "seen"]


def test_sources_are_read_as_python_reads_them(script, recorded, tmp_path):
    """Its encoding, its lines: a form feed or U+2028 ends none; a BOM is no column."""
    sources = {
        "ff": "import asyncio\n\f\nasync def nap():\n"
        "    '\u2028 \x0b \x1c'; await asyncio.sleep(0)\n",
        "bom": "async def nap(asyncio): await asyncio.sleep(0)\n",
        "chinese": "# coding: gbk\r\nimport asyncio\r\nasync def 烧水():\r\n"
        "    '水'; await asyncio.sleep(0)\r\n",
        "old": "import asyncio\rasync def nap():\r    await asyncio.sleep(0)",
    }
    encodings = {"bom": "utf-8-sig", "chinese": "gbk"}
    for name, text in sources.items():
        (tmp_path / f"{name}.py").write_bytes(text.encode(encodings.get(name, "utf-8")))
    run = recorded(
        script(
            """
            import asyncio, bom, chinese, ff, old
            for coro in (ff.nap(), bom.nap(asyncio), chinese.烧水(), old.nap()):
                asyncio.run(coro)
            """
        )
    )
    assert (run.code, run.stderr) == (0, b"")
    assert run.trace["src"]["ff.py"][3] == "    '\u2028 \x0b \x1c'; await asyncio.sleep(0)"
    assert run.trace["src"]["chinese.py"][2:] == [
        "async def 烧水():",
        "    '水'; await asyncio.sleep(0)",
    ]
    for name, line in {"ff": 4, "bom": 1, "chinese": 4, "old": 3}.items():
        lines = run.trace["src"][f"{name}.py"]
        [wait] = [w for e in run.of("end") if (w := e.get("w")) and w["at"][0] == f"{name}.py"]
        assert (wait["at"][1], wait["expr"]) == (line, "await asyncio.sleep(0)")
        assert len(lines) == line
    assert recording._decoded(b"\xff\r\nx\ry") == "\ufffd\nx\ny"  # Python cannot run this one


def test_a_hundred_thousand_tasks_are_capped(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            async def main():
                tasks = [asyncio.create_task(asyncio.sleep(0, n)) for n in range(100_000)]
                print(sum(await asyncio.gather(*tasks)))
            asyncio.run(main())
            """
        ),
        options={"max_events": 20_000, "lines": False},
    )
    assert (run.code, run.stdout) == (0, b"4999950000\n")
    assert run.trace["truncated"] is True
    assert len(run.trace["ev"]) <= 20_010
    assert len(run.trace["tasks"]) < 20_000


def test_output_is_recorded(script, recorded):
    run = recorded(
        script(
            r"""
            import asyncio, sys
            async def speak():
                print("two", "words", 1)
                print("wrong", file=sys.stderr)
                sys.stdout.buffer.write(b"\xff\x00")
                print("\udcff甲" * 3000, flush=True) if sys.stdout.errors else None
            asyncio.run(speak())
            print("after")
            """
        ),
        PYTHONIOENCODING="utf-8:surrogateescape",
    )
    said = [(e["T"], e["s"], e["text"], e.get("bytes")) for e in run.of("out")]
    assert said[:3] == [
        (0, "stdout", "two words 1\n", None),
        (0, "stderr", "wrong\n", None),
        (0, "stdout", "\\xff\x00", True),
    ]
    assert said[3][2].startswith("\\udcff甲") and said[3][2].endswith("…\n")
    assert said[4] == (None, "stdout", "after\n", None)


def test_cli_writes_where_it_is_told(script, tmp_path):
    path = script("import os, sys; os.chdir('/'); print(sys.argv[1:]); sys.exit(3)")
    ran = processes.run(
        [sys.executable, "-m", "toolbox.recorder", "-o", "t.json", path, "-o", "--x"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(catalog.ROOT)},
        text=True,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "['-o', '--x']\n", "")
    trace = json.loads((tmp_path / "t.json").read_text())
    assert (trace["v"], trace["argv"], trace["died"]) == (1, ["-o", "--x"], None)


def test_a_loop_inside_of_a_greenlet_gives_it_back(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            import greenlet
            async def nap():
                await asyncio.sleep(0)
            greenlet.greenlet(print).switch()
            asyncio.run(nap())
            print("end")
            """
        )
    )
    [task] = run.of("new", name="Task-1")
    main = run.lanes["main"]["id"]
    assert {event["T"] for event in run.of("line") if event["l"] >= 7} == {main}
    assert run.of("out")[-1]["T"] == main
    assert [event["by"] for event in run.of("soon", name="Task-1")] == [
        {"T": main},
        {"T": task["T"]},
    ]


def test_what_threads_print_is_written_down_as_it_came_out(script, recorded):
    run = recorded(
        script(
            """
            import sys
            import threading
            sys.setswitchinterval(1e-6)
            def talk(name):
                for number in range(300):
                    print(name, number)
            threads = [threading.Thread(target=talk, args=[name]) for name in "abc"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            """
        ),
        options={"lines": False},
    )
    assert "".join(event["text"] for event in run.of("out")) == run.stdout.decode()


def test_odd_timers_and_callbacks_are_left_alone(script, recorded):
    """A sleep without end; callables that answer to any name."""
    run = recorded(
        script(
            """
            import asyncio, math
            from collections.abc import Coroutine
            from unittest.mock import MagicMock
            class Seconds(float):
                def __float__(self):
                    raise AssertionError("nobody asked")
            class Odd(Exception):
                args = 5
            class Wrapped(Coroutine):
                def __init__(self, coro):
                    self.coro = coro
                def send(self, value):
                    return self.coro.send(value)
                def throw(self, *error):
                    return self.coro.throw(*error)
                def __await__(self):
                    return self.coro.__await__()
                def __getattr__(self, name):
                    return 17
            async def odd():
                raise Odd("oh")
            async def main():
                await asyncio.gather(odd(), return_exceptions=True)
                await asyncio.create_task(Wrapped(asyncio.sleep(0.001)), name="wrapped")
                loop = asyncio.get_running_loop()
                loop.call_at(-math.inf, MagicMock())
                loop.call_soon(MagicMock())
                loop.call_later(1e300, print)
                await asyncio.sleep(Seconds(0.001))
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(math.inf)
            try:
                asyncio.run(main())
            except TimeoutError:
                print("late")
            """
        )
    )
    assert (run.code, run.stdout, run.stderr) == (0, b"late\n", b"")
    delays = [wait.get("delay") for wait in run.waits("Task-1")]
    assert delays == [None, None, 0.001, "inf"]
    assert run.lanes["wrapped"]["coro"] == "Wrapped"
    assert [lane["exc"] for lane in run.trace["tasks"] if lane["coro"] == "odd"] == ["Odd('oh')"]
    timers = [event["when"] for event in run.of("timer")]
    assert [when for when in timers if abs(when) == 10**15] == [-(10**15), 10**15, 10**15]


def test_a_long_line_is_cut_and_hides_none_after_it(script, recorded):
    run = recorded(
        script(
            """
            print("x" * 5000)
            print("y" * 2000)
            for part in range(30):
                print("z" * 100, end="")
            print()
            print("after")
            """
        ),
        options={"lines": False},
    )
    texts = [event["text"] for event in run.of("out")]
    assert texts == ["x" * 2000 + "…\n", "y" * 2000 + "\n", "z" * 2000 + "…\n", "after\n"]


def test_a_thread_that_has_run_a_loop_is_still_a_thread(script, recorded):
    source = """
        import asyncio
        def help():
            asyncio.run(asyncio.sleep(0))
            print("over")
        async def main():
            await asyncio.to_thread(help)
            await asyncio.to_thread(print, "next")
        asyncio.run(main())
    """
    run = recorded(script(source))
    assert [event["text"] for event in run.of("out") if "thread" in event["by"]] == [
        "over\n",
        "next\n",
    ]
