"""What went wrong once while recorders were tried out; one test each (facts/recorder.md)."""

import shutil
import signal
import sys
import traceback
from pathlib import Path

import pytest

from toolbox.recorder import session


def test_1_an_eager_task_that_finished_is_not_asked_for_its_coroutine(script, recorded):
    """get_coro() of one crashes Python 3.12.0 to 3.12.4."""
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with 3.12")
    run = recorded(
        script(
            """
            import asyncio
            async def at_once():
                print("at once")
                return 1
            async def later():
                print("begins")
                await asyncio.sleep(0)
                asyncio.create_task(at_once(), name="grandchild")
                return 2
            async def yields():
                await asyncio.sleep(0)
            async def main():
                asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
                a = asyncio.create_task(at_once(), name="a")
                b = asyncio.create_task(later(), name="b")
                c = asyncio.create_task(yields(), name="c")
                print(a.done(), await b, await c)
            asyncio.run(main())
            """
        )
    )
    assert run.code == 0, run.stderr
    eager = ("a", "b", "c", "grandchild")
    assert [run.lanes[name]["state"] for name in eager] == ["done"] * 4
    assert {name for name, lane in run.lanes.items() if lane.get("eager")} == set(eager)
    first = run.of("run", "end", name="b")[:2]
    assert [event.get("in") for event in first] == [run.lanes["Task-1"]["id"], None]
    assert first[0]["eager"] is True
    assert first[1]["w"]["kind"] == "yield"
    said = {event["text"]: event["T"] for event in run.of("out")}
    assert said["at once\n"] in (run.lanes["a"]["id"], run.lanes["grandchild"]["id"])
    assert said["begins\n"] == run.lanes["b"]["id"]


