"""Why a task goes on, whose timer it was, who ran a line: what a page must not have to guess."""

import sys

import pytest

NEWER = sys.version_info >= (3, 12)


def woken(run, name) -> list[tuple]:
    """(why, exc, how) of each time that this lane entered the ready queue, but for the first."""
    return [(e["why"], e.get("exc"), e.get("how")) for e in run.of("soon", name=name)[1:]]


def thrown(run, name) -> list[str | None]:
    """With which exception each of its runs began."""
    return [event.get("thrown") for event in run.of("run", name=name)]


def test_a_timer_belongs_to_whom_it_serves(script, recorded):
    """Not to whoever set it: a timer that calls set_result() or cancel() limits nobody."""
    run = recorded(
        script(
            """
            import asyncio
            async def guest(future):
                print(await future)
            async def victim():
                await asyncio.sleep(9)
            async def cook():
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                eater = asyncio.create_task(guest(future), name="guest")
                loop.call_later(0.01, future.set_result, "noodles")
                await eater
                task = asyncio.create_task(victim(), name="victim")
                loop.call_later(0.01, task.cancel)
                await asyncio.wait([task], timeout=5)
                future = loop.create_future()
                loop.call_later(5, future.set_result, 1).cancel()
                loop.call_soon(future.set_result, 2)
                await future
                async with asyncio.timeout(6):
                    await asyncio.sleep(0)
                await asyncio.wait_for(asyncio.sleep(0), 7)
                for one in asyncio.as_completed([asyncio.sleep(0)], timeout=8):
                    await one
            asyncio.run(cook())
            """
        ),
        options={"virtual": True},
    )
    assert (run.code, run.stderr) == (0, b"")
    names = {lane["id"]: lane["name"] for lane in run.trace["tasks"]}
    timers = [
        (e["cb"].rpartition(".")[2], round(e["when"] / 1e6, 2), names.get(e.get("T")))
        for e in run.of("timer")
    ]
    release = ("_on_timeout", 7.0, "Task-1") if NEWER else ("_release_waiter", 7.0, "Task-1")
    last = "_handle_timeout" if sys.version_info >= (3, 13) else "_on_timeout"
    assert timers == [
        ("set_result", 0.01, None),
        ("cancel", 0.01, "victim"),
        ("_release_waiter", 5.0, "Task-1"),
        ("_set_result_unless_cancelled", 9.0, "victim"),
        ("set_result", 5.0, None),
        ("_on_timeout", 6.0, "Task-1"),
        release,
        (last, 8.0, "Task-1"),
    ]
    [waited] = run.waits("guest")
    assert (waited["kind"], waited["timer"]) == ("future", run.of("timer")[0]["h"])
    wait, future = [w for w in run.waits("Task-1") if w["kind"] in ("wait", "future")][:2]
    assert (wait["timeout"], "timer" in wait) == (run.of("timer")[2]["h"], False)
    assert "timer" not in future  # it was cancelled
    assert run.lanes["guest"]["at"] == ["script.py", 10]


