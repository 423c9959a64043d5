"""Lesson 2.4: who completes a Future, who is woken, and what threads must not do."""

import asyncio
import concurrent.futures
import threading

import pytest

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
real_time = pytest.mark.looptime(False)


async def test_set_result_goes_on_and_the_waiter_wakes_later(lesson, capsys):
    photo, woken_at_once = await lesson.complete_by_hand()
    assert photo == "全家福"
    assert not woken_at_once
    assert [line[:2] for line in capsys.readouterr().out.splitlines()] == ["洗好", "暗房", "顾客"]


async def test_a_future_that_nobody_completes_ends_with_the_timeout(lesson, capsys):
    started = asyncio.get_running_loop().time()
    slip = await lesson.wait_for_nobody()
    assert asyncio.get_running_loop().time() - started == pytest.approx(0.05)
    assert slip.cancelled()
    assert "TimeoutError" in capsys.readouterr().out


async def test_erratum_example_1_waits_for_ever():
    slip = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1_000_000):  # virtual seconds
            await slip


async def test_another_task_completes_it(lesson, capsys):
    assert await lesson.let_another_task_complete_it() == "毕业照"
    assert [line[:2] for line in capsys.readouterr().out.splitlines()] == ["顾客", "暗房", "顾客"]


async def test_a_future_ends_once_and_for_all(lesson, capsys):
    assert await lesson.complete_only_once() == [
        "str",
        "ValueError",
        "CancelledError",
        "InvalidStateError",
        "InvalidStateError",
        "InvalidStateError",
    ]
    printed = capsys.readouterr().out
    assert "没洗好就 result(): InvalidStateError: Result is not set." in printed
    assert "洗好了再 cancel(): False" in printed


async def test_callback_becomes_await_and_respects_a_customer_who_left(lesson, capsys):
    photo, complaints = await lesson.turn_callbacks_into_await()
    assert photo == "婚礼的照片"
    assert complaints == ["InvalidStateError"]
    assert "顾客走了，先看 slip.done(): 循环抱怨 []" in capsys.readouterr().out
    assert asyncio.get_running_loop().get_exception_handler() is None


async def test_ctrl_c_after_the_customer_left_drags_no_timeout_along(lesson):
    turning = asyncio.create_task(lesson.turn_callbacks_into_await())
    await asyncio.sleep(0.03 + 0.01 + 0.02)  # the photo is still to come
    turning.cancel()
    with pytest.raises(asyncio.CancelledError) as stopped:
        await turning
    assert stopped.value.__context__ is None


@real_time
async def test_debug_mode_refuses_a_plain_set_result_from_a_thread(lesson, capsys, monkeypatch):
    loop, from_threads = asyncio.get_running_loop(), []
    debug, wake = loop.get_debug(), loop.call_soon_threadsafe

    def call_soon_threadsafe(callback, *arguments):
        if threading.current_thread() is not threading.main_thread():
            from_threads.append((callback.__name__, *arguments))
        return wake(callback, *arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", call_soon_threadsafe)
    error = await lesson.complete_from_a_thread()
    assert error.startswith("Non-thread-safe operation invoked on an event loop")
    assert loop.get_debug() == debug
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert from_threads == [("set_result", "全家福")]  # the third way only


@real_time
async def test_call_soon_threadsafe_wakes_a_loop_that_nothing_else_wakes():
    loop = asyncio.get_running_loop()
    slip = loop.create_future()
    with concurrent.futures.ThreadPoolExecutor(1) as other_thread:
        other_thread.submit(loop.call_soon_threadsafe, slip.set_result, "全家福")
        assert await slip == "全家福"


@real_time
async def test_a_thread_pools_future_must_be_wrapped(lesson, capsys, monkeypatch):
    the_loop_goes_on = threading.Event()

    class Pool(concurrent.futures.ThreadPoolExecutor):
        def submit(self, function, *arguments):
            return super().submit(lambda: the_loop_goes_on.wait(20) and function(*arguments))

    monkeypatch.setattr(lesson, "ThreadPoolExecutor", Pool)
    asyncio.get_running_loop().call_soon(the_loop_goes_on.set)
    assert await lesson.wrap_the_other_future() == "海报（放大）"
    printed = capsys.readouterr().out
    assert "receipt 是 asyncio.Future 吗: False" in printed
    assert "await receipt: TypeError" in printed


async def test_a_task_is_a_future_that_only_its_coroutine_fills(lesson, capsys):
    assert await lesson.let_a_task_fill_itself() == "精修照"
    printed = capsys.readouterr().out
    assert "Task 是 asyncio.Future 吗: True" in printed
    assert "RuntimeError: Task does not support set_result operation" in printed


@real_time
async def test_no_task_is_left_behind(lesson):
    await lesson.main()
    assert asyncio.all_tasks() == {asyncio.current_task()}
