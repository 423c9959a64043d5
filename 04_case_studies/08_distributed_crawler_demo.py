"""4.8 分布式爬虫：一台机器不够时，再来一台

视频：视频之外
运行：python 04_case_studies/08_distributed_crawler_demo.py
观看：python tutorial.py trace 4.8（一步步看谁在跑、谁在等）
需要：Redis、MySQL（没有就先 docker compose up -d，或 python tutorial.py services）

自己看一个工人 (worker) 半路加入（两个终端，或两台能连到同一个 Redis、MySQL 和站点的机器）：
    python 04_case_studies/08_distributed_crawler_demo.py --latency 2    爬一个很慢的站点
    python 04_case_studies/08_distributed_crawler_demo.py --join 老王    再来一个工人

怎样读
    任务队列用现成的 taskiq，不自己造；工人在 distributed.py，一页怎样爬还是 4.4 的 crawler.py。

先猜后跑
    第 3 节，一个工人领了任务，被 kill -9。它爬到一半的那几页，会丢吗？会存两遍吗？

预期输出
    ── 1. 慢在等，就加工人：同一条命令，来了就有活 ──
    1 个工人：80 页，每秒 ≈75 页
    2 个工人：80 页，每秒 ≈145 页，是 1 个的 ≈1.9 倍
    ── 2. 礼貌是全体的事：节奏记在 Redis 里 ──
    2 个工人，合起来每秒至多 50 次：30 页，每秒 ≈48 页
    ── 3. kill -9 一个工人：它没做完的，别人接着做 ──
    存了 ≈40 页时杀掉 1 号，它手里有 ≈4 页没签收
    100 个网址，存了 100 页，重复 0 页，漏掉 0 页
    ── 4. 任务至少送达一次，页面恰好存一次 ──
    同一个任务同时送达 5 次，给 2 个工人：存了 1 页，它的 37 个链接各入队 1 次

动手试试
    1. 第 1 节加上 3 个、4 个工人：还是来一个快一份吗？从哪里开始不是了，为什么？
    2. 在 distributed.py 的 listen 里把两个 count=1 改成 100：第 3 节 1 号死时手里有几页？为什么？
    3. 在 listen 里把 self.idle_timeout 改成 10**9：第 3 节停在哪里？差哪几页？（按 Ctrl-C 离开）
    4. 用 --latency 1 开爬，--join 两个工人，一个按 Ctrl-C，一个 kill -9：最后的页数变了吗？
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import sys
import threading
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import aiomysql
import crawler
import demo_site
import distributed
import settings
from distributed import (
    CREW,
    DATABASE,
    GROUP,
    PAGE_TABLE,
    PLAN,
    PREFIX,
    QUEUE,
    SEEN,
    Plan,
    Stores,
    ask,
    kick_page,
)
from redis.asyncio import Redis

# 自己的小站不怕快；idle 要比最慢的一页长，又别让被杀的工人手里的活等太久
LOCAL = Plan("", pages=80, delay=0, idle=1000)
LATENCY = 0.05


@contextlib.asynccontextmanager
async def clean_stores() -> AsyncIterator[Stores]:
    """空的队列、空的库；离开时都删掉，被杀的上一次留下的也删掉。一次只许一个人进来。"""
    async with distributed.open_stores(1, database=None) as (redis, admin):

        async def remove() -> None:
            await redis.delete(PLAN)  # 先撤计划：工人就知道，后面的都是收摊，不是出错
            await ask(admin, "SET sql_notes = 0")  # 没有可删的，不必提醒
            await ask(admin, f"DROP DATABASE IF EXISTS {DATABASE}")
            if keys := [key async for key in redis.scan_iter(f"{PREFIX}:*", count=1000)]:
                await redis.unlink(*keys)

        await distributed.only_one(admin, DATABASE)
        await remove()
        try:
            await ask(admin, f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4")
            async with distributed.open_stores(2) as (_, pool):
                await ask(pool, PAGE_TABLE)
                yield redis, pool
        finally:
            await remove()


@contextlib.asynccontextmanager
async def crew(redis: Redis, size: int) -> AsyncIterator[list[Process]]:
    """另开几个进程当工人，都到岗了才交出来；离开时一个也不剩。"""
    workers: list[Process] = []
    try:
        for number in range(1, size + 1):
            command = [sys.executable, __file__, "--join", f"{number} 号", "--until-eof"]
            workers.append(
                await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,  # 我们若先死，它们读到结尾，也就走了
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,  # Redis 断了我们自己会说，不必每人说一遍
                    start_new_session=True,  # Ctrl-C 只给我们
                )
            )
        while await redis.hlen(CREW) < size:
            settings.stop_if_cancelled()
            if gone(workers):
                raise crawler.CannotCrawl("有工人没到岗就走了")
            await asyncio.sleep(0.02)
        yield workers
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
        for worker in workers:
            await worker.wait()


def gone(workers: list[Process]) -> int:
    return sum(worker.returncode is not None for worker in workers)


async def keep_knocking(broker: distributed.OnceBroker) -> None:
    """隔一会儿说一声“我还在”：我们若被 kill -9，计划到期就撤了，别处来的工人不会白等。"""
    while True:
        await broker.keep_the_plan()
        settings.stop_if_cancelled()
        await asyncio.sleep(0.25)


async def say_who_comes(redis: Redis) -> None:
    known = set(await redis.hkeys(CREW))
    while True:
        here = set(await redis.hkeys(CREW))
        for name in here ^ known:
            print(f"{name}{'来' if name in here else '走'}了")
        known = here
        settings.stop_if_cancelled()
        await asyncio.sleep(0.1)


async def count(pool: aiomysql.Pool, condition: str = "TRUE") -> int:
    return (await ask(pool, f"SELECT COUNT(*) FROM page WHERE {condition}"))[0][0]


@contextlib.asynccontextmanager
async def crawling(plan: Plan, size: int, stores: Stores) -> AsyncIterator[list[Process]]:
    """派 size 个工人去爬；爬完才离开。"""
    redis, _ = stores
    plan = replace(plan, id=secrets.token_hex(4))
    await distributed.publish(redis, plan)
    broker = distributed.open_broker(plan)
    try:
        await broker.startup()  # 半路被取消，也已经连上了 Redis：要关
        # 任务组在里面：组里有人失败，取消的是还在爬的我们，不是正在收摊的 crew
        async with crew(redis, size) as workers, asyncio.TaskGroup() as group:
            helpers = keep_knocking(broker), say_who_comes(redis)
            helpers = [group.create_task(helper) for helper in helpers]
            await kick_page(broker, plan.start, 0)
            yield workers
            await finish(stores, workers)
            for helper in helpers:
                helper.cancel()
            await redis.delete(PLAN)  # 工人看见，就下班了
    finally:
        await broker.shutdown()


async def finish(stores: Stores, workers: list[Process]) -> None:
    """等见过的网址，每一个都存好了、链接都发出去了：不会再有新任务。没有人做，就不等了。"""
    redis, pool = stores
    while (done := await count(pool, "expanded")) < (seen := await redis.scard(SEEN)):
        settings.stop_if_cancelled()
        if gone(workers) == len(workers) and not await distributed.anybody_at_work(redis):
            raise crawler.CannotCrawl(f"工人一个也不剩，{seen} 个网址只爬了 {done} 个，不等了")
        await asyncio.sleep(0.02)
    if not await redis.exists(PLAN):  # 见过的网址多半也没了：0 个网址爬完 0 个，不算爬完
        raise crawler.CannotCrawl("Redis 里这次爬取的计划没了（清空过，或者换了一台），没爬完")


async def crawl(plan: Plan, size: int) -> tuple[int, float]:
    """存了几页，用了几秒（不算工人起床）。"""
    async with clean_stores() as stores:
        async with crawling(plan, size, stores):
            started = time.perf_counter()
        return await count(stores[1]), time.perf_counter() - started


async def add_workers() -> list[int]:
    pages, alone = [], 0.0
    async with demo_site.serve(LATENCY, odd=False) as home:
        for size in (1, 2):
            stored, seconds = await crawl(replace(LOCAL, start=home), size)
            speed = stored / seconds
            alone = alone or speed
            gain = f"，是 1 个的 ≈{speed / alone:.1f} 倍" if size > 1 else ""
            print(f"{size} 个工人：{stored} 页，每秒 ≈{speed:.0f} 页{gain}")
            pages.append(stored)
    return pages


async def share_one_pace() -> tuple[int, float]:
    """各管各的节奏，两个工人就快一倍，对方的站点受不了；占号的那两行在 Redis 里，才是一个节奏。"""
    async with demo_site.serve(odd=False) as home:
        stored, seconds = await crawl(replace(LOCAL, start=home, pages=30, delay=0.02), 2)
    speed = stored / seconds
    print(f"2 个工人，合起来每秒至多 50 次：{stored} 页，每秒 ≈{speed:.0f} 页")
    return stored, seconds


async def kill_one_worker() -> tuple[int, int, int]:
    async with demo_site.serve(LATENCY, odd=False) as home, clean_stores() as stores:
        redis, pool = stores
        async with crawling(replace(LOCAL, start=home, pages=100), 2, stores) as workers:
            while (stored := await count(pool)) < 40:
                settings.stop_if_cancelled()
                await asyncio.sleep(0.01)
            workers[0].kill()
            held = await redis.xpending_range(QUEUE, GROUP, "-", "+", 99, "1 号")
            print(f"存了 ≈{stored} 页时杀掉 1 号，它手里有 ≈{len(held)} 页没签收")
        seen = await redis.smembers(SEEN)
        urls = [url for (url,) in await ask(pool, "SELECT url FROM page")]
    twice, missing = len(urls) - len(set(urls)), len(seen - set(urls))
    print(f"{len(seen)} 个网址，存了 {len(urls)} 页，重复 {twice} 页，漏掉 {missing} 页")
    return len(urls), twice, missing


async def deliver_five_times() -> tuple[int, int, int]:
    """送达两次的，多半是那一页太慢，过了 idle 还没签收：两个工人同时在做，谁先存上算谁的。"""
    async with demo_site.serve(LATENCY, odd=False) as home, clean_stores() as stores:
        redis, pool = stores
        plan = replace(LOCAL, start=home)
        async with distributed.visit(plan, redis) as site:
            workers = [distributed.Worker(f"{n} 号", plan, redis, pool, site) for n in (1, 2)]
            async with contextlib.AsyncExitStack() as stack:
                for worker in workers:
                    stack.push_async_callback(worker.broker.shutdown)
                    await worker.broker.startup()
                await asyncio.gather(*(workers[n % 2].crawl_page(home, 0) for n in range(5)))
        stored, links, queued = await count(pool), await redis.scard(SEEN), await redis.xlen(QUEUE)
    each = "各入队 1 次" if links == queued else f"入队 {queued} 次"
    print(f"同一个任务同时送达 5 次，给 2 个工人：存了 {stored} 页，它的 {links} 个链接{each}")
    return stored, links, queued


SECTIONS = {
    "1. 慢在等，就加工人：同一条命令，来了就有活": add_workers,
    "2. 礼貌是全体的事：节奏记在 Redis 里": share_one_pace,
    "3. kill -9 一个工人：它没做完的，别人接着做": kill_one_worker,
    "4. 任务至少送达一次，页面恰好存一次": deliver_five_times,
}


async def main() -> None:
    async with distributed.alone():
        for title, section in SECTIONS.items():
            print(f"── {title} ──")
            await section()


async def crawl_slowly(latency: float) -> None:
    """爬很久，好让你从别的终端加入；最后看谁存了几页。"""
    async with (
        distributed.alone(),
        demo_site.serve(latency, odd=False) as home,
        clean_stores() as stores,
    ):
        plan = replace(LOCAL, start=home, timeout=latency + 10, idle=int(latency * 1000) + 5000)
        async with crawling(plan, 2, stores):
            print(f"两个工人在爬 {home}。另开终端，再来一个：python {__file__} --join 老王")
        for worker, pages in await ask(
            stores[1], "SELECT worker, COUNT(*) FROM page GROUP BY worker ORDER BY worker"
        ):
            print(f"{worker}：{pages} 页")


async def join(name: str) -> None:
    stored = await distributed.join(name)
    print("没有正在进行的爬取" if stored is None else f"这次爬取结束了，{name}存了 {stored} 页")


def leave_at_eof() -> None:
    """派我们来的那个进程死了，管道就关了。"""
    while os.read(0, 1):
        pass
    os._exit(0)


def a_name(text: str) -> str:
    if not (text.isprintable() and 0 < len(text) <= 40):
        raise ValueError
    return text


def seconds(text: str) -> float:
    if not 0 <= float(text) <= 60:
        raise ValueError
    return float(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="4.8 分布式爬虫；不带参数就跑这一课")
    usage = "只认得 --join 名字（40 个字以内）或 --latency 秒（0 到 60）；-h 看说明"
    parser.error = lambda _: parser.exit(2, f"没法开始：{usage}\n")
    role = parser.add_mutually_exclusive_group()
    role.add_argument("--join", type=a_name, metavar="名字", help="加入正在进行的爬取，当一个工人")
    role.add_argument("--latency", type=seconds, metavar="秒", help="爬一个每页都要等这么久的站点")
    parser.add_argument("--until-eof", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.until_eof:
        threading.Thread(target=leave_at_eof, daemon=True).start()
    work = main
    if arguments.join:
        work = partial(join, arguments.join)
    elif arguments.latency is not None:
        work = partial(crawl_slowly, arguments.latency)
    settings.run(partial(distributed.or_say_why_not, work))