def test_a_custom_task_factory_is_no_eager_one(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            async def wrapper(coro):
                return await coro
            async def work():
                await asyncio.sleep(0)
            def factory(loop, coro, **options):
                return asyncio.Task(wrapper(coro), loop=loop, **options)
            async def main():
                asyncio.get_running_loop().set_task_factory(factory)
                await asyncio.create_task(work(), name="child")
                try:
                    asyncio.get_running_loop().create_task(3)
                except TypeError:
                    pass
            asyncio.run(main())
            """
        ),
        flags=(),
    )
    assert run.code == 0, run.stderr
    assert "eager" not in run.lanes["child"]
    assert run.lanes["child"]["state"] == "done"
    assert not any(event.get("eager") for event in run.of("run"))


def test_2_an_exception_that_nobody_fetched_is_still_complained_about(script, plain, recorded):
    path = script(
        """
        import asyncio
        async def bad():
            raise ValueError("nobody looks")
        async def main():
            task = asyncio.create_task(bad(), name="bad")
            await asyncio.sleep(0.01)
        asyncio.run(main())
        """
    )
    run = recorded(path)
    assert b"exception was never retrieved" in run.stderr
    assert run.stderr == plain(path).stderr
    assert run.lanes["bad"]["exc"] == "ValueError('nobody looks')"


def test_3_the_complaint_comes_at_once(script, plain, recorded):
    path = script(
        """
        import asyncio
        async def bad():
            raise ValueError("nobody looks")
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: print(context["message"]))
            asyncio.create_task(bad())
            for number in range(4):
                print(number)
                await asyncio.sleep(0)
            try:
                loop.call_soon(lambda: 1 / 0)
                await asyncio.sleep(0.001)
            finally:
                print("end")
        asyncio.run(main())
        """
    )
    assert recorded(path).stdout == plain(path).stdout


def test_4_ids_that_are_used_again_are_not_mixed_up(script, recorded):
    """Thousands of short-lived tasks, timers and futures: each keeps its own number."""
    run = recorded(
        script(
            """
            import asyncio
            async def nap(delay):
                await asyncio.sleep(delay)
            async def main():
                for number in range(300):
                    await asyncio.create_task(nap(0.0001), name=f"n{number}")
                    asyncio.get_running_loop().call_later(9, print).cancel()
                    asyncio.get_running_loop().create_future()
                for _ in range(20):
                    queue = asyncio.Queue()
                    asyncio.get_running_loop().call_soon(queue.put_nowait, 1)
                    await queue.get()
            for _ in range(3):
                asyncio.run(main())
            loop = asyncio.new_event_loop()
            for _ in range(50):
                loop.call_soon(print)  # never runs
            loop.close()
            asyncio.run(nap(0))
            """
        )
    )
    numbers = [event["h"] for event in run.of("soon", "timer", "io")]
    assert len(numbers) == len(set(numbers))
    timers = {event["h"]: event for event in run.of("timer")}
    waits = [event for event in run.of("end") if event.get("w", {}).get("kind") == "sleep"]
    assert len(waits) == 900
    for event in waits:
        assert timers[event["w"]["timer"]]["T"] == event["T"]
    assert len({event["w"]["timer"] for event in waits}) == 900
    queues = [event["w"]["obj"] for event in run.of("end") if "obj" in event.get("w", {})]
    assert queues == [f"Queue#{number}" for number in range(1, 61)]
    assert len([lane for lane in run.trace["tasks"] if lane["coro"] == "nap"]) == 901
    assert len(run.trace["loops"]) == 5


def test_5_call_soon_threadsafe_has_its_number_before_it_runs(script, recorded):
    run = recorded(
        script(
            """
            import asyncio, threading
            async def main():
                loop, done = asyncio.get_running_loop(), asyncio.Event()
                def knock():
                    for _ in range(300):
                        loop.call_soon_threadsafe(int)
                    loop.call_soon_threadsafe(done.set)
                threads = [threading.Thread(target=knock) for _ in range(4)]
                for thread in threads:
                    thread.start()
                await done.wait()
                for thread in threads:
                    await asyncio.to_thread(thread.join)
            asyncio.run(main())
            """
        )
    )
    soon = [event for event in run.of("soon") if event.get("cb") == "int"]
    ran = {event["h"] for event in run.of("run") if event.get("cb") == "int"}
    assert len(soon) == 1200
    assert {event["h"] for event in soon} == ran
    assert all(event["by"]["thread"].startswith("Thread-") for event in soon)


def test_4_what_a_closed_loop_leaves_behind_is_forgotten(script, recorded):
    run = recorded(
        script(
            """
            import asyncio, socket
            async def wait_for_nobody():
                future = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(future.set_result, 1)
                await future
            async def read_nothing(sock):
                loop = asyncio.get_running_loop()
                for _ in range(50):
                    loop.add_reader(sock, print)
                    loop.remove_reader(sock)
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            for _ in range(50):
                loop = asyncio.new_event_loop()
                futures = [loop.create_future() for _ in range(20)]
                for future in futures:
                    loop.call_later(9, future.set_result, 1)
                    loop.call_soon(print)
                loop.close()
                del loop, futures, future
                asyncio.run(wait_for_nobody())
                asyncio.run(read_nothing(ours))
            ours.close()
            theirs.close()
            """
        )
    )
    assert (run.code, run.stderr) == (0, b"")
    lanes = [lane["id"] for lane in run.trace["tasks"] if lane["coro"] == "wait_for_nobody"]
    waits = [e["w"] for e in run.of("end") if e.get("T") in lanes and e["state"] == "wait"]
    assert len(waits) == 50
    assert {wait["kind"] for wait in waits} == {"future"}
    assert not any("timer" in wait for wait in waits)
    assert run.of("hcancel") == run.of("tcancel") == []


@pytest.mark.parametrize("task_class", ["asyncio.Task", "asyncio.tasks._PyTask"])
def test_6_a_callback_that_cancels_a_task_is_no_step_of_it(task_class, script, recorded):
    run = recorded(
        script(
            f"""
            import asyncio
            async def main():
                asyncio.get_running_loop().set_task_factory(
                    lambda loop, coro, **how: {task_class}(coro, loop=loop, **how)
                )
                task = asyncio.create_task(asyncio.sleep(9), name="sleeper")
                asyncio.get_running_loop().call_later(0.001, task.cancel)
                asyncio.get_running_loop().call_soon(task.add_done_callback, print)
                await asyncio.wait([task])
            asyncio.run(main())
            """
        )
    )
    steps = run.of("run", name="sleeper")
    assert len(steps) == 2
    assert "cancel" in {event.get("cb", "").rpartition(".")[2] for event in run.of("run")}
    assert [event["why"] for event in run.of("soon", name="sleeper")] == ["create", "cancel"]


def test_7_the_recorders_own_files_do_not_show(script, recorded, tmp_path):
    """Even when the recorder lies in the script's folder."""
    own = Path(__file__).parents[2] / "toolbox"
    shutil.copytree(own, tmp_path / "toolbox", ignore=shutil.ignore_patterns("__pycache__"))
    path = script("import asyncio\nasyncio.run(asyncio.sleep(0.001))\n")
    run = recorded(path, root=tmp_path)
    assert set(run.trace["src"]) == {"script.py"}
    assert {event["f"] for event in run.of("line")} == {"script.py"}
    assert run.of("timer")[0]["at"] == ["script.py", 2]


