"""Lesson 4.6 on a real Redis and MySQL: how often the database is asked, what is never lost."""

import asyncio
import importlib
import os
import sys
import warnings

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests import processes
from toolbox import services

pytestmark = pytest.mark.asyncio
SECTIONS = range(1, 7)


@pytest.fixture
def cache_shop(lesson):
    return importlib.import_module("cache_shop")


@pytest_asyncio.fixture
async def shop(lesson):
    async with lesson.shop_opened() as shop:
        yield shop


async def test_a_deleted_price_is_looked_up_again_and_a_written_through_one_is_not(lesson, shop):
    assert await lesson.choose_who_fills(shop) == {"读": (None, 1), "苹果": (11, 1), "梨": (9, 0)}
    assert [await shop.look_up(fruit) for fruit in ("苹果", "梨")] == [11, 9]


async def test_cached_nothing_and_a_bloom_filter_keep_ghosts_from_the_database(
    lesson, shop, capsys
):
    assert await lesson.stop_penetration(shop) == [300, 100, 3]
    assert "真有的都放行: True" in capsys.readouterr().out


async def test_nothing_is_remembered_for_a_short_while_only(lesson, shop):
    for fruit, least, most in (("仙桃", 0, 5), ("桃", 5, lesson.TTL)):
        await lesson.read_with_nothing(shop, fruit)
        assert least < await shop.redis.ttl(shop.key(fruit)) <= most


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


async def test_a_flight_that_is_cancelled_lands_without_a_complaint(lesson, caplog):
    flight = lesson.SingleFlight(lambda name: asyncio.sleep(60))
    guest = asyncio.create_task(flight.get("桃"))
    await asyncio.sleep(0)
    flight.flights["桃"].cancel()  # as the loop does when it closes
    with pytest.raises(asyncio.CancelledError):
        await guest
    assert flight.flights == {}
    assert caplog.messages == []


async def test_jitter_spreads_the_expiry(lesson, shop):
    assert await lesson.stop_avalanche(shop) == {"都放 60 秒": 100, "60 秒 ± 30 秒": 5}


async def test_only_a_version_keeps_the_old_price_out(lesson, shop):
    seen = await lesson.stop_stale_price(shop)
    assert list(seen.values()) == [(10, 12), (12, 12), (10, 12), (14, 14)]


async def test_a_tombstone_refuses_an_older_version_and_takes_its_own(lesson, shop):
    key = shop.key("试")

    async def keep(version, price):
        return await shop.redis.eval(lesson.KEEP_IF_NEWER, 1, key, version, price)

    assert [await keep(9, ""), await keep(8, 1), await keep(9, 1)] == [1, 0, 1]
    assert [await keep(10, 2), await keep(9, 1)] == [1, 0]
    assert await shop.redis.hgetall(key) == {"version": "10", "price": "2"}
    assert await keep(11, "") == 1
    assert await shop.redis.hgetall(key) == {"version": "11"}  # the old price is gone
    assert 0 < await shop.redis.ttl(key) <= 60


async def test_a_journal_and_its_bookmark_lose_and_double_nothing(lesson, shop, capsys):
    totals = await lesson.write_behind(shop)
    assert list(totals.values()) == [40, 240, 100]
    assert capsys.readouterr().out.endswith("最后一种: 100 笔合成 2 个事务\n")


async def sell(shop, *fruits):
    for fruit in fruits:
        await shop.redis.xadd(shop.key("journal"), {"fruit": fruit})


async def sold(lesson, shop):
    return dict(await lesson.sql(shop.pool, ("SELECT name, sold FROM fruit WHERE sold > 0",)))


async def test_many_flushers_and_a_seller_book_every_sale_once(lesson, shop):
    await sell(shop, *["苹果", "梨"] * 20)

    async def keep_flushing():
        return sum([await lesson.flush(shop, shop.key("journal"), 3) for _ in range(10)])

    async with asyncio.TaskGroup() as group:
        flushers = [group.create_task(keep_flushing()) for _ in range(5)]
        group.create_task(sell(shop, *["桃"] * 15))
    booked = sum(flusher.result() for flusher in flushers)
    booked += await lesson.flush(shop, shop.key("journal"), 99)  # a slow seller's last ones
    assert booked == 55
    assert await sold(lesson, shop) == {"苹果": 20, "梨": 20, "桃": 15}


@pytest.mark.parametrize(
    ("falls_at", "statement"),
    [
        ("ADD", "UPDATE fruit SET nonsense = %s WHERE name = %s"),
        ("WRITE_PROGRESS", "UPDATE progress SET nonsense = %s"),
    ],
)
async def test_who_falls_before_the_commit_leaves_neither_sales_nor_bookmark(
    lesson, shop, falls_at, statement, monkeypatch
):
    await sell(shop, "苹果", "苹果", "梨")
    with monkeypatch.context() as patch, pytest.raises(Exception, match="nonsense"):
        patch.setattr(lesson, falls_at, statement)
        await lesson.flush(shop, shop.key("journal"), 2)
    assert await sold(lesson, shop) == {}
    assert await lesson.flush(shop, shop.key("journal"), 99) == 3
    assert await sold(lesson, shop) == {"苹果": 2, "梨": 1}


async def test_the_journal_is_trimmed_up_to_what_is_booked(lesson, shop):
    journal = shop.key("journal")
    await sell(shop, *["苹果"] * 5)
    ids = [id for id, _ in await shop.redis.xrange(journal)]
    assert await lesson.flush(shop, journal, 3) == 3
    assert await shop.redis.xlen(journal) == 5  # trimmed by the next, which sees the commit
    assert await lesson.flush(shop, journal, 1) == 1
    assert [id for id, _ in await shop.redis.xrange(journal)] == ids[2:]
    assert await lesson.flush(shop, journal, 99) == 1


