"""Workers of 4.5 and 4.8 killed at random, and their Redis restarted: what becomes of the work?

`SOAK_SEED=… python tutorial.py bench soak kills` kills at the same points of the work again.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from toolbox import services
from toolbox.bench.model import lesson
from toolbox.bench.soak import Check
from toolbox.catalog import ROOT

TITLE = "4.5、4.8 的工人随机被 kill -9，Redis 也重启：一条不丢，一条不重"
NOODLES = "04_case_studies/05_message_queue_demo.py"
CRAWL = "04_case_studies/08_distributed_crawler_demo.py"
PATIENCE = 180  # seconds, for each of the two
DOWN = 0.5  # seconds without Redis
ALIEN = 100  # every so many orders there is one that cannot be cooked

Ask = Callable[[], Awaitable]


def checks(say: Callable[[str], None], quick: bool) -> Iterator[Check]:
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(1_000_000))
    say(f"种子 {seed}：SOAK_SEED={seed} 可以再来一次")
    messages, kills = (500, 4) if quick else (5_000, 20)
    for number, siege in {"4.5": noodles, "4.8": crawl}.items():
        with services.mortal_redis() as redis, services.mysql(say=say) as mysql:
            with environment(REDIS_URL=redis.url, MYSQL_URL=mysql):
                plan = Plan(redis, random.Random(seed), messages, kills, say)
                try:
                    yield asyncio.run(siege(plan))
                except TimeoutError:  # a message that is lost is waited for
                    yield Check(f"{number}：{messages} 条", f"{PATIENCE} 秒也没做完", False)


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# ── Killing ──


@dataclass
class Plan:
    """Whom to kill when, and what came of it."""

    server: services.Server
    chance: random.Random
    messages: int
    kills: int
    say: Callable[[str], None]
    held: int = 0  # messages in the hands of those killed

    async def carry_out(self, crew: "Crew", redis, done: Ask, pending: Ask) -> None:
        """Kill at random points of the work, not of time: every kill falls while work is done.

        `done()` says how much is; `pending()` who has how much in hand. Only who has something is
        killed.
        """
        points = self.chance.sample(range(self.messages // 50, self.messages * 9 // 10), self.kills)
        points.sort()
        middle = slice(self.kills // 4, -(self.kills // 4))
        restart = self.chance.choice(points[middle])
        for number, point in enumerate(points, 1):
            while await patiently(done) < point:
                await asyncio.sleep(0.005)
            while not (busy := crew.living(await patiently(pending))):
                await asyncio.sleep(0.005)
            victim = self.chance.choice(sorted(busy))
            self.held += busy[victim]
            crew.live[victim].kill()
            if point == restart:
                self.say(f"杀了 {number} 个，做到 {point}：杀掉 Redis，{DOWN} 秒以后再启动")
                self.server.kill()
                try:
                    await asyncio.sleep(DOWN)
                finally:  # Ctrl-C: the lesson wants to clean up
                    self.server.start()  # in this thread: the server lives as long as its thread
                    await redis.connection_pool.disconnect()

    def summary(self, crew: "Crew", what: str) -> str:
        return (
            f"{self.messages} {what}，kill -9 {self.kills} 次（手里共 {self.held} {what}没做完），"
            f"Redis 重启 1 次，工人前后 {crew.started} 个"
        )


async def patiently(ask: Ask):
    """What `ask()` gives; while there is no Redis, ask again.

    In Python 3.11 redis may swallow a cancellation (Ctrl-C) that comes as it is done, hence the
    question whether there was one.
    """
    from redis.exceptions import ConnectionError, TimeoutError

    while True:
        if asyncio.current_task().cancelling():
            raise asyncio.CancelledError
        with contextlib.suppress(ConnectionError, TimeoutError):
            return await ask()
        await asyncio.sleep(0.05)


@dataclass
class Crew:
    """Processes at work; who dies is replaced by somebody with another name."""

    command: Callable[[str], list[object]]
    live: dict[str, Process] = field(default_factory=dict)
    started: int = 0

    async def fill(self, place: int) -> None:
        """Keep one place filled until its worker says by its exit code that all is done."""
        code = None
        for shift in itertools.count(1):
            name = f"{place}号{shift}"
            worker = await asyncio.create_subprocess_exec(
                *map(str, self.command(name)),
                stdin=PIPE,  # 4.8's workers leave when it is closed
                stdout=DEVNULL,
                stderr=DEVNULL,  # each of them would say that Redis is gone
                start_new_session=True,
            )
            self.live[name] = worker
            self.started += 1
            try:
                code = await worker.wait()
            finally:
                del self.live[name]
                if worker.returncode is None:
                    worker.kill()
                    await worker.wait()
            if code == 0:
                return

    def living(self, pending: dict) -> dict[str, int]:
        """Of what Redis says is pending, that of workers who are alive."""
        return {
            consumer["name"]: consumer["pending"]
            for consumer in pending["consumers"]
            if consumer["name"] in self.live
        }


# ── 4.5: a stream, a consumer group ──


async def noodles(plan: Plan) -> Check:
    house = lesson(NOODLES)
    dishes = ["牛肉面" if n % ALIEN else "外星拉面" for n in range(plan.messages)]
    async with asyncio.timeout(PATIENCE), house.connect() as redis:
        async with house.kitchen(redis, *dishes) as place:
            command = [sys.executable, "-m", __name__, place.name]
            crew = Crew(lambda cook: [*command, cook, plan.messages])

            async def done() -> int:
                return await redis.scard(place.served) + await redis.xlen(place.dead)

            plan.say(f"4.5：{plan.messages} 单，4 位厨师……")
            async with asyncio.TaskGroup() as group:
                for number in range(1, 5):
                    group.create_task(crew.fill(number))
                await plan.carry_out(
                    crew, redis, done, lambda: redis.xpending(place.orders, house.GROUP)
                )
            # Who was killed between serving and crossing off still owes; to do it again is no harm.
            while await patiently(place.owed):
                for id, order in await place.take_over("收尾"):
                    await house.try_one(place, id, order["dish"])
                await asyncio.sleep(0.05)
            orders = {id for id, _ in await redis.xrange(place.orders)}
            bowls = Counter({id: int(n) for id, n in (await redis.hgetall(place.bowls)).items()})
            dead = Counter(order["id"] for _, order in await redis.xrange(place.dead))
    ended = bowls + dead
    lost, more = orders - set(ended), ended.total() - len(ended)
    found = f"上菜 {len(bowls)}，死信 {len(dead)}，丢失 {len(lost)}，多上 {more}"
    as_planned = (len(orders), len(dead)) == (plan.messages, -(-plan.messages // ALIEN))
    ok = as_planned and not lost and not more
    return Check(f"4.5：{plan.summary(crew, '单')}", found, ok)


async def cook(kitchen: str, name: str, orders: str) -> None:
    """One worker: 4.5's own."""
    house = lesson(NOODLES)
    async with house.connect() as redis:
        await house.work(house.Kitchen(redis, kitchen), name, int(orders))


