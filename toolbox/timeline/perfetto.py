"""A trace in Chrome's trace format, for https://ui.perfetto.dev: a track for each lane and thread.

Runs, waits and a thread's jobs are slices, output and new timers are instants, and an arrow (a
flow) leads from who woke a lane to the run that follows.
"""

from . import reading
from .reading import READY

PROCESS = 1
PROGRAM = 0  # the track of what no lane did


def convert(trace: dict) -> dict:
    """The JSON object that Perfetto opens; the trace is not shortened."""
    names = reading.names(trace)
    jobs = [event for event in trace["ev"] if event["k"] in ("thr+", "thr-")]
    threads: dict[str, int] = {}  # thread → its track, behind those of the lanes
    for event in jobs:
        threads.setdefault(event["thread"], 1 + len(names) + len(threads))
    return {
        "displayTimeUnit": "ms",
        "otherData": {"script": trace["script"], "python": trace["python"]},
        "traceEvents": [
            *_tracks(trace, [*names, *threads]),
            *_slices(trace, names),
            *_jobs(jobs, threads),
            *_flows(trace["ev"]),
            *_instants(trace["ev"], threads),
        ],
    }


def _tracks(trace: dict, names: list[str]):
    yield _about("process_name", PROGRAM, {"name": trace["script"]})
    for track, name in enumerate(["program", *names]):
        yield _about("thread_name", track, {"name": name})
        yield _about("thread_sort_index", track, {"sort_index": track})


def _about(what: str, track: int, values: dict) -> dict:
    return {"ph": "M", "pid": PROCESS, "tid": track, "name": what, "args": values}


def _slices(trace: dict, names: list[str]):
    for span in reading.spans(trace):
        wait = span.wait or {}
        name = span.state
        if span.wait is not None and span.state != READY:
            on = [names[lane] for lane in wait.get("on", [])][:8]
            name = f"await {', '.join(on) or reading.waiting_for(wait)}"
        yield {
            "ph": "X",
            "pid": PROCESS,
            "tid": _track(span.lane),
            "ts": span.start,
            "dur": span.end - span.start,
            "cat": reading.group(span.state),
            "name": name,
            "args": _arguments(wait),
        }


def _jobs(events: list[dict], threads: dict[str, int]):
    """What a thread does between the begin and the end of a job."""
    began: dict[int, int] = {}
    for event in events:
        if event["k"] == "thr+":
            began[event["j"]] = event["t"]
        elif event["j"] in began:
            start = began.pop(event["j"])
            yield {
                "ph": "X",
                "pid": PROCESS,
                "tid": threads[event["thread"]],
                "ts": start,
                "dur": event["t"] - start,
                "cat": "thread",
                "name": event.get("fn") or "job",
            }


def _arguments(wait: dict) -> dict:
    values = {key: wait[key] for key in ("kind", "expr", "api", "obj", "delay") if key in wait}
    if at := wait.get("at"):
        values["at"] = f"{at[0]}:{at[1]}"
    return values


def _flows(events: list[dict]):
    """From the one who appended a lane to the ready queue to the run of that lane."""
    began = {
        event["h"]: event for event in events if event["k"] == "run" and event.get("h") is not None
    }
    for event in events:
        if event["k"] != "soon" or event.get("T") is None or event["h"] not in began:
            continue
        waker = event.get("by", {}).get("T")
        if waker is None or waker == event["T"]:
            continue
        common = {"pid": PROCESS, "id": event["h"], "cat": "wake", "name": event["why"]}
        yield {**common, "ph": "s", "tid": _track(waker), "ts": event["t"]}
        run = began[event["h"]]
        yield {**common, "ph": "f", "bp": "e", "tid": _track(run["T"]), "ts": run["t"]}


def _instants(events: list[dict], threads: dict[str, int]):
    for event in events:
        if event["k"] == "out" and event["text"].strip():
            name = event["text"].strip()[:80]
        elif event["k"] == "timer":
            name = f"timer in {event['when'] / 1000:g} ms"
        else:
            continue
        thread = event.get("by", {}).get("thread")
        yield {
            "ph": "i",
            "s": "t",
            "pid": PROCESS,
            "tid": threads.get(thread) or _track(event.get("T")),
            "ts": event["t"],
            "cat": event["k"],
            "name": name,
        }


def _track(lane: int | None) -> int:
    return PROGRAM if lane is None else lane + 1
