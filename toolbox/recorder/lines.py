"""Source lines, and generators' switches: sys.monitoring from 3.12 on, sys.settrace on 3.11."""

import sys
import threading

from .brief import brief
from .generators import CLOSE, Generators, is_generator
from .recording import Recording

TOOL_NAME = "asyncio recorder"
LINES_NOTE = "they stop halfway, to leave room for switches and waits"


def install(recording: Recording) -> None:
    """Write down each line of the script's own files that runs, and who goes in and out."""
    generators = Generators(recording)
    if hasattr(sys, "monitoring"):
        _monitor(recording, generators)
    else:
        _trace(recording, generators)


def _monitor(recording: Recording, generators: Generators) -> None:
    monitoring = sys.monitoring
    events = monitoring.events
    tool = next(number for number in (3, 4, 1, 0) if monitoring.get_tool(number) is None)
    monitoring.use_tool_id(tool, TOOL_NAME)
    ev, cap = recording.ev, recording.cap
    short, is_users, disable = recording._short, recording.is_users, monitoring.DISABLE
    write = _writer(recording)
    thrown = None  # (code, line) where an exception was just thrown in

    def line(code, number):
        nonlocal thrown
        filename = code.co_filename
        name = short.get(filename)
        if name is None:
            if not is_users(filename):
                return disable
            name = short[filename]
        if thrown is not None:
            seen, thrown = thrown, None
            if seen == (code, number):  # it does not run again, though 3.13 says so
                return None
        return None if write(name, number) else disable

    def only_generators(hook):
        def callback(code, offset, *value):
            if not (is_generator(code) and is_users(code.co_filename)) or len(ev) >= cap:
                return disable
            hook(sys._getframe(1), *value)

        return callback

    def leaves_by_exception(code, offset, error):
        if is_users(code.co_filename) and len(ev) < cap:
            recording.unwinds(error)
            if is_generator(code):
                generators.raised(sys._getframe(1), error)

    def thrown_into(code, offset, error):
        nonlocal thrown
        if is_users(code.co_filename) and len(ev) < cap:
            frame = sys._getframe(1)
            thrown = code, frame.f_lineno
            if is_generator(code):
                generators.resumed(frame, thrown=brief(error))

    def called(code, offset, function, argument):
        """From 3.13 on, close() at a plain yield throws nothing in."""
        if getattr(function, "__name__", None) != "close" or not is_users(code.co_filename):
            return disable
        if function is CLOSE:
            generators.closing(argument)

    def returned(code, offset, function, argument):
        if function is CLOSE and len(ev) < cap:
            generators.closed(argument)

    callbacks = {
        events.LINE: line,
        events.PY_START: only_generators(generators.resumed),
        events.PY_RESUME: only_generators(generators.resumed),
        events.PY_YIELD: only_generators(generators.yielded),
        events.PY_RETURN: only_generators(generators.returned),
        events.PY_UNWIND: leaves_by_exception,
        events.PY_THROW: thrown_into,
    }
    if sys.version_info >= (3, 13):
        callbacks[events.CALL] = called
        monitoring.register_callback(tool, events.C_RETURN, returned)  # comes with CALL
    for event, callback in callbacks.items():
        monitoring.register_callback(tool, event, callback)
    monitoring.set_events(tool, sum(callbacks))


def _writer(recording: Recording):
    """A function that writes a line down if there is room; False: there never will be again."""
    ev, here = recording.ev, recording.here

    def write(name: str, number: int) -> bool:
        if len(ev) >= recording.cap or not recording.lines_budget:
            return False
        left = recording.lines_left
        if left:
            recording.lines_left = left - 1
            recording.lines_budget -= 1
            if not recording.lines_budget:
                recording.note("lines", LINES_NOTE)
            T = here.T
            by = None if T is not None else recording.by() or None
            ev.append(("line", recording.now(), T, name, number, left == 1 or None, by))
        return True

    return write


def _trace(recording: Recording, generators: Generators) -> None:
    ev, cap = recording.ev, recording.cap
    short, is_users, decided = recording._short, recording.is_users, recording._is_users
    write = _writer(recording)

    def local(frame, event, value):
        if event == "line":
            frame.f_trace_lines = write(short[frame.f_code.co_filename], frame.f_lineno)
        elif event == "exception":
            recording.unwinds(value[1])
        return local

    def local_generator(frame, event, value):
        if event == "line":
            generators.unhandled = False
            write(short[frame.f_code.co_filename], frame.f_lineno)
        elif event == "return" and len(ev) < cap:
            generators.left(frame, value)
        elif event == "exception":
            generators.raising(frame, value[1])
            recording.unwinds(value[1])
        return local_generator

    def call(frame, event, value):
        code = frame.f_code
        filename = code.co_filename
        known = decided.get(filename)
        if not known and (known is not None or not is_users(filename)):
            return None
        if len(ev) >= cap:
            sys.settrace(None)
            return None
        if is_generator(code):
            generators.resumed(frame)
            return local_generator
        return local if recording.lines_budget else None

    sys.settrace(call)
    threading.settrace(call)
