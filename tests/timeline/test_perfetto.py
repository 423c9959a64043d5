"""The file for ui.perfetto.dev: well-formed, and it says what the trace says."""

import itertools
import json
from collections import Counter

import pytest

from toolbox.timeline import perfetto

pytestmark = pytest.mark.xdist_group("page")  # one process: lessons are recorded once
LESSONS = [
    "01_coroutine_basics/02_yield_demo.py",
    "02_asyncio_core/01_event_loop_demo.py",
    "02_asyncio_core/03_task_demo.py",
    "02_asyncio_core/05_thread_pool_demo.py",
]


def of(converted: dict, phase: str) -> list[dict]:
    return [event for event in converted["traceEvents"] if event["ph"] == phase]


@pytest.mark.parametrize("file", LESSONS)
def test_well_formed(recorded, file):
    trace = recorded(file)
    converted = json.loads(json.dumps(perfetto.convert(trace)))
    tracks = {event["tid"] for event in of(converted, "M")}
    threads = {event["thread"] for event in trace["ev"] if event["k"] == "thr+"}
    assert tracks == set(range(len(trace["tasks"]) + 1 + len(threads)))
    jobs = [event for event in of(converted, "X") if event["cat"] == "thread"]
    assert len(jobs) == sum(event["k"] == "thr-" for event in trace["ev"])
    assert not threads & {"program", *(lane["name"] for lane in trace["tasks"])}
    for event in converted["traceEvents"]:
        assert event["tid"] in tracks
        if event["ph"] != "M":
            assert event["ts"] >= 0
    assert all(event["dur"] >= 0 for event in of(converted, "X"))
    starts = Counter(event["id"] for event in of(converted, "s"))
    finishes = Counter(event["id"] for event in of(converted, "f"))
    assert starts == finishes
    assert set(starts.values()) <= {1}
    begins = {event["id"]: event["tid"] for event in of(converted, "s")}
    assert all(begins[event["id"]] != event["tid"] for event in of(converted, "f"))
    times = {event["id"]: event["ts"] for event in of(converted, "s")}
    assert all(times[event["id"]] <= event["ts"] for event in of(converted, "f"))


@pytest.mark.parametrize("file", LESSONS)
def test_slices_of_one_track_do_not_overlap(recorded, file):
    by_track: dict[int, list[dict]] = {}
    for event in of(perfetto.convert(recorded(file)), "X"):
        by_track.setdefault(event["tid"], []).append(event)
    for slices in by_track.values():
        for one, next_ in itertools.pairwise(slices):
            assert one["ts"] + one["dur"] <= next_["ts"]


def test_waits_are_slices_and_wakers_have_arrows(tea):
    converted = perfetto.convert(tea)
    slices = {(event["tid"], event["name"]) for event in of(converted, "X")}
    assert {
        (1, "await 烧水, waiter"),
        (2, "await sleep 0.2"),
        (3, "await Queue#1.get"),
        (4, "await sleep 60"),
        (3, "running"),
        (3, "ready"),
    } <= slices
    get = next(event for event in of(converted, "X") if event["name"] == "await Queue#1.get")
    assert get["args"]["expr"] == "await orders.get()"
    assert get["args"]["at"] == "tea.py:13"
    woke = {
        (s["tid"], f["tid"]) for s, f in zip(of(converted, "s"), of(converted, "f"), strict=True)
    }
    assert (2, 3) in woke  # 烧水 put what the waiter was waiting for
    assert (1, 2) in woke  # Task-1 created 烧水
    assert [event["name"] for event in of(converted, "i") if event["cat"] == "out"] == [
        "上茶: 龙井"
    ]


def test_an_empty_trace_is_a_file_all_the_same(tea):
    tea["tasks"], tea["ev"] = [], []
    assert of(perfetto.convert(tea), "X") == []
