"""Lesson 3.8: the loop's order, timers, cancellation, sockets; the same handler on both loops."""

import ast
import asyncio
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests import processes

CHAPTER = Path(__file__).parents[2] / "03_advanced"


@pytest.fixture
def loop(lesson):
    return lesson.Loop()


@pytest.fixture
def pair(lesson, loop):
    """Two ends of one connection on the loop, with small buffers."""
    streams = []
    for sock in socket.socketpair():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        streams.append(lesson.Stream(loop, sock))
    yield streams
    for stream in streams:
        stream.sock.close()


def test_the_loop_itself_is_at_most_120_lines(lesson):
    text = (CHAPTER / "mini_loop.py").read_text(encoding="utf-8")
    classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    lines = [
        line.strip()
        for name in ("Future", "Task", "Timer", "Loop")
        for line in text.splitlines()[classes[name].lineno - 1 : classes[name].end_lineno]
    ]
    code = [line for line in lines if line and not line.startswith(("#", '"""'))]
    assert 90 <= len(code) <= 120


def test_asyncio_holds_the_same_kind_of_selector(lesson):
    theirs, ours = lesson.find_the_selector()
    assert theirs == ours == selectors.DefaultSelector.__name__


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is of Linux")
def test_on_linux_the_running_asyncio_loop_holds_an_epoll_selector():
    async def name():
        return type(asyncio.get_running_loop()._selector).__name__

    assert asyncio.run(name()) == "EpollSelector"


def test_hikers_leave_in_order_come_back_by_deadline_and_errors_are_reported(lesson):
    log, reported, (_, _, third, fourth) = lesson.take_turns()
    starts = ["main 让路", "甲出发", "乙出发", "丙出发", "丁出发"]
    assert log == [*starts, "乙回来", "甲回来", "丙被叫回"]
    assert isinstance(third.error, asyncio.CancelledError)
    assert reported == [fourth.error]
    assert isinstance(fourth.error, TypeError)


def test_a_turn_serves_only_those_in_the_queue_when_it_begins(loop):
    order = []

    async def walk(name):
        for step in range(3):
            order.append(f"{name}{step}")
            await loop.sleep(0)

    async def main():
        for task in [loop.spawn(walk(name)) for name in "ab"]:
            await task

    loop.run(main())
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_task_that_never_stops_giving_way_starves_nobody(loop):
    async def main():
        async def spin():
            while True:
                await loop.sleep(0)

        loop.spawn(spin())
        await loop.sleep(0.01)
        return "rang"

    assert loop.run(main()) == "rang"


def test_timers_ring_by_deadline_and_in_order_of_registration_when_equal(loop):
    rung = []
    deadline = sys.modules["mini_loop"].Timer(time.monotonic() + 0.02)

    async def wait_for(name, seconds):
        await loop.sleep(seconds)
        rung.append(name)

    class Shared:
        def __await__(self):
            yield deadline

    async def share(name):
        await Shared()
        rung.append(name)

    async def main():
        tasks = [loop.spawn(wait_for("late", 0.06)), loop.spawn(wait_for("early", 0.001))]
        tasks += [loop.spawn(share(name)) for name in ("first", "second", "third")]
        for task in tasks:
            await task

    loop.run(main())
    assert rung == ["early", "first", "second", "third", "late"]


def test_cancelled_timers_do_not_pile_up_in_the_heap(loop):
    async def main():
        for _ in range(5000):
            sleeper = loop.spawn(loop.sleep(3600))
            await loop.sleep(0)
            sleeper.cancel()
            with suppress(asyncio.CancelledError):
                await sleeper
        return len(loop.timers)

    assert loop.run(main()) <= 2001


def test_cancellation_strikes_at_the_await_lets_clean_up_and_may_be_survived(loop):
    log = []

    async def stubborn():
        try:
            await loop.sleep(3600)
        except asyncio.CancelledError:
            log.append("asked")
        await loop.sleep(0.001)
        log.append("cleaned up")
        return "still here"

    async def main():
        task = loop.spawn(stubborn())
        await loop.sleep(0)
        task.cancel()
        task.cancel()
        result = await task
        task.cancel()  # too late: nothing happens
        return result, task.cancelling

    assert loop.run(main()) == ("still here", False)
    assert log == ["asked", "cleaned up"]


def test_a_task_that_cancels_itself_gets_it_at_its_next_await(loop, pair):
    log = []

    async def main():
        async def give_up():
            await pair[0].read()
            itself.cancel()
            log.append("goes on")
            await pair[0].read()
            log.append("never")

        itself = loop.spawn(give_up())
        await loop.sleep(0)
        await pair[1].write(b"x")
        with pytest.raises(asyncio.CancelledError):
            await itself

    loop.run(main())
    assert log == ["goes on"]


