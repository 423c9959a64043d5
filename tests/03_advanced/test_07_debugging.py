"""Lesson 3.7: what the event loop can be made to say."""

import asyncio
import logging
import re
import signal
import sys
import threading
import time
import warnings
from itertools import count
from types import SimpleNamespace

import pytest

from tests import processes

NEVER_AWAITED = ["coroutine 'couple_cars' was never awaited", "出在: del late"]
NEVER_RETRIEVED = ["Task exception was never retrieved", '出在: raise RuntimeError("道岔卡住了")']


def lines_of(complaints):
    return [complaint.split("\n    ") for complaint in complaints]


def test_debug_mode_finds_more_and_says_where_it_was_made(lesson, capsys):
    found = lesson.debug_mode_says_where()
    assert lines_of(found[False]) == [NEVER_AWAITED, NEVER_RETRIEVED]
    (slow,), awaited, retrieved, (refused,) = lines_of(found[True])
    assert awaited == [*NEVER_AWAITED, "造在: late = couple_cars()"]
    assert re.fullmatch(r"Executing 扳道 switch_points\(\) took ≈0\.\d\d seconds", slow)
    made = '造在: stuck = asyncio.create_task(switch_points(), name="扳道")'
    assert retrieved == [*NEVER_RETRIEVED, made]
    assert refused.startswith("RuntimeError: Non-thread-safe operation invoked")
    assert lesson.__file__ not in capsys.readouterr().out


def test_listening_leaves_nothing_behind(lesson):
    handlers, shower = logging.getLogger("asyncio").handlers[:], warnings.showwarning
    lesson.debug_mode_says_where()
    assert logging.getLogger("asyncio").handlers == handlers
    assert warnings.showwarning is shower


def test_the_lessons_own_debug_argument_beats_the_environment(lesson, monkeypatch):
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    assert lines_of(lesson.debug_mode_says_where()[False]) == [NEVER_AWAITED, NEVER_RETRIEVED]


def test_shortening_keeps_who_and_drops_where_on_this_machine(lesson):
    message = (
        "Executing <Task finished name='扳道' coro=<switch_points() done, "
        "defined at /home/me/x.py:58> result=None> took 0.052 seconds"
    )
    assert lesson.shorten(message) == "Executing 扳道 switch_points() took ≈0.05 seconds"


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_log_lines_carry_task_and_context_into_child_tasks(lesson, capsys):
    await lesson.log_with_context()
    assert capsys.readouterr().out.splitlines() == [
        "[K51 进站] 进了站",
        "[T9 进站] 进了站",
        "[K51 挂车] 挂上 12 节",
        "[T9 挂车] 挂上 18 节",
    ]
    assert logging.getLogger("yard").handlers == []
    assert lesson.TRAIN.get("没有") == "没有"


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_lines_of_other_peoples_loggers_carry_them_too(lesson, capsys):
    logging_in = asyncio.create_task(lesson.log_with_context())
    await asyncio.sleep(0)
    asyncio.current_task().set_name("信号")
    logging.getLogger("yard.signals").info("绿灯")
    await logging_in
    assert "[— 信号] 绿灯" in capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def no_watch_without_end(lesson, monkeypatch):
    """A watchdog that is never sent off duty fails its test instead of holding up the exit."""
    waits = count()

    class Event(threading.Event):
        def wait(self, timeout=None):
            assert next(waits) < 1000, "the watchdog is never sent off duty"
            return super().wait(timeout)

    theirs = SimpleNamespace(Event=Event, get_ident=threading.get_ident)
    monkeypatch.setattr(lesson, "threading", theirs)


@pytest.mark.asyncio
async def test_watchdog_names_the_function_that_blocks(lesson, capsys):
    assert await lesson.catch_the_blocker() == ["count_cars_by_hand"]
    assert re.fullmatch(r"循环停了 ≈[\d.]+ 秒: count_cars_by_hand\n", capsys.readouterr().out)


