"""What a task waits for: every primitive, with its object and the awaited expression."""

import sys

import pytest

NEWER = sys.version_info >= (3, 12)
SETUP = """
    import asyncio, os, socket, sys
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from multiprocessing import get_context

    async def nap(seconds=0.02):
        await asyncio.sleep(seconds)

    async def letters():
        await asyncio.sleep(0.02)
        yield "a"

    class Door:
        async def __aenter__(self):
            await asyncio.sleep(0.02)

        async def __aexit__(self, *error):
            pass

    class Bell:
        def __await__(self):
            yield from asyncio.sleep(0.02).__await__()

    class Steps:
        def __aiter__(self):
            return self

        async def __anext__(self):
            await asyncio.sleep(0.02)
            raise StopAsyncIteration

    def later(function, *arguments):
        asyncio.get_running_loop().call_later(0.03, function, *arguments)

    async def open_later(condition):
        async with condition:
            condition.notify()

    async def subject():
        loop = asyncio.get_running_loop()
        {body}

    async def main():
        await asyncio.create_task(subject(), name="subject")

    if __name__ == "__main__":
        asyncio.run(main())
"""
# name: (body, kind, api, object, expression); None: not there
TABLE = {
    "sleep": ("await asyncio.sleep(0.02)", "sleep", "sleep", None, "await asyncio.sleep(0.02)"),
    "sleep(0)": ("await asyncio.sleep(0)", "yield", "sleep", None, "await asyncio.sleep(0)"),
    "Lock": (
        "lock = asyncio.Lock(); await lock.acquire(); later(lock.release); await lock.acquire()",
        "lock",
        "Lock.acquire",
        "Lock#1",
        "await lock.acquire()",
    ),
    "async with Lock": (
        "lock = asyncio.Lock(); await lock.acquire(); later(lock.release)\n"
        "async with lock:\n    pass",
        "lock",
        "Lock.acquire",
        "Lock#1",
        "async with lock",
    ),
    "Semaphore": (
        "gate = asyncio.Semaphore(0); later(gate.release); await gate.acquire()",
        "semaphore",
        "Semaphore.acquire",
        "Semaphore#1",
        "await gate.acquire()",
    ),
    "BoundedSemaphore": (
        "gate = asyncio.BoundedSemaphore(1); await gate.acquire(); later(gate.release)\n"
        "async with gate:\n    pass",
        "semaphore",
        "Semaphore.acquire",
        "BoundedSemaphore#1",
        "async with gate",
    ),
    "Event": (
        "bell = asyncio.Event(); later(bell.set); await bell.wait()",
        "event",
        "Event.wait",
        "Event#1",
        "await bell.wait()",
    ),
    "Condition": (
        "condition = asyncio.Condition()\n"
        "later(lambda: setattr(condition, 'task', loop.create_task(open_later(condition))))\n"
        "async with condition:\n    await condition.wait()",
        "condition",
        "Condition.wait",
        "Condition#1",
        "await condition.wait()",
    ),
    "Condition.wait_for": (
        "condition = asyncio.Condition(); ready = []\n"
        "later(ready.append, 1)\n"
        "later(lambda: setattr(condition, 'task', loop.create_task(open_later(condition))))\n"
        "async with condition:\n    await condition.wait_for(lambda: ready)",
        "condition",
        "Condition.wait_for",
        "Condition#1",
        "await condition.wait_for(lambda: ready)",
    ),
    "Queue.get": (
        "queue = asyncio.Queue(); later(queue.put_nowait, 1); await queue.get()",
        "queue",
        "Queue.get",
        "Queue#1",
        "await queue.get()",
    ),
    "PriorityQueue.get": (
        "queue = asyncio.PriorityQueue(); later(queue.put_nowait, 1); item = await queue.get()",
        "queue",
        "Queue.get",
        "PriorityQueue#1",
        "await queue.get()",
    ),
    "Queue.put": (
        "queue = asyncio.Queue(1); await queue.put(1); later(queue.get_nowait)\nawait queue.put(2)",
        "queue",
        "Queue.put",
        "Queue#1",
        "await queue.put(2)",
    ),
    "Queue.join": (
        "queue = asyncio.Queue(); queue.put_nowait(1); later(queue.task_done); await queue.join()",
        "queue",
        "Queue.join",
        "Queue#1",
        "await queue.join()",
    ),
    "Barrier": (
        "barrier = asyncio.Barrier(2)\n"
        "later(lambda: setattr(barrier, 'task', loop.create_task(barrier.wait())))\n"
        "await barrier.wait()",
        "barrier",
        "Barrier.wait",
        "Barrier#1",
        "await barrier.wait()",
    ),
    "task": ("await asyncio.create_task(nap(), name='x')", "task", None, None, None),
    "gather": (
        "await asyncio.gather(nap(), nap())",
        "gather",
        "gather",
        None,
        "await asyncio.gather(nap(), nap())",
    ),
    "wait": (
        "await asyncio.wait([asyncio.create_task(nap())])",
        "wait",
        "wait",
        None,
        "await asyncio.wait([asyncio.create_task(nap())])",
    ),
    "wait_for": (
        "await asyncio.wait_for(nap(), 1)",
        "sleep" if NEWER else "task",
        "sleep" if NEWER else "wait_for",
        None,
        "await asyncio.sleep(seconds)" if NEWER else "await asyncio.wait_for(nap(), 1)",
    ),
    "wait_for a library's coroutine": (
        "queue = asyncio.Queue(); later(queue.put_nowait, 1)\n"
        "await asyncio.wait_for(queue.get(), 1)",
        "queue" if NEWER else "task",
        "wait_for",
        "Queue#1" if NEWER else None,
        "await asyncio.wait_for(queue.get(), 1)",
    ),
    "timeout": (
        "async with asyncio.timeout(1):\n    await asyncio.sleep(0.02)",
        "sleep",
        "sleep",
        None,
        "await asyncio.sleep(0.02)",
    ),
    "as_completed": (
        "for one in asyncio.as_completed([nap()]):\n    await one",
        "wait",
        "as_completed",
        None,
        "await one",
    ),
    "TaskGroup": (
        "async with asyncio.TaskGroup() as group:\n    group.create_task(nap())",
        "taskgroup",
        "TaskGroup.__aexit__",
        None,
        "async with asyncio.TaskGroup()",
    ),
    "shield": (
        "await asyncio.shield(asyncio.create_task(nap()))",
        "task",
        "shield",
        None,
        "await asyncio.shield(asyncio.create_task(nap()))",
    ),
    "Future": (
        "future = loop.create_future(); later(future.set_result, 1); await future",
        "future",
        None,
        None,
        "await future",
    ),
    "stream read": (
        "server = await asyncio.start_server(lambda r, w: later(w.close), '127.0.0.1', 0)\n"
        "reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())\n"
        "await reader.readline(); writer.close(); server.close()",
        "io",
        "StreamReader.readline",
        "StreamReader#1",
        "await reader.readline()",
    ),
    "open_connection": (
        "server = await asyncio.start_server(lambda r, w: w.close(), '127.0.0.1', 0)\n"
        "reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())\n"
        "writer.close(); server.close()",
        "io",
        "open_connection",
        None,
        "await asyncio.open_connection(*server.sockets[0].getsockname())",
    ),
    "stream drain": (
        "done = asyncio.Event()\n"
        "async def slow(r, w):\n"
        "    await asyncio.sleep(0.03); await r.read(); w.close(); done.set()\n"
        "server = await asyncio.start_server(slow, '127.0.0.1', 0)\n"
        "reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())\n"
        "writer.write(bytes(20_000_000)); await writer.drain()\n"
        "writer.close(); await done.wait(); await asyncio.sleep(0.01); server.close()",
        "io",
        "StreamWriter.drain",
        None,
        "await writer.drain()",
    ),
    "sock_recv": (
        "ours, theirs = socket.socketpair(); ours.setblocking(False)\n"
        "later(theirs.send, b'x'); await loop.sock_recv(ours, 1); ours.close(); theirs.close()",
        "io",
        "loop.sock_recv",
        None,
        "await loop.sock_recv(ours, 1)",
    ),
    "subprocess wait": (
        "process = await asyncio.create_subprocess_exec(sys.executable, '-c', '')\n"
        "await process.wait()",
        "subprocess",
        "Process.wait",
        "Process#1",
        "await process.wait()",
    ),
    "subprocess communicate": (
        "process = await asyncio.create_subprocess_exec(\n"
        "    sys.executable, '-c', '', stdout=-1)\n"
        "await process.communicate()",
        "subprocess",
        "Process.communicate",
        "Process#1",
        "await process.communicate()",
    ),
    "to_thread": (
        "import time; await asyncio.to_thread(time.sleep, 0.02)",
        "thread",
        "to_thread",
        None,
        "await asyncio.to_thread(time.sleep, 0.02)",
    ),
    "thread pool": (
        "import time\nwith ThreadPoolExecutor(1) as pool:\n"
        "    await loop.run_in_executor(pool, time.sleep, 0.02)",
        "thread",
        None,
        None,
        "await loop.run_in_executor(pool, time.sleep, 0.02)",
    ),
    "process pool": (
        "with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:\n"
        "    await loop.run_in_executor(pool, os.getpid)",
        "process",
        None,
        None,
        "await loop.run_in_executor(pool, os.getpid)",
    ),
    "async for": (
        "async for letter in letters():\n    pass",
        "sleep",
        "sleep",
        None,
        "await asyncio.sleep(0.02)",
    ),
    "async for, own iterator": (
        "async for step in Steps():\n    pass",
        "sleep",
        "sleep",
        None,
        "await asyncio.sleep(0.02)",
    ),
    "async for over a stream": (
        "server = await asyncio.start_server(lambda r, w: later(w.close), '127.0.0.1', 0)\n"
        "reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())\n"
        "async for line in reader:\n    pass\n"
        "writer.close(); server.close()",
        "io",
        "StreamReader.readline",
        "StreamReader#1",
        "async for line in reader",
    ),
    "anext": (
        "await anext(letters(), None)",
        "sleep",
        "sleep",
        None,
        "await asyncio.sleep(0.02)",
    ),
    "async with": (
        "async with Door():\n    pass",
        "sleep",
        "sleep",
        None,
        "await asyncio.sleep(0.02)",
    ),
    "__await__": ("await Bell()", "sleep", "sleep", None, None),
}