def test_cancelled_while_waiting_for_a_future_the_task_is_not_woken_by_it(loop):
    future = sys.modules["mini_loop"].Future()
    results = []

    async def wait():
        results.append(await future)

    async def main():
        doomed, lucky = loop.spawn(wait()), loop.spawn(wait())
        await loop.sleep(0)
        doomed.cancel()
        future.finish("result")
        with pytest.raises(asyncio.CancelledError):
            await doomed
        await lucky

    loop.run(main())
    assert results == ["result"]


def test_an_awaited_error_is_raised_and_not_reported(loop):
    reported = []
    loop.report = reported.append

    async def fall():
        await loop.sleep(0)
        raise ValueError("fell")

    async def main():
        with pytest.raises(ValueError, match="fell"):
            await loop.spawn(fall())

    loop.run(main())
    assert reported == []


def test_an_error_nobody_awaits_is_printed_with_its_traceback(loop, capsys):
    async def fall():
        raise ValueError("fell")

    async def main():
        loop.spawn(fall())
        await loop.sleep(0)

    loop.run(main())
    printed = capsys.readouterr().err
    assert "ValueError: fell" in printed and "in fall" in printed


def test_an_error_is_reported_when_whoever_awaited_it_was_cancelled(loop):
    reported = []
    loop.report = reported.append

    async def fall():
        await loop.sleep(0.005)
        raise ValueError("fell")

    async def await_it(task):
        await task

    async def main():
        watcher = loop.spawn(await_it(falling := loop.spawn(fall())))
        await loop.sleep(0)
        watcher.cancel()
        while not falling.done:
            await loop.sleep(0.001)

    loop.run(main())
    assert [str(error) for error in reported] == ["fell"]


def test_the_error_of_main_ends_the_loop_and_cancels_the_rest(loop):
    log = []

    async def rest():
        try:
            await loop.sleep(3600)
        finally:
            await loop.sleep(0)
            log.append("cleaned up")

    async def main():
        loop.spawn(rest())
        await loop.sleep(0)
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        loop.run(main())
    assert log == ["cleaned up"] and not loop.tasks


def test_a_large_payload_passes_a_small_buffer_in_parts(loop, pair):
    payload = os.urandom(1_000_000)
    waits = []
    block = pair[0].writable.block
    pair[0].writable.block = lambda task: (waits.append(task), block(task))

    async def main():
        heard = bytearray()
        writing = loop.spawn(pair[0].write(payload))
        await loop.sleep(0)
        await loop.sleep(0)
        assert not writing.done
        while len(heard) < len(payload):
            heard += await pair[1].read()
        await writing
        return bytes(heard)

    assert loop.run(main()) == payload
    assert waits


def test_slow_listener_stops_the_shouter(lesson):
    assert lesson.wait_for_a_slow_listener() == ([False, True], 4_000_000)


def test_registration_stays_between_reads_and_goes_when_nobody_reads(loop, pair):
    registered = []
    register = loop.selector.register
    loop.selector.register = lambda *args: (registered.append(args), register(*args))

    async def main():
        async def answer():
            while data := await pair[1].read():
                await pair[1].write(data)

        answering = loop.spawn(answer())
        for _ in range(10):
            await pair[0].write(b"x")
            await pair[0].read()
        assert len(registered) == 2  # one for each end, for all ten rounds
        answering.cancel()
        await loop.sleep(0)
        assert pair[1].interest
        await pair[0].write(b"nobody reads this")
        await loop.sleep(0.005)
        return pair[1].interest

    assert loop.run(main()) == 0


def test_one_task_may_read_while_another_writes_but_two_may_not_read(loop, pair):
    loop.report = lambda error: None

    async def main():
        reading = loop.spawn(pair[0].read())
        writing = loop.spawn(pair[0].write(bytes(500_000)))
        await loop.sleep(0)
        assert not writing.done
        with pytest.raises(RuntimeError, match="已经有任务在等"):
            await loop.spawn(pair[0].read())
        await pair[1].write(b"hello")
        assert await reading == b"hello"
        writing.cancel()

    loop.run(main())


def test_a_reader_may_do_something_else_and_come_back(loop, pair):
    async def main():
        heard = []
        for _ in range(3):
            await pair[1].write(b"x")
            heard.append(await pair[0].read())
            await loop.sleep(0.001)
            await loop.sleep(0)
        return heard

    assert loop.run(main()) == [b"x"] * 3


def test_closing_ones_own_stream_gives_no_extra_turn(loop, pair):
    order = []

    async def other():
        order.append("other")

    async def main():
        await pair[1].write(b"x")
        await pair[0].read()
        pair[0].close()
        loop.spawn(other())
        await loop.sleep(0)
        order.append("main")

    loop.run(main())
    assert order == ["other", "main"]


