"""GETs by one client process: a round trip each, several at once, in batches (lesson 4.1)."""

import asyncio
import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from toolbox import services
from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Stage, Target, lesson

SERVER_CPU = ("used_cpu_user", "used_cpu_sys")  # of INFO: works for a Redis elsewhere, too
KEYS = [f"asyncio-tutorial:bench:{number}" for number in range(1000)]
Passes = tuple[int, int]  # how often all keys are read: full, quick


@contextlib.contextmanager
def _shelf() -> Iterator[Stage]:
    import redis

    try:
        with services.redis() as url, redis.Redis.from_url(url) as client:
            client.mset({key: f"{hashlib.sha256(key.encode()).hexdigest()} 龙井" for key in KEYS})
            try:
                yield {"url": url}
            finally:
                client.delete(*KEYS)
    except services.Unavailable as reason:
        raise Missing(str(reason)) from None


def _measured(url: str, passes: int, read: Callable[[], object], seen: Counter) -> Outcome:
    """Run `read`, which counts in `seen` every value as often as there are passes."""
    import redis

    with redis.Redis.from_url(url) as client:
        server = client.info("cpu")
        started, cpu = time.perf_counter(), time.process_time()
        read()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        busy = sum(client.info("cpu")[key] - server[key] for key in SERVER_CPU) / seconds
    assert set(seen.values()) == {passes}, f"not every value {passes} times"
    work = hashlib.sha256("\n".join(sorted(seen)).encode()).hexdigest()[:16]
    return Outcome(seen.total(), seconds, work, cpu=cpu, busy=busy)


def _asynchronous(
    passes: Passes, connect: Callable, read: Callable[..., Awaitable], stage: Stage, quick: bool
) -> Outcome:
    """`read(client, seen, passes)`, with its connections open before the clock runs."""
    seen = Counter()
    with asyncio.Runner() as runner:
        client = connect(stage["url"])
        runner.run(_warm_up(client))
        work = partial(read, client, seen, passes[quick])
        outcome = _measured(stage["url"], passes[quick], lambda: runner.run(work()), seen)
        runner.run(client.aclose())
    return outcome


async def _warm_up(client) -> None:
    await asyncio.gather(*(client.get(KEYS[0]) for _ in range(50)))


def _plain(url: str):
    from redis.asyncio import Redis

    return Redis.from_url(url, decode_responses=True)


def _batching(url: str):
    return lesson("04_case_studies/redis_batching.py").BatchingRedis(url)


async def _tasks(client, seen: Counter, passes: int, number: int) -> None:
    """`number` tasks, each with its share of the keys, one awaited GET after another."""

    async def one_by_one(keys: list[str]) -> None:
        for _ in range(passes):
            for key in keys:
                seen[await client.get(key)] += 1

    async with asyncio.TaskGroup() as group:
        for task in range(number):
            group.create_task(one_by_one(KEYS[task::number]))


async def _pipelines(client, seen: Counter, passes: int) -> None:
    for keys in _hundreds(passes):
        async with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(key)
            seen.update(await pipe.execute())


async def _mget(client, seen: Counter, passes: int) -> None:
    for keys in _hundreds(passes):
        seen.update(await client.mget(keys))


def _blocking(read: Callable, passes: Passes, stage: Stage, quick: bool) -> Outcome:
    import redis

    seen = Counter()
    with redis.Redis.from_url(stage["url"], decode_responses=True) as client:
        client.ping()
        work = partial(read, client, seen, passes[quick])
        return _measured(stage["url"], passes[quick], work, seen)


def _blocking_one_by_one(client, seen: Counter, passes: int) -> None:
    for _ in range(passes):
        for key in KEYS:
            seen[client.get(key)] += 1


def _blocking_pipelines(client, seen: Counter, passes: int) -> None:
    for keys in _hundreds(passes):
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(key)
            seen.update(pipe.execute())


def _hundreds(passes: int) -> Iterator[list[str]]:
    for _ in range(passes):
        for start in range(0, len(KEYS), 100):
            yield KEYS[start : start + 100]


def _row(name: str, client: Callable, read: Callable, passes: Passes) -> Row:
    return Row(name, partial(_asynchronous, passes, client, read), ("redis",))


ONE_BY_ONE, PIPELINE = "redis.asyncio，逐个", "redis.asyncio，每 100 个一条 pipeline"
LAST_RUNG = "4.1 自动合批，1000 个任务"

BENCHMARKS = [
    Benchmark(
        "redis",
        "Redis 的 GET，一个客户端进程（4.1）",
        "次/秒",
        [
            _row(ONE_BY_ONE, _plain, partial(_tasks, number=1), (10, 2)),
            _row("redis.asyncio，50 个任务各一条连接", _plain, partial(_tasks, number=50), (10, 2)),
            _row(PIPELINE, _plain, _pipelines, (50, 10)),
            _row("redis.asyncio，每 100 个一条 MGET", _plain, _mget, (300, 60)),
            _row("4.1 自动合批，50 个任务", _batching, partial(_tasks, number=50), (200, 20)),
            _row(LAST_RUNG, _batching, partial(_tasks, number=1000), (200, 20)),
            Row(
                "redis-py 阻塞，逐个",
                partial(_blocking, _blocking_one_by_one, (10, 2)),
                ("redis",),
            ),
            Row(
                "redis-py 阻塞，每 100 个一条 pipeline",
                partial(_blocking, _blocking_pipelines, (50, 10)),
                ("redis",),
            ),
        ],
        [Target(LAST_RUNG, ONE_BY_ONE, 18), Target(LAST_RUNG, PIPELINE, 3)],
        _shelf,
        server="idle",
        note="每一行把同样 1000 个键读同样多遍再乘上自己的倍数，对过读到的值；"
        "连接先开好，不计时。一个来回贵在两次系统调用和一次唤醒，所以合批比并发更省。",
    )
]
