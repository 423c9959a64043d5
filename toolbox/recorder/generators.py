"""Lanes for generators: who was resumed, who yielded, who returned.

A generator's frame object lives as long as the generator, so it stands for it. Left out: generator
expressions, `__await__`, and generators stamped by types.coroutine, which are asyncio's business.
"""

import dis
import types
from inspect import CO_GENERATOR, CO_ITERABLE_COROUTINE

from .brief import brief
from .recording import Recording

MOST_LANES = 200
NOTE = f"only the first {MOST_LANES} have a lane"
UNSEEN = {"<genexpr>", "__await__"}
CLOSE = types.GeneratorType.close


def is_generator(code) -> bool:
    """Whether this code is a generator function that gets lanes."""
    return (
        code.co_flags & (CO_GENERATOR | CO_ITERABLE_COROUTINE) == CO_GENERATOR
        and code.co_name not in UNSEEN
    )


class Generators:
    """The generators that were resumed and have not ended."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.lane_of: dict[int, int] = {}  # id(frame) → lane
        self.being_closed: dict[int, int] = {}  # id(generator) → id(frame)
        self.last_error: BaseException | None = None  # Python 3.11 tells it before the return
        self.unhandled = False  # no line ran since
        self.count = 0

    def resumed(self, frame, thrown: str | None = None) -> None:
        """next(), send() or throw() goes into it; at first it gets its lane."""
        recording = self.recording
        here = recording.here
        if frame.f_lasti <= _first_instruction(frame.f_code) or id(frame) not in self.lane_of:
            if self.count >= MOST_LANES:
                self.lane_of.pop(id(frame), None)
                recording.note("generators", NOTE)
                return
            self.count += 1
            code = frame.f_code
            at = recording.users_line_above(frame)
            lane = recording.new_lane(code.co_name, code, at, lane="generator")
            recording.name_lane(lane, code.co_name, code.co_qualname)
            self.lane_of[id(frame)] = lane
        lane = self.lane_of[id(frame)]
        here.generators.append((lane, here.T))
        recording.ev.append(("nested", recording.now(), lane, here.T, None, thrown))
        here.T = lane

    def yielded(self, frame, value: object) -> None:
        waiting = {"kind": "next", **self._place(frame), "value": brief(value)}
        self._ends(frame, "wait", w=waiting)

    def returned(self, frame, value: object) -> None:
        self._ends(frame, "done", result=brief(value))
        self.lane_of.pop(id(frame), None)

    def raised(self, frame, error: BaseException) -> None:
        state = "cancelled" if isinstance(error, GeneratorExit) else "error"
        self._ends(frame, state, exc=brief(error))
        self.lane_of.pop(id(frame), None)

    def closing(self, generator) -> None:
        """close() is called. Before its frame is gone, note which it is."""
        if (frame := generator.gi_frame) is not None and id(frame) in self.lane_of:
            self.being_closed[id(generator)] = id(frame)

    def closed(self, generator) -> None:
        """close() has returned: if its end was not seen, there was nothing in it to run."""
        lane = self.lane_of.pop(self.being_closed.pop(id(generator), None), None)
        if lane is not None:
            recording, exc = self.recording, "GeneratorExit()"
            run = ("nested", recording.now(), lane, recording.here.T, None, exc)
            recording.ev += [run, ("end", run[1], None, lane, None, "cancelled", None, None, exc)]
            recording.lanes[lane].update(state="cancelled", exc=exc)

    def raising(self, frame, error: BaseException) -> None:
        """Python 3.11: an exception comes up, or was thrown in while it stood at its yield."""
        self.last_error, self.unhandled = error, True
        ev = self.recording.ev
        last = ev[-1]
        if last[0] == "nested" and _opname(frame) == "YIELD_VALUE":
            thrown = (*last[:5], brief(error))
            if ev[-1] is last:
                ev[-1] = thrown

    def left(self, frame, value: object) -> None:
        """Python 3.11 has one event for yield, return and raise: look at the instruction."""
        name = _opname(frame)
        error, self.last_error = self.last_error, None
        thrown = self.unhandled and value is None and not isinstance(error, StopIteration)
        self.unhandled = False
        if name == "RETURN_VALUE":
            self.returned(frame, value)
        elif name == "YIELD_VALUE" and not thrown:
            self.yielded(frame, value)
        elif error is not None:
            self.raised(frame, error)

    def _ends(self, frame, state: str, w=None, result=None, exc=None) -> None:
        recording = self.recording
        lane = self.lane_of.get(id(frame))
        stack = recording.here.generators
        if lane is None or not stack or stack[-1][0] != lane:
            return
        _, recording.here.T = stack.pop()
        if state != "wait":
            outcome = {"state": state, "result": result, "exc": exc}
            recording.lanes[lane].update({k: v for k, v in outcome.items() if v is not None})
        recording.ev.append(("end", recording.now(), None, lane, None, state, w, result, exc))

    def _place(self, frame) -> dict:
        code = frame.f_code
        name = self.recording.short(code.co_filename)
        return {
            **self.recording.place(frame),
            "stack": [[code.co_qualname, name, frame.f_lineno]],
        }


def _opname(frame) -> str:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


_FIRST: dict = {}


def _first_instruction(code) -> int:
    """Offset of the first RESUME: a frame that stands there is at its beginning."""
    offset = _FIRST.get(code)
    if offset is None:
        offset = next(
            (step.offset for step in dis.get_instructions(code) if step.opname == "RESUME"), 0
        )
        _FIRST[code] = offset
    return offset
