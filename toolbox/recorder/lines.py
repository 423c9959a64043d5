"""Source lines, and generators' switches: sys.monitoring from 3.12 on, sys.settrace on 3.11."""

import sys
import threading

from .generators import Generators, is_generator
from .recording import Recording

TOOL_NAME = "asyncio recorder"


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
    ev, cap, here = recording.ev, recording.cap, recording.here
    short, is_users, disable = recording._short, recording.is_users, monitoring.DISABLE

    def line(code, number):
        filename = code.co_filename
        name = short.get(filename)
        if name is None:
            if not is_users(filename):
                return disable
            name = short[filename]
        if len(ev) >= cap:
            return disable
        left = recording.lines_left
        if left:
            recording.lines_left = left - 1
            ev.append(("line", recording.now(), here.T, name, number, left == 1 or None))

    def only_generators(hook):
        def callback(code, offset, *value):
            if not (is_generator(code) and is_users(code.co_filename)) or len(ev) >= cap:
                return disable
            hook(sys._getframe(1), *value)

        return callback

    def leaves_by_exception(code, offset, error):
        if is_generator(code) and is_users(code.co_filename) and len(ev) < cap:
            generators.raised(sys._getframe(1), error)

    def thrown_into(code, offset, error):
        if is_generator(code) and is_users(code.co_filename) and len(ev) < cap:
            generators.resumed(sys._getframe(1))

    callbacks = {
        events.LINE: line,
        events.PY_START: only_generators(generators.resumed),
        events.PY_RESUME: only_generators(generators.resumed),
        events.PY_YIELD: only_generators(generators.yielded),
        events.PY_RETURN: only_generators(generators.returned),
        events.PY_UNWIND: leaves_by_exception,
        events.PY_THROW: thrown_into,
    }
    for event, callback in callbacks.items():
        monitoring.register_callback(tool, event, callback)
    monitoring.set_events(tool, sum(callbacks))


def _trace(recording: Recording, generators: Generators) -> None:
    ev, cap, here = recording.ev, recording.cap, recording.here
    short, is_users, decided = recording._short, recording.is_users, recording._is_users

    def local(frame, event, value):
        if event == "line" and (left := recording.lines_left) and len(ev) < cap:
            recording.lines_left = left - 1
            name = short[frame.f_code.co_filename]
            ev.append(("line", recording.now(), here.T, name, frame.f_lineno, left == 1 or None))
        return local

    def local_generator(frame, event, value):
        if event == "line":
            generators.unhandled = False
            local(frame, event, value)
        elif event == "return" and len(ev) < cap:
            generators.left(frame, value)
        elif event == "exception":
            generators.last_error, generators.unhandled = value[1], True
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
        return local

    sys.settrace(call)
    threading.settrace(call)
