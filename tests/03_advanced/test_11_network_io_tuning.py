"""Lesson 3.11: what each rung of the ladder really does on the wire."""

import asyncio
import socket
from types import SimpleNamespace

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def market(lesson, monkeypatch):
    """The lesson's market on a port, noting who calls and what arrives; every rung is short."""

    class NotedMarket(lesson.Market):
        calls, heard = 0, []

        def connection_made(self, transport):
            NotedMarket.calls += 1
            super().connection_made(transport)

        def data_received(self, data):
            NotedMarket.heard.append(data)
            super().data_received(data)

    monkeypatch.setattr(lesson, "SECONDS", 0.02)
    monkeypatch.setattr(lesson, "LADDER", {})
    server = await asyncio.get_running_loop().create_server(NotedMarket, "127.0.0.1", 0)
    async with server:
        NotedMarket.port = server.sockets[0].getsockname()[1]
        yield NotedMarket


async def test_every_line_asks_at_least_once_though_time_is_up(lesson, market, monkeypatch):
    """A machine that stood still before the first question."""
    monkeypatch.setattr(lesson, "SECONDS", 0)
    await lesson.hold_the_lines(market.port)
    assert b"".join(market.heard) == lesson.FISH * (1 + 1 + 4 + 16 + 64)


async def test_redialling_takes_a_call_a_question_and_holding_takes_one_call_a_line(lesson, market):
    await lesson.hold_the_lines(market.port)
    assert list(lesson.LADDER) == ["每句重拨", *(f"{n} 条线路不挂断" for n in (1, 4, 16, 64))]
    redialled = market.calls - 64
    asked = b"".join(market.heard).count(b"\n")
    assert redialled >= 1
    assert asked >= redialled + 1 + 4 + 16 + 64


async def test_the_pool_grows_from_rung_to_rung(lesson, market, monkeypatch):
    sizes = []

    async def count_the_lines(label, *asks):
        sizes.append((label, len(asks)))

    monkeypatch.setattr(lesson, "measure", count_the_lines)
    await lesson.hold_the_lines(market.port)
    assert sizes == [("每句重拨", 1), *((f"{n} 条线路不挂断", n) for n in (1, 4, 16, 64))]


async def test_one_question_gets_one_answer_also_in_two_halves(lesson, market):
    async with lesson.dial(market.port) as line:
        assert await lesson.ask(*line, b"bass\n") == 1
        assert await lesson.ask(*line, b"ba", b"ss\n") == 1
    assert b"".join(market.heard) == b"bass\nbass\n"


async def test_a_hundred_questions_in_one_write_arrive_at_once(lesson, market):
    async with lesson.dial(market.port) as line:
        assert await lesson.ask(*line, lesson.FISH * 100) == 100
    assert market.heard == [b"bass\n" * 100]


async def test_pipelining_uses_four_lines_for_both_ways_of_writing(lesson, market):
    await lesson.pipeline_the_questions(market.port)
    assert list(lesson.LADDER) == ["4 条线路，100 次 write", "4 条线路，攒成 1 次 write"]
    assert market.calls == 4
    assert b"".join(market.heard).count(b"\n") % 100 == 0


async def test_the_two_ways_differ_in_the_number_of_writes(lesson, market, monkeypatch):
    asked = {}

    async def note_the_words(label, *asks):
        asked[label] = [each.args[2:] for each in asks]

    monkeypatch.setattr(lesson, "measure", note_the_words)
    await lesson.pipeline_the_questions(market.port)
    assert asked == {
        "4 条线路，100 次 write": [(lesson.FISH,) * 100] * 4,
        "4 条线路，攒成 1 次 write": [(lesson.FISH * 100,)] * 4,
    }


async def test_every_word_is_one_write(lesson):
    written, reader = [], asyncio.StreamReader()
    reader.feed_data(b"23\n" * 3)
    assert await lesson.ask(reader, SimpleNamespace(write=written.append), b"ba", b"ss\n" * 3) == 3
    assert written == [b"ba", b"ss\n" * 3]


async def test_a_protocol_asks_the_same_questions_over_four_lines(lesson, market):
    await lesson.swap_streams_for_a_protocol(market.port)
    assert list(lesson.LADDER) == ["4 条线路，1 次 write，Protocol"]
    assert market.calls == 4
    assert b"".join(market.heard).replace(lesson.FISH * 100, b"") == b""


