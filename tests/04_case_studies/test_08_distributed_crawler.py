"""Lesson 4.8 against real Redis and MySQL, with real worker processes."""

import asyncio
import collections
import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from tests import processes
from toolbox import catalog, services

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

SCRIPT = catalog.ROOT / "04_case_studies" / "08_distributed_crawler_demo.py"


@pytest.fixture
def distributed(lesson):
    return lesson.distributed


class Town:
    """A home page and nineteen others, which answer once the gate is open."""

    def __init__(self, port):
        self.home = f"http://127.0.0.1:{port}/"
        self.gate = asyncio.Event()
        self.visits = collections.Counter()

    async def answer(self, request):
        self.visits[request.path] += 1
        if request.path == "/robots.txt":
            raise web.HTTPNotFound
        if request.path != "/":
            await self.gate.wait()
        links = "".join(f'<a href="/{n}">{n}</a>' for n in range(19))
        return web.Response(text=f"<title>{request.path}</title>{links}", content_type="text/html")


@pytest_asyncio.fixture
async def town():
    with socket.create_server(("127.0.0.1", 0)) as door:
        town = Town(door.getsockname()[1])
        app = web.Application()
        app.router.add_get("/{path:.*}", town.answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.SockSite(runner, door).start()
            yield town
        finally:
            await runner.cleanup()


async def until(condition):
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


async def has_work(lesson, redis, name):
    """Whether that worker has pages in hand."""
    return await redis.exists(lesson.QUEUE) and await redis.xpending_range(
        lesson.QUEUE, lesson.GROUP, "-", "+", 99, name
    )


async def leftovers(lesson) -> tuple[list, list]:
    async with lesson.distributed.open_stores(1, database=None) as (redis, pool):
        keys = [key async for key in redis.scan_iter(f"{lesson.PREFIX}:*")]
        return keys, await lesson.ask(pool, "SHOW DATABASES LIKE %s", lesson.DATABASE)


async def test_one_worker_or_two_store_the_same_number_of_pages(lesson):
    assert await lesson.add_workers() == [80, 80]
    assert await leftovers(lesson) == ([], [])


async def test_the_pace_holds_for_all_workers_together(lesson):
    stored, seconds = await lesson.share_one_pace()
    assert stored == 30
    assert seconds >= 29 * 0.02


async def test_a_killed_worker_loses_no_page_and_doubles_none(lesson):
    assert await lesson.kill_one_worker() == (100, 0, 0)


async def test_a_task_delivered_five_times_stores_one_page_and_kicks_each_link_once(lesson):
    stored, links, queued = await lesson.deliver_five_times()
    assert stored == 1
    assert links == queued > 1


async def test_what_robots_forbid_is_never_queued(lesson, distributed):
    async with lesson.demo_site.serve() as home, lesson.clean_stores() as (redis, pool):
        plan = replace(lesson.LOCAL, start=home)
        async with distributed.visit(plan, redis) as site:
            worker = distributed.Worker("甲", plan, redis, pool, site)
            await worker.broker.startup()
            try:
                await worker.crawl_page(lesson.crawler.canonical(f"{home}street/集市"), 1)
            finally:
                await worker.broker.shutdown()
        seen = await redis.smembers(lesson.SEEN)
    assert f"{home}map.png" in seen
    assert not [url for url in seen if "/private/" in url]


async def test_who_dies_after_storing_a_page_leaves_its_links_to_the_next(
    lesson, distributed, town, monkeypatch
):
    async with lesson.clean_stores() as (redis, pool):
        plan = replace(lesson.LOCAL, start=town.home)
        async with distributed.visit(plan, redis) as site:
            worker = distributed.Worker("甲", plan, redis, pool, site)
            await worker.broker.startup()
            try:
                with monkeypatch.context() as patch, pytest.raises(TypeError):
                    patch.setattr(worker, "_kick", None)
                    await worker.crawl_page(town.home, 0)
                assert (await lesson.count(pool), await redis.xlen(lesson.QUEUE)) == (1, 0)
                for _ in range(2):  # the second time there is nothing left to do
                    await worker.crawl_page(town.home, 0)
            finally:
                await worker.broker.shutdown()
        assert await redis.xlen(lesson.QUEUE) == 19
        assert await lesson.count(pool, "expanded") == 1
    assert town.visits["/"] == 1


async def test_a_link_enters_the_queue_once_and_the_limit_is_exact(lesson, distributed):
    async with lesson.clean_stores() as (redis, _):
        broker = distributed.open_broker(replace(lesson.LOCAL, pages=5))
        await broker.startup()
        try:
            kicks = (lesson.kick_page(broker, f"http://town/{n % 9}", 1) for n in range(90))
            await asyncio.gather(*kicks)
        finally:
            await broker.shutdown()
        assert (await redis.scard(lesson.SEEN), await redis.xlen(lesson.QUEUE)) == (5, 5)


async def test_turns_taken_by_many_are_one_interval_apart(lesson, distributed):
    minute = 60_000
    async with lesson.clean_stores() as (redis, _):
        take = [redis.eval(distributed.TAKE_TURN, 1, distributed.TURN, minute, 0) for _ in range(9)]
        waits = sorted(await asyncio.gather(*take))
    # Time passes between the calls: who comes later waits less than n minutes, but not 30 s less.
    assert [round(wait / minute) for wait in waits] == list(range(9))


async def milliseconds_ahead(redis, distributed):
    """How far the next turn is from now."""
    seconds, micros = await redis.time()
    return float(await redis.get(distributed.TURN)) - seconds * 1000 - micros / 1000


@contextlib.asynccontextmanager
async def a_site_that_says(status, headers, redis, distributed, plan):
    async def answer(request):
        if request.path == "/robots.txt":
            raise web.HTTPNotFound
        return web.Response(status=status, headers=headers)

    with socket.create_server(("127.0.0.1", 0)) as door:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.SockSite(runner, door).start()
            plan = replace(plan, start=f"http://127.0.0.1:{door.getsockname()[1]}/")
            async with distributed.visit(plan, redis) as site:
                yield site
        finally:
            await runner.cleanup()


async def test_a_retry_takes_a_turn_of_its_own(lesson, distributed):
    plan = replace(lesson.LOCAL, delay=0.5, attempts=3)
    async with (
        lesson.clean_stores() as (redis, _),
        a_site_that_says(503, {}, redis, distributed, plan) as site,
    ):
        started = asyncio.get_running_loop().time()
        page = await site.fetch(site.home)
        elapsed = asyncio.get_running_loop().time() - started
    assert page.status == 503
    assert elapsed >= 2 * 0.5 - 0.01


@pytest.mark.parametrize("delay", [0, 0.01])
async def test_who_is_asked_to_pause_pauses_everybody(lesson, distributed, delay):
    plan = replace(lesson.LOCAL, delay=delay, attempts=1)
    async with (
        lesson.clean_stores() as (redis, _),
        a_site_that_says(429, {"Retry-After": "60"}, redis, distributed, plan) as site,
    ):
        await site.fetch(site.home)
        assert 30_000 < await milliseconds_ahead(redis, distributed) <= 60_000


async def test_a_task_that_fails_is_not_acknowledged_and_stops_its_worker(lesson, distributed):
    class Broken(distributed.Worker):
        async def crawl_page(self, url, depth):
            raise ConnectionResetError("MySQL is gone")

    async with (
        lesson.demo_site.serve() as home,
        lesson.clean_stores() as (redis, pool),
        distributed.visit(plan := replace(lesson.LOCAL, start=home), redis) as site,
    ):
        await distributed.publish(redis, plan)
        worker = Broken("甲", plan, redis, pool, site)
        await worker.broker.startup()
        await lesson.kick_page(worker.broker, home, 0)
        with pytest.raises(ConnectionResetError, match="MySQL is gone"):
            await worker.run()
        pending = await redis.xpending(lesson.QUEUE, lesson.GROUP)
    assert pending["pending"] == 1
    assert pending["consumers"] == [{"name": "甲", "pending": 1}]


@pytest.mark.parametrize("what", ["the queue", "the database", "nothing else"])
async def test_a_worker_ends_in_peace_when_the_plan_is_gone(lesson, distributed, town, what):
    async with lesson.clean_stores() as (redis, pool):
        await distributed.publish(redis, plan := replace(lesson.LOCAL, start=town.home))
        broker = distributed.open_broker(plan)
        await broker.startup()
        try:
            await lesson.kick_page(broker, town.home, 0)
        finally:
            await broker.shutdown()
        async with asyncio.TaskGroup() as group:
            joined = group.create_task(distributed.join("甲"))
            await until(lambda: has_work(lesson, redis, "甲"))
            await redis.unlink(lesson.PLAN, *[lesson.QUEUE] * (what == "the queue"))
            if what == "the database":
                await lesson.ask(pool, f"DROP DATABASE {lesson.DATABASE}")
            town.gate.set()
        assert joined.result() >= 0
        assert await redis.hlen(lesson.CREW) == 0


async def test_a_plan_that_nobody_renews_ends_and_its_workers_leave(lesson, distributed, town):
    async with lesson.clean_stores() as (redis, _):
        await distributed.publish(redis, plan := replace(lesson.LOCAL, start=town.home))
        broker = distributed.open_broker(plan)
        await broker.startup()
        try:
            await redis.persist(lesson.PLAN)
            await broker.keep_the_plan()
            assert 0 < await redis.ttl(lesson.PLAN) <= distributed.PLAN_LIFE
            async with asyncio.TaskGroup() as group:
                joined = group.create_task(distributed.join("甲"))
                await until(lambda: redis.hexists(lesson.CREW, "甲"))
                await redis.pexpire(lesson.PLAN, 1)
            assert joined.result() == 0
        finally:
            await broker.shutdown()


async def test_a_worker_leaves_when_the_next_crawl_has_begun(lesson, distributed, town):
    async with lesson.clean_stores() as (redis, _):
        await distributed.publish(redis, plan := replace(lesson.LOCAL, start=town.home, id="1"))
        async with asyncio.timeout(50), asyncio.TaskGroup() as group:  # the plan lives longer
            group.create_task(distributed.join("甲"))
            await until(lambda: redis.hexists(lesson.CREW, "甲"))
            await distributed.publish(redis, replace(plan, id="2"))


async def test_the_plan_goes_before_the_database(lesson, distributed):
    """While somebody reads from a table, its database cannot be dropped."""
    ready, leave = asyncio.Event(), asyncio.Event()

    async def come_and_go():
        async with lesson.clean_stores() as (redis, _):
            await distributed.publish(redis, lesson.LOCAL)
            ready.set()
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(come_and_go())
        await ready.wait()
        async with distributed.open_stores(1) as (redis, pool), pool.acquire() as reading:
            await reading.begin()
            await reading.query("SELECT * FROM page")
            leave.set()

            async def the_plan_is_gone():
                return not await redis.exists(lesson.PLAN)

            await until(the_plan_is_gone)
            await reading.rollback()


async def test_a_crawl_whose_workers_all_die_ends_with_one_sentence(
    lesson, distributed, town, capsys
):
    async def crawl():
        async with lesson.clean_stores() as stores:
            plan = replace(lesson.LOCAL, start=town.home)
            async with lesson.crawling(plan, 2, stores) as workers:
                for worker in workers:
                    worker.kill()

    with pytest.raises(SystemExit, match="2"):
        await distributed.or_say_why_not(crawl)
    said = capsys.readouterr().err
    assert said.startswith("工人一个也不剩，1 个网址只爬了 0 个") and said.count("\n") == 1
    assert await leftovers(lesson) == ([], [])


async def test_a_crawl_goes_on_while_somebody_else_is_at_work(lesson, distributed, town):
    async with lesson.clean_stores() as stores, asyncio.TaskGroup() as group:
        plan = replace(lesson.LOCAL, start=town.home, idle=100)
        async with lesson.crawling(plan, 1, stores) as workers:
            helping = group.create_task(distributed.join("老王"))
            await until(lambda: stores[0].hexists(lesson.CREW, "老王"))
            workers[0].kill()
            town.gate.set()
        assert await lesson.count(stores[1]) == 20
        await helping


async def test_a_worker_that_dies_before_it_arrives_is_not_waited_for(lesson):
    async with lesson.clean_stores() as (redis, _):
        with pytest.raises(lesson.crawler.CannotCrawl, match="没到岗"):
            async with lesson.crew(redis, 1):  # there is no plan: it leaves at once
                pass


async def test_a_lost_connection_to_mysql_is_made_again_once(lesson, distributed):
    async with distributed.open_stores(2, database=None) as (_, pool):

        async def asleep():
            rows = await lesson.ask(
                pool, "SELECT id FROM information_schema.processlist WHERE info = %s", "DO SLEEP(9)"
            )
            return [id for (id,) in rows]

        async def nap():
            with pytest.raises(lesson.aiomysql.OperationalError, match="Lost connection"):
                await lesson.ask(pool, "DO SLEEP(9)")

        async with asyncio.TaskGroup() as group:
            napping = group.create_task(nap())
            for _ in range(2):
                assert not napping.done()
                await until(asleep)
                [id] = await asleep()
                await lesson.ask(pool, f"KILL {id}")
                while await asleep() == [id]:
                    pass


async def test_a_mysql_that_falls_silent_is_not_waited_for(lesson, distributed, monkeypatch):
    monkeypatch.setattr(distributed, "MYSQL_TIMEOUT", 2)
    silence = pytest.raises(lesson.aiomysql.OperationalError, match="没有回音")
    async with asyncio.timeout(30), distributed.open_stores(1, database=None) as (_, pool):
        with silence:
            await lesson.ask(pool, "DO SLEEP(60)")
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connects, but never says hello
        monkeypatch.setenv("MYSQL_URL", f"mysql://root@127.0.0.1:{mute.getsockname()[1]}")
        async with asyncio.timeout(30):
            with silence:
                async with distributed.open_stores(1):
                    pass


async def test_a_crawl_whose_redis_was_emptied_has_not_ended_well(
    lesson, distributed, town, capsys
):
    async def crawl():
        async with lesson.clean_stores() as (redis, pool):
            async with lesson.crawling(replace(lesson.LOCAL, start=town.home), 1, (redis, pool)):
                # The home page is done, the others wait at the gate: nobody finds links any more.
                await until(lambda: lesson.count(pool, "expanded"))
                await redis.unlink(lesson.PLAN, lesson.QUEUE, lesson.SEEN)

    with pytest.raises(SystemExit, match="2"):
        await distributed.or_say_why_not(crawl)
    assert "没爬完" in capsys.readouterr().err


async def test_what_a_dead_worker_held_is_claimed_once(lesson, distributed, town):
    """By two workers of two machines, which look for it at the same time."""
    async with lesson.clean_stores() as (redis, pool):
        plan = replace(lesson.LOCAL, start=town.home, idle=60_000, depth=0)
        await distributed.publish(redis, plan)
        broker = distributed.open_broker(plan)
        await broker.startup()
        try:
            for n in range(6):
                await lesson.kick_page(broker, f"{town.home}{n}", 0)
            await redis.xreadgroup(lesson.GROUP, "死者", {lesson.QUEUE: ">"})
            held = await redis.xpending_range(lesson.QUEUE, lesson.GROUP, "-", "+", 99, "死者")
            ids = [message["message_id"] for message in held]

            async def nothing_is_left_for(name):
                return not await has_work(lesson, redis, name)

            await redis.xclaim(lesson.QUEUE, lesson.GROUP, "死者", 0, ids, idle=120_000)
            async with asyncio.TaskGroup() as group:
                for name in ("甲", "乙"):
                    group.create_task(distributed.join(name))
                knocking = group.create_task(lesson.keep_knocking(broker))
                for name in ("甲", "乙"):
                    await until(lambda name=name: redis.hexists(lesson.CREW, name))
                await until(lambda: nothing_is_left_for("死者"))
                town.gate.set()

                async def done():
                    return await lesson.count(pool, "expanded") == 6

                await until(done)
                knocking.cancel()
                await redis.delete(lesson.PLAN)
        finally:
            await broker.shutdown()
    del town.visits["/robots.txt"]
    assert town.visits == dict.fromkeys((f"/{n}" for n in range(6)), 1)


async def test_a_second_run_says_that_there_is_one(lesson):
    async with lesson.clean_stores() as (redis, _):
        await redis.set(lesson.PLAN, "untouched")
        ran = await asyncio.to_thread(run)
        assert await redis.get(lesson.PLAN) == "untouched"
    assert (ran.returncode, ran.stdout.count("\n"), ran.stderr.count("\n")) == (2, 1, 1)
    assert ran.stderr.startswith("另一个终端正在跑 4.8")


async def test_a_second_run_does_not_come_between_two_crawls_of_the_first(lesson, distributed):
    async with distributed.alone():  # the first, between two of its crawls
        ran = await asyncio.to_thread(run)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("另一个终端正在跑 4.8")


async def test_who_comes_and_who_goes_is_said(lesson, capsys):
    async with lesson.clean_stores() as (redis, _):
        await redis.hset(lesson.CREW, "1 号", 1)
        said = ""

        async def heard(words):
            nonlocal said
            said += capsys.readouterr().out
            return words in said

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(lesson.say_who_comes(redis))
            while "来了" not in said:
                await redis.hdel(lesson.CREW, "老王")
                await asyncio.sleep(0.3)
                await redis.hset(lesson.CREW, "老王", 1)
                await asyncio.sleep(0.3)
                await heard("")
            await redis.hdel(lesson.CREW, "老王")
            await until(lambda: heard("老王走了\n"))
            watching.cancel()
    assert set(said.splitlines()) == {"老王来了", "老王走了"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--latency", "nan"],
        ["--join", "长" * 41],
        ["--join", "甲", "--latency", "1"],
        ["--what"],
    ],
    ids=" ".join,
)
async def test_bad_arguments_are_one_sentence(arguments):
    ran = await asyncio.to_thread(run, *arguments)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert ran.stderr.startswith("没法开始：")