def test_a_wake_says_what_came_of_the_wait(script, recorded):
    run = recorded(
        script(
            """
            import asyncio, time
            async def fail(delay=0.01):
                await asyncio.sleep(delay)
                raise ValueError("bad")
            async def task():
                await asyncio.create_task(fail())
            async def gather():
                await asyncio.gather(fail(), asyncio.sleep(0.05))
            async def future(future):
                await future
            async def thread():
                await asyncio.to_thread(int, "x")
            async def late(barrier):
                await barrier.wait()
            async def shut(queue):
                await queue.get()
            async def full(queue):
                await queue.put(2)
            async def sleeper():
                await asyncio.sleep(9)
            async def ready():
                await asyncio.sleep(0)
            async def main():
                made = asyncio.get_running_loop().create_future()
                lost = asyncio.get_running_loop().create_future()
                barrier, other = asyncio.Barrier(3), asyncio.Barrier(3)
                coros = [task(), gather(), future(made), thread(), late(barrier), late(other)]
                coros += [sleeper(), sleeper(), ready(), future(lost)]
                names = "task gather future thread aborted reset sleeper never ready".split()
                names.append("cancelled")
                queue, little = asyncio.Queue(), asyncio.Queue(1)
                little.put_nowait(1)
                if hasattr(queue, "shutdown"):
                    coros += [shut(queue), full(little)]
                    names += ["shut", "full"]
                tasks = dict(zip(names, map(asyncio.create_task, coros)))
                for name, task_ in tasks.items():
                    task_.set_name(name)
                tasks["never"].cancel()
                await asyncio.sleep(0)
                tasks["ready"].cancel()
                made.set_exception(KeyError("k"))
                lost.cancel()
                await barrier.abort()
                await other.reset()
                if hasattr(queue, "shutdown"):
                    queue.shutdown()
                    little.shutdown()
                tasks["sleeper"].cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)
            asyncio.run(main())
            """
        )
    )
    assert (run.code, run.stderr) == (0, b"")
    error = "ValueError('bad')"
    outcomes = {
        "task": ("wake", error, None),
        "gather": ("wake", error, None),
        "future": ("wake", "KeyError('k')", None),
        "aborted": ("wake", None, "broken"),
        "reset": ("wake", None, "broken"),
        "sleeper": ("cancel", None, "request"),
        "cancelled": ("cancel", None, None),
        "ready": ("yield", None, None),
    }
    if sys.version_info >= (3, 13):
        outcomes |= {"shut": ("wake", None, "shutdown"), "full": ("wake", None, "shutdown")}
    assert {name: woken(run, name)[0] for name in outcomes} == outcomes
    [(why, exc, how)] = woken(run, "thread")
    assert (why, how) == ("wake", None) and exc.startswith("ValueError(")
    cancelled = "CancelledError()"
    assert thrown(run, "task") == [None, error]
    assert thrown(run, "sleeper") == [None, cancelled]
    assert thrown(run, "never") == [cancelled]
    assert thrown(run, "ready") == [None, cancelled]
    assert thrown(run, "aborted")[1] is None  # Barrier.wait itself will raise
    failed = [event["exc"] for event in run.of("jobdone")]
    assert failed == [exc]


def test_wait_says_for_which_of_them_it_waits(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            async def main():
                await asyncio.create_task(asyncio.sleep(0), name="done before")
                def start(count):
                    naps = [asyncio.sleep(n / 100) for n in range(count)]
                    return [asyncio.create_task(nap, name=f"t{n}") for n, nap in enumerate(naps)]
                tasks = start(3)
                for until in (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION):
                    done, _ = await asyncio.wait(tasks, return_when=until)
                tasks = start(2)
                await asyncio.wait(tasks)
                tasks.append(asyncio.create_task(asyncio.sleep(0.01), name="last"))
                await asyncio.gather(*tasks)
            asyncio.run(main())
            """
        )
    )
    waits = [wait for wait in run.waits("Task-1") if wait["kind"] in ("wait", "gather")]
    names = [lane["name"] for lane in run.trace["tasks"]]
    seen = [(wait.get("until"), [names[lane] for lane in wait["on"]]) for wait in waits]
    assert seen == [
        ("FIRST_COMPLETED", ["t0", "t1", "t2"]),
        ("FIRST_EXCEPTION", ["t1", "t2"]),
        ("ALL_COMPLETED", ["t0", "t1"]),
        (None, ["last"]),
    ]


@pytest.mark.parametrize("limit", ["wait_for", "timeout"])
def test_a_sleep_under_a_limit_names_both_timers(limit, script, recorded):
    if limit == "wait_for" and not NEWER:
        pytest.skip("up to 3.11 wait_for() runs it in a task of its own")
    body = {
        "wait_for": "await asyncio.wait_for(asyncio.sleep(1), 0.01)",
        "timeout": "async with asyncio.timeout(0.01): await asyncio.sleep(1)",
    }[limit]
    run = recorded(
        script(
            f"""
            import asyncio
            async def main():
                try:
                    {body}
                except TimeoutError:
                    await asyncio.sleep(0.001)
            asyncio.run(main())
            """
        ),
        options={"virtual": True},
    )
    timers = {event["h"]: round(event["when"] / 1e6, 2) for event in run.of("timer")}
    wait, after = run.waits("Task-1")
    assert (timers[wait["timer"]], timers[wait["timeout"]]) == (1.0, 0.01)
    assert "timeout" not in after  # a limit that rang is over


def test_of_several_limits_the_first_counts_and_each_is_its_tasks_own(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            async def main():
                async with asyncio.timeout(30):
                    async with asyncio.timeout(20) as inner:
                        await asyncio.sleep(0.001)
                        loop, task = asyncio.get_running_loop(), asyncio.current_task()
                        loop.call_soon(inner.reschedule, loop.time() + 40)
                        other = asyncio.create_task(asyncio.sleep(0.001), name="other")
                        await asyncio.sleep(0.002)
                    await asyncio.sleep(0.001)
            asyncio.run(main())
            """
        )
    )
    timers = {event["h"]: event for event in run.of("timer")}
    limits = [round(timers[wait["timeout"]]["when"] / 1e6) for wait in run.waits("Task-1")]
    assert limits == [20, 20, 30]
    # Rescheduled by a callback while another task ran: it is still the first one's.
    assert [e["T"] for e in timers.values() if round(e["when"] / 1e6) == 40] == [0]
    assert "timeout" not in run.waits("other")[0]


