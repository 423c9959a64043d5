"""Lesson 4.5 against a real Redis: who gets an order, who inherits it, and that none is lost."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests import processes
from toolbox import catalog, services

pytestmark = pytest.mark.asyncio

SCRIPT = catalog.ROOT / "04_case_studies" / "05_message_queue_demo.py"
KEYS = "asyncio-tutorial:noodles-*"


@pytest_asyncio.fixture
async def redis(lesson):
    """A client; afterwards the lesson must have left no key behind."""
    async with lesson.connect() as redis:
        before = {key async for key in redis.scan_iter(KEYS)}
        yield redis
        assert {key async for key in redis.scan_iter(KEYS)} <= before


@pytest_asyncio.fixture
async def place(lesson, redis):
    async with lesson.kitchen(redis, *["牛肉面"] * 20) as place:
        yield place


async def test_each_order_goes_to_one_cook_and_stays_owed_until_crossed_off(lesson, redis):
    assert await lesson.give_each_order_to_one_cook(redis) == (6, 6, 1, 6)


async def test_orders_of_a_killed_cook_wait_until_somebody_takes_them_over(lesson, redis):
    assert await lesson.take_over_from_the_dead(redis) == (3, 0, 0, 3, 0)


async def test_an_idempotent_cook_serves_one_bowl_however_often_he_faints(lesson, redis):
    assert await lesson.do_it_twice(redis) == [2, 1]


async def test_what_never_works_is_tried_three_times_and_buried(lesson, redis, capsys):
    reasons, dead, owed = await lesson.bury_what_never_works(redis)
    assert (reasons, dead, owed) == (["没有外星拉面"] * lesson.MAX_TRIES, ["外星拉面"], 0)
    assert capsys.readouterr().out.splitlines()[-1] == "死信: ['外星拉面']，还欠 0 单"


async def test_trimming_by_length_loses_orders_and_by_oldest_owed_does_not(lesson, redis):
    assert await lesson.trim_what_is_done(redis) == [(2, 2), (4, 0)]


async def test_every_order_is_accounted_for(lesson, redis):
    ended = await lesson.account_for_every_order(redis)
    assert ended == {"上菜": 198, "死信": 2, "丢失": 0, "多上": 0, "还欠": 0, "接手": 5}


async def test_two_cooks_who_serve_the_same_order_serve_it_once(lesson, place):
    await asyncio.gather(*(lesson.serve_once(place, "1-0") for _ in range(50)))
    assert await place.redis.hgetall(place.bowls) == {"1-0": "1"}


async def test_two_cooks_who_give_up_the_same_order_bury_it_once(lesson, redis):
    async with lesson.kitchen(redis, "外星拉面") as place:
        [(id, order)] = await place.take("阿强")
        for _ in range(lesson.MAX_TRIES):
            await place.take_over("小美", idle=0)
        await asyncio.gather(*(lesson.try_one(place, id, order["dish"]) for _ in range(20)))
        assert await redis.xlen(place.dead) == 1


async def test_a_second_burial_of_the_same_order_does_nothing(lesson, redis):
    async with lesson.kitchen(redis, "外星拉面") as place:
        [(id, _)] = await place.take("阿强")
        for _ in range(2):
            await redis.eval(lesson.BURY, 2, place.orders, place.dead, lesson.GROUP, id, "外星拉面")
        assert await redis.xlen(place.dead) == 1


async def test_an_order_is_served_before_it_is_crossed_off(lesson, place, monkeypatch):
    async def faint(place, id):
        raise ConnectionResetError

    monkeypatch.setattr(lesson, "serve_once", faint)
    [(id, order)] = await place.take("阿强")
    with pytest.raises(ConnectionResetError):
        await lesson.try_one(place, id, order["dish"])
    assert await place.owed() == 1


async def test_an_order_that_fells_every_cook_is_buried_untried(lesson, place, monkeypatch):
    tried = []

    async def fall(place, id, dish):
        tried.append(id)
        raise SystemExit  # no LookupError: nobody comes to say that it failed

    monkeypatch.setattr(lesson, "cook_one", fall)
    taken = await place.take("阿强")
    while taken:
        [(id, order)] = taken
        try:
            await lesson.try_one(place, id, order["dish"])
        except SystemExit:
            pass
        taken = await place.take_over("小美", idle=0)
    assert len(tried) == 2 * lesson.MAX_TRIES
    assert await place.redis.xlen(place.dead) == 1
    assert await place.owed() == 0


async def test_idle_orders_behind_many_that_are_not_idle_are_found(lesson, redis):
    """One XAUTOCLAIM looks at ten times as many as it may return, then says where it stopped."""
    async with lesson.kitchen(redis, *["牛肉面"] * 30) as place:
        ids = [id for id, _ in await place.take("阿强", count=30)]
        await redis.xclaim(
            place.orders, lesson.GROUP, "阿强", 0, ids[-1:], idle=3_600_000, justid=True
        )
        found = []
        for _ in range(30):
            found += await place.take_over("小美", count=1, idle=1_800_000)
        assert ids[-1:] == [id for id, _ in found]


async def test_trimming_when_nothing_is_owed_keeps_what_nobody_has_taken(lesson, place):
    redis = place.redis
    await place.trim()  # nothing taken yet
    assert await redis.xlen(place.orders) == 20
    ids = [id for id, _ in await place.take("阿强", count=5)]
    await place.cross_off(*ids)
    await place.trim()
    left = [id for id, _ in await redis.xrange(place.orders)]
    assert left[0] == ids[-1]
    assert len(left) == 16
    assert len(await place.take("阿强", count=99)) == 15


async def test_trimming_keeps_orders_that_are_taken_while_it_looks(lesson, place, monkeypatch):
    ask = place.redis.xpending

    async def taken_meanwhile(*names):
        owed = await ask(*names)
        await place.take("小美", count=5)
        return owed

    monkeypatch.setattr(place.redis, "xpending", taken_meanwhile)
    await place.trim()
    assert await place.redis.xlen(place.orders) == 20


async def test_careless_serving_ends_too(lesson, place, monkeypatch):
    """The exercise puts serve_carelessly into cook_one: `work` must not wait for another count."""
    monkeypatch.setattr(lesson, "serve_once", lesson.serve_carelessly)
    await lesson.work(place, "小美", 20)
    assert await place.redis.hvals(place.bowls) == ["1"] * 20


async def test_orders_of_a_living_cook_are_left_to_him(lesson, place, monkeypatch):
    """Every bowl takes far less than IDLE; the first five, one after the other, take more."""
    slow = [id for id, _ in await place.redis.xrange(place.orders, count=5)]

    async def serve(place, id):
        await asyncio.sleep(0.5 * (id in slow))
        await lesson.serve_carelessly(place, id)

    monkeypatch.setattr(lesson, "serve_once", serve)
    monkeypatch.setattr(lesson.Kitchen.take_over, "__defaults__", (10, 2200))  # count, IDLE
    async with asyncio.TaskGroup() as group:
        for cook in ("小美", "老李"):
            group.create_task(lesson.work(place, cook, 20))
    assert await place.redis.hvals(place.bowls) == ["1"] * 20


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="waits without reaping")
async def test_a_cook_is_killed_once(lesson, redis, monkeypatch, caplog):
    """A second Popen.kill() reaps the child behind asyncio's back, which then complains."""
    kill = asyncio.subprocess.Process.kill

    def kill_and_wait_for_the_kernel(process):
        kill(process)
        with contextlib.suppress(ChildProcessError):  # 3.11's watcher, a thread, was faster
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr(asyncio.subprocess.Process, "kill", kill_and_wait_for_the_kernel)
    assert await lesson.take_over_from_the_dead(redis) == (3, 0, 0, 3, 0)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
