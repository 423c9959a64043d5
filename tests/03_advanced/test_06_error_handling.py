"""Lesson 3.6 on virtual time; signals are real ones, also from outside into a child process."""

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import processes

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

SERVE = """
import asyncio, importlib, sys
sys.path.insert(0, sys.argv[1])
lesson = importlib.import_module("06_error_handling_demo")

def refuse(*_):
    raise NotImplementedError

async def main():
    if "as on Windows" in sys.argv:
        asyncio.get_running_loop().add_signal_handler = refuse
    with lesson.stop_signals() as stop:
        print("open", flush=True)
        await stop.wait()
    print("drained", flush=True)
    if "slowly" in sys.argv:
        await asyncio.sleep(30)

asyncio.run(main())
"""


async def test_a_failed_task_complains_only_once_nobody_can_ask_it_any_more(lesson, capsys):
    assert await lesson.fail_silently() == ["Task exception was never retrieved"]
    assert capsys.readouterr().out.startswith("main: 船已搁浅")


async def test_gather_raises_while_the_other_still_runs(lesson, capsys):
    succeeded, failed = await lesson.gather_leaves_the_rest()
    assert (succeeded, repr(failed)) == ("慢船到了", "OSError('触礁')")
    assert "慢船还在水上 True" in capsys.readouterr().out


async def test_gather_keeps_quiet_about_later_failures(lesson):
    heard = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))

    async def fail_later():
        await asyncio.sleep(1)
        raise OSError

    with pytest.raises(RuntimeError):
        await asyncio.gather(lesson.wreck(RuntimeError()), fail_later())
    await asyncio.sleep(2)
    assert heard == []


async def test_group_cancels_the_rest_and_each_clause_takes_its_part(lesson):
    called_back, claims = await lesson.group_cleans_up_and_sorts()
    assert called_back
    assert {who: [type(error) for error in errors] for who, errors in claims.items()} == {
        "修船工": [OSError],
        "调度员": [ValueError],
        "没人": [KeyError],
    }


async def test_only_the_deadline_that_fired_is_expired(lesson):
    started = asyncio.get_running_loop().time()
    assert await lesson.nest_deadlines() == [False, True, True, False, False]
    assert asyncio.get_running_loop().time() - started == pytest.approx(0.02 + 0.02 + 0.03)


async def test_three_ways_to_meet_a_cancellation(lesson):
    assert await lesson.cancel_three_captains() == {
        "到点就走": ("TimeoutError", False),
        "装完才走": ("TimeoutError", True),
        "装作没听见": ("没有异常", False),
    }


async def test_cargo_that_is_cancelled_too_is_not_called_loaded(lesson, monkeypatch):
    """Exercise 2: without shield."""

    def no_shield(task):
        task.add_done_callback(lambda _: None)
        return task

    monkeypatch.setattr(lesson.asyncio, "shield", no_shield)
    printed = []
    monkeypatch.setattr(lesson, "print", printed.append, raising=False)
    with pytest.raises(asyncio.CancelledError):
        await lesson.cancel_three_captains()
    assert printed == ["船长到点就走: 外面 TimeoutError，货装好了 False"]


async def test_retries_wait_longer_and_longer_up_to_a_limit_at_random(lesson, monkeypatch):
    limits, loop = [], asyncio.get_running_loop()

    def longest(low, high):
        limits.append((low, high))
        return high

    monkeypatch.setattr("random.uniform", longest)
    started = loop.time()
    await lesson.retry_with_a_library()
    doubling = [(0, 0.002), (0, 0.004), (0, 0.008)]
    assert limits[:5] == [*doubling[:2], *doubling]
    assert (limits[-1], max(limits)) == (doubling[0], (0, 0.01))
    waited = sum(high for _, high in [*doubling[:2], *doubling, doubling[0]])
    assert loop.time() - started == pytest.approx(2 * 0.5 + waited)


async def test_retries_only_what_can_get_better(lesson):
    assert await lesson.retry_with_a_library() == {
        "雾散得快": (3, "可以靠岸"),
        "雾不散": (4, "ConnectionError"),
        "呼号写错": (1, "TypeError"),
        "对方不吭声": (1, "TimeoutError"),
        "不吭声，连取消也重试": (2, "可以靠岸"),
    }


@pytest.mark.looptime(False)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_what_is_under_way_and_leaves_no_handler(lesson, capsys, number):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert await lesson.close_gracefully(number) == {"甲": True, "乙": True, "丙": False}
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    if sys.platform != "win32":
        assert not asyncio.get_running_loop().remove_signal_handler(number)  # there was none
    assert capsys.readouterr().out.startswith(f"渡口: 收到 {number.name}，不再接客\n")
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.looptime(False)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_without_add_signal_handler_as_on_windows(lesson, monkeypatch, number):
    def refuse(*_):
        raise NotImplementedError

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", refuse)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert await lesson.close_gracefully(number) == {"甲": True, "乙": True, "丙": False}
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.looptime(False)
async def test_draining_cancels_nobody_who_lands_as_time_is_up(lesson, monkeypatch):
    """A machine that stands still: everybody's time is up at once."""

    async def stop():
        await asyncio.sleep(0)  # the boats leave
        asyncio.get_running_loop().call_soon(time.sleep, 0.35)

    monkeypatch.setattr(lesson, "stop_signals", lambda: nullcontext(SimpleNamespace(wait=stop)))
    monkeypatch.setattr(lesson.signal, "raise_signal", lambda _: None)
    assert await lesson.close_gracefully() == {"甲": True, "乙": True, "丙": False}


def serve(lesson, *more):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVE, str(Path(lesson.__file__).parent), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )


@pytest.mark.looptime(False)
@pytest.mark.skipif(sys.platform == "win32", reason="no way to signal a single child")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_from_outside_ends_the_program_with_exit_code_0(lesson, number):
    with serve(lesson) as child:
        assert child.stdout.readline() == "open\n"
        child.send_signal(number)
        output, errors = child.communicate(timeout=20)
    assert (child.returncode, errors, output.splitlines()[-1]) == (0, "", "drained")


@pytest.mark.looptime(False)
@pytest.mark.skipif(sys.platform == "win32", reason="no way to signal a single child")
async def test_without_add_signal_handler_a_sleeping_loop_is_woken(lesson):
    with serve(lesson, "as on Windows") as child:
        assert child.stdout.readline() == "open\n"
        processes.press_ctrl_c(child)
        output, errors = child.communicate(timeout=20)
    assert (child.returncode, errors, output.splitlines()[-1]) == (0, "", "drained")


@pytest.mark.looptime(False)
@pytest.mark.skipif(sys.platform == "win32", reason="no way to signal a single child")
async def test_the_second_ctrl_c_stops_at_once(lesson):
    with serve(lesson, "slowly") as child:
        assert child.stdout.readline() == "open\n"
        child.send_signal(signal.SIGINT)
        while child.stdout.readline() != "drained\n":
            pass
        processes.press_ctrl_c(child)
        _, errors = child.communicate(timeout=20)
    assert child.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.looptime(False)
@pytest.mark.skipif(sys.platform == "win32", reason="no way to signal a single child")
async def test_ctrl_c_late_in_the_lesson_is_a_keyboard_interrupt(lesson):
    """Up to 3.12 a failing TaskGroup leaves cancelling() at 1, which would hide it."""
    ran = processes.interrupted(lesson.__file__, at="呼号写错")
    assert ran.stderr.rstrip().endswith("KeyboardInterrupt")
