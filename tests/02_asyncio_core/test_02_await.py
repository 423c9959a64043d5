"""Lesson 2.2 on virtual time: who is executed at which await, and for how long."""

import asyncio
from pathlib import Path

import pytest

from tests import test_contract as contract
from toolbox import catalog

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@pytest.fixture
def virtual_clock(lesson, monkeypatch):
    """A perf_counter ten times as fast as the loop: the numbers printed must be measured."""
    monkeypatch.setattr(
        lesson.time, "perf_counter", lambda: round(10 * asyncio.get_running_loop().time(), 6)
    )


async def test_the_result_of_one_await_feeds_the_next(lesson, capsys):
    assert await lesson.pass_the_result_on() == "干的衬衫"
    assert capsys.readouterr().out.splitlines() == [
        "洗好了，拿到 '湿的衬衫'，送去烘干",
        "烘好了，得到 '干的衬衫'",
    ]


async def test_awaits_in_a_row_add_up_and_tasks_overlap(lesson, virtual_clock, capsys):
    one_by_one, together = await lesson.await_in_a_row()
    assert one_by_one == pytest.approx(1)
    assert together == pytest.approx(0.5)
    took = [line.rpartition("，")[2] for line in capsys.readouterr().out.splitlines()]
    assert took == ["用时 ≈1.00 秒", "用时 ≈0.50 秒"]


async def test_coroutine_task_future_and_own_class_can_be_awaited(lesson, capsys):
    assert await lesson.await_anything_awaitable() == ["湿的袜子", "湿的毛巾", "洗好了", "倒好了"]
    kinds = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["await coroutine", "await Task", "await Future", "await Detergent"]


async def test_own_awaitable_gives_way_exactly_once(lesson):
    others = []
    asyncio.get_running_loop().call_soon(others.append, "同一轮")
    assert others == []
    assert await lesson.Detergent() == "倒好了"
    assert others == ["同一轮"]
    assert len(list(lesson.Detergent().__await__())) == 1


async def test_awaiting_a_coroutine_does_not_switch_and_a_task_does(lesson):
    assert await lesson.await_without_switching() == ["叠衣", "迎客", "迎客", "叠衣"]


async def test_nobody_gets_in_between_two_awaits(lesson, capsys):
    without_await, with_await = await lesson.run_one_piece_at_a_time()
    assert without_await == 3
    assert with_await == 1
    printed = capsys.readouterr().out
    assert printed.count("线程 1 个") == 2


async def test_semaphore_limits_how_many_are_in_flight(lesson, virtual_clock, capsys):
    assert await lesson.limit_how_many_are_in_flight() == 2
    assert capsys.readouterr().out == "6 筐衣服，同时最多洗 2 筐，用时 ≈1.50 秒\n"


async def test_gather_keeps_the_order_and_as_completed_does_not(lesson):
    as_passed, as_finished = await lesson.compare_order()
    assert as_passed == ["湿的大衣", "湿的袜子"]
    assert as_finished == ["湿的袜子", "湿的大衣"]


async def test_as_completed_collects_by_time_of_completion(lesson):
    loads = [lesson.wash("甲", 0.3), lesson.wash("乙", 0.1), lesson.wash("丙", 0.2)]
    assert await lesson.collect_as_completed(loads) == ["湿的乙", "湿的丙", "湿的甲"]


async def test_who_raises_and_who_is_left_running(lesson, capsys):
    started = asyncio.get_running_loop().time()
    assert await lesson.compare_failure() == {
        "gather": True,
        "gather(return_exceptions)": False,
        "as_completed": True,
        "wait(FIRST_EXCEPTION)": True,
    }
    raised = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "抛出" in line]
    assert raised == ["gather", "as_completed"]
    # One coat of four was washed to its end, the others were taken out.
    assert asyncio.get_running_loop().time() - started == pytest.approx(0.2)


async def test_a_machine_that_oversleeps_changes_nothing_but_the_times(lesson, oversleep, capsys):
    oversleep()
    await lesson.main()
    promised = contract.for_this_python(catalog.Lesson(Path(lesson.__file__)).promised_output)
    assert contract.mismatches(promised, capsys.readouterr().out.splitlines()) == []


async def test_no_task_is_left_behind(lesson):
    await lesson.main()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_washing_a_red_dress_fails_after_its_time(lesson):
    started = asyncio.get_running_loop().time()
    with pytest.raises(RuntimeError, match="掉色了"):
        await lesson.wash("红裙", 0.5)
    assert asyncio.get_running_loop().time() - started == pytest.approx(0.5)


async def test_a_string_cannot_be_awaited():
    with pytest.raises(TypeError):
        await "洗好了"