async def test_a_site_that_cannot_be_reached_is_one_sentence(lesson, distributed):
    async with lesson.clean_stores() as (redis, _):
        await distributed.publish(redis, replace(lesson.LOCAL, start="http://127.0.0.1:1/"))
        await redis.persist(lesson.PLAN)
        ran = await asyncio.to_thread(run, "--join", "老王")
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert ran.stderr.startswith("读不到 http://127.0.0.1:1/robots.txt")


async def test_a_worker_that_finds_no_crawl_says_so():
    ran = await asyncio.to_thread(run, "--join", "老王")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "没有正在进行的爬取\n", "")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, *arguments],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def start(*arguments, **variables):
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", SCRIPT, *arguments],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


async def test_a_worker_that_joins_later_takes_part(lesson, town):
    """The two have their hands full and the gate is shut: what is left is for him who comes."""
    async with lesson.clean_stores() as (redis, pool):
        async with lesson.crawling(
            replace(lesson.LOCAL, start=town.home, idle=60_000), 2, (redis, pool)
        ):
            await until(lambda: has_work(lesson, redis, "2 号"))
            joining = asyncio.create_task(asyncio.to_thread(run, "--join", "老王"))
            await until(lambda: has_work(lesson, redis, "老王"))
            town.gate.set()
        joined = await joining
        shares = dict(await lesson.ask(pool, "SELECT worker, COUNT(*) FROM page GROUP BY worker"))
    assert sum(shares.values()) == 20
    assert shares["老王"] > 0
    assert (joined.returncode, joined.stderr) == (0, "")
    assert joined.stdout == f"这次爬取结束了，老王存了 {shares['老王']} 页\n"


