"""Lesson 4.5 against a real Redis: who gets an order, who inherits it, and that none is lost."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest
import pytest_asyncio

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
            async with lesson.another_process(place, cook, 7) as process:
                process.kill()
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
    await redis.set("asyncio-tutorial:noodles-old", 1)
    await redis.set("asyncio-tutorial:noodles-new", 1)

    async def idletime(what, key):
        return 61 if key.endswith("old") else 59

    monkeypatch.setattr(redis, "object", idletime)  # or this test would take a minute
    await lesson.sweep(redis)
    assert await redis.exists("asyncio-tutorial:noodles-old") == 0
    assert await redis.unlink("asyncio-tutorial:noodles-new") == 1


@pytest.mark.skipif(os.name != "posix", reason="stops a server of its own")
@pytest.mark.parametrize("section", [1, 2, 6])
async def test_a_redis_that_dies_in_the_middle_is_one_paragraph(section, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(services, "docker_answers", lambda: False)
    with services.redis() as url:
        lesson = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", SCRIPT],
            env={**os.environ, "REDIS_URL": url, "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for line in lesson.stdout:
            if line.startswith(f"── {section}. "):
                break
        lesson.send_signal(signal.SIGSTOP)
    with lesson:
        lesson.send_signal(signal.SIGCONT)
        output, errors = lesson.communicate(timeout=20)
    assert lesson.returncode == 2, output
    assert errors.startswith("Redis（127.0.0.1:") and "REDIS_URL" in errors
    assert "Traceback" not in errors