def test_a_line_says_which_thread_or_callback_runs_it(script, recorded):
    run = recorded(
        script(
            """
            import asyncio, threading
            def tick():
                print("tick")
            def job():
                print("job")
            async def main():
                asyncio.get_running_loop().call_soon(tick)
                await asyncio.sleep(0)  # one after the other: prints of two threads may mix
                await asyncio.to_thread(job)
            print("before")
            asyncio.run(main())
            thread = threading.Thread(target=job, name="own")
            thread.start()
            thread.join()
            """
        )
    )
    [soon] = [event["h"] for event in run.of("soon") if event.get("cb") == "tick"]
    [j] = [event["j"] for event in run.of("job")]
    by = {"tick\n": [{"h": soon}], "job\n": [{"thread": "asyncio_0", "j": j}, {"thread": "own"}]}
    said = {text: [e.get("by") for e in run.of("out") if e["text"] == text] for text in by}
    assert said == by
    ran = {n: [e.get("by") for e in run.of("line") if e["l"] == n] for n in (4, 6)}
    assert ran == {4: by["tick\n"], 6: by["job\n"]}
    assert [
        event for event in run.of("out", "line") if event["T"] is not None and "by" in event
    ] == []
    assert run.of("out")[0].get("by") is None
    assert [(e["state"], e["by"]["thread"]) for e in run.of("jobdone")] == [("done", "asyncio_0")]


def test_a_task_that_is_thrown_at_does_not_run_its_await_again(script, recorded):
    """Nor does a coroutine that the garbage collector takes apart run in the task that is on."""
    run = recorded(
        script(
            """
            import asyncio, gc
            async def inner():
                await asyncio.sleep(9)
            async def outer():
                try:
                    await inner()
                except asyncio.CancelledError:
                    raise
            async def lost():
                await asyncio.get_running_loop().create_future()
            async def main():
                asyncio.get_running_loop().set_exception_handler(lambda *_: None)
                task = asyncio.create_task(outer(), name="outer")
                asyncio.create_task(lost(), name="lost")
                await asyncio.sleep(0)
                task.cancel()
                gc.collect()
                await asyncio.wait([task])
            asyncio.run(main())
            """
        )
    )
    assert (run.code, run.stderr) == (0, b"")
    lines = [event["l"] for event in run.of("line")]
    assert (lines.count(4), lines.count(7), lines.count(11)) == (1, 1, 1)
    assert [event["l"] for event in run.of("line", name="outer")] == [6, 7, 4, 8, 9]
    events = [(e["k"], e.get("l")) for e in run.trace["ev"] if e["k"] in ("gone", "line")]
    assert events[events.index(("gone", None)) - 1] == ("line", 18)
    assert run.of("gone") == [
        {"k": "gone", "t": run.of("gone")[0]["t"], "T": run.lanes["lost"]["id"]}
    ]
    assert run.lanes["lost"]["state"] == "pending"


def test_a_job_that_never_began_says_so(script, recorded):
    run = recorded(
        script(
            """
            import asyncio, threading
            from concurrent.futures import ThreadPoolExecutor
            async def main():
                loop, gate = asyncio.get_running_loop(), threading.Event()
                with ThreadPoolExecutor(1) as pool:
                    first = loop.run_in_executor(pool, gate.wait)
                    second = loop.run_in_executor(pool, print)
                    second.cancel()
                    await asyncio.sleep(0)
                    gate.set()
                    await first
            asyncio.run(main())
            """
        )
    )
    assert [event["state"] for event in run.of("jobdone")] == ["cancelled", "done"]
    first = [e["k"] for e in run.trace["ev"] if e.get("j") == run.of("job")[0]["j"]]
    assert first == ["job", "thr+", "jobdone", "thr-"]