# ── 4.8: taskiq, a crawl ──


async def crawl(plan: Plan) -> Check:
    town, engine = lesson(CRAWL), lesson("04_case_studies/distributed.py")
    logging.getLogger("taskiq").setLevel(logging.CRITICAL)  # the knocks while there is no Redis
    join = [sys.executable, ROOT / CRAWL, "--until-eof", "--join"]
    crew = Crew(lambda name: [*join, name])
    asked: Counter[str] = Counter()
    async with (
        asyncio.timeout(PATIENCE),
        tree(plan.messages, asked) as home,
        town.clean_stores() as (redis, pool),
    ):
        await engine.publish(redis, replace(town.LOCAL, start=home, depth=99, pages=plan.messages))
        broker = engine.open_broker(town.LOCAL)
        broker.limit = plan.messages
        await broker.startup()
        try:
            await engine.kick_page(broker, home, 0)
            plan.say(f"4.8：{plan.messages} 页，3 个工人……")
            async with asyncio.TaskGroup() as group:
                for number in range(1, 4):
                    group.create_task(crew.fill(number))
                knocking = group.create_task(knock(town, broker))
                await plan.carry_out(
                    crew,
                    redis,
                    lambda: town.count(pool, "expanded"),
                    lambda: redis.xpending(engine.QUEUE, engine.GROUP),
                )
                seen = partial(redis.scard, engine.SEEN)
                while await town.count(pool, "expanded") < await patiently(seen):
                    await asyncio.sleep(0.05)
                knocking.cancel()
                await redis.delete(engine.PLAN)
        finally:
            await broker.shutdown()
        urls = Counter(url for (url,) in await engine.ask(pool, "SELECT url FROM page"))
        bad = await town.count(pool, "status <> 200 OR error <> ''")
    lost, more = plan.messages - len(urls), urls.total() - len(urls)
    found = (
        f"存了 {len(urls)} 页，丢失 {lost}，重复 {more}，出错 {bad}；站点被问了 {asked.total()} 次"
    )
    return Check(f"4.8：{plan.summary(crew, '页')}", found, not (lost or more or bad))


async def knock(town, broker) -> None:
    """4.8's own knocking; it begins again when Redis is back."""
    while True:
        with contextlib.suppress(Exception):
            await town.keep_knocking(broker)
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def tree(pages: int, asked: Counter[str]) -> AsyncIterator[str]:
    """A site of small pages: every page links to three new ones, and back. Counts requests."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode()
                if path == "/robots.txt":
                    body = b""
                else:
                    asked[path] += 1
                    body = page(int(path[1:] or 0))
                lines = "HTTP/1.1 200 OK", "Content-Type: text/html", f"Content-Length: {len(body)}"
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        writer.close()

    def page(number: int) -> bytes:
        others = [number // 3, *(n for n in range(number * 3 + 1, number * 3 + 4) if n < pages)]
        links = "".join(f'<a href="/{n or ""}">{n}</a>' for n in others)
        return f"<title>{number}</title>{links}".encode()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


if __name__ == "__main__":
    asyncio.run(cook(*sys.argv[1:]))