@pytest.fixture
def wait_in(script, recorded):
    """The wait that the body's last-but-nothing expression leads to, and the whole run."""

    def look(body, expression):
        body = body.replace("\n", "\n" + " " * 8)
        run = recorded(script(SETUP.replace("{body}", body)))
        assert (run.code, run.stderr) == (0, b"")
        waits = run.waits("subject")
        chosen = [wait for wait in waits if expression is None or wait.get("expr") == expression]
        assert chosen, waits
        return chosen[0], run

    return look


@pytest.mark.parametrize("name", TABLE)
def test_primitive(name, wait_in):
    body, kind, api, thing, expression = TABLE[name]
    if name == "sock_recv" and sys.platform == "win32":
        pytest.skip("another loop there")
    wait, _ = wait_in(body, expression)
    assert (wait["kind"], wait.get("api"), wait.get("obj")) == (kind, api, thing)
    assert wait["stack"][0][0] == "subject"


def test_who_was_notified_waits_for_the_lock_again(wait_in):
    body = (
        "condition = asyncio.Condition()\n"
        "async def notify():\n"
        "    async with condition:\n"
        "        condition.notify()\n"
        "        await asyncio.sleep(0.01)\n"
        "other = asyncio.create_task(notify())\n"
        "async with condition:\n    await condition.wait()"
    )
    _, run = wait_in(body, None)
    waits = [(wait["kind"], wait.get("obj")) for wait in run.waits("subject")]
    assert waits == [("condition", "Condition#1"), ("lock", "Lock#1")]


