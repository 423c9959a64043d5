"""4.2: rows written one by one and at once; rows read by key one by one and gathered.

Every row works in the lesson's own database, which exists while the row runs; making and filling
it is not on the clock.
"""

import asyncio
import contextlib
import os
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

from toolbox import services
from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Stage, Target, lesson

LESSON = "04_case_studies/02_async_mysql_demo.py"
SPACED = "INSERT INTO ride (rider, minutes) VALUES (%s, %s)"
UNSPACED = "INSERT INTO ride (rider, minutes) VALUES(%s, %s)"
BY_KEY = "SELECT minutes FROM ride WHERE id = %s"
RIDES = [(f"骑手 {number}", number % 60) for number in range(2000)]


@contextlib.contextmanager
def server() -> Iterator[Stage]:
    try:
        with services.mysql() as url:
            yield {"url": url}
    except services.Unavailable as reason:
        raise Missing(str(reason)) from reason


class Clock:
    """Time, our CPU and the server's; `with clock:` counts, what lies between does not."""

    def __init__(self, pid_file: str):
        # A server in a container or on another machine has no process that we could look at.
        stat = None
        with contextlib.suppress(OSError, ValueError):
            stat = Path(f"/proc/{int(Path(pid_file).read_text())}/stat")
        self._stat = stat if stat and stat.exists() else None
        self.seconds = self._ours = self._server = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time(), self._server_cpu()

    def __exit__(self, *_) -> None:
        started, ours, server = self._began
        self.seconds += time.perf_counter() - started
        self._ours += time.process_time() - ours
        self._server += self._server_cpu() - server

    def _server_cpu(self) -> float:
        if self._stat is None:
            return 0.0
        user, system = self._stat.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def outcome(self, amount: int, once: int, work: object) -> Outcome:
        """`once` is the part of `amount` that CPU seconds are given for."""
        cpu, busy = self._ours * once / amount, self._server / self.seconds
        return Outcome(amount, self.seconds, work, cpu=cpu, busy=busy)


@contextlib.asynccontextmanager
async def city(stage: Stage) -> AsyncIterator[tuple]:
    """(the lesson, a pool, a held connection, a clock)"""
    os.environ["MYSQL_URL"] = stage["url"]
    demo = lesson(LESSON)
    async with demo.bike_city() as pool, pool.acquire() as conn:
        [(pid_file,)] = await demo.ask(conn, "SELECT @@pid_file")
        yield demo, pool, conn, Clock(pid_file)


# ── insert: 2000 rows into an empty table, again and again for a second ──


async def _insert(
    demo, conn, clock: Clock, quick: bool, once: Callable[[list], Awaitable[None]]
) -> Outcome:
    rides = RIDES[:200] if quick else RIDES
    amount = 0
    while not amount or (not quick and clock.seconds < 1):
        await demo.ask(conn, "TRUNCATE ride")
        with clock:
            await once(rides)
        amount += len(rides)
    # CRC32 of each row: the same rows, whatever order or numbers they came in
    sql = "SELECT COUNT(*), SUM(CRC32(CONCAT(rider, '/', minutes))) FROM ride"
    [(count, checksum)] = await demo.ask(conn, sql)
    return clock.outcome(amount, len(rides), [count, int(checksum)])


def insert_one_by_one(stage: Stage, quick: bool, in_transaction: bool = False) -> Outcome:
    async def main() -> Outcome:
        async with city(stage) as (demo, _, conn, clock), conn.cursor() as cursor:

            async def once(rides: list) -> None:
                async with demo.transaction(conn) if in_transaction else contextlib.nullcontext():
                    for ride in rides:
                        await cursor.execute(SPACED, ride)

            return await _insert(demo, conn, clock, quick, once)

    return asyncio.run(main())


def insert_many(stage: Stage, quick: bool, sql: str = SPACED) -> Outcome:
    async def main() -> Outcome:
        async with city(stage) as (demo, _, conn, clock), conn.cursor() as cursor:

            async def once(rides: list) -> None:
                await cursor.executemany(sql, rides)

            return await _insert(demo, conn, clock, quick, once)

    return asyncio.run(main())


def insert_asyncmy(stage: Stage, quick: bool) -> Outcome:
    import asyncmy

    async def main() -> Outcome:
        async with (
            city(stage) as (demo, _, conn, clock),
            asyncmy.connect(**demo.options()) as theirs,
            theirs.cursor() as cursor,
        ):

            async def once(rides: list) -> None:
                await cursor.executemany(SPACED, rides)

            return await _insert(demo, conn, clock, quick, once)

    return asyncio.run(main())


# ── read: keys in a scattered order, each asked for on its own ──


async def _read(
    demo, conn, clock: Clock, quick: bool, read_all: Callable[[list[int]], Awaitable[list[int]]]
) -> Outcome:
    async with conn.cursor() as cursor:
        await cursor.executemany(SPACED, RIDES)
        first = cursor.lastrowid
    keys = [first + number * 7 % len(RIDES) for number in range(1000 if quick else 10_000)]
    await read_all(keys[:1000])  # the plans of a warm server, the methods of a warm interpreter
    with clock:
        minutes = await read_all(keys)
    return clock.outcome(len(keys), len(keys), [len(minutes), zlib.crc32(bytes(minutes))])


