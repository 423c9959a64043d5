"""What a trace says, for those who draw it: its steps, the spans of its lanes, its names.

A *step* is an event that a learner stops at. The loop's own bookkeeping (an internal callback, a
round that did not sleep) is no step. Terminal and page count the same steps.
"""

import ast
import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

LIMIT = 20_000  # events that a page can show and a learner can follow

RUNNING, READY = "running", "ready"
GROUPS = {
    RUNNING: RUNNING,
    READY: READY,
    "yield": READY,
    "sleep": "sleep",
    **dict.fromkeys(("lock", "semaphore", "event", "condition", "queue", "barrier"), "sync"),
    **dict.fromkeys(("task", "gather", "wait", "taskgroup"), "task"),
    "future": "future",
    **dict.fromkeys(("thread", "process", "subprocess"), "outside"),
    "io": "io",
    **dict.fromkeys(("next", "switch"), "turn"),
}

# Callbacks that a learner did not write: asyncio's own, and those of libraries.
_INTERNAL = re.compile(
    r"^_|\._|<locals>\._|<locals>\.on_completion|^run_until_complete\.|^(Task|Future|BaseEventLoop|Server)\."
    r"|^(StreamReaderProtocol|SubprocessStreamProtocol|Protocol|run_coroutine_threadsafe)\."
    r"|\b(connection_made|connection_lost|set_result|set_exception|feed_eof|pause_reading)$"
)
_DEFINITION = re.compile(r"\s*(async\s+def|def|class|@|import|from)\b|\s*@|if __name__")


class Unreadable(ValueError):
    """This is no trace of version 1; the text says why, in Chinese."""


def check(trace: object) -> None:
    """Raise Unreadable unless `trace` looks like a trace of version 1."""
    if not isinstance(trace, dict) or not isinstance(trace.get("ev"), list):
        raise Unreadable("这不是一份录像")
    if trace.get("v") != 1:
        raise Unreadable(f"录像的版本是 {trace.get('v')}，这里只认识第 1 版")


def group(state: str) -> str:
    """The family of a span's state, which decides its colour: running, ready, sleep, sync, …"""
    return GROUPS.get(state, "future")


# ── names ──


def names(trace: dict) -> list[str]:
    """Each lane's name; where several have the same, with its number: 烧水#6."""
    count = Counter(lane["name"] for lane in trace["tasks"])
    return [
        f"{lane['name']}#{lane['id']}" if count[lane["name"]] > 1 else lane["name"]
        for lane in trace["tasks"]
    ]


def is_closing(lane: dict) -> bool:
    """Whether this is one of the two tasks with which asyncio.run() ends a loop."""
    return lane["coro"].startswith("BaseEventLoop.shutdown_")


def ends(events: list[dict]) -> dict[int, str]:
    """How lanes ended, as far as these events show it: done, error, cancelled, gone."""
    found = {}
    for event in events:
        if event["k"] == "end" and event.get("T") is not None and event["state"] != "wait":
            found[event["T"]] = event["state"]
        elif event["k"] == "gone":
            found[event["T"]] = "gone"
    return found


def is_internal(callback: str | None) -> bool:
    """Whether the callback belongs to asyncio or a library rather than to the learner."""
    return callback is None or _INTERNAL.search(callback) is not None


def internal(trace: dict) -> set[str]:
    """The callbacks of a trace that a learner did not write, whatever he calls his own."""
    written: set[str] = set()
    for lines in trace["src"].values():
        with contextlib.suppress(SyntaxError):
            written.update(_functions(ast.parse("\n".join(lines)), ""))
    found = {event["cb"] for event in trace["ev"] if event.get("cb")}
    return {callback for callback in found - written if is_internal(callback)}


def _functions(node: ast.AST, before: str) -> Iterator[str]:
    """The qualified names of the functions in it."""
    for child in ast.iter_child_nodes(node):
        name = before
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield before + child.name
            name = f"{before}{child.name}.<locals>."
        elif isinstance(child, ast.ClassDef):
            name = f"{before}{child.name}."
        yield from _functions(child, name)


def waiting_for(wait: dict) -> str:
    """What a lane waits for, in a few characters: sleep 0.25, Queue#1.get, value."""
    api, thing, kind = wait.get("api"), wait.get("obj"), wait["kind"]
    if kind == "sleep" and wait.get("delay") is not None:
        return f"sleep {wait['delay']:g}" if _is_number(wait["delay"]) else "sleep"
    if thing:
        method = (api or "").rpartition(".")[2]
        return f"{thing}.{method}" if method and "." in (api or "") else thing
    return api or {"future": "Future", "io": "I/O"}.get(kind, kind)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


# ── steps ──


def steps(trace: dict) -> list[int]:
    """The indexes of the events that a learner stops at."""
    events = trace["ev"]
    inner = internal(trace)
    user_handles = {
        event["h"]
        for event in events
        if event["k"] in ("soon", "timer") and "T" not in event and event["cb"] not in inner
    }
    timers = {event["h"] for event in events if event["k"] == "timer"}
    first_lane = next((i for i, event in enumerate(events) if event["k"] == "new"), 0)
    sleeping = False
    found = []
    for index, event in enumerate(events):
        kind = event["k"]
        if kind == "line" and index < first_lane - 1:
            continue  # definitions and constants; what makes the first lane is the last of them
        if kind == "poll":
            sleeping = event["ready"] == 0
            if sleeping and not _wakes_at_once(events, index):
                found.append(index)
        elif kind == "io":
            # The last of a batch stands for all of it; without a sleep before, it is no news.
            last = index + 1 == len(events) or events[index + 1]["k"] != "io"
            if last and sleeping:
                found.append(index)
                sleeping = False
        elif _is_step(event, trace["src"], user_handles, timers):
            found.append(index)
    return found or list(range(len(events)))


