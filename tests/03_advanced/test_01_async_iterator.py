"""Lesson 3.1 on virtual time: who waits, who pulls, and when a generator is really closed."""

import asyncio
import contextlib

import pytest

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_each_lap_awaits_and_a_used_up_reader_stays_empty(lesson, capsys):
    assert await lesson.await_every_lap() == (lesson.LOG, [])
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == ["守塔人: 等电报", "灯: 有人让路，我转一圈", "守塔人: 抄下 点灯"]


async def test_reader_ends_with_stop_async_iteration(lesson):
    reader = lesson.LogReader([])
    assert aiter(reader) is reader
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_reader_lets_others_run_while_it_waits(lesson):
    started = now()
    await asyncio.gather(*(anext(lesson.LogReader(["点灯"])) for _ in range(3)))
    assert now() - started == pytest.approx(0.01)


async def test_plain_for_is_refused(lesson):
    assert await lesson.plain_for_cannot_wait() == "'LogReader' object is not iterable"


async def test_async_for_is_refused_on_a_list_and_in_a_plain_function():
    with pytest.raises(TypeError, match="'async for' requires an object with __aiter__ method"):
        async for _ in ["点灯"]:
            pass
    with pytest.raises(SyntaxError, match="'async for' outside async function"):
        compile("def read():\n    async for line in reader: pass", "<test>", "exec")


async def test_aiter_as_a_coroutine_is_refused(lesson):
    class Wrong(lesson.LogReader):
        def __aiter__(self):  # what `async def __aiter__` gives: something to be awaited
            return asyncio.get_running_loop().create_future()

    with pytest.raises(TypeError, match="that does not implement __anext__"):
        async for _ in Wrong([]):
            pass


async def test_generator_starts_anew_at_each_call_and_ends_for_good(lesson):
    twice, by_hand = await lesson.generator_is_the_short_form()
    assert twice == [lesson.LOG, lesson.LOG]
    assert by_hand == [*lesson.LOG, "没有了"]


async def test_broken_off_generator_is_closed_later_by_another_task(lesson, capsys):
    assert await lesson.break_does_not_close() == [False, True]
    assert capsys.readouterr().out.splitlines() == [
        "望远镜: 打开",
        "main: 看见灯船，break",
        "main: 已在循环外",
        "望远镜: 盖上。是打开它的任务盖的吗？False",
        "望远镜: 打开",
        "main: 看见灯船，不看了",
        "main: 变量 lookout 还拿着它，等多久也不盖",
        "望远镜: 盖上。是打开它的任务盖的吗？True",
        "main: aclose() 之后",
    ]


async def test_aclosing_closes_before_the_block_is_left(lesson, capsys):
    assert await lesson.aclosing_closes_in_time() == [True]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "望远镜: 盖上。是打开它的任务盖的吗？True",
        "main: 已在 async with 外",
    ]


async def test_aclosing_closes_when_the_loop_body_fails(lesson):
    covered: list[bool] = []
    with contextlib.suppress(RuntimeError):
        async with contextlib.aclosing(lesson.watch(covered)) as lookout:
            async for _ in lookout:
                raise RuntimeError("起雾")
    assert covered == [True]


async def test_async_comprehension_waits_for_one_after_another(lesson):
    started = now()
    answers = [await lesson.hail(ship) async for ship in lesson.telegraph(lesson.SHIPS[:3])]
    assert answers == ["灯船应答", "渡轮应答", "渔船应答"]
    assert now() - started == pytest.approx(3 * (0.01 + 0.05))


async def test_tasks_made_in_the_comprehension_overlap(lesson):
    started = now()
    in_turn, at_once = await lesson.comprehension_is_sequential()
    assert in_turn == at_once
    assert now() - started == pytest.approx(3 * (0.01 + 0.05) + (3 * 0.01 + 0.05))


async def test_chain_of_generators_never_runs_ahead(lesson):
    assert await lesson.chain_pulls_one_at_a_time() == [1, 2, 3, 4, 5, 6]


async def test_bounded_queue_lets_the_source_run_three_ahead_at_most(lesson):
    progress = await lesson.queue_runs_a_little_ahead()
    assert [seen - copied for copied, seen in enumerate(progress, start=1)] == [3, 3, 3, 2, 1, 0]


async def test_asend_is_what_yield_returns():
    """Exercise 3."""
    heard = []

    async def telegraph():
        heard.append((yield "点灯"))
        yield "起雾"

    async with contextlib.aclosing(telegraph()) as log:
        assert await anext(log) == "点灯"
        assert await log.asend("重发") == "起雾"
    assert heard == ["重发"]


async def test_the_course_reader_still_runs():
    class Reader:
        def __init__(self):
            self.count = 0

        async def readline(self):
            self.count += 1
            return None if self.count == 100 else self.count

        def __aiter__(self):
            return self

        async def __anext__(self):
            value = await self.readline()
            if value == None:  # noqa: E711 — the course's line
                raise StopAsyncIteration
            return value

    assert [value async for value in Reader()] == list(range(1, 100))
