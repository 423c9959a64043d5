"""Lesson 3.8: the loop's order, timers, cancellation, sockets; the same handler on both loops."""

import ast
import asyncio
import errno
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from random import Random
from types import SimpleNamespace

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


@pytest.fixture
def no_hang(loop, monkeypatch):
    """A loop with nothing to do takes short naps, and fails the test after a thousand turns."""
    turn, turns = loop.turn, count()

    def counted_turn():
        assert next(turns) < 1000, "the loop hangs"
        turn()

    monkeypatch.setattr(sys.modules["mini_loop"], "LONGEST_NAP", 0.001)
    monkeypatch.setattr(loop, "turn", counted_turn)


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


def test_a_loop_that_has_but_timers_sleeps_until_the_first(loop, monkeypatch):
    module, naps = sys.modules["mini_loop"], []
    clock = SimpleNamespace(monotonic=lambda: 100 + sum(naps), sleep=naps.append)
    monkeypatch.setattr(module, "time", clock)
    loop.run(loop.sleep(30))
    assert naps == [30]


def test_timers_ring_by_deadline_and_in_order_of_registration_when_equal(loop):
    rung, now = [], time.monotonic()
    deadlines = {"late": 0.06, "early": 0.001, "first": 0.02, "second": 0.02, "third": 0.02}

    async def wait_for(name):
        await Waitable(sys.modules["mini_loop"].Timer(now + deadlines[name]))
        rung.append(name)

    async def main():
        for task in [loop.spawn(wait_for(name)) for name in deadlines]:
            await task

    loop.run(main())
    assert rung == ["early", "first", "second", "third", "late"]


class Waitable:
    """Hands one thing to the loop and takes whatever comes back for the answer."""

    def __init__(self, thing):
        self.thing = thing

    def __await__(self):
        return (yield self.thing)


