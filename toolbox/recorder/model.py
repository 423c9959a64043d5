"""The loops' ready queues and timer heaps, rebuilt from a trace's events alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Loop:
    """What one loop has in hand; all by handle number."""

    ready: list[int] = field(default_factory=list)
    timers: set[int] = field(default_factory=set)


class Model:
    """Feed it the events of a trace in order; `loops[L]` is then what loop L has in hand."""

    def __init__(self) -> None:
        self.loops: dict[int, Loop] = {}
        self._home: dict[int, Loop] = {}

    def apply(self, event: dict) -> None:
        kind, h = event["k"], event.get("h")
        if h is None:
            return
        if kind in ("soon", "io", "timer"):
            self._home[h] = self.loops.setdefault(event.get("L", 0), Loop())
        loop = self._home.get(h)
        if loop is None:
            return
        if kind in ("soon", "io"):
            loop.ready.append(h)
        elif kind == "timer":
            loop.timers.add(h)
        elif kind == "due":
            loop.timers.discard(h)
            loop.ready.append(h)
        elif kind == "tcancel":
            loop.timers.discard(h)
        elif kind in ("run", "hcancel") and h in loop.ready:
            loop.ready.remove(h)


def mismatches(trace: dict) -> Iterator[str]:
    """Where the model and the loop itself disagree; needs a trace recorded with `check=True`."""
    model = Model()
    for number, event in enumerate(trace["ev"]):
        if event["k"] == "run" and "ready" in event:
            queue = model.loops.setdefault(event.get("L", 0), Loop()).ready
            if event["h"] not in queue[:1]:
                yield f"event {number}: {event['h']} runs, the model's queue is {queue}"
        model.apply(event)
        if event["k"] == "run" and "ready" in event:
            loop = model.loops.setdefault(event.get("L", 0), Loop())
            seen = loop.ready, sorted(loop.timers)
            real = event["ready"], event["timers"]
            if seen != real:
                yield f"event {number}: model {seen}, loop {real}"


def checks(trace: dict) -> int:
    """At how many steps `mismatches` compared."""
    return sum(event["k"] == "run" and "ready" in event for event in trace["ev"])
