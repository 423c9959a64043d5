"""All ways to run a loop; libraries; greenlets and generators; scripts that are too much."""

import json
import os
import sys

import pytest

from tests import processes
from toolbox import catalog

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
            """
        )
    )
    assert run.code == 0
    assert {name: (lane["state"], lane.get("exc")) for name, lane in run.lanes.items()} == {
        "fails": ("error", "ValueError()"),
        "catches": ("error", "OSError()"),
        "closed": ("cancelled", None),
        "fails#2": ("error", "KeyError('x')"),
    }


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
    assert said[3][2].startswith("\\udcff甲") and said[3][2].endswith("…")
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