@pytest.mark.asyncio
async def test_watchdog_sees_the_blocker_although_the_machine_stood_still(lesson, monkeypatch):
    """Then a sleep is over without anybody else having run meanwhile."""
    sleeps = iter([float])  # built in, as sleep is: it has no frame of its own

    class Clock:
        perf_counter = staticmethod(time.perf_counter)
        sleep = property(lambda self: next(sleeps, time.sleep))

    monkeypatch.setattr(lesson, "time", Clock())
    assert await lesson.catch_the_blocker() == ["count_cars_by_hand"]


@pytest.mark.asyncio
async def test_watchdog_is_silent_while_nobody_blocks(lesson, monkeypatch, capsys):
    monkeypatch.setattr(lesson, "count_cars_by_hand", lambda: None)
    assert await lesson.catch_the_blocker() == []
    assert capsys.readouterr().out == ""


@pytest.mark.asyncio
async def test_watchdog_accuses_no_code_of_others(lesson, monkeypatch, capsys):
    """What the loop stands in then is only where a busy machine left it."""
    monkeypatch.setattr(lesson, "count_cars_by_hand", lambda: time.sleep(0.2))
    assert await lesson.catch_the_blocker() == []
    assert capsys.readouterr().out == ""


@pytest.mark.asyncio
async def test_watchdog_goes_off_duty_when_the_body_fails(lesson, monkeypatch):
    def crash():
        raise RuntimeError("撞车")

    monkeypatch.setattr(lesson, "count_cars_by_hand", crash)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="撞车"):
        await lesson.catch_the_blocker()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert threading.active_count() <= before


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_await_chain_reaches_the_innermost_coroutine(lesson):
    async def outer():
        await asyncio.sleep(1)

    task = asyncio.create_task(outer())
    await asyncio.sleep(0)
    assert [each.cr_code.co_name for each in lesson.await_chain(task)] == ["outer", "sleep"]
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    await task
    assert [each.cr_code.co_name for each in lesson.await_chain(task)] in ([], ["outer"])


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_deadlock_is_a_cycle_and_one_order_cures_it(lesson, capsys):
    assert await lesson.find_the_cycle() == {"快车": "货车", "货车": "快车"}
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "print_stack 只看得到最外一层: pass_points"
    assert printed[1] == "快车: pass_points → __aenter__ → acquire → acquire"
    assert printed[-1] == "都先拿北、再拿南: 都过去了"
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize("opposite", [True, False])
async def test_opposite_order_is_what_deadlocks(lesson, opposite):
    north, south = lesson.Track(), lesson.Track()
    second = (south, north) if opposite else (north, south)
    trains = asyncio.gather(lesson.pass_points(north, south), lesson.pass_points(*second))
    if opposite:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(trains, 3600)
    else:
        await asyncio.wait_for(trains, 3600)


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize(
    ("delays", "waits_for"),
    [
        ({"快车": 0.02, "货车": 0.04}, {"快车": "没在等锁", "货车": "没在等锁"}),  # too early
        ({"快车": 0.002, "货车": 0.004}, {}),  # both have passed
    ],
)
async def test_trains_that_come_one_after_the_other_do_not_meet(
    lesson, monkeypatch, delays, waits_for
):
    """Exercise 2; who looks too early finds trains that wait for no lock."""
    pass_points = lesson.pass_points

    async def come_late(*tracks):
        await asyncio.sleep(delays.get(asyncio.current_task().get_name(), 0))
        await pass_points(*tracks)

    monkeypatch.setattr(lesson, "pass_points", come_late)
    assert await lesson.find_the_cycle() == waits_for


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with 3.14")
def test_call_graph_of_3_14_is_part_of_the_lesson(lesson, capsys):
    asyncio.run(lesson.find_the_cycle())
    assert "谁在等快车: ['站长']" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a single child")
def test_ctrl_c_stops_within_a_second_or_so(lesson):
    # the loop is blocked, the watchdog is watching
    ran = processes.interrupted(lesson.__file__, at="── 3.", after=0.1)
    assert ran.returncode == -signal.SIGINT
    assert "── 4." not in ran.stdout
