"""The rows of `redis`, `fastapi` and `fastapi-redis` do the same work, and their load can tell."""

import asyncio
import contextlib
import os
import subprocess

import pytest

from toolbox.bench.model import Missing, Outcome
from toolbox.bench.suite import redis_reads, web

[REDIS] = redis_reads.BENCHMARKS
FASTAPI, FASTAPI_REDIS = web.BENCHMARKS


@pytest.fixture(autouse=True)
def keep_the_cores():
    """A row gives its process, which is ours here, other cores than its server."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    if cores:
        os.sched_setaffinity(0, cores)


def outcomes(benchmark, *names) -> dict[str, Outcome]:
    rows = [row for row in benchmark.rows if not names or row.name in names]
    for row in rows:
        for need in row.needs:
            pytest.importorskip(need)
    try:
        with benchmark.stage() as stage:
            return {row.name: row.run(stage, True) for row in rows}
    except Missing as reason:
        pytest.skip(str(reason))


def test_every_way_to_read_redis_reads_the_same(redis_url):
    seen = outcomes(REDIS)
    assert len({outcome.work for outcome in seen.values()}) == 1
    assert all(outcome.amount >= 2000 and 0 <= outcome.busy for outcome in seen.values())


def test_the_servers_give_the_same_list():
    rows = [web.SLOW, web.SHIPPED, web.SHIPPED_JSON, "手写 ASGI，httptools + uvloop"]
    seen = outcomes(FASTAPI, *rows)
    assert [outcome.work["不一样"] for outcome in seen.values()] == [0] * 4
    assert len({outcome.work["正文"] for outcome in seen.values()}) == 1
    assert all(outcome.cpu and outcome.memory for outcome in seen.values())


def test_both_clients_read_the_same_note(redis_url, mysql_url):
    seen = outcomes(FASTAPI_REDIS)
    plain, batched = (outcome.work for outcome in seen.values())
    assert plain == batched and plain["不一样"] == 0


def test_the_load_counts_answers_that_differ():
    replies = [(200, b"tea"), (200, b"tea"), (200, b"TEA"), (503, b"tea"), (200, b"more tea")]
    sent = []

    async def converse(reader, writer):
        while await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            status, body = replies[min(len(sent), 4)]
            sent.append(status)
            writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
            await writer.drain()
            await asyncio.sleep(0.001)  # head and body come apart
            writer.write(body)

    async def main(program) -> list[bytes]:
        hung_up = asyncio.Event()

        async def answer(reader, writer):
            with contextlib.suppress(ConnectionError):
                await converse(reader, writer)
            writer.transport.abort()
            hung_up.set()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = str(server.sockets[0].getsockname()[1])
            words = [program, port, "/", "1", "0.3"]
            load = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
            said, _ = await load.communicate()
            await hung_up.wait()
        return said.split()

    try:
        with FASTAPI.stage() as stage:
            answers, _, wrong = map(float, asyncio.run(main(stage["load"])))
    except Missing as reason:
        pytest.skip(str(reason))
    assert 5 <= answers <= len(sent)
    assert wrong == answers - 2
