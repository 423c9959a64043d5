"""Inside the recorded process: put the hooks in, and write the trace when it ends."""

import atexit
import contextlib
import json
import os
import signal
import sys
import threading
import types
from collections.abc import Callable

from . import lines, streams
from .imports import after_import
from .recording import OWN_FOLDER, Recording


class Session:
    """One recording of this process, from before the script's first line to the very end."""

    def __init__(self, options: dict) -> None:
        self.options = options
        self.output = options["output"]
        self.process = os.getpid()
        self.recording = Recording(options["script"], options["arguments"], options)

    def start(self) -> None:
        recording = self.recording
        atexit.register(self.write)  # first in, last out: after all threads and other exits
        os._exit = _first(self.write, os._exit)
        os.register_at_fork(after_in_child=self._forked) if hasattr(os, "fork") else None
        sys.excepthook = sys.__excepthook__ = self._excepthook(sys.excepthook)
        streams.install(recording)
        hooks = {"asyncio": self._asyncio, "uvloop": self._uvloop, "greenlet": self._greenlet}
        after_import({name: self._guarded(name, action) for name, action in hooks.items()})
        if self.options["lines"]:
            lines.install(recording)

    def _guarded(self, name: str, action: Callable[[], None]) -> Callable[[], None]:
        """A library that we do not know well enough: the script runs, and the trace says so."""

        def act() -> None:
            try:
                action()
            except Exception as error:
                self.recording.trouble(f"cannot watch {name}", error)

        return act

    def _asyncio(self) -> None:
        from . import hooks

        if self.recording.virtual:
            from . import clock

            clock.install(self.recording)
        self.hooks = hooks.install(self.recording)

    def _uvloop(self) -> None:
        from . import uvloop_hooks

        uvloop_hooks.install(self.recording, self.hooks)

    def _greenlet(self) -> None:
        from . import greenlets

        greenlets.install(self.recording)

    def _forked(self) -> None:
        """A forked child (a process pool's worker) is not recorded."""
        self.recording.cap = 0
        self.recording.lock._at_fork_reinit()
        self.recording.printing._at_fork_reinit()
        if hasattr(sys, "monitoring"):
            for tool in range(6):
                if sys.monitoring.get_tool(tool) == lines.TOOL_NAME:
                    sys.monitoring.set_events(tool, 0)
        else:
            sys.settrace(None)
            threading.settrace(None)

    def _excepthook(self, shown_by: Callable) -> Callable:
        def excepthook(kind, error, trace) -> None:
            self.recording.died = _name(error)
            shown_by(kind, error, _without_our_frames(error, trace))

        return excepthook

    def write(self) -> None:
        """Write the trace, once; in no forked child."""
        if os.getpid() != self.process or self.output is None:
            return
        path, self.output = self.output, None
        with contextlib.suppress(ValueError):  # not the main thread (os._exit): no signals there
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not hasattr(sys, "monitoring"):
            sys.settrace(None)
        trace = self.recording.trace()
        self.recording.cap = 0
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            json.dump(trace, file, separators=(",", ":"), ensure_ascii=False)
        os.replace(f"{path}.part", path)
        with contextlib.suppress(ValueError, NameError, TypeError):
            signal.signal(signal.SIGINT, before)


def _first(action: Callable[[], None], function: Callable) -> Callable:
    def _exit(status: int = 0) -> None:
        action()
        function(status)

    return _exit


def _name(error: BaseException) -> str:
    from .brief import brief

    return brief(error)


def _without_our_frames(error: BaseException, trace: types.TracebackType | None):
    """Ctrl-C may strike inside a hook: the learner's traceback ends where the hook was called."""
    kept = [frame for frame in _frames(trace) if not _is_ours(frame)]
    if len(kept) == len(list(_frames(trace))):
        return trace
    rebuilt = None
    for frame in reversed(kept):
        rebuilt = types.TracebackType(rebuilt, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    error.__traceback__ = rebuilt
    return rebuilt


def _frames(trace: types.TracebackType | None):
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_ours(trace: types.TracebackType) -> bool:
    return os.path.realpath(trace.tb_frame.f_code.co_filename).startswith(OWN_FOLDER)
