"""Lesson 4.8 against real Redis and MySQL, with real worker processes."""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import processes
from toolbox import catalog, services

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]

SCRIPT = catalog.ROOT / "04_case_studies" / "08_distributed_crawler_demo.py"


@pytest.fixture
def distributed(lesson):
    return lesson.distributed


async def leftovers(lesson) -> tuple[list, list]:
    async with lesson.distributed.open_stores(1, database=None) as (redis, pool):
        keys = [key async for key in redis.scan_iter(f"{lesson.PREFIX}:*")]
        return keys, await lesson.ask(pool, "SHOW DATABASES LIKE %s", lesson.DATABASE)


async def test_one_worker_or_two_store_the_same_number_of_pages(lesson):
    assert await lesson.add_workers() == [120, 120]
    assert await leftovers(lesson) == ([], [])


async def test_the_pace_holds_for_all_workers_together(lesson):
    stored, seconds = await lesson.share_one_pace()
    assert stored == 30
    assert seconds >= 29 * 0.02


async def test_a_killed_worker_loses_no_page_and_doubles_none(lesson):
    assert await lesson.kill_one_worker() == (150, 0, 0)


async def test_a_task_delivered_five_times_stores_one_page_and_kicks_each_link_once(lesson):
    stored, links, queued = await lesson.deliver_five_times()
    assert stored == 1
    assert links == queued > 1


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
    async with lesson.clean_stores() as (redis, _):
        take = [redis.eval(distributed.TAKE_TURN, 1, distributed.TURN, 1000) for _ in range(10)]
        waits = sorted(await asyncio.gather(*take))
    assert waits[0] == 0
    gaps = [after - before for before, after in itertools.pairwise(waits[1:])]
    # Time passes between the calls, so later callers wait a little less than n intervals.
    assert all(800 <= gap <= 1001 for gap in gaps)


async def test_a_task_that_fails_is_not_acknowledged_and_stops_its_worker(lesson, distributed):
    class Broken(distributed.Worker):
        async def crawl_page(self, url, depth):
            raise ConnectionResetError("MySQL is gone")

    async with (
        lesson.demo_site.serve() as home,
        lesson.clean_stores() as (redis, pool),
        lesson.crawler.visit(home, lesson.LOCAL.options()) as site,
    ):
        await distributed.publish(redis, plan := replace(lesson.LOCAL, start=home))
        worker = Broken("甲", plan, redis, pool, site)
        await worker.broker.startup()
        await lesson.kick_page(worker.broker, home, 0)
        with pytest.raises(ConnectionResetError, match="MySQL is gone"):
            await worker.run()
        pending = await redis.xpending(lesson.QUEUE, lesson.GROUP)
    assert pending["pending"] == 1
    assert pending["consumers"] == [{"name": "甲", "pending": 1}]


async def test_a_worker_ends_in_peace_when_the_queue_is_removed_with_the_plan(lesson, distributed):
    async with (
        lesson.demo_site.serve() as home,
        lesson.clean_stores() as (redis, pool),
        lesson.crawler.visit(home, lesson.LOCAL.options()) as site,
    ):
        await distributed.publish(redis, plan := replace(lesson.LOCAL, start=home))
        async with asyncio.TaskGroup() as group:
            group.create_task(distributed.Worker("甲", plan, redis, pool, site).run())
            while not await redis.scard(lesson.CREW):
                await asyncio.sleep(0.01)
            await redis.unlink(lesson.PLAN, lesson.QUEUE)
        assert await redis.scard(lesson.CREW) == 0


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


async def test_a_worker_that_joins_later_takes_part(lesson):
    def by_hand():
        with start("--latency", "0.2") as crawl:
            assert "--join" in crawl.stdout.readline()
            joined = run("--join", "老王")
            return joined, *crawl.communicate(timeout=60), crawl.returncode

    joined, output, errors, code = await asyncio.to_thread(by_hand)
    assert (code, errors) == (0, "")
    assert (joined.returncode, joined.stderr) == (0, "")
    shares = dict(line.split("：") for line in output.splitlines())
    assert list(shares) == ["1 号", "2 号", "老王"]
    assert joined.stdout == f"爬完了，老王存了 {shares['老王']}\n"
    assert int(shares["老王"].split()[0]) > 0


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
            crawl = stack.enter_context(start("--latency", "0.5", **urls))
            crawl.stdout.readline()
            dying.close()
            _, errors = crawl.communicate(timeout=30)
            return crawl.returncode, errors

    monkeypatch.setattr(services, "docker_answers", lambda: False)
    code, errors = await asyncio.to_thread(die)
    assert code == 2, errors
    assert errors.startswith(f"{victim}（127.0.0.1:") and "Traceback" not in errors


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_ctrl_c_ends_a_joined_worker_too(lesson):
    def interrupt():
        with start("--latency", "0.5") as crawl:
            crawl.stdout.readline()
            with start("--join", "老王") as joined:
                while "老王" not in asyncio.run(crew_members(lesson)):
                    pass
                processes.press_ctrl_c(joined)
                _, said = joined.communicate(timeout=10)
            processes.press_ctrl_c(crawl)
            _, errors = crawl.communicate(timeout=10)
            return joined.returncode, said, crawl.returncode, errors

    assert await asyncio.to_thread(interrupt) == (130, "已中断\n", 130, "已中断\n")
    assert await leftovers(lesson) == ([], [])


async def crew_members(lesson) -> set[str]:
    async with lesson.distributed.open_stores(1, database=None) as (redis, _):
        return await redis.smembers(lesson.CREW)