async def _share_out(
    keys: list[int], tasks: int, read: Callable[[int], Awaitable[int]]
) -> list[int]:
    """Read all keys in so many tasks, each its part, one key after the other."""
    minutes = [0] * len(keys)

    async def part(first: int) -> None:
        for index in range(first, len(keys), tasks):
            minutes[index] = await read(keys[index])

    async with asyncio.TaskGroup() as group:
        for first in range(tasks):
            group.create_task(part(first))
    return minutes


def read_one_by_one(stage: Stage, quick: bool) -> Outcome:
    async def main() -> Outcome:
        async with city(stage) as (demo, pool, conn, clock):

            async def read_all(keys: list[int]) -> list[int]:
                return [(await demo.ask_pool(pool, BY_KEY, key))[0][0] for key in keys]

            return await _read(demo, conn, clock, quick, read_all)

    return asyncio.run(main())


def read_held(stage: Stage, quick: bool) -> Outcome:
    async def main() -> Outcome:
        async with city(stage) as (demo, _, conn, clock):

            async def read_all(keys: list[int]) -> list[int]:
                return [(await demo.ask(conn, BY_KEY, key))[0][0] for key in keys]

            return await _read(demo, conn, clock, quick, read_all)

    return asyncio.run(main())


def read_pool(stage: Stage, quick: bool) -> Outcome:
    import aiomysql

    async def main() -> Outcome:
        async with (
            city(stage) as (demo, _, conn, clock),
            aiomysql.create_pool(**demo.options(), minsize=10, maxsize=10) as pool,
        ):

            async def read(key: int) -> int:
                return (await demo.ask_pool(pool, BY_KEY, key))[0][0]

            async def read_all(keys: list[int]) -> list[int]:
                return await _share_out(keys, 50, read)

            return await _read(demo, conn, clock, quick, read_all)

    return asyncio.run(main())


def read_loader(stage: Stage, quick: bool, tasks: int = 50) -> Outcome:
    async def main() -> Outcome:
        async with city(stage) as (demo, _, conn, clock):

            async def read_all(keys: list[int]) -> list[int]:
                async with asyncio.TaskGroup() as group:
                    loader = demo.Loader(group, lambda rides: demo.minutes_of(conn, rides))
                    return await _share_out(keys, tasks, loader.load)

            return await _read(demo, conn, clock, quick, read_all)

    return asyncio.run(main())


def read_asyncmy(stage: Stage, quick: bool) -> Outcome:
    import asyncmy

    async def main() -> Outcome:
        async with (
            city(stage) as (demo, _, conn, clock),
            asyncmy.connect(**demo.options()) as theirs,
        ):

            async def read_all(keys: list[int]) -> list[int]:
                minutes = []
                for key in keys:
                    async with theirs.cursor() as cursor:
                        await cursor.execute(BY_KEY, (key,))
                        minutes += (await cursor.fetchall())[0]
                return minutes

            return await _read(demo, conn, clock, quick, read_all)

    return asyncio.run(main())


def read_blocking(stage: Stage, quick: bool) -> Outcome:
    import pymysql

    async def main() -> Outcome:
        async with city(stage) as (demo, _, conn, clock):
            with pymysql.connect(**demo.options()) as theirs:

                async def read_all(keys: list[int]) -> list[int]:
                    minutes = []
                    for key in keys:  # blocks the loop, where nobody else waits
                        with theirs.cursor() as cursor:
                            cursor.execute(BY_KEY, (key,))
                            minutes += cursor.fetchall()[0]
                    return minutes

                return await _read(demo, conn, clock, quick, read_all)

    return asyncio.run(main())


LOCAL = "服务器的忙碌是它的进程用掉的 CPU；它在容器里或别的机器上时看不到，记作 0。"
BENCHMARKS = [
    Benchmark(
        "mysql-insert",
        "4.2 MySQL 写入：2000 行",
        "行/秒",
        [
            Row("aiomysql 一行一行", insert_one_by_one),
            Row("aiomysql 一个事务里一行一行", partial(insert_one_by_one, in_transaction=True)),
            Row("aiomysql executemany，VALUES( 没空格", partial(insert_many, sql=UNSPACED)),
            Row("4.2 的 executemany，VALUES (", insert_many),
            Row("asyncmy executemany", insert_asyncmy, ("asyncmy",)),
        ],
        [Target("4.2 的 executemany，VALUES (", "aiomysql 一行一行", 11)],
        server,
        "idle",
        "autocommit，一条连接。" + LOCAL,
    ),
    Benchmark(
        "mysql-read",
        "4.2 MySQL 按键读",
        "行/秒",
        [
            Row("aiomysql 一个一个", read_one_by_one),
            Row("aiomysql 一个一个，占住一条连接", read_held),
            Row("aiomysql 50 个任务，池子 10 条", read_pool),
            Row("4.2 的装载器，50 个任务", read_loader),
            Row("4.2 的装载器，1000 个任务", partial(read_loader, tasks=1000)),
            Row("asyncmy 一个一个", read_asyncmy, ("asyncmy",)),
            Row("PyMySQL 阻塞，一个一个", read_blocking),
        ],
        [Target("4.2 的装载器，50 个任务", "aiomysql 一个一个", 6.5)],
        server,
        "idle",
        "每次查询从池里借一条连接；写了占住的除外。" + LOCAL,
    ),
]
