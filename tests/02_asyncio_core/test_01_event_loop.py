"""Lesson 2.1: the loop's own order on virtual time; what blocks it in real time.

Sections that start a loop of their own are called in a thread, where none is running.
"""

import asyncio
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.asyncio
virtual_time = pytest.mark.looptime


async def test_calling_makes_a_coroutine_and_run_executes_it(lesson, capsys):
    bought, refused = await asyncio.to_thread(lesson.call_then_run)
    assert bought == "邮票"
    assert refused == "asyncio.run() cannot be called from a running event loop"
    printed = capsys.readouterr().out.splitlines()
    assert printed.index("sell_stamp() 得到 coroutine，函数体还没执行") < printed.index(
        "柜员: 卖出一枚邮票"
    )
    assert printed.count("柜员: 卖出一枚邮票") == 1


async def test_runner_keeps_one_loop_and_run_makes_a_new_one(lesson):
    same_runner, same_run = await asyncio.to_thread(lesson.run_twice_on_one_loop)
    assert same_runner
    assert not same_run


async def test_a_task_stands_still_between_two_runs(lesson, capsys, monkeypatch):
    pauses = []
    monkeypatch.setattr(lesson, "time", SimpleNamespace(sleep=pauses.append))
    await asyncio.to_thread(lesson.run_twice_on_one_loop)
    assert pauses == [0.05]  # longer than the parcel would have taken
    assert capsys.readouterr().out.splitlines()[:5] == [
        "上午: 开窗",
        "包裹: 上路，0.02 秒后到",
        "午休 0.05 秒: 循环停着，包裹.done() = False",
        "下午: 开窗，和上午是同一个循环 True",
        "包裹: 送到",
    ]


@virtual_time
async def test_what_is_scheduled_in_a_round_runs_in_the_next(lesson, capsys):
    served = await lesson.serve_one_round_at_a_time()
    main = "main（从 sleep(0) 回来）"
    assert served == ["甲", "乙", "丙", main, "闹钟（0 秒）", "乙的第二件事", main]
    printed = capsys.readouterr().out.splitlines()
    assert printed.index("  闹钟（0 秒）") < printed.index("第 2 轮")
    assert printed.index("第 2 轮") < printed.index("  乙的第二件事")


@virtual_time
async def test_alarms_ring_by_deadline_and_not_once_cancelled(lesson, capsys, monkeypatch):
    busy = iter([7, 7.03])
    monkeypatch.setattr(lesson, "time", SimpleNamespace(process_time=lambda: next(busy)))
    rung, waited = await lesson.ring_in_order_of_deadline()
    assert rung == ["0.05 秒", "0.1 秒", "0.15 秒"]
    assert waited == pytest.approx(0.15)
    assert capsys.readouterr().out.endswith("等了 ≈0.15 秒，CPU 只忙了 ≈0.03 秒\n")


@virtual_time
async def test_alarms_ring_in_the_same_order_on_a_machine_that_stalls(lesson, monkeypatch):
    loop = asyncio.get_running_loop()

    def stalls_before(register):
        def stall_and_register(*arguments, **options):
            loop.setup_looptime(start=loop.time() + 0.2)
            return register(*arguments, **options)

        return stall_and_register

    for name in ("call_at", "call_later"):
        monkeypatch.setattr(loop, name, stalls_before(getattr(loop, name)))
    rung, _ = await lesson.ring_in_order_of_deadline()
    assert rung == ["0.05 秒", "0.1 秒", "0.15 秒"]


async def test_a_blocking_neighbour_delays_the_alarm(lesson):
    rang_after = await lesson.block_everyone()
    assert list(rang_after) == ["await asyncio.sleep", "time.sleep"]
    assert rang_after["time.sleep"] > 0.13  # it cannot ring while time.sleep(0.15) lasts


@virtual_time
async def test_a_yielding_neighbour_does_not_delay_the_alarm(lesson, monkeypatch):
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(lesson.time, "perf_counter", loop.time)
    rang_after = await lesson.block_everyone()
    assert rang_after["await asyncio.sleep"] == pytest.approx(0.05)


async def test_only_the_loops_own_io_lets_the_letter_be_posted(lesson, capsys):
    waited, letter = await lesson.use_the_loops_own_io()
    assert waited > 0.08  # the alarm of 0.02 s could not ring while recv blocked
    assert letter == "letter"
    assert "没有信" in capsys.readouterr().out


async def test_main_runs_every_section_in_order(lesson, capsys):
    await asyncio.to_thread(lesson.main)
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("──")]
    assert titles == [f"── {title} ──" for title in lesson.SECTIONS]


async def test_erratum_get_event_loop_without_a_running_loop():
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "import asyncio; asyncio.get_event_loop().close()"],
        capture_output=True,
        encoding="utf-8",
    )
    if sys.version_info >= (3, 14):
        assert "RuntimeError: There is no current event loop in thread 'MainThread'." in ran.stderr
    elif sys.version_info >= (3, 12):
        assert ran.returncode == 0
        assert "DeprecationWarning: There is no current event loop" in ran.stderr
    else:
        assert (ran.returncode, ran.stderr) == (0, "")