def _wakes_at_once(events: list[dict], index: int) -> bool:
    """A round that ends the loop or finds nothing: `poll` upon `poll`."""
    following = (event["k"] for event in events[index + 1 : index + 3])
    return next((kind == "poll" for kind in following if kind != "polled"), True)


def _is_step(event: dict, source: dict, user_handles: set, timers: set) -> bool:
    kind = event["k"]
    if kind == "line":
        return event["T"] is not None or not _DEFINITION.match(_source_line(event, source))
    if kind == "out":
        return bool(event["text"].strip())
    if kind in ("soon", "timer", "run", "tcancel", "hcancel"):
        if event.get("T") is not None or event.get("h") in user_handles:
            return True
        return kind in ("run", "timer", "tcancel") and event.get("h") in timers
    if kind == "end":
        return event.get("T") is not None
    return kind in ("due", "job", "thr+", "thr-", "jobdone", "gone")


def _source_line(event: dict, source: dict) -> str:
    lines = source.get(event["f"], [])
    return lines[event["l"] - 1] if 0 < event["l"] <= len(lines) else ""


# ── spans ──


@dataclass(frozen=True)
class Span:
    """A lane was in one state from event `first` to event `last`, `start` to `end` in µs."""

    lane: int
    state: str  # RUNNING, READY or the kind of a wait
    first: int
    last: int
    start: int
    end: int
    wait: dict | None = None


def spans(trace: dict) -> list[Span]:
    """What every lane did, in the order in which the spans begin. Open ones end with the trace."""
    events = trace["ev"]
    now: dict[int, tuple[int, str, dict | None]] = {}
    found: list[Span] = []

    def change(lane: int, index: int, state: str | None, wait: dict | None = None) -> None:
        if lane in now:
            first, old, old_wait = now.pop(lane)
            start, end = events[first]["t"], events[index]["t"]
            found.append(Span(lane, old, first, index, start, max(start, end), old_wait))
        if state is not None:
            now[lane] = (index, state, wait)

    for index, event in enumerate(events):
        lane = event.get("T")
        if lane is None:
            continue
        match event["k"]:
            case "soon" if now.get(lane, (0, ""))[1] not in (RUNNING, READY):
                change(lane, index, READY)
            case "run":
                change(lane, index, RUNNING)
            case "end" if event["state"] == "wait":
                wait = event.get("w") or {"kind": "future"}
                change(lane, index, READY if wait["kind"] == "yield" else wait["kind"], wait)
            case "end" | "gone":
                change(lane, index, None)
    for lane in list(now):
        change(lane, len(events) - 1, None)
    return sorted(found, key=lambda span: (span.first, span.lane))


# ── a long trace ──


@dataclass(frozen=True)
class Shortened:
    """A trace that can be drawn, and what it lacks."""

    trace: dict
    events: int  # how many there were
    lines: int | None  # source lines kept per run of a lane; None: all
    cut: bool  # the end is missing


def shorten(trace: dict, limit: int = LIMIT) -> Shortened:
    """At most about `limit` events: source lines are thinned first, then the end is cut off."""
    events = _merged(trace["ev"])
    if len(events) <= limit:
        return Shortened({**trace, "ev": events}, len(events), None, False)
    others = sum(event["k"] != "line" for event in events)
    for lines in (64, 32, 16, 8, 4, 2, 1):
        kept = _with_few_lines(events, lines)
        if len(kept) <= limit:
            return Shortened({**trace, "ev": kept}, len(events), lines, False)
    kept = _with_few_lines(events, 0 if others <= limit else 1)
    cut = kept[:limit]
    lanes = sum(event["k"] == "new" for event in cut)
    tasks = trace["tasks"][:lanes]
    lines = 0 if others <= limit else 1
    return Shortened({**trace, "ev": cut, "tasks": tasks}, len(events), lines, cut != kept)


def _merged(events: list[dict]) -> list[dict]:
    """The events, with what one print() wrote in pieces as one."""
    merged: list[dict] = []
    for event in events:
        last = merged[-1] if merged else {}
        same = event["k"] == "out" == last.get("k") and not last["text"].endswith("\n")
        if same and all(event.get(key) == last.get(key) for key in ("T", "s", "bytes", "by")):
            merged[-1] = {**last, "text": last["text"] + event["text"]}
        else:
            merged.append(event)
    return merged


def _with_few_lines(events: list[dict], lines: int) -> list[dict]:
    """The first `lines` lines after each switch, the last of them with `more`; all other events."""
    kept, seen, last = [], Counter(), {}
    for event in events:
        lane = event.get("T")
        if event["k"] == "line":
            seen[lane] += 1
            if seen[lane] > lines:
                if lane in last:
                    kept[last[lane]] = {**kept[last[lane]], "more": True}
                continue
            last[lane] = len(kept)
        elif event["k"] in ("run", "end"):
            seen[lane] = 0
        kept.append(event)
    return kept
