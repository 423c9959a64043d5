"""Lesson 3.4: the broker in this process on virtual time, Redis as it is."""

import asyncio
import os
import subprocess
import sys

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from toolbox import catalog, services

SCRIPT = catalog.ROOT / "03_advanced" / "04_publish_subscribe_demo.py"

pytestmark = [pytest.mark.asyncio]


@pytest_asyncio.fixture
async def redis_broker(lesson):
    url = os.environ.get("REDIS_URL") or lesson.ADDRESS
    async with Redis.from_url(url, decode_responses=True) as client:
        yield lesson.RedisBroker(client)


HEARD = [["东北风 7 级", "小雨"], ["小雨", "大雨"]]


@pytest.mark.looptime
async def test_topics_and_wildcards_choose_who_hears(lesson):
    broker = lesson.Broker()
    assert await lesson.topics_choose_who_hears(broker) == ([1, 2, 1, 0], HEARD)
    assert broker.boxes == {}


async def test_the_same_code_runs_on_redis(lesson, redis_broker):
    assert await lesson.topics_choose_who_hears(redis_broker) == ([1, 2, 1, 0], HEARD)


@pytest.mark.looptime
async def test_each_policy_loses_something_else(lesson):
    assert await lesson.choose_when_full(lesson.Broker()) == {
        "等他": (2, ["1", "2", "3", "4", "5", "6"]),
        "丢最旧": (6, ["5", "6"]),
        "丢最新": (6, ["1", "2"]),
        "断开": (6, ["1", "2", "断了"]),
    }


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("when_full", "seconds"),
    [("block", 1), ("drop_oldest", 0), ("drop_newest", 0), ("disconnect", 0)],
)
async def test_only_block_lets_the_publisher_wait(lesson, when_full, seconds):
    broker, loop = lesson.Broker(), asyncio.get_running_loop()
    async with broker.subscribe("*", when_full) as reports, asyncio.TaskGroup() as group:
        started = loop.time()
        publishing = group.create_task(lesson.publish_numbers(broker, 3))
        publishing.add_done_callback(lambda _: finished.append(loop.time() - started))
        finished = []
        await asyncio.sleep(1)
        assert await anext(reports) == ("2" if when_full == "drop_oldest" else "1")
    assert finished == [pytest.approx(seconds)]


@pytest.mark.looptime
@pytest.mark.looptime(False)
async def test_a_machine_that_stands_still_changes_no_policy(lesson, monkeypatch):
    """Every timer is due whenever the loop looks."""
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda _, *rest: call_later(0, *rest))
    await test_each_policy_loses_something_else(lesson)
    assert await lesson.leaving_unsubscribes(lesson.Broker()) == [1, 1, 1, 0, 0]


@pytest.mark.looptime
async def test_leaving_unsubscribes_and_releases_the_publisher(lesson, capsys):
    broker = lesson.Broker()
    assert await lesson.leaving_unsubscribes(broker) == [1, 1, 1, 0, 0]
    assert "气象台卡住了 True" in capsys.readouterr().out
    assert broker.boxes == {}


@pytest.mark.looptime
async def test_leaving_releases_every_publisher_that_waits(lesson):
    broker = lesson.Broker()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        async with broker.subscribe("*", capacity=1):
            for number in range(5):
                group.create_task(broker.publish("coast/wind", str(number)))
            await asyncio.sleep(1)
            assert len(asyncio.all_tasks()) == 5  # this one and four that wait


@pytest.mark.looptime
async def test_a_body_that_fails_unsubscribes_too(lesson):
    broker = lesson.Broker()
    with pytest.raises(RuntimeError, match="翻船"):
        async with broker.subscribe("*"):
            raise RuntimeError("翻船")
    assert await broker.publish("coast/wind", "有人吗") == 0


@pytest.mark.looptime
async def test_one_slow_subscriber_leaves_while_another_is_being_served(lesson):
    broker, heard = lesson.Broker(), []
    async with broker.subscribe("*", capacity=1) as slow, asyncio.TaskGroup() as group:
        async with broker.subscribe("*", "drop_newest"):
            group.create_task(lesson.publish_numbers(broker, 2))  # waits for the slow one
            await asyncio.sleep(1)
        heard += [await anext(slow), await anext(slow)]
    assert heard == ["1", "2"]


async def test_redis_forgets_what_nobody_hears(lesson, redis_broker):
    assert await lesson.redis_keeps_nothing(redis_broker) == ([0, 1, 1], ["2 号", "4 号"])


async def test_the_confirmation_is_the_first_message(lesson, redis_broker):
    """Exercise 3."""
    async with redis_broker._client.pubsub() as radio:
        await radio.psubscribe(f"{lesson.PREFIX}coast/*")
        first = await anext(aiter(radio.listen()))
    assert (first["type"], first["data"]) == ("psubscribe", 1)


async def test_redis_lets_the_publisher_go_on_while_nobody_reads(redis_broker):
    async with redis_broker.subscribe("*") as reports:
        hearers = [await redis_broker.publish("coast/wind", str(n)) for n in range(50)]
        assert hearers == [1] * 50
        assert [await anext(reports) for _ in range(50)] == [str(n) for n in range(50)]


async def test_redis_broadcasts_to_another_process(lesson, redis_broker):
    publish = (
        "import sys; from redis import Redis\n"
        "print(Redis.from_url(sys.argv[1]).publish(sys.argv[2], 'hello'))"
    )
    url = os.environ.get("REDIS_URL") or lesson.ADDRESS
    async with redis_broker.subscribe("coast/*") as reports:
        child = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", publish, url, f"{lesson.PREFIX}coast/wind"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert (child.stdout, await anext(reports)) == ("1\n", "hello")


async def test_the_lesson_leaves_no_subscription_and_no_key(lesson, redis_broker):
    await lesson.topics_choose_who_hears(redis_broker)
    client = redis_broker._client
    async with asyncio.timeout(10):
        while await client.publish(f"{lesson.PREFIX}coast/rain", "有人吗"):
            await asyncio.sleep(0.01)  # the server has yet to notice that they are gone
    assert [key async for key in client.scan_iter(f"{lesson.PREFIX}*")] == []


@pytest.mark.looptime(False)
@pytest.mark.skipif(os.name != "posix", reason="starts a server of its own")
async def test_a_redis_that_dies_in_the_middle_is_one_paragraph(monkeypatch):
    def die():
        with services.redis() as url:
            child = subprocess.Popen(
                [sys.executable, "-u", "-W", "error", SCRIPT],
                env={**os.environ, "REDIS_URL": url, "PYTHONIOENCODING": "utf-8"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
            while "── 1." not in child.stdout.readline():
                pass
        with child:
            _, errors = child.communicate(timeout=20)
        return child.returncode, errors

    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(services, "docker_answers", lambda: False)
    code, errors = await asyncio.to_thread(die)
    assert (code, errors.partition("：")[0]) == (2, "连不上 Redis")
    assert "Traceback" not in errors
