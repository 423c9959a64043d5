"""Lesson 3.2 on virtual time: what is waited for on the way in and out, and what survives."""

import asyncio
import contextlib

import pytest

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_both_ends_of_async_with_are_awaited(lesson, capsys):
    started = now()
    await lesson.wait_on_both_sides()
    assert now() - started == pytest.approx(0.01 + 0.02)
    assert capsys.readouterr().out.splitlines()[:3] == [
        "小舟: 解缆",
        "小舟: 划一圈",
        "小舟: 系缆，__aexit__ 收到 None",
    ]


async def test_true_from_aexit_swallows_the_exception(lesson, capsys):
    await lesson.true_swallows_the_exception()
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "小舟: 系缆，__aexit__ 收到 RuntimeError",
        "外面: 风平浪静",
    ]


async def test_other_exceptions_leave_the_block(lesson):
    with pytest.raises(ValueError, match="起风"):
        async with lesson.Rental("小舟", swallows=(RuntimeError,)):
            raise ValueError("起风")


async def test_a_plain_with_refuses_an_async_context_manager(lesson):
    with pytest.raises(TypeError, match="does not support the context manager protocol"):
        with lesson.Rental("小舟"):
            pass


async def test_without_finally_the_boat_is_lost(lesson, capsys):
    assert await lesson.finally_brings_it_back() == [[], ["小舟"]]
    assert "rent_carelessly: 出事以后，岸上有 []" in capsys.readouterr().out


async def test_without_an_accident_both_bring_the_boat_back(lesson):
    for rent in (lesson.rent_carelessly, lesson.rent_safely):
        ashore = ["小舟"]
        async with rent(ashore) as boat:
            assert (boat, ashore) == ("小舟", [])
        assert ashore == ["小舟"]


async def test_cleanup_is_awaited_to_its_end_before_the_timeout_is_raised(lesson, capsys):
    started = now()
    await lesson.cancellation_walks_out_through_aexit()
    assert now() - started == pytest.approx(0.01 + 0.05 + 0.02)
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "小舟: 系缆，__aexit__ 收到 CancelledError"
    assert printed[2].startswith("TimeoutError")


async def test_a_second_cancellation_breaks_the_cleanup_off(lesson, capsys):
    """Exercise 2."""

    async def row():
        async with lesson.Rental("小舟"):
            await asyncio.sleep(60)

    rower = asyncio.create_task(row())
    for _ in range(2):
        await asyncio.sleep(0.015)
        rower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rower
    assert "系缆" not in capsys.readouterr().out


async def test_swallowed_cancellation_disarms_the_timeout(lesson, capsys):
    assert await lesson.swallowed_cancellation_disarms_the_timeout() is True
    assert "早已超时，这一行却还在跑" in capsys.readouterr().out


async def test_stack_leaves_in_reverse_when_entering_fails(lesson, capsys):
    await lesson.stack_unwinds_in_reverse()
    assert capsys.readouterr().out.splitlines() == [
        "小舟: 解缆",
        "竹筏: 解缆",
        "竹筏: 系缆，__aexit__ 收到 ConnectionError",
        "小舟: 系缆，__aexit__ 收到 ConnectionError",
        "码头: 没走成，漏船下不了水",
    ]


@pytest.mark.parametrize("fleet", [(), ("竹筏",), ("竹筏", "小舟", "乌篷")])
async def test_stack_takes_any_number(lesson, capsys, fleet):
    await lesson.stack_unwinds_in_reverse(fleet)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == [*fleet, "码头", *reversed(fleet)]


async def test_six_guests_share_two_connections(lesson, capsys):
    started = now()
    pool = await lesson.pool_is_bounded()
    assert (pool.launched, pool.afloat) == (2, 0)
    assert now() - started == pytest.approx(0.01 + 3 * 0.02)
    assert "共造船 2 条" in capsys.readouterr().out


async def test_pool_gives_up_waiting_and_replaces_a_broken_connection(lesson, capsys):
    started = now()
    assert await lesson.pool_gives_up_and_heals() == ("1 号船", "2 号船")
    assert now() - started == pytest.approx(0.01 + 0.03 + 0.01)
    assert "拿着 1 号船再借一条: TimeoutError" in capsys.readouterr().out


async def test_never_more_than_size_connections_even_when_they_keep_breaking(lesson):
    most = 0

    async def row(pool, number):
        nonlocal most
        with contextlib.suppress(ConnectionError):
            async with pool.rent():
                most = max(most, pool.afloat)
                await asyncio.sleep(0.01 * (number % 3))
                if number % 2:
                    raise ConnectionError("漏水")

    async with contextlib.aclosing(lesson.BoatPool(size=3, patience=60)) as pool:
        async with asyncio.TaskGroup() as guests:
            for number in range(30):
                guests.create_task(row(pool, number))
    assert (most, pool.afloat) == (3, 0)
    assert pool.launched > 3


async def test_cancelled_guest_gives_the_berth_back_but_not_the_connection(lesson):
    async with contextlib.aclosing(lesson.BoatPool(size=1, patience=1)) as pool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05), pool.rent():
                await asyncio.sleep(60)
        assert pool.afloat == 0
        async with pool.rent() as boat:
            assert boat == "2 号船"


async def test_a_timeout_inside_replaces_the_connection_too(lesson):
    """asyncio.timeout turns the cancellation into a TimeoutError before rent() sees it."""
    async with contextlib.aclosing(lesson.BoatPool(size=1, patience=1)) as pool:
        with pytest.raises(TimeoutError):
            async with pool.rent(), asyncio.timeout(0.05):
                await asyncio.sleep(60)
        assert pool.afloat == 0
        async with pool.rent() as boat:
            assert boat == "2 号船"


async def test_the_boat_that_came_back_last_goes_out_first(lesson):
    async with contextlib.aclosing(lesson.BoatPool(size=3, patience=1)) as pool:
        for _ in range(3):
            async with pool.rent() as boat:
                assert boat == "1 号船"
        assert pool.launched == 1  # idle boats are not kept warm


async def test_a_business_error_keeps_the_connection(lesson):
    async with contextlib.aclosing(lesson.BoatPool(size=1, patience=1)) as pool:
        with contextlib.suppress(ValueError):
            async with pool.rent():
                raise ValueError("票价算错了")
        async with pool.rent() as boat:
            assert boat == "1 号船"


async def test_cancelled_launch_gives_the_berth_back(lesson):
    async with contextlib.aclosing(lesson.BoatPool(size=1, patience=0.1)) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005), pool.rent():
                pytest.fail("the launch takes 0.01")
        async with pool.rent() as boat:
            assert boat == "1 号船"
    assert pool.afloat == 0


async def test_closing_waits_for_what_is_still_out(lesson):
    pool = lesson.BoatPool(size=1, patience=1)

    async def row():
        async with pool.rent():
            await asyncio.sleep(0.5)

    started = now()
    async with asyncio.TaskGroup() as group:
        group.create_task(row())
        await asyncio.sleep(0.1)
        await pool.aclose()
        assert now() - started == pytest.approx(0.51)
    assert pool.afloat == 0


async def test_the_course_line_is_a_name_error():
    class Connection:
        def __init__(self):
            self.conn = conn  # noqa: F821 — the course's line

    with pytest.raises(NameError, match="name 'conn' is not defined"):
        Connection()
