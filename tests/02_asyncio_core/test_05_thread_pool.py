"""Lesson 2.5 on real threads, processes and a real HTTP server; nothing here measures time."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from tests import processes
from toolbox import catalog

SCRIPT = catalog.ROOT / "02_asyncio_core" / "05_thread_pool_demo.py"
ANSWERS = ["史记在 2 架", "汉书在 2 架", "通鉴在 2 架", "后汉书在 3 架"]


@pytest.mark.asyncio
async def test_a_blocking_call_in_a_coroutine_stops_the_desk(lesson, monkeypatch, capsys):
    loop, book_found = asyncio.get_running_loop(), threading.Event()
    fetched_by = []

    def fetch(book):
        fetched_by.append(threading.current_thread())
        if len(fetched_by) == 2:  # only a free loop gets to this alarm
            loop.call_soon_threadsafe(loop.call_later, 0.05, book_found.set)
            assert book_found.wait(20)
        return book

    monkeypatch.setattr(lesson, "fetch", fetch)
    alone, helped = await lesson.keep_the_desk_open()
    assert alone == 0
    assert helped >= 1
    assert fetched_by[0] is threading.main_thread() is not fetched_by[1]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "前台自己去书库: 其间招呼了 0 位读者"
    assert printed[1].startswith("to_thread 派人去: 其间招呼了 ≈")


@pytest.mark.asyncio
async def test_the_desk_goes_on_while_a_thread_blocks(lesson):
    book_found = threading.Event()
    asyncio.get_running_loop().call_later(0.05, book_found.set)  # only a free loop gets to it
    assert await lesson.greetings_until(asyncio.to_thread(book_found.wait, 20)) >= 1


@pytest.mark.asyncio
async def test_only_the_future_of_asyncio_can_be_awaited(lesson, capsys):
    assert await lesson.two_kinds_of_future() == ["史记", "汉书"]
    assert capsys.readouterr().out.splitlines()[:2] == [
        "submit 给的: concurrent.futures.Future，能 await 吗 False",
        "run_in_executor 给的: asyncio.Future，能 await 吗 True",
    ]


@pytest.mark.asyncio
async def test_a_pool_does_as_many_jobs_at_once_as_it_has_workers(lesson):
    in_hand, seen, pair = [], [], threading.Barrier(2)

    def job(number):
        in_hand.append(number)
        seen.append(len(in_hand))
        pair.wait(20)  # with fewer than two workers this breaks
        in_hand.remove(number)
        pair.wait(20)
        return number * 10

    with ThreadPoolExecutor(max_workers=2) as pool:
        results, _ = await lesson.share_out(pool, job, [1, 2, 3, 4])
    assert results == [10, 20, 30, 40]
    assert max(seen) == 2


@pytest.mark.asyncio
async def test_the_blocking_client_asks_one_question_per_thread(lesson, monkeypatch, capsys):
    in_flight, peaks, answer = [], [], lesson.Catalogue.do_GET

    def counting(request):
        in_flight.append(request)
        peaks.append(len(in_flight))
        answer(request)
        in_flight.remove(request)

    monkeypatch.setattr(lesson.Catalogue, "do_GET", counting)
    before = set(threading.enumerate())
    assert await lesson.blocking_http_client() == [ANSWERS] * 3
    for thread in set(threading.enumerate()) - before:  # neither clerks nor the server stay
        thread.join(5)
        assert not thread.is_alive()
    assert len(peaks) == 3 * len(ANSWERS)
    assert peaks[:4] == [1, 1, 1, 1]
    assert max(peaks[4:8]) <= 2
    assert capsys.readouterr().out.endswith(f"查到 {ANSWERS}\n")


@pytest.mark.asyncio
async def test_the_learners_proxy_is_not_in_the_way(lesson, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await lesson.blocking_http_client() == [ANSWERS] * 3


@pytest.mark.asyncio
async def test_threads_and_spawned_processes_count_the_same(lesson, monkeypatch, capsys):
    starts, rounds, ctrl_c_waits, share_out = {}, [], [], lesson.share_out

    class Processes(ProcessPoolExecutor):
        def __init__(self, workers, context, **options):
            starts[self] = f"{workers} 个进程", context.get_start_method()
            super().__init__(workers, context, **options)

    class Threads(ThreadPoolExecutor):
        def __init__(self, max_workers):
            starts[self] = f"{max_workers} 个线程", None
            super().__init__(max_workers)

    async def timed(pool, job, arguments):
        """Opening takes 0.9 s, the fourth round of counting 0.2 s, the others more."""
        if sys.platform != "win32":
            ctrl_c_waits.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
        results, _ = await share_out(pool, job, arguments)
        rounds.append(pool)
        seconds = [0.9, 0.7, 0.5, 0.3, 0.2, 0.4][rounds.count(pool) - 1]
        return results, list(starts).index(pool) + seconds

    monkeypatch.setattr(lesson, "ProcessPoolExecutor", Processes)
    monkeypatch.setattr(lesson, "ThreadPoolExecutor", Threads)
    monkeypatch.setattr(lesson, "share_out", timed)
    counts = await lesson.compute_in_processes()
    assert counts == [[lesson.take_inventory(400_000)] * 2] * 3
    assert [*starts.values()] == [("1 个线程", None), ("2 个线程", None), ("2 个进程", "spawn")]
    pools = list(starts)
    assert rounds == pools * 6  # opened, then five rounds, in turn
    assert ctrl_c_waits in ([True] * 3 + [False] * 15, [])  # while pools open
    assert capsys.readouterr().out.splitlines() == [
        "1 个线程: 开门 ≈0.90 秒，盘点两遍 ≈0.20 秒",
        "2 个线程: 开门 ≈1.90 秒，盘点两遍 ≈1.20 秒",
        "2 个进程: 开门 ≈2.90 秒，盘点两遍 ≈2.20 秒",
    ]


def test_an_inventory_is_arithmetic(lesson):
    assert lesson.take_inventory(5) == 0 + 1 + 4 + 2 + 2


@pytest.mark.asyncio
async def test_cancelling_does_not_stop_a_thread_but_a_sign_does(lesson, capsys):
    to_the_end, stopped = await lesson.cancel_only_stops_waiting()
    assert (to_the_end, stopped < 15) == (15, True)
    assert capsys.readouterr().out.splitlines() == [
        "前台: 等不及，走了",
        "书库: 没人举牌，15 摞全搬完",
        "前台: 等不及，走了；举牌",
        "书库: 看见牌子，放下书",
    ]


@pytest.mark.asyncio
async def test_the_desk_gives_up_only_once_the_clerk_is_on_his_way(lesson, monkeypatch):
    class Sleepy(ThreadPoolExecutor):
        def submit(self, *job):
            super().submit(time.sleep, 0.3)
            return super().submit(*job)

    monkeypatch.setattr(lesson, "ThreadPoolExecutor", Sleepy)
    to_the_end, stopped = await lesson.cancel_only_stops_waiting()
    assert (to_the_end, stopped < 15) == (15, True)


@pytest.mark.asyncio
async def test_to_thread_takes_context_variables_along(lesson):
    assert await lesson.who_is_reading() == {
        "to_thread": "小林",
        "run_in_executor": "不知道是谁",
        "copy_context().run": "小林",
    }
    assert lesson.reader.get() == "不知道是谁"


@pytest.mark.asyncio
async def test_the_erratum_wait_refuses_coroutines(lesson):
    waiting = [asyncio.sleep(0), asyncio.sleep(0)]
    words = "Passing coroutines is forbidden, use tasks explicitly."
    with pytest.raises(TypeError, match=words):
        await asyncio.wait(waiting)
    for coroutine in waiting:
        coroutine.close()
    assert words in lesson.__doc__


# In a worker that has just been started: say so, and wait for the test.
SLOW_TO_START = """
import os, sys, time
if "spawn_main" in " ".join(sys.orig_argv):
    started = os.path.join(os.environ["STARTING"], str(os.getpid()))
    open(started, "x").close()
    while os.path.exists(started):
        time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there the workers hear Ctrl-C, too")