def test_a_sleeping_task_takes_little_memory(loop):
    """Attributes that first appear late cost each task a dictionary of its own."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        crowd = [loop.spawn(loop.sleep(3600)) for _ in range(2000)]
        loop.turn()
        each = (tracemalloc.get_traced_memory()[0] - before) / len(crowd)
    finally:
        tracemalloc.stop()
    assert each < 650


def test_after_the_cancelled_timers_are_swept_out_the_rest_is_a_heap_again(loop):
    timer, deadlines = sys.modules["mini_loop"].Timer, list(range(200))
    Random(1).shuffle(deadlines)
    loop.crowded = 198
    for deadline in deadlines:
        ringing = timer(deadline)
        kept = deadline % 7 == 0
        sleeper = SimpleNamespace(loop=loop, waits_on=ringing if kept else None)
        if len(loop.timers) == 199:  # this one sweeps
            left = [at for at, _, task in loop.timers if task.waits_on is at]
            assert any(left[(child - 1) // 2] > left[child] for child in range(1, len(left)))
        ringing.block(sleeper)
    assert len(loop.timers) < 40
    left = [at for at, _, _ in loop.timers]
    assert all(left[(child - 1) // 2] <= left[child] for child in range(1, len(left)))


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
        return result, task.trouble

    assert loop.run(main()) == ("still here", None)
    assert log == ["asked", "cleaned up"]


def test_cancelled_before_its_first_step_a_task_still_reaches_its_first_await(loop):
    log = []

    async def enter():
        log.append("entered")
        try:
            await loop.sleep(0)
            log.append("never")
        finally:
            log.append("left")

    async def main():
        task = loop.spawn(enter())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run(main())
    assert log == ["entered", "left"]


def test_a_handler_that_never_started_still_closes_its_connection(lesson, loop, pair):
    async def main():
        loop.spawn(lesson.echo(pair[0]))  # no turn for it: main ends, the loop cancels it

    loop.run(main())
    assert pair[0].sock.fileno() == -1


def test_what_cannot_be_waited_for_is_raised_at_the_await(loop, pair, no_hang):
    log = []

    class Moody:
        def block(self, task):
            raise LookupError("not today")

    async def try_all():
        try:
            with pytest.raises(LookupError, match="not today"):
                await Waitable(Moody())
            with pytest.raises(AttributeError, match="block"):
                await Waitable("what is this?")
            with pytest.raises(RuntimeError, match="已经有任务在等"):
                await pair[0].read()
            log.append("goes on")
            await pair[0].read()
        finally:
            await loop.sleep(0)
            log.append("cleaned up")

    async def main():
        loop.spawn(pair[0].read())
        await loop.sleep(0)
        with pytest.raises(RuntimeError, match="已经有任务在等"):
            await loop.spawn(try_all())

    loop.run(main())
    assert log == ["goes on", "cleaned up"]


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


def test_the_error_of_main_is_raised_and_not_reported(loop):
    async def main():
        raise LookupError("lost")

    loop.report = pytest.fail
    with pytest.raises(LookupError, match="lost"):
        loop.run(main())


def test_who_is_cancelled_at_the_end_still_sleeps_its_time_out(loop):
    """run() queues everybody once more, in case an interrupt left somebody in no queue."""

    async def clean_up_slowly():
        try:
            await loop.sleep(60)
        finally:
            began = time.monotonic()
            await loop.sleep(0.02)
            slept.append(time.monotonic() - began)

    async def main():
        loop.spawn(clean_up_slowly())
        await loop.sleep(0)

    slept = []
    loop.run(main())
    assert slept[0] >= 0.02


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


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_should_stop_the_program_stops_it_from_any_task(loop, no_hang, error):
    async def stop():
        raise error("stop")

    async def main():
        loop.spawn(stop())
        await sys.modules["mini_loop"].Future()

    with pytest.raises(error, match="stop"):
        loop.run(main())
    assert not loop.tasks


@pytest.mark.parametrize("error", [None, LookupError])
def test_the_selector_is_closed_whatever_became_of_main(loop, error):
    async def main():
        if error:
            raise error

    with suppress(LookupError):
        loop.run(main())
    assert loop.selector.get_map() is None


def test_tasks_that_are_spawned_while_others_clean_up_end_too(loop, no_hang):
    log = []

    async def haunt():
        try:
            await sys.modules["mini_loop"].Future()
        finally:
            log.append("haunted no more")

    async def say_goodbye():
        await loop.sleep(0.001)
        log.append("goodbye")

    async def rest():
        try:
            await loop.sleep(3600)
        finally:
            loop.spawn(haunt())
            await loop.spawn(say_goodbye())  # it is cleaning up: nobody cancels it

    async def main():
        loop.spawn(rest())
        await loop.sleep(0)

    loop.run(main())
    assert log == ["goodbye", "haunted no more"] and not loop.tasks


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


@pytest.mark.parametrize("rung", ["Naive", "Queued", "Side"])
def test_a_second_writer_is_refused_until_the_first_is_done_or_gone(lesson, loop, rung, no_hang):
    side, heard = getattr(sys.modules["mini_loop_ladder"], rung), bytearray()
    near, far = (lesson.Stream(loop, sock, side) for sock in socket.socketpair())
    payload = os.urandom(1_000_000)

    async def interrupt(writing):
        refused = 0
        while not writing.done:
            try:
                await near.write(b"interrupted")
            except RuntimeError as error:
                assert "已经有任务在等" in str(error)
                refused += 1
            await loop.sleep(0)
        return refused

    async def main():
        with closing(near), closing(far):
            writing = loop.spawn(near.write(payload))
            await loop.sleep(0)
            interrupting = loop.spawn(interrupt(writing))
            while len(heard) < len(payload):
                heard.extend(await far.read())
            assert await interrupting > 0 and heard == payload
            doomed = loop.spawn(near.write(payload))
            await loop.sleep(0)
            doomed.cancel()
            with pytest.raises(asyncio.CancelledError):
                await doomed
            assert not near.writing

    loop.run(main())


def test_a_ready_socket_is_served_at_once_and_not_by_way_of_the_queue(loop, pair):
    order = []

    async def read():
        await pair[0].read()
        order.append("reader")

    async def other():
        order.append("other")

    async def main():
        reading = loop.spawn(read())
        await loop.sleep(0)
        await pair[1].write(b"x")
        loop.spawn(other())
        await reading

    loop.run(main())
    assert order == ["reader", "other"]


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


def test_reading_or_writing_ones_own_closed_stream_is_an_error(loop, pair, no_hang):
    async def main():
        await pair[1].write(b"x")
        assert await pair[0].read() == b"x"
        pair[0].close()
        for _ in range(2):
            with pytest.raises(OSError):
                await pair[0].read()
            with pytest.raises(OSError):
                await pair[0].write(b"x")

    loop.run(main())


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


def test_the_server_outlives_a_lack_of_file_descriptors(lesson, loop, no_hang):
    class Door:
        """A door that twice cannot let anybody in."""

        def __init__(self, sock):
            self.sock, self.fileno, self.lacking = sock, sock.fileno, 2

        def accept(self):
            if self.lacking:
                self.lacking -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.sock.accept()

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as sock:
            stream = lesson.Stream(loop, sock)
            stream.sock = Door(sock)
            serving = loop.spawn(lesson.serve(loop, stream, lesson.echo))
            hiker = lesson.Stream(loop, socket.create_connection(sock.getsockname()))
            assert await loop.spawn(lesson.shout(hiker, 1)) == 1
            stream.watch(0)
            return stream.sock.lacking, serving.done

    assert loop.run(main()) == (0, False)


def test_each_loop_refuses_what_only_the_other_knows(lesson):
    refused, no_loop, bare_yield = lesson.refuse_each_others_awaitables().values()
    assert refused == "RuntimeError: Task got bad yield"
    assert no_loop == "RuntimeError: no running event loop"
    assert bare_yield == "行"


def test_the_same_handler_is_heard_on_both_loops(lesson, capsys):
    results = lesson.change_loops()
    assert [heard for heard, _ in results.values()] == [64 * 30] * 2
    assert lesson.shout_on_asyncio(5, 4)[0] == lesson.shout_on_our_loop(5, 4)[0] == 20


def test_each_rung_answers_and_only_the_first_registers_for_every_wait(lesson, capsys):
    registered, queued = zip(*lesson.climb(lesson.shout_on_our_loop).values(), strict=True)
    naive, kept, resumed = registered
    assert naive > 4  # both ends, for every echo: once to register, once to take it back
    assert kept == resumed < 0.2  # once for each of 128 ends and 1,920 echoes
    naive, kept, resumed = queued
    assert naive > 2 and kept > 2  # both ends, for every echo
    assert resumed < 0.2  # when it begins and when it ends
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
