"""Lesson 1.1: who speaks, who hears, who catches — and who has to poll."""

from greenlet import GreenletExit


def test_switching_by_hand_speaks_the_lines_as_1_3_2_4(lesson, capsys):
    lesson.switch_by_hand()
    spoken = capsys.readouterr().out.splitlines()[:-1]
    assert [line[0] for line in spoken] == ["1", "3", "2", "4"]


def test_finished_greenlet_returns_to_its_parent_not_to_its_partner(lesson, capsys):
    romeo_part, juliet_part = lesson.switch_by_hand()
    assert juliet_part.dead
    assert not romeo_part.dead
    assert "谢幕\n" not in capsys.readouterr().out


def test_suspended_greenlet_goes_on_where_it_stopped(lesson, capsys):
    romeo_part, _ = lesson.switch_by_hand()
    capsys.readouterr()
    romeo_part.switch()
    assert romeo_part.dead
    assert capsys.readouterr().out == "罗密欧: 谢幕\n"


def test_switch_carries_values_both_ways(lesson, capsys):
    assert lesson.pass_values() == ["别凭月亮", "不必起誓"]
    heard = [line for line in capsys.readouterr().out.splitlines() if line.startswith("朱丽叶")]
    assert heard == ["朱丽叶听到: 我凭月亮起誓", "朱丽叶听到: 那我凭什么起誓"]


def test_switching_suspends_the_whole_call_stack(lesson, capsys):
    assert lesson.switch_from_deep_inside() == ["juliet", "recite", "sigh"]
    assert capsys.readouterr().out.splitlines()[-1] == "朱丽叶演完: 罗密欧啊"


def test_exception_goes_to_the_parent(lesson, capsys):
    assert lesson.route_the_exception() == ["后台", "罗密欧"]
    assert "罗密欧还在台上等: True" in capsys.readouterr().out


def test_thrown_greenlet_cleans_up_and_dies_quietly(lesson, capsys):
    asked = lesson.leave_the_stage()
    assert asked.dead
    assert capsys.readouterr().out.splitlines() == [
        "罗密欧: 放下佩剑",
        f"throw() 返回 {GreenletExit()!r}，没有抛出；dead = True",
        "没有人再引用他，也一样下台：",
        "罗密欧: 放下佩剑",
        "台上空了，落幕",  # so it was del that ended him, not the end of the function
    ]


def test_selector_asks_twice_where_switching_alone_must_poll(lesson):
    (polled, letter), (woken, same_letter) = lesson.nobody_wakes_you()
    assert letter == same_letter == "明天九点"
    assert polled >= 2
    assert woken == 2