async def test_a_protocol_waits_for_its_last_answer(lesson):
    caller = lesson.Caller()
    caller.data_received(b"fish market\n")
    await caller.complete

    asking = []
    wire = SimpleNamespace(write=asking.append, is_closing=lambda: False)
    answer = asyncio.create_task(caller.ask(wire, 3))
    await asyncio.sleep(0)
    assert asking == [b"bass\n" * 3]
    caller.data_received(b"23\n2")
    caller.data_received(b"3\n")
    await asyncio.sleep(0)
    assert not answer.done()
    caller.data_received(b"23\n")
    assert await answer == 3


async def test_a_protocol_survives_a_question_that_nobody_waits_for_any_more(lesson):
    caller = lesson.Caller()
    caller.data_received(b"fish market\n")
    wire = SimpleNamespace(write=lambda words: None, is_closing=lambda: False)
    given_up = asyncio.create_task(caller.ask(wire, 2))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    caller.data_received(b"23\n")  # its first answer comes late, ...
    answer = asyncio.create_task(caller.ask(wire, 1))
    await asyncio.sleep(0)
    caller.data_received(b"23\n")  # ... its second after the next question
    await asyncio.sleep(0)
    assert not answer.done()
    caller.data_received(b"23\n")
    assert await answer == 1

    given_up = asyncio.create_task(caller.ask(wire, 2))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    caller.data_received(b"23\n23\n")  # all of it late
    answer = asyncio.create_task(caller.ask(wire, 1))
    await asyncio.sleep(0)
    caller.data_received(b"23\n")
    assert await answer == 1


async def test_a_protocol_that_was_hung_up_on_while_idle_says_so_when_asked(lesson):
    lines = []

    class Curt(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"fish market\n")
            lines.append(transport)

    loop = asyncio.get_running_loop()
    async with await loop.create_server(Curt, "127.0.0.1", 0) as server:
        wire, caller = await loop.create_connection(lesson.Caller, *server.sockets[0].getsockname())
        await caller.complete
        lines[0].close()
        while not wire.is_closing():
            await asyncio.sleep(0.001)
        asking = asyncio.create_task(caller.ask(wire, 1))
        await asyncio.sleep(0)
        assert asking.done(), "nobody will answer, and nobody says so"
        with pytest.raises(ConnectionResetError, match="鱼市就挂断了"):
            await asking


async def test_a_protocol_that_is_hung_up_on_says_so(lesson):
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        wire, caller = await asyncio.get_running_loop().create_connection(
            lesson.Caller, *server.sockets[0].getsockname()
        )
        caller.connection_lost(None)
        with pytest.raises(ConnectionResetError, match="鱼市挂断了"):
            await caller.complete
        wire.abort()


async def test_drain_bounds_the_buffer_and_loses_nothing(lesson):
    piled = await lesson.drain_or_pile_up(0)
    (undrained, first), (drained, second) = piled["不 drain"], piled["await drain()"]
    assert first == second == 256 * 65536
    assert drained <= 2 * 65536  # the high water and the page that crossed it
    assert undrained > 10 * drained


async def test_asyncio_turns_nagle_off_and_the_lesson_turns_it_on(
    lesson, market, monkeypatch, capsys
):
    asked, ask = [], lesson.ask

    async def note_the_switch(reader, writer, *words):
        wire = writer.get_extra_info("socket")
        asked.append((bool(wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)), len(words)))
        return await ask(reader, writer, *words)

    monkeypatch.setattr(lesson, "ask", note_the_switch)
    await lesson.beware_of_nagle(market.port)
    assert asked == [(True, 2)] * 6 + [(False, 2)] * 6 + [(False, 1)] * 6
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "asyncio 打开了 TCP_NODELAY: True"
    assert [line.partition(":")[0] for line in printed[1:]] == [
        "TCP_NODELAY，两次 write",
        "Nagle，两次 write",
        "Nagle，一次 write",
    ]
    assert b"".join(market.heard) == b"bass\n" * 18


async def test_a_line_is_hung_up_when_left(lesson, market):
    async with lesson.dial(market.port) as (_, writer):
        wire = writer.get_extra_info("socket")
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert writer.is_closing()
    assert wire.fileno() == -1


async def test_the_ladder_is_printed_in_the_order_in_which_it_was_climbed(
    lesson, monkeypatch, capsys
):
    monkeypatch.setattr(lesson, "SECONDS", 0.01)
    monkeypatch.setattr(lesson, "LADDER", {})
    await lesson.main()
    printed = capsys.readouterr().out.splitlines()
    rungs = printed[printed.index("── 6. 梯子：从最慢到最快 ──") + 1 :]
    assert [rung.partition(": ")[0] for rung in rungs] == list(lesson.LADDER)
    assert rungs[0].endswith("是第一级的 ≈1.0 倍")
    assert len(rungs) == 8
