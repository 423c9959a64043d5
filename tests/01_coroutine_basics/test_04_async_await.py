"""Lesson 1.4 on virtual time: the keywords, and the generator that is left underneath them."""

import asyncio
import inspect
import sys

import pytest


def virtual_time(test):
    return pytest.mark.asyncio(pytest.mark.looptime(test))


def numbers(lines):
    return [int(line[0]) for line in lines if line[0].isdigit()]


@virtual_time
async def test_tasks_alternate_in_the_time_of_the_slower_one(lesson, capsys, monkeypatch):
    """The clock is ten times as fast as the loop: the number printed must be measured."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(lesson.time, "perf_counter", lambda: 10 * loop.time())
    assert await lesson.play_together() == pytest.approx(2)
    *lines, took = capsys.readouterr().out.splitlines()
    assert numbers(lines) == [1, 3, 2, 4]
    assert took == "用时 ≈2.0 秒"


@virtual_time
async def test_calling_a_coroutine_function_runs_nothing_until_awaited(lesson, capsys):
    assert await lesson.call_is_not_await() == ["CORO_CREATED", "CORO_CLOSED"]
    lines = capsys.readouterr().out.splitlines()
    assert lines.index("await 之后：") < lines.index("1 罗密欧: 我凭月亮起誓。")


@virtual_time
async def test_coroutine_object_plays_only_once(lesson):
    part = lesson.romeo()
    await part
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await part


@virtual_time
async def test_forgotten_await_warns_and_speaks_no_line(lesson, capsys):
    never_awaited = "RuntimeWarning: coroutine 'romeo' was never awaited"
    assert await lesson.forget_to_await() == [never_awaited]
    assert numbers(capsys.readouterr().out.splitlines()) == []


@virtual_time
async def test_forgotten_await_is_told_in_one_line_in_debug_mode_too(lesson, capsys):
    asyncio.get_running_loop().set_debug(True)
    sys.set_coroutine_origin_tracking_depth(10)
    try:
        await lesson.forget_to_await()
    finally:
        sys.set_coroutine_origin_tracking_depth(0)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_send_drives_coroutines_by_hand_where_no_loop_runs(lesson, capsys):
    assert lesson.direct_by_hand() == {"罗密欧": "掌声", "朱丽叶": "鲜花"}
    assert numbers(capsys.readouterr().out.splitlines()) == [1, 3, 2, 4]


def test_main_runs_a_loop_for_the_first_three_sections_only(lesson, monkeypatch):
    has_a_loop = []

    def look():
        try:
            has_a_loop.append(asyncio.get_running_loop().is_running())
        except RuntimeError:
            has_a_loop.append(False)

    async def look_inside():
        look()

    probes = {
        title: look_inside if inspect.iscoroutinefunction(section) else look
        for title, section in lesson.SECTIONS.items()
    }
    monkeypatch.setattr(lesson, "SECTIONS", probes)
    lesson.main()
    assert has_a_loop == [True, True, True, False, False]


def test_what_say_yields_comes_out_of_send(lesson):
    part = lesson.juliet_by_hand()
    assert [part.send(None), part.send(None)] == [
        "3 朱丽叶: 别凭月亮，它夜夜都在变。",
        "4 朱丽叶: 不必起誓。",
    ]
    with pytest.raises(StopIteration) as stopped:
        part.send(None)
    assert stopped.value.value == "鲜花"


def test_only_async_def_is_a_coroutine_function_and_only_it_cannot_be_iterated(lesson):
    assert lesson.compare_identities() == [
        (False, False, True),
        (False, True, True),
        (True, True, False),
    ]


def test_for_over_a_coroutine_is_refused(lesson):
    part = lesson.romeo()
    with pytest.raises(TypeError, match="'coroutine' object is not iterable"):
        list(part)
    part.close()