def test_7_other_files_of_the_scripts_folder_do(script, recorded):
    script("import asyncio\nasync def nap():\n    await asyncio.sleep(0)\n", "helper.py")
    script("", "site-packages/library.py")
    run = recorded(
        script(
            """
            import asyncio, helper, sys
            sys.path.append(sys.path[0] + "/site-packages")
            import library
            asyncio.run(helper.nap())
            """
        )
    )
    assert set(run.trace["src"]) == {"script.py", "helper.py"}
    assert run.lanes["Task-1"]["def"] == ["helper.py", 2]
    assert {event["f"] for event in run.of("line")} == {"script.py", "helper.py"}


@pytest.mark.parametrize("name", ["lines", "clock", "html", "model", "weave", "toolbox"])
def test_8_the_recorders_folder_is_not_on_the_path(name, script, recorded):
    run = recorded(
        script(
            f"""
            import asyncio, sys
            print([path for path in sys.path if "toolbox" in path])
            try:
                import {name}
            except ImportError:
                print("none")
            else:
                print({name}.__file__)
            """
        )
    )
    first, second = run.stdout.decode().splitlines()
    assert first == "[]"
    assert second == "none" or second.endswith("/html/__init__.py")


def test_a_forked_child_writes_nothing_down(script, recorded):
    if sys.platform == "win32":
        pytest.skip("no fork there")
    run = recorded(
        script(
            """
            import gc, os, sys
            [recording] = [one for one in gc.get_objects() if type(one).__name__ == "Recording"]
            before = len(recording.ev)
            child = os.fork()
            if child == 0:
                print("child")
                os._exit(len(recording.ev) - before > 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            """
        )
    )
    assert run.stdout.endswith(b"0\n")


def test_ctrl_c_does_not_stop_the_writing(tmp_path):
    options = {"script": "x.py", "arguments": [], "output": str(tmp_path / "t.json")}
    writer = session.Session({**options, "max_events": 9, "virtual": False, "lines": False})
    before, seen = signal.getsignal(signal.SIGINT), []
    writer.recording.trace = lambda: seen.append(signal.getsignal(signal.SIGINT)) or {}
    writer.write()
    assert seen == [signal.SIG_IGN]
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "t.json").read_text() == "{}"


def test_ctrl_c_inside_of_a_hook_does_not_show_it():
    """It strikes anywhere; the traceback ends where the hook was called."""
    hook = session.__file__.replace("session.py", "lines.py")
    names: dict = {}
    exec(compile("def line():\n    raise KeyboardInterrupt", hook, "exec"), names)

    def learner():
        names["line"]()

    with pytest.raises(KeyboardInterrupt) as caught:
        learner()
    trace = session._without_our_frames(caught.value, caught.value.__traceback__)
    assert [frame.name for frame in traceback.extract_tb(trace)][-1] == "learner"
    assert caught.value.__traceback__ is trace


def test_a_getattr_of_the_scripts_own_is_not_asked(script, recorded):
    source = """
        import asyncio
        class Strict(asyncio.Queue):
            def __getattr__(self, name):
                raise RuntimeError(name)
        async def main():
            queue = Strict()
            asyncio.get_running_loop().call_soon(queue.put_nowait, 1)
            print(await queue.get())
        asyncio.run(main())
    """
    run = recorded(script(source))
    assert (run.code, run.stdout, run.stderr) == (0, b"1\n", b"")
