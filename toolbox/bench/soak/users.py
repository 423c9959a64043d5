"""200 users on 4.3 while its Redis and its MySQL are killed and started again, twice."""

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from toolbox import services
from toolbox.bench.model import Missing
from toolbox.bench.soak import Check, lessons

TITLE = "4.3 同时 200 位客人，Redis、MySQL 中途各被杀掉又启动两次：答得出，或者干脆说不行"
USERS, LISTENERS = 200, 20
PATIENCE = 10  # seconds; 4.3 itself gives up after 3 for MySQL and 1 + 1 for Redis, twice
BACK_WITHIN = 2  # seconds
SEED = 43
# What 4.3 may have at most: connections (a pool and the batching client's one; a pool), threads
# (AnyIO's pool and the main one).
POOLS = {"Redis": 20 + 1, "MySQL": 10, "线程": 40 + 1}
# Python runs this file when it starts: 4.3 itself stays as it ships. A signal asks for the number
# of tasks that are not done.
CENSUS = """
import asyncio, gc, pathlib, signal

def count(*_):
    tasks = [thing for thing in gc.get_objects() if isinstance(thing, asyncio.Task)]
    pathlib.Path(__file__).with_name("tasks").write_text(f"{sum(not t.done() for t in tasks)}\\n")

signal.signal(signal.SIGUSR1, count)
"""
# What a user does, how often, and what must be up for it to succeed; a read has two ways.
DEEDS = {"读": (10, ""), "写": (4, "MySQL"), "改": (2, "MySQL"), "撕": (1, "MySQL")}
DEEDS |= {"列": (3, "MySQL"), "茶单": (3, "Redis"), "健康": (1, ""), "首页": (1, "")}


def checks(say: Callable[[str], None], quick: bool) -> Iterator[Check]:
    if sys.platform != "linux":
        raise Missing("打开的文件和内存要从 Linux 的 /proc 里读，这个系统没有")
    with (
        tempfile.TemporaryDirectory() as folder,
        services.mortal_redis() as redis,
        services.mortal_mysql(say) as mysql,
        lessons.tea_house(
            Path(folder, "errors"), redis.url, mysql.url, PYTHONPATH=census(Path(folder))
        ) as (server, url),
    ):
        servers, length = {"Redis": redis, "MySQL": mysql}, 5 if quick else 30
        day = Day(url, server.pid, Path(folder, "tasks"), servers, length, say)
        asyncio.run(day.run())
        errors = Path(folder, "errors").read_text(encoding="utf-8")
        alive = server.poll() is None
    yield from day.answers(errors, alive)
    yield from day.returns()
    yield from day.leaks()


def census(folder: Path) -> str:
    (folder / "sitecustomize.py").write_text(CENSUS)
    return str(folder)


@dataclass
class Footprint:
    """What the server holds when its users have gone."""

    memory: int
    files: int  # open, but for the connections of pools
    tasks: int
    listeners: int
    pools: dict[str, int]


