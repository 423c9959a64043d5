"""Steps, spans and the shortening of long traces."""

import itertools
import re

import pytest

from toolbox.timeline import reading, remarks


@pytest.mark.parametrize("trace", [None, [], {"v": 1}, {"v": 2, "ev": []}, {"ev": []}])
def test_what_is_no_trace_is_refused_in_chinese(trace):
    with pytest.raises(reading.Unreadable, match="录像"):
        reading.check(trace)


def test_spans_of_a_lane_follow_each_other(tea):
    spans = [span for span in reading.spans(tea) if span.lane == 2]
    assert [span.state for span in spans] == ["ready", "running", "queue", "ready", "running"]
    for one, next_ in itertools.pairwise(spans):
        assert (one.last, one.end) == (next_.first, next_.start)
    assert tea["ev"][spans[-1].last]["state"] == "error"


def test_a_lane_that_never_ends_lasts_to_the_end(tea):
    tea["ev"] = tea["ev"][:30]
    span = [span for span in reading.spans(tea) if span.lane == 1][-1]
    assert span.last == 29


def test_sleep_zero_is_ready_and_no_wait(tea):
    tea["ev"] = [
        {"k": "run", "t": 0, "h": 1, "T": 0},
        {"k": "soon", "t": 1, "h": 2, "T": 0, "why": "yield", "by": {"T": 0}},
        {"k": "end", "t": 2, "h": 1, "T": 0, "state": "wait", "w": {"kind": "yield"}},
        {"k": "run", "t": 3, "h": 2, "T": 0},
    ]
    assert [(s.state, s.start, s.end) for s in reading.spans(tea)] == [
        ("running", 0, 2),
        ("ready", 2, 3),
        ("running", 3, 3),
    ]


def test_steps_leave_out_bookkeeping_and_keep_what_matters(tea):
    steps = [tea["ev"][index] for index in reading.steps(tea)]
    assert not [event for event in steps if event["k"] in ("polled", "new")]
    assert [event for event in steps if event["k"] == "poll"] == [
        next(e for e in tea["ev"] if e["k"] == "poll" and e["ready"] == 0)
    ]
    assert not [event for event in steps if "_on_completion" in event.get("cb", "")]
    timers = [event for event in steps if event.get("cb") == "_set_result_unless_cancelled"]
    assert [event["k"] for event in timers] == ["timer", "timer", "run"]
    lines = [event["l"] for event in steps if event["k"] == "line" and event["T"] is None]
    assert lines == [28]  # asyncio.run(main()); no definition, no import


@pytest.mark.parametrize(
    ("callback", "internal"),
    [
        ("print", False),
        ("Event.set", False),
        ("main.<locals>.<lambda>", False),
        ("ring", False),
        ("_set_result_unless_cancelled", True),
        ("gather.<locals>._done_callback", True),
        ("TaskGroup._on_task_done", True),
        ("BaseSelectorEventLoop._read_from_self", True),
        ("Task.cancel", True),
        ("run_until_complete.<locals>.done_cb", True),  # uvloop's
        ("run_coroutine_threadsafe.<locals>.callback", True),
        ("StreamReaderProtocol.connection_made.<locals>.callback", True),
        ("SubprocessStreamProtocol.process_exited", True),
        ("Protocol.eof_received", True),
    ],
)
def test_whose_callback_it_is(callback, internal):
    assert reading.is_internal(callback) is internal


def test_lines_go_before_anything_else_is_lost(tea):
    line = {"k": "line", "t": 1, "T": 0, "f": "tea.py", "l": 19}
    at = next(i for i, event in enumerate(tea["ev"]) if event["k"] == "run") + 1
    others = [event for event in tea["ev"] if event["k"] != "line"]
    tea["ev"][at:at] = [line] * 500
    short = reading.shorten(tea, 120)
    assert (short.cut, short.events) == (False, len(tea["ev"]))
    assert short.lines in (1, 2, 4, 8, 16)
    assert [event for event in short.trace["ev"] if event["k"] != "line"] == others
    # Where lines are missing, nobody knows which line runs.
    kept = [event.get("more") for event in short.trace["ev"] if event == {**event, **line}]
    assert kept == [None] * (short.lines - 1) + [True]


def test_a_short_trace_stays_as_it_is(tea):
    short = reading.shorten(tea)
    assert short.trace == tea
    assert (short.lines, short.cut) == (None, False)


def test_ends_are_those_that_the_events_show(tea):
    assert reading.ends(tea["ev"]) == {
        lane["id"]: lane["state"] for lane in tea["tasks"] if lane["state"] != "pending"
    }
    last = max(i for i, event in enumerate(tea["ev"]) if event.get("state") == "error")
    assert 2 not in reading.ends(tea["ev"][:last])
    gone = [*tea["ev"][:last], {"k": "gone", "t": 9, "T": 2}]
    assert reading.ends(gone)[2] == "gone"
    assert [span.last for span in reading.spans({**tea, "ev": gone}) if span.lane == 2][-1] == last


def test_remarks_say_all_that_is_missing(tea):
    def said(**changes):
        trace = {**tea, **changes}
        return remarks.remarks(trace, reading.shorten(trace, limit))

    limit = 20_000
    assert said() == []
    notes = [f"{word}: …" for word in ("uvloop", "lines", "generators", "eager")]
    for note, (chinese, english) in zip(notes, said(notes=notes), strict=True):
        assert english == note
        assert re.search("[\u4e00-\u9fff]", chinese) and "…" not in chinese
    assert said(notes=["recorder: oh"]) == [("recorder: oh", "recorder: oh")]
    assert said(truncated=True)[0][0].startswith("录像到上限为止")
    limit = 18
    [(cut, _), (lines, _)] = said()
    assert cut == f"太长了：只画出前 18 个事件，一共录了 {len(tea['ev'])} 个。"
    assert lines == "太长了：任务每跑一次只画开头 1 行。"
    limit = sum(event["k"] != "line" for event in tea["ev"])
    assert said()[0][0] == "太长了：不画源代码的逐行执行，切换和等待都在。"


def test_pieces_of_one_line_are_merged_but_not_lines(tea):
    def merged(*texts, **more):
        tea["ev"] = [{"k": "out", "t": 0, "T": 0, "s": "stdout", "text": text} for text in texts]
        tea["ev"][-1].update(more)
        return [event["text"] for event in reading.shorten(tea).trace["ev"]]

    assert merged("a", " ", "b", "\n", "c\n") == ["a b\n", "c\n"]
    assert merged("a", "b", T=1) == ["a", "b"]
    assert merged("a", "b", by={"thread": "x"}) == ["a", "b"]


def test_a_cut_trace_has_only_the_lanes_that_it_shows(tea):
    short = reading.shorten(tea, 18)
    assert short.cut
    assert len(short.trace["ev"]) == 18
    shown = {event["T"] for event in short.trace["ev"] if event["k"] == "new"}
    assert [lane["id"] for lane in short.trace["tasks"]] == sorted(shown)
    reading.spans(short.trace)
    reading.steps(short.trace)