def test_ctrl_c_to_the_whole_group_does_not_disturb_workers_that_are_starting(tmp_path):
    starting = tmp_path / "starting"
    starting.mkdir()
    (tmp_path / "sitecustomize.py").write_text(SLOW_TO_START)
    variables = {"PYTHONPATH": str(tmp_path), "STARTING": str(starting)}
    with processes.started(
        [sys.executable, "-W", "error", SCRIPT],
        env={**os.environ, **variables, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as lesson:
        while len(workers := list(starting.iterdir())) < 2:
            assert lesson.poll() is None
            time.sleep(0.01)
        processes.press_ctrl_c(lesson, group=True)
        for worker in workers:
            worker.unlink()
        output, errors = lesson.communicate(timeout=40)
    assert lesson.returncode == -signal.SIGINT
    assert "── 4." in output and "── 5." not in output
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert errors.splitlines().count("KeyboardInterrupt") == 1, errors  # the parent's alone


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a single child")
@pytest.mark.parametrize("section", [1, 3, 4, 5])
def test_ctrl_c_does_not_wait_for_the_rest(section):
    ran = processes.interrupted(SCRIPT, at=f"── {section}.")
    assert f"── {section}." in ran.stdout
    assert f"── {section + 1}." not in ran.stdout
    assert ran.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert ran.returncode == -signal.SIGINT