@dataclass
class Day:
    url: str
    pid: int
    tasks: Path  # where the census writes
    servers: dict[str, services.Server]
    length: float  # seconds of each of two cycles
    say: Callable[[str], None]
    statuses: Counter = field(default_factory=Counter)
    unanswered: Counter = field(default_factory=Counter)
    slowest: float = 0
    notes: list[int] = field(default_factory=list)  # that may still be there
    back: dict[str, list[float]] = field(default_factory=dict)  # when the servers came back
    seen: list[tuple[float, str, int]] = field(default_factory=list)  # when, what needed, status
    footprints: list[Footprint] = field(default_factory=list)

    async def run(self) -> None:
        import aiohttp

        for cycle in (1, 2):
            self.say(f"第 {cycle} 轮：{USERS} 位客人，{LISTENERS} 位听众，{self.length:.0f} 秒……")
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=PATIENCE)
            async with (
                aiohttp.ClientSession(self.url, connector=connector, timeout=timeout) as http,
                asyncio.TaskGroup() as group,
            ):
                end = time.monotonic() + self.length
                for number in range(USERS):
                    chance = random.Random(f"{SEED} {cycle} {number}")
                    group.create_task(self.be_a_user(http, chance, end))
                for _ in range(LISTENERS):
                    group.create_task(self.listen(http, end))
                for name in self.servers:
                    await self.restart(name)
            # All at once, so that a pool's idle connections that died with a server are replaced.
            async with aiohttp.ClientSession(self.url) as http:
                deeds = [deed for deed in ("茶单", "列", "读") for _ in range(USERS)]
                await asyncio.gather(*(self.do(http, deed, random.Random(SEED)) for deed in deeds))
            await asyncio.sleep(2)  # for the server to see that everybody has gone
            self.footprints.append(await self.footprint())

    async def restart(self, name: str) -> None:
        await asyncio.sleep(self.length * 0.2)
        self.servers[name].kill()
        await asyncio.sleep(self.length * 0.1)
        self.servers[name].start()  # in this thread: the server lives as long as its thread
        self.back.setdefault(name, []).append(time.monotonic())
        self.say(f"{name} 被杀，{self.length * 0.1:.1f} 秒以后又启动了")

    async def be_a_user(self, http, chance: random.Random, end: float) -> None:
        names, weights = list(DEEDS), [often for often, _ in DEEDS.values()]
        while time.monotonic() < end:
            await asyncio.sleep(chance.uniform(0, 0.3))
            [deed] = chance.choices(names, weights)
            started = time.monotonic()
            try:
                status = await self.do(http, deed, chance)
            except Exception as error:  # refused, cut off, too slow: not a clean answer
                self.unanswered[f"{deed} {type(error).__name__}"] += 1
            else:
                self.statuses[status] += 1
                self.seen.append((time.monotonic(), DEEDS[deed][1], status))
            self.slowest = max(self.slowest, time.monotonic() - started)

    async def do(self, http, deed: str, chance: random.Random) -> int:
        """One request; its body is read to the end."""
        draft = {"guest": "陆羽", "text": f"第 {chance.randrange(1000)} 碗"}
        note = f"/notes/{chance.choice(self.notes or [1])}"
        method, path, body = {
            "读": ("GET", note, None),
            "写": ("POST", "/notes", draft),
            "改": ("PUT", note, draft),
            "撕": ("DELETE", note, None),
            "列": ("GET", "/notes?limit=10", None),
            "茶单": ("GET", "/red", None),
            "健康": ("GET", "/health/ready", None),
            "首页": ("GET", "/", None),
        }[deed]
        async with http.request(method, path, json=body) as response:
            answer = await response.read()
        if deed == "写" and response.status == 201:
            self.notes.append(json.loads(answer)["id"])
        return response.status

    async def listen(self, http, end: float) -> None:
        """Come, hear some heartbeats, go in the middle of the stream; come again."""
        while time.monotonic() < end:
            try:
                async for _ in pulses(http, 5):
                    pass
            except Exception as error:
                self.unanswered[f"听 {type(error).__name__}"] += 1

    async def footprint(self) -> Footprint:
        import aiohttp

        process = Path(f"/proc/{self.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        files = len(list((process / "fd").iterdir()))
        self.tasks.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        async with asyncio.timeout(PATIENCE):
            while not (self.tasks.exists() and (tasks := self.tasks.read_text()).endswith("\n")):
                await asyncio.sleep(0.05)
        async with aiohttp.ClientSession(self.url) as http:
            [listeners] = [pulse["listeners"] async for pulse in pulses(http, 1)]
        connections = {name: await self.connections(name) for name in self.servers}
        return Footprint(
            memory=int(status["VmRSS"].split()[0]) * 1024,
            files=files - sum(connections.values()),
            tasks=int(tasks),
            listeners=listeners - 1,  # we listened
            pools=connections | {"线程": int(status["Threads"])},
        )

    async def connections(self, name: str) -> int:
        """How many connections the server has, but for the one that asks."""
        url = self.servers[name].url
        if name == "Redis":
            from redis.asyncio import Redis

            async with Redis.from_url(url) as redis:
                return len(await redis.client_list()) - 1
        import aiomysql

        options = {"host": "127.0.0.1", "port": self.servers[name].port}
        async with aiomysql.connect(**options, user="root", password="tutorial") as admin:
            async with admin.cursor() as cursor:
                await cursor.execute("SHOW PROCESSLIST")
                users = [row for row in await cursor.fetchall() if row[1] == "root"]
        return len(users) - 1

    # ── What came of it ──

    def answers(self, errors: str, alive: bool) -> Iterator[Check]:
        kinds = "，".join(f"{status} × {n}" for status, n in sorted(self.statuses.items()))
        wrong = [status for status in self.statuses if status >= 500 and status != 503]
        yield Check(
            "每个请求都答了 2xx、4xx 或 503",
            f"{self.statuses.total()} 个：{kinds}",
            not wrong and self.statuses[503] > 0,
        )
        what = "，".join(f"{kind} × {n}" for kind, n in self.unanswered.items())
        yield Check(
            f"没有断掉的，没有等过 {PATIENCE} 秒的",
            f"{self.unanswered.total()} 个{what and '：' + what}，最慢 {self.slowest:.1f} 秒",
            not self.unanswered,
        )
        # github.com/fastapi/fastapi/discussions/15725: logged when a listener leaves while FastAPI
        # is passing an event on; two tracebacks each, and nobody is served worse.
        known = errors.count("anyio.BrokenResourceError")
        others = errors.count("Traceback") - 2 * known
        yield Check(
            "服务一直活着，没有出过 traceback",
            f"{'活着' if alive else '退出了'}，{others} 个；听众走在 FastAPI 正转交一句话的时候，"
            f"它自己会记一笔 (fastapi #15725)，不算在内：{known} 笔",
            alive and not others,
        )

    def returns(self) -> Iterator[Check]:
        for name, times in self.back.items():
            firsts, lasts = [], []
            for when in times:
                after = [
                    (at - when, status)
                    for at, needed, status in self.seen
                    if needed == name and when < at < when + self.length * 0.2
                ]
                firsts.append(min((s for s, status in after if status < 300), default=99))
                lasts.append(max((s for s, status in after if status == 503), default=0))
            yield Check(
                f"{name} 回来以后 {BACK_WITHIN} 秒以内，离不开它的请求又成了",
                "、".join(f"{s:.2f} 秒" for s in firsts)
                + "；最后一个 503 在 "
                + "、".join(f"{s:.2f} 秒" for s in lasts),
                max(firsts) <= BACK_WITHIN,
            )

    def leaks(self) -> Iterator[Check]:
        first, second = self.footprints
        yield Check(
            "内存：第二轮 ≤ 第一轮 + 5%",
            f"{first.memory / 1e6:.1f} → {second.memory / 1e6:.1f} MB",
            second.memory <= first.memory * 1.05,
        )
        yield Check(
            "客人走后，没做完的任务、打开的文件（池里的连接另算）：第二轮 ≤ 第一轮 + 5%；听众 0 位",
            f"任务 {first.tasks} → {second.tasks}，文件 {first.files} → {second.files}，"
            f"听众 {first.listeners} → {second.listeners}",
            second.tasks <= first.tasks * 1.05
            and second.files <= first.files * 1.05
            and first.listeners == second.listeners == 0,
        )
        yield Check(
            "连接池、线程池没有漏：不超过各自的上限",
            "，".join(
                f"{name} {first.pools[name]} → {second.pools[name]}（上限 {most}）"
                for name, most in POOLS.items()
            ),
            all(second.pools[name] <= most for name, most in POOLS.items()),
        )


async def pulses(http, count: int) -> AsyncIterator[dict]:
    """The data of so many heartbeats from the stream of events."""
    async with http.get("/events") as stream:
        beats = 0
        async for line in stream.content:
            if line.startswith(b"data: ") and b"late_ms" in line:
                yield json.loads(line[6:])
                beats += 1
            if beats == count:
                return
        raise EOFError("流断了")
