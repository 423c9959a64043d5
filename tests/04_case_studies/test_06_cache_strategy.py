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
from toolbox import services

pytestmark = pytest.mark.asyncio
SECTIONS = range(1, 7)


@pytest_asyncio.fixture
async def shop(lesson):
    async with lesson.shop_opened() as shop:
        yield shop


async def test_a_deleted_price_is_looked_up_again_and_a_written_through_one_is_not(lesson, shop):
    assert await lesson.choose_who_fills(shop) == {"读": (None, 1), "苹果": (11, 1), "梨": (9, 0)}


async def test_cached_nothing_and_a_bloom_filter_keep_ghosts_from_the_database(
    lesson, shop, capsys
):
    assert await lesson.stop_penetration(shop) == [300, 100, 3]
    assert "真有的都放行: True" in capsys.readouterr().out


async def test_a_bloom_filter_never_denies_what_it_was_given(lesson):
    names = [str(number) for number in range(2000)]
    bloom = lesson.BloomFilter(names, bits=4096)
    assert all(name in bloom for name in names)
    assert "没见过" not in lesson.BloomFilter(names[:3])


async def test_one_flight_and_a_lock_ask_the_database_once(lesson, shop, capsys):
    assert await lesson.stop_breakdown(shop) == [100, 1, 4, 1]
    assert "第一位走了，99 位拿到价钱" in capsys.readouterr().out


async def test_a_failed_flight_fails_everybody_and_the_next_one_starts_anew(lesson):
    loads = []

    async def load(name):
        loads.append(name)
        await asyncio.sleep(0)
        if len(loads) == 1:
            raise LookupError
        return 15

    flight = lesson.SingleFlight(load)
    seen = await asyncio.gather(flight.get("桃"), flight.get("桃"), return_exceptions=True)
    assert [type(error) for error in seen] == [LookupError] * 2
    assert await flight.get("桃") == 15
    assert (len(loads), flight.flights) == (2, {})


async def test_jitter_spreads_the_expiry(lesson, shop):
    assert await lesson.stop_avalanche(shop) == {"都放 60 秒": 100, "60 秒 ± 30 秒": 5}


async def test_only_a_version_keeps_the_old_price_out(lesson, shop):
    seen = await lesson.stop_stale_price(shop)
    assert list(seen.values()) == [(10, 12), (12, 12), (10, 12), (14, 14)]


async def test_a_tombstone_refuses_an_older_version_and_takes_its_own(lesson, shop):
    key = shop.key("试")

    async def keep(version, price):
        return await shop.redis.eval(lesson.KEEP_IF_NEWER, 1, key, version, price)

    assert [await keep(9, ""), await keep(8, 1), await keep(10, 2), await keep(9, 3)] == [
        1,
        0,
        1,
        0,
    ]
    assert await shop.redis.hgetall(key) == {"version": "10", "price": "2"}
    assert 0 < await shop.redis.ttl(key) <= 60


async def test_a_journal_and_its_bookmark_lose_and_double_nothing(lesson, shop):
    totals = await lesson.write_behind(shop)
    assert list(totals.values()) == [40, 140, 100]


async def test_a_batch_that_fails_leaves_neither_sales_nor_bookmark(lesson, shop):
    with pytest.raises(Exception, match="nonsense"):
        await lesson.sql(shop.pool, (lesson.ADD, 7, "苹果"), ("SELECT nonsense FROM fruit",))
    assert await lesson.sold(shop) == 0


async def test_nothing_is_left_in_redis_or_mysql(lesson):
    async with lesson.shop_opened() as shop:
        await lesson.choose_who_fills(shop)
        prefix = shop.prefix
    async with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        assert [key async for key in redis.scan_iter(f"{prefix}*")] == []
    import cache_shop

    with pytest.raises(cache_shop.aiomysql.OperationalError, match="Unknown database"):
        async with cache_shop.aiomysql.connect(
            **lesson.settings.mysql_options(), db=cache_shop.DATABASE
        ):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a single child")
@pytest.mark.parametrize("section", SECTIONS)
async def test_ctrl_c_in_any_section_stops_it(lesson, section):
    ran = await asyncio.to_thread(
        processes.interrupted, lesson.__file__, at=f"── {section}.", after=0.005
    )
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")
    assert f"── {section}." in ran.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
@pytest.mark.parametrize("section", [1, 3, 5])
async def test_a_redis_that_dies_is_one_paragraph(lesson, section):
    programs = services.redis_programs()
    if not programs:
        pytest.skip("no program to start a Redis")
    port = services.free_port()
    server = subprocess.Popen(
        [programs[0], "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(Exception):
                async with Redis(port=port, retry=None) as redis:
                    await redis.ping()
                    break
            await asyncio.sleep(0.02)
        with started(lesson, REDIS_URL=f"redis://127.0.0.1:{port}") as child:
            run_until(child, section)
            os.kill(child.pid, signal.SIGSTOP)
            server.kill()
            server.wait()
            os.kill(child.pid, signal.SIGCONT)
            _, errors = child.communicate(timeout=20)
    finally:
        server.kill()
        server.wait()
    assert child.returncode == 2, errors
    assert "REDIS_URL" in errors
    assert len(errors.splitlines()) == 2, errors


@contextlib.contextmanager
def started(lesson, **env):
    with subprocess.Popen(
        [sys.executable, "-u", "-W", "error", lesson.__file__],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as child:
        yield child


def run_until(child, section):
    while not child.stdout.readline().startswith(f"── {section}."):
        assert child.poll() is None
