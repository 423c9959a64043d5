"""Lesson 1.2: generators as coroutines, driven by hand and by a small scheduler."""

import inspect

import pytest


def spoken(capsys):
    return capsys.readouterr().out.splitlines()


def numbers(lines):
    return [int(line[0]) for line in lines if line[0].isdigit()]


def test_calling_a_generator_function_runs_nothing(lesson, capsys):
    assert lesson.call_and_next() == ["GEN_CREATED", "GEN_SUSPENDED", "GEN_CLOSED"]
    assert spoken(capsys)[:2] == ["调用之后: GEN_CREATED", "1 罗密欧: 我凭月亮起誓。"]


def test_yield_from_finishes_the_partner_before_going_on(lesson, capsys):
    assert numbers(lesson.delegate()) == [1, 3, 4, 2]
    assert numbers(spoken(capsys)) == [1, 3, 4, 2]


def test_what_is_sent_becomes_the_value_of_yield(lesson, capsys):
    assert lesson.send_directions() == [
        "罗密欧: 我凭月亮起誓",
        "罗密欧: （轻声）我凭月亮起誓",
        "罗密欧: （跪下）我凭月亮起誓",
    ]
    assert "just-started generator" in spoken(capsys)[0]


def test_throw_is_handled_at_the_yield_and_close_runs_finally(lesson, capsys):
    assert lesson.interrupt_and_close() == "GEN_CLOSED"
    assert spoken(capsys) == [
        "朱丽叶: 再说一句吧",
        "朱丽叶: 奶妈叫我，去去就来",
        "朱丽叶: 收到 GeneratorExit，不再来了",
        "朱丽叶: 关窗",
        "close() 之后: GEN_CLOSED",
    ]


def test_yielding_again_after_close_is_an_error():
    def stubborn():
        try:
            yield
        except GeneratorExit:
            yield

    part = stubborn()
    next(part)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        part.close()


def test_return_value_travels_in_stop_iteration_and_through_yield_from(lesson):
    by_hand, lines = lesson.return_an_answer()
    assert by_hand == "不必起誓"
    assert lines == ["3 朱丽叶: 别凭月亮，它夜夜都在变。", "罗密欧记下: 不必起誓"]


def test_scheduler_gives_everyone_one_turn_a_round(lesson, capsys):
    assert lesson.direct_three_actors() == ["罗密欧", "朱丽叶", "奶妈"]
    assert numbers(spoken(capsys)) == [1, 3, 5, 2, 4, 6]


def test_scheduler_goes_on_when_someone_finishes_early(lesson, capsys):
    cast = {"长": iter("abc"), "空": iter(""), "短": iter("x")}
    assert lesson.direct(cast) == ["空", "短", "长"]
    assert spoken(capsys) == ["a", "x", "b", "c"]


def test_romeo_and_juliet_do_not_know_each_other(lesson):
    assert all(inspect.isgeneratorfunction(part) for part in (lesson.romeo, lesson.juliet))
    assert numbers([*lesson.romeo(), *lesson.juliet()]) == [1, 2, 3, 4]