@pytest.mark.parametrize("name", ["task", "gather", "wait", "TaskGroup", "shield"])
def test_names_the_tasks_it_waits_for(name, wait_in):
    body, *_, expression = TABLE[name]
    wait, run = wait_in(body, expression)
    assert wait["on"]
    assert {run.trace["tasks"][lane]["coro"] for lane in wait["on"]} == {"nap"}


def test_sleep_names_its_timer(wait_in):
    wait, run = wait_in("await asyncio.sleep(0.02)", None)
    timer = next(event for event in run.of("timer") if event["h"] == wait["timer"])
    assert wait["delay"] == 0.02
    assert timer["cb"] == "_set_result_unless_cancelled"
    assert 0 < timer["when"] <= 20_000
    assert [event["k"] for event in run.trace["ev"] if event.get("h") == wait["timer"]] == [
        "timer",
        "due",
        "run",
        "end",
    ]


@pytest.mark.parametrize("name", ["timeout", "wait_for"])
def test_names_the_timeout_around_it(name, wait_in):
    body, *_, expression = TABLE[name]
    wait, run = wait_in(body, expression)
    timer = next(event for event in run.of("timer") if event["h"] == wait["timeout"])
    assert timer["when"] > 900_000


@pytest.mark.parametrize("name", ["to_thread", "thread pool", "process pool"])
def test_names_the_job(name, wait_in):
    body, *_, expression = TABLE[name]
    wait, run = wait_in(body, expression)
    kinds = [event["k"] for event in run.trace["ev"] if event.get("j") == wait["job"]]
    if name == "process pool":
        assert kinds == ["job", "jobdone"]
    else:
        assert sorted(kinds) == ["job", "jobdone", "thr+", "thr-"]
        assert kinds[:2] == ["job", "thr+"]
        names = {event["fn"] for event in run.trace["ev"] if event.get("fn")}
        assert names == {"sleep"}  # the learner's function, not Context.run