async def test_a_crawl_by_hand_says_how_to_join_and_who_stored_what():
    ran = await asyncio.to_thread(run, "--latency", "0.1")
    assert (ran.returncode, ran.stderr) == (0, "")
    first, *shares = ran.stdout.splitlines()
    assert f"{SCRIPT.name} --join 老王" in first
    shares = dict(line.split("：") for line in shares)
    assert shares.keys() <= {"1 号", "2 号"}
    assert sum(int(pages.removesuffix(" 页")) for pages in shares.values()) == 80


def workers_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_workers_of_a_killed_lesson_leave(lesson):
    def kill():
        with start("--latency", "1") as crawl:
            crawl.stdout.readline()
            children = workers_of(crawl.pid)
            crawl.kill()
        return children

    children = await asyncio.to_thread(kill)
    assert len(children) == 2
    async with asyncio.timeout(20):
        while any(alive(child) for child in children):
            await asyncio.sleep(0.05)
    async with lesson.clean_stores():
        pass  # sweeps what the killed run left
    assert await leftovers(lesson) == ([], [])


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # in a container nobody may reap it


@pytest.mark.skipif(os.name != "posix", reason="stops servers of its own")
@pytest.mark.parametrize("victim", ["Redis", "MySQL"])
async def test_a_server_that_dies_in_the_middle_is_one_paragraph(victim, monkeypatch):
    def die():
        with contextlib.ExitStack() as stack:
            for name in ("Redis", "MySQL"):
                monkeypatch.delenv(services.variable(name), raising=False)
            urls = {}
            dying = stack.enter_context(contextlib.ExitStack())
            for name in ("Redis", "MySQL"):
                owner = dying if name == victim else stack
                urls[services.variable(name)] = owner.enter_context(
                    getattr(services, name.lower())()
                )
            # 80 pages, eight at a time: the crawl lasts 30 s, if nobody dies
            crawl = stack.enter_context(start("--latency", "3", **urls))
            crawl.stdout.readline()
            dying.close()
            _, errors = crawl.communicate(timeout=60)
            return crawl.returncode, errors

    monkeypatch.setattr(services, "docker_answers", lambda: False)
    code, errors = await asyncio.to_thread(die)
    assert code == 2, errors
    assert errors.startswith(f"{victim}（127.0.0.1:") and "Traceback" not in errors


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_ctrl_c_ends_a_joined_worker_and_others_do_its_pages(lesson, town):
    def interrupt(joined):
        processes.press_ctrl_c(joined)
        return joined.communicate(timeout=60)

    async with lesson.clean_stores() as (redis, pool):
        async with lesson.crawling(replace(lesson.LOCAL, start=town.home), 2, (redis, pool)):
            with start("--join", "老王") as joined:
                await until(lambda: has_work(lesson, redis, "老王"))
                said = await asyncio.to_thread(interrupt, joined)
            assert not await redis.hexists(lesson.CREW, "老王")
            town.gate.set()
        assert await lesson.count(pool) == 20
    assert (joined.returncode, *said) == (130, "", "已中断\n")


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_ctrl_c_on_the_crawl_lets_a_joined_worker_end_in_peace(lesson):
    def interrupt():
        # 80 pages, eight at a time: the crawl lasts 30 s, if nobody interrupts it
        with start("--latency", "3") as crawl:
            crawl.stdout.readline()
            with start("--join", "老王") as joined:
                assert crawl.stdout.readline() == "老王来了\n"
                processes.press_ctrl_c(crawl)
                _, errors = crawl.communicate(timeout=60)
                words = joined.communicate(timeout=60)
            return crawl.returncode, errors, joined.returncode, *words

    *master, code, said, errors = await asyncio.to_thread(interrupt)
    assert master == [130, "已中断\n"]
    assert (code, errors) == (0, "")
    assert said.startswith("这次爬取结束了，老王存了 ")
    assert await leftovers(lesson) == ([], [])
