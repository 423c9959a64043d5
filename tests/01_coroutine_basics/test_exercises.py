"""动手试试 of chapters 1 and 2, done as written: they run, and they answer what is asked."""

import asyncio
import re
import types

import pytest

from toolbox import catalog

LESSONS = {lesson.number: lesson for lesson in catalog.lessons() if lesson.chapter in ("01", "02")}


def exercise(number: str, nth: int) -> str:
    exercises = LESSONS[number].docstring.partition("\n动手试试\n")[2]
    return "".join(re.split(r"^ {4}\d\. ", exercises, flags=re.MULTILINE)[nth].split())


def done(number: str, nth: int, changes: dict[str, str], says: list[str]) -> types.ModuleType:
    """The lesson, changed: that the exercise `says` so, blanks aside, ties it to this test."""
    for words in says:
        assert "".join(words.split()) in exercise(number, nth), words
    path = LESSONS[number].path
    body = path.read_text(encoding="utf-8").split('"""', 2)[2]
    for old, new in changes.items():
        assert body.count(old) == 1, old
        body = body.replace(old, new)
    module = types.ModuleType(path.stem)
    exec(compile(body, path, "exec"), vars(module))
    return module


@pytest.mark.parametrize("number", LESSONS)
def test_what_an_exercise_uses_is_imported_or_the_exercise_says_so(number):
    imported = re.findall(r"^import (\w+)$", LESSONS[number].path.read_text("utf-8"), re.MULTILINE)
    for nth in (1, 2, 3):
        text = exercise(number, nth)
        for module in re.findall(r"\b(asyncio|gc|sys|threading|time)\.[a-z]", text):
            assert module in imported or f"先import{module}" in text, text


def test_a_blocking_romeo_keeps_the_order_and_takes_all_the_time(capsys):
    pause, nap = "    yield from asyncio.sleep(0.1)\n", "    time.sleep(0.3)\n"
    lesson = done("1.3", 2, {pause: nap + pause}, says=[f"{pause}前面加一行{nap}"])
    assert lesson.let_the_loop_direct() > 0.45  # 0.3 + 0.2, less what a coarse clock may lose
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["1", "3", "2", "4", "用"]


def test_asyncio_sleep_misses_the_loop_where_one_drives_by_hand(capsys):
    line, nap = 'await say("2 罗密欧: 那我凭什么起誓？")', "await asyncio.sleep(0.1)"
    lesson = done("1.4", 2, {line: nap}, says=[nap])
    with pytest.raises(RuntimeError, match="no running event loop"):
        lesson.direct_by_hand()


def test_a_kept_coroutine_warns_when_it_goes(capsys):
    kept = "part = romeo()"
    lesson = done("1.4", 3, {"        romeo()\n": f"        {kept}\n"}, says=[kept])
    with pytest.warns(RuntimeWarning, match="coroutine 'romeo' was never awaited"):
        assert asyncio.run(lesson.forget_to_await()) == []
    assert capsys.readouterr().out.strip() == "Python 说:"


def test_an_alarm_rings_though_somebody_is_always_in_the_queue(capsys):
    changes = {
        "loop.call_later(0, serve": "loop.call_later(0.01, serve",
        '        loop.call_soon(serve, "乙的第二件事")': "        again()",
        "    def open_round(": "    def again(): loop.call_soon(again)\n\n    def open_round(",
        "    return served\n": "    await asyncio.sleep(0.05)\n    return served\n",
    }
    says = [
        "call_later(0.01, …)",
        "def again(): loop.call_soon(again)",
        "await asyncio.sleep(0.05)",
    ]
    lesson = done("2.1", 1, changes, says)
    served = asyncio.run(lesson.serve_one_round_at_a_time())
    assert "闹钟（0 秒）" in served  # the last; on a machine that stalls perhaps sooner


def test_giving_way_after_the_write_saves_the_coins(capsys):
    changes = {
        "        if pause:\n            await asyncio.sleep(0)  # 线程": "        # 线程",
        "        threads.add(": "        if pause:\n            await asyncio.sleep(0)\n"
        "        threads.add(",
    }
    lesson = done("2.2", 2, changes, says=["await asyncio.sleep(0) 移到写回之后"])
    assert asyncio.run(lesson.run_one_piece_at_a_time()) == [3, 3]
    wrote = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  读")]
    assert wrote == [f"  读到 {n} 枚，写回 {n + 1} 枚" for n in range(3)] * 2


def test_awaited_one_by_one_they_take_both_their_times(capsys):
    water, powder = "water = await boil()", "powder = await grind()"
    changes = {
        'water = asyncio.create_task(boil(), name="烧水")\n    powder': f"{water}\n    powder",
        'powder = asyncio.create_task(grind(), name="磨豆")\n    print("main': f"{powder}\n"
        '    print("main',
        "results = [await water, await powder]": "results = [water, powder]",
    }
    lesson = done("2.3", 1, changes, says=[water, powder, "results 改成 [water, powder]"])
    results, elapsed = asyncio.run(lesson.schedule_first_run_later())
    assert results == ["水", "粉"]
    assert elapsed > 0.3  # 0.25 + 0.08, less what a coarse clock may lose


def test_who_swallows_the_cancellation_is_not_cancelled(capsys):
    swallow = "        raise  # 吞掉它，取消你的人（timeout、TaskGroup、Ctrl-C）就会失灵\n"
    lesson = done("2.3", 2, {swallow: ""}, says=["boil 里的 raise 删掉"])
    assert not asyncio.run(lesson.cancel_is_a_request()).cancelled()
    assert capsys.readouterr().out.endswith("烧水.cancelled() = False\n")
    asyncio.run(lesson.fail_together())
    assert "烧水: 完成" in capsys.readouterr().out


def test_a_darkroom_that_fails_leaves_the_customer_waiting_unless_in_a_group(capsys):
    spoil = "raise ValueError"
    fill = 'slip.set_result("毕业照")'
    lesson = done("2.4", 2, {fill: spoil}, says=[spoil, "（按 Ctrl-C 结束）"])
    with pytest.raises(ExceptionGroup) as failed:
        asyncio.run(lesson.let_another_task_complete_it())
    assert isinstance(failed.value.exceptions[0], ValueError)
    alone = {
        fill: spoil,
        "async with asyncio.TaskGroup() as group:": "if True:",
        "group.create_task(darkroom())": "darkness = asyncio.create_task(darkroom())",
    }
    lesson = done("2.4", 2, alone, says=["换成 create_task"])

    async def wait_a_second():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # never retrieved
        async with asyncio.timeout(0.2):
            await lesson.let_another_task_complete_it()

    with pytest.raises(TimeoutError):
        asyncio.run(wait_a_second())