def test_end_of_stream_reset_and_closing_are_seen_by_the_reader(lesson, loop):
    def connection():
        with socket.create_server(("127.0.0.1", 0)) as door:
            near = socket.create_connection(door.getsockname())
            return lesson.Stream(loop, near), door.accept()[0]

    async def main():
        stream, far = connection()
        with closing(stream):
            far.close()
            assert await stream.read() == b""
        stream, far = connection()
        with closing(stream):
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # close() sends a reset
            far.close()
            with pytest.raises(ConnectionError):
                await stream.read()
        stream, far = connection()
        reading = loop.spawn(stream.read())
        await loop.sleep(0)
        stream.close()
        with far, pytest.raises(OSError):
            await reading

    loop.run(main())


def test_many_connections_are_all_answered(lesson, loop):
    heard, _ = lesson.shout_on_our_loop(200, 3)
    assert heard == 600


def test_the_server_outlives_clients_that_vanish(lesson, loop):
    async def main():
        door = lesson.Stream(loop, socket.create_server(("127.0.0.1", 0)))
        loop.spawn(lesson.serve(loop, door, lesson.echo))
        address = door.sock.getsockname()
        for _ in range(20):
            rude = socket.create_connection(address)
            rude.send(b"x")
            await loop.sleep(0)
            rude.close()  # leaves the answer unread: a reset
        with closing(door):
            polite = lesson.Stream(loop, socket.create_connection(address))
            return await loop.spawn(lesson.shout(polite, 2))

    loop.report = pytest.fail
    assert loop.run(main()) == 2


def test_each_loop_refuses_what_only_the_other_knows(lesson):
    refused, no_loop, bare_yield = lesson.refuse_each_others_awaitables().values()
    assert refused == "RuntimeError: Task got bad yield"
    assert no_loop == "RuntimeError: no running event loop"
    assert bare_yield == "行"


def test_the_same_handler_is_heard_on_both_loops(lesson, capsys):
    results = lesson.change_loops()
    assert [heard for heard, _ in results.values()] == [64 * 30] * 2
    assert all(rate > 0 for _, rate in results.values())
    assert lesson.shout_on_asyncio(5, 4)[0] == lesson.shout_on_our_loop(5, 4)[0] == 20


def test_each_rung_answers_and_only_the_first_registers_for_every_wait(lesson, capsys):
    naive, kept, resumed = lesson.climb(lesson.shout_on_our_loop).values()
    assert naive > 4  # both ends, for every echo: once to register, once to take it back
    assert kept == resumed < 0.2  # once for each of 128 ends and 1,920 echoes
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in printed] == list(
        sys.modules["mini_loop_ladder"].RUNGS
    )


@pytest.mark.parametrize("rung", ["Naive", "Queued", "Side"])
def test_every_rung_passes_a_large_payload_both_ways(lesson, loop, rung):
    side = getattr(sys.modules["mini_loop_ladder"], rung)
    payload = os.urandom(1_000_000)

    async def main():
        door = lesson.Stream(loop, socket.create_server(("127.0.0.1", 0)), side)
        with closing(door):
            loop.spawn(lesson.serve(loop, door, lesson.echo))
            client = lesson.Stream(loop, socket.create_connection(door.sock.getsockname()), side)
            with closing(client):
                writing, heard = loop.spawn(client.write(payload)), bytearray()
                while len(heard) < len(payload):
                    heard += await client.read()
                await writing
                return bytes(heard)

    assert loop.run(main()) == payload


def test_ctrl_c_cancels_every_task_and_stops_within_a_second(tmp_path):
    if sys.platform == "win32":
        pytest.skip("SIGINT cannot be sent to a single child")
    code = """
import sys; sys.path.insert(0, sys.argv[1])
from mini_loop import Loop
loop = Loop()
async def wait():
    try:
        await loop.sleep(3600)
    finally:
        print("cleaned up")
async def main():
    for _ in range(2):
        loop.spawn(wait())
    await loop.sleep(0)
    print("ready", flush=True)
    await loop.sleep(3600)
loop.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, str(CHAPTER)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as child:
        assert child.stdout.readline() == "ready\n"
        processes.press_ctrl_c(child)
        out, errors = child.communicate(timeout=10)
    assert out == "cleaned up\ncleaned up\n"
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


def test_a_task_that_an_interrupt_left_in_no_queue_is_still_cancelled(loop):
    """Ctrl-C between popleft and step: the task is in no queue, yet it is cancelled."""
    log = []

    async def wait():
        try:
            await loop.sleep(0)
        finally:
            log.append("cleaned up")

    async def main():
        lost = loop.spawn(wait())
        await loop.sleep(0)
        loop.ready.remove(lost)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run(main())
    assert log == ["cleaned up"] and not loop.tasks