async def test_a_cook_in_another_process_stays_until_killed(lesson, place):
    async with lesson.another_process(place, "阿强", 3) as cook:
        for _ in range(300):  # the time to leave, if it wanted to
            assert await place.owed() == 3
    assert cook.returncode == -signal.SIGKILL


async def test_orders_placed_before_the_group_existed_are_served(lesson, redis):
    place = lesson.Kitchen(redis, "asyncio-tutorial:noodles-early")
    try:
        await redis.xadd(place.orders, {"dish": "牛肉面"})
        await place.open()
        assert len(await place.take("阿强")) == 1
    finally:
        await redis.unlink(place.orders)


async def test_no_order_is_lost_while_one_cook_after_another_is_killed(lesson, redis):
    dishes = 60
    async with lesson.kitchen(redis, *["牛肉面"] * dishes) as place:
        for cook in ("甲", "乙", "丙"):
            async with lesson.another_process(place, cook, 7):
                pass  # leaving kills
        await asyncio.gather(*(lesson.work(place, cook, dishes) for cook in ("小美", "老李")))
        bowls = await redis.hvals(place.bowls)
        assert bowls == ["1"] * dishes
        assert await place.owed() == 0


async def test_a_cook_in_another_process_leaves_when_the_lesson_is_killed(lesson, place):
    code = (
        "import asyncio, importlib\n"
        "lesson = importlib.import_module('05_message_queue_demo')\n"
        "async def main():\n"
        "    async with lesson.connect() as redis:\n"
        f"        place = lesson.Kitchen(redis, {place.name!r})\n"
        "        async with lesson.another_process(place, '阿强', 1) as cook:\n"
        "            print(cook.pid, flush=True)\n"
        "            await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=SCRIPT.parent, stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    async with asyncio.timeout(10):
        while alive(pid):
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"  # nobody reaps it in a container
    return True


async def test_keys_of_a_killed_run_are_swept_but_not_those_in_use(lesson, redis, monkeypatch):
    async with Redis.from_url(os.environ["REDIS_URL"]) as raw:  # a dump is no text
        await raw.set("asyncio-tutorial:noodles-new", 1)
        dump = await raw.dump("asyncio-tutorial:noodles-new")
        await raw.restore("asyncio-tutorial:noodles-old", 0, dump, replace=True, idletime=3600)
    monkeypatch.setattr(lesson, "SECTIONS", {})
    await lesson.main()
    assert await redis.exists("asyncio-tutorial:noodles-old") == 0
    assert await redis.unlink("asyncio-tutorial:noodles-new") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a single child")
@pytest.mark.parametrize("section", range(1, 7))
async def test_ctrl_c_in_any_section_stops_it(redis, section):
    ran = await asyncio.to_thread(processes.interrupted, SCRIPT, at=f"── {section}.", after=0.005)
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")
    assert f"── {section}." in ran.stdout


@pytest.mark.parametrize("at", ["another_process", "cook_one", "work"])
async def test_a_redis_that_dies_in_the_middle_is_one_paragraph(available, at):
    with available(), services.mortal_redis() as server:
        with processes.waiting_at(SCRIPT, at, REDIS_URL=server.url) as lesson:
            server.kill()
            output, errors = lesson.communicate("go on\n", timeout=30)
    assert lesson.returncode == 2, output
    assert errors.startswith("Redis（127.0.0.1:") and "REDIS_URL" in errors
    assert len(errors.splitlines()) == 2, errors  # said once, though there are two processes