async def test_a_mysql_that_is_silent_is_not_waited_for(lesson, shop, cache_shop, monkeypatch):
    async with lesson.transaction(shop.pool) as cursor:
        await cursor.execute(lesson.READ_PROGRESS)  # who holds this lock makes the others wait
        with monkeypatch.context() as patch:
            patch.setattr(cache_shop, "PATIENCE", 0.1)
            with pytest.raises(cache_shop.aiomysql.OperationalError, match="没有回音") as silent:
                await lesson.flush(shop, shop.key("journal"), 1)
    assert "MYSQL_URL" in lesson.settings.explain(silent.value)


async def test_two_runs_at_once_do_not_meet(lesson):
    async with lesson.shop_opened() as ours:
        async with lesson.shop_opened() as theirs:
            await theirs.reprice("苹果", 99)
            await theirs.keep("苹果", 99)
            assert await lesson.read(ours, "苹果") == 10
        await ours.reprice("苹果", 11)  # theirs have left; ours is still there
        assert await ours.look_up("苹果") == 11
        assert await lesson.read(ours, "苹果") == 10


async def ask_mysql(cache_shop, statement, *args):
    async with cache_shop.aiomysql.connect(**cache_shop.settings.mysql_options()) as conn:
        async with conn.cursor() as cursor:
            await cursor.execute(statement, args)
            return await cursor.fetchall()


async def databases(cache_shop):
    return {name for (name,) in await ask_mysql(cache_shop, "SHOW DATABASES")}


async def test_nothing_is_left_in_redis_or_mysql(lesson, cache_shop):
    before = await databases(cache_shop)
    async with lesson.shop_opened() as shop:
        await lesson.choose_who_fills(shop)
        assert len(await databases(cache_shop) - before) == 1
        prefix = shop.prefix
    async with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        assert [key async for key in redis.scan_iter(f"{prefix}*")] == []
    assert await databases(cache_shop) <= before


@pytest.mark.parametrize("created", [False, True])
async def test_ctrl_c_while_the_database_is_made_leaves_none(
    lesson, cache_shop, created, monkeypatch
):
    own_database = sys.modules["own_database"]
    before, ask = await databases(cache_shop), own_database._ask

    async def interrupted(conn, statement, *args):
        if statement.startswith("CREATE"):
            asyncio.get_running_loop().call_soon(opening.cancel)
            if not created:
                await asyncio.sleep(60)
        return await ask(conn, statement, *args)

    async def open_shop():
        async with lesson.shop_opened():
            pass

    monkeypatch.setattr(own_database, "_ask", interrupted)
    opening = asyncio.create_task(open_shop())
    with warnings.catch_warnings(action="error"), pytest.raises(asyncio.CancelledError):
        await opening
    assert await databases(cache_shop) <= before


async def test_the_database_of_a_killed_run_is_swept(lesson, cache_shop):
    before = await databases(cache_shop)
    with processes.waiting_at(lesson.__file__, "read") as killed:
        [left] = await databases(cache_shop) - before
        async with lesson.shop_opened():
            assert left in await databases(cache_shop)  # it is alive
        killed.kill()
    async with asyncio.timeout(10):
        while await ask_mysql(cache_shop, "SELECT IS_FREE_LOCK(%s)", left) != ((1,),):
            await asyncio.sleep(0.01)  # until the server has seen it go
    async with lesson.shop_opened():
        assert left not in await databases(cache_shop)


async def test_keys_of_a_killed_run_are_swept_but_not_those_in_use(lesson):
    new, old = "asyncio-tutorial:cache-new:桃", "asyncio-tutorial:cache-old:桃"
    async with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        await redis.set(new, 1, ex=60)
        await redis.restore(old, 0, await redis.dump(new), replace=True, idletime=3600)
        async with lesson.shop_opened():
            assert await redis.exists(old) == 0
            assert await redis.unlink(new) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a single child")
@pytest.mark.parametrize("section", SECTIONS)
async def test_ctrl_c_in_any_section_stops_it(lesson, section):
    ran = await asyncio.to_thread(
        processes.interrupted, lesson.__file__, at=f"── {section}.", after=0.005
    )
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")
    assert f"── {section}." in ran.stdout


@pytest.mark.parametrize("at", ["read", "read_under_lock", "flush"])
async def test_a_redis_that_dies_is_one_paragraph(lesson, cache_shop, available, at):
    before = await databases(cache_shop)
    with available(), services.mortal_redis() as server:
        with processes.waiting_at(lesson.__file__, at, REDIS_URL=server.url) as child:
            server.kill()
            _, errors = child.communicate("go on\n", timeout=30)
    assert child.returncode == 2, errors
    assert errors.startswith("Redis（127.0.0.1:") and "REDIS_URL" in errors
    assert len(errors.splitlines()) == 2, errors
    assert await databases(cache_shop) <= before


async def test_a_mysql_that_dies_is_one_paragraph(lesson, available):
    with available(), services.mortal_mysql() as server:
        for at in ("read", "flush"):
            with processes.waiting_at(lesson.__file__, at, MYSQL_URL=server.url) as child:
                server.kill()
                _, errors = child.communicate("go on\n", timeout=30)
            assert child.returncode == 2, errors
            assert errors.startswith("MySQL（127.0.0.1:") and "MYSQL_URL" in errors
            assert len(errors.splitlines()) == 2, errors
            server.start()
