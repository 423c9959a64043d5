"""The queue and heap that follow from the events are those that the loop really has."""

import pytest

from toolbox import catalog
from toolbox.recorder import model

# Threads may schedule while a step begins; these lessons have one thread.
LESSONS = [
    lesson
    for lesson in catalog.lessons()
    if lesson.number in ("1.3", "1.4", "2.1", "3.1", "3.2", "3.3", "3.5", "3.6")
]
BUSY = """
    import asyncio

    async def worker(queue):
        while (item := await queue.get()) is not None:
            await asyncio.sleep(item / 100)

    async def main():
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue(1)
        for delay in range(300):  # so many that the loop sweeps its heap
            loop.call_later(5 + delay, print).cancel()
        loop.call_soon(print, "never").cancel()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker(queue))
            for item in (1, 0, 2, None):
                await queue.put(item)
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        writer.close()
        server.close()
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            pass

    asyncio.run(main())
"""


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.number)
def test_lessons_have_no_mismatch(lesson, recorded):
    trace = recorded(lesson.path, options={"check": True}).trace
    assert model.checks(trace) > 10
    assert list(model.mismatches(trace)) == []


def test_timers_and_cancelled_callbacks(script, recorded):
    trace = recorded(script(BUSY), options={"check": True}).trace
    assert model.checks(trace) > 30
    assert {"timer", "due", "tcancel", "hcancel", "io"} <= {event["k"] for event in trace["ev"]}
    assert list(model.mismatches(trace)) == []


@pytest.mark.parametrize("kind", ["soon", "io", "due", "tcancel", "hcancel", "timer"])
def test_the_check_fails_when_one_event_is_missing(kind, script, recorded):
    trace = recorded(script(BUSY), options={"check": True}).trace
    last = max(
        number
        for number, event in enumerate(trace["ev"])
        if event["k"] == kind and any(later["k"] == "run" for later in trace["ev"][number + 1 :])
    )
    found = []
    for number in {next(i for i, e in enumerate(trace["ev"]) if e["k"] == kind), last}:
        events = trace["ev"][:number] + trace["ev"][number + 1 :]
        found += model.mismatches({**trace, "ev": events})
    assert found


def test_steps_of_one_loop_never_overlap(script, recorded):
    trace = recorded(script(BUSY)).trace
    running = None
    for event in trace["ev"]:
        if event["k"] == "run" and "in" not in event:
            assert running is None
            running = event["h"]
        elif event["k"] == "end" and "h" in event:
            assert running == event["h"]
            running = None