def test_position_is_that_of_the_expression(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            async def main():
                return [1, await asyncio.sleep(
                    0.01,
                    "甲"
                )]
            asyncio.run(main())
            """
        )
    )
    wait = run.waits("Task-1")[0]
    assert wait["at"] == ["script.py", 4, 7, 15, 5]
    assert wait["expr"] == 'await asyncio.sleep(0.01, "甲")'


def test_a_block_that_begins_with_await_is_not_that_await(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            async def made(thing):
                await asyncio.sleep(0)
                return thing
            async def main():
                lock = asyncio.Lock()
                await lock.acquire()
                asyncio.get_running_loop().call_later(0.01, lock.release)
                async with await made(lock):
                    pass
                reader = asyncio.StreamReader()
                asyncio.get_running_loop().call_later(0.01, reader.feed_eof)
                async for line in await made(reader):
                    pass
            asyncio.run(main())
            """
        )
    )
    assert [wait["expr"] for wait in run.waits("Task-1")] == [
        "await asyncio.sleep(0)",
        "async with await made(lock)",
        "await asyncio.sleep(0)",
        "async for line in await made(reader)",
    ]


def test_of_two_limits_the_one_that_is_due_first_is_named(script, recorded):
    run = recorded(
        script(
            """
            import asyncio
            async def main():
                for outer, inner in (5, 60), (60, 5):
                    async with asyncio.timeout(outer), asyncio.timeout(inner):
                        await asyncio.sleep(0.01)
                async with asyncio.timeout(5) as outer, asyncio.timeout(60):
                    outer.reschedule(asyncio.get_running_loop().time() + 100)
                    await asyncio.sleep(0.01)
            asyncio.run(main())
            """
        )
    )
    limits = {event["h"]: round(event["when"] / 1e6) for event in run.of("timer")}
    assert [limits[wait["timeout"]] for wait in run.waits("Task-1")] == [5, 5, 60]
