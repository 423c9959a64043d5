"""Lesson 3.3 on virtual time: queue lengths, orderly ends, dead consumers, priorities, bursts."""

import asyncio
import sys

import pytest

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
WASH = 0.005


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_only_the_bounded_basket_stays_short(lesson):
    unbounded, bounded = await lesson.full_basket_makes_put_wait()
    assert unbounded == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert bounded == [3, 3, 3, 3, 3, 3, 2, 1, 0]


async def test_put_waits_for_room(lesson):
    basket = lesson.Basket(maxsize=1)
    counter = asyncio.create_task(lesson.receive(basket, ["衬衫", "毛衣"]))
    await asyncio.sleep(1)
    assert not counter.done()
    await basket.get()
    await counter


async def test_join_returns_when_the_last_garment_is_washed(lesson, capsys):
    started = now()
    washed = await lesson.join_waits_for_the_last_garment()
    assert sorted(washed) == ["毛衣"] * 4 + ["衬衫"] * 5
    assert now() - started == pytest.approx(3 * WASH)
    assert capsys.readouterr().out.splitlines() == [
        "2 个前台收工。9 件都洗好了？False",
        "join 返回。9 件都洗好了？True",
    ]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_sentinels_and_shutdown_both_end_the_consumers(lesson):
    by_sentinel, by_shutdown = await lesson.two_ways_to_say_no_more()
    everything = {"衬衫", "毛衣", "围巾"}
    assert set(by_sentinel) == everything
    assert set(by_shutdown) == (everything if sys.version_info >= (3, 13) else set())


async def test_one_sentinel_ends_one_consumer_only(lesson):
    """Exercise 1."""
    basket, washed = lesson.Basket(), []
    await lesson.receive(basket, ["衬衫", None])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), asyncio.TaskGroup() as shop:
            for _ in range(2):
                shop.create_task(lesson.wash_until_none(basket, washed))
    assert washed == ["衬衫"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Queue.shutdown came with 3.13")
async def test_shutdown_refuses_new_garments_and_lets_the_rest_be_washed(lesson):
    basket, washed = lesson.Basket(), []
    await lesson.receive(basket, ["衬衫", "毛衣"])
    basket.shutdown()
    with pytest.raises(asyncio.QueueShutDown):
        basket.put_nowait("围巾")
    await lesson.wash_until_shutdown(basket, washed)
    assert washed == ["衬衫", "毛衣"]


async def test_join_never_hears_of_a_dead_consumer_but_a_group_does(lesson, capsys):
    started = now()
    assert await lesson.dead_washer_hangs_join() == [1, 1]  # the sweater is left in both
    assert now() - started == pytest.approx(2 * WASH + 0.05 + 2 * WASH)
    stuck, told = capsys.readouterr().out.splitlines()
    assert stuck.startswith("单独的任务: join 一直等")
    assert told == "TaskGroup: 马上知道 ValueError('漏墨，洗不得')"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_task_done_in_finally_survives_a_bad_garment(lesson, capsys):
    assert await lesson.careful_washer_survives() == ["衬衫", "毛衣"]
    assert capsys.readouterr().out.splitlines()[0] == "退回钢笔: 漏墨，洗不得"


async def test_task_done_in_finally_counts_a_cancelled_garment(lesson):
    basket = lesson.Basket()
    await lesson.receive(basket, ["衬衫"])
    washer = asyncio.create_task(lesson.careful_washer(basket, []))
    await asyncio.sleep(WASH / 2)
    washer.cancel()
    async with asyncio.timeout(1):
        await basket.join()
    with pytest.raises(asyncio.CancelledError):
        await washer


async def test_urgent_garments_first_then_in_order_of_arrival(lesson, capsys):
    assert await lesson.urgent_garments_first() == ["婚纱", "衬衫", "毛衣", "围巾"]
    assert "'<' not supported between instances of 'dict'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("capacity", "seconds_until_all_are_washed"),
    [(1, 0.08), (2, 0.07), (3, 0.06), (4, 0.06), (100, 0.06)],
)
async def test_capacity_helps_up_to_the_size_of_a_burst(
    lesson, capacity, seconds_until_all_are_washed
):
    started, basket = now(), lesson.Basket(capacity)
    async with asyncio.TaskGroup() as shop:
        shop.create_task(lesson.rush_hours(basket))
        for _ in range(12):
            await lesson.wash(await basket.get())
        assert now() - started == pytest.approx(seconds_until_all_are_washed)


async def test_throughput_is_measured_for_every_capacity(lesson, capsys):
    started = now()
    await lesson.buffer_smooths_bursts((1, 100))
    assert now() - started == pytest.approx((2 * 0.03 + 0.03) + (3 * 0.02))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == ["容量 1", "容量 100"]
