"""uvloop, as far as it lets itself be seen: its handles are C objects, its I/O never leaves C.

So callbacks are wrapped on their way in. Not seen: what the selector found (`io`, `poll`), handles
and timers that are cancelled (they stay in the model's queue and heap), eager first steps.
"""

import uvloop

from .hooks import Hooks
from .recording import Recording

NOTE = (
    "its I/O and its rounds cannot be seen; cancelled callbacks and timers stay on the"
    " lists; an eager task is seen from its second step on"
)


class Wrapped:
    """A callback on its way into uvloop, with what the hooks read of a handle."""

    __slots__ = ("_args", "_callback", "_cancelled", "_hooks", "_is_timer", "_loop")

    def __init__(self, hooks: Hooks, loop, callback, args: tuple, is_timer: bool = False) -> None:
        self._hooks, self._loop, self._callback, self._args = hooks, loop, callback, args
        self._is_timer, self._cancelled = is_timer, False

    def __call__(self, *arguments):
        hooks = self._hooks
        if self._is_timer:
            hooks.timer_due(self)
        hooks.begins(self)
        try:
            return self._callback(*arguments)
        finally:
            hooks.ends()


def install(recording: Recording, hooks: Hooks) -> None:
    """Wrap the public scheduling methods of uvloop.Loop."""
    cls = uvloop.Loop
    recording.note("uvloop", NOTE)
    for name in ("call_soon", "call_soon_threadsafe"):
        setattr(cls, name, _soon(hooks, getattr(cls, name)))
    cls.call_later = _later(hooks, cls.call_later)


def _soon(hooks: Hooks, schedule):
    def call_soon(self, callback, *args, context=None):
        wrapped = Wrapped(hooks, self, callback, args)
        with hooks.recording.lock:
            handle = schedule(self, wrapped, *args, context=context)
            hooks.scheduled(wrapped, callback, args)
        return handle

    call_soon.__name__ = schedule.__name__
    return call_soon


def _later(hooks: Hooks, schedule):
    def call_later(self, delay, callback, *args, context=None):
        wrapped = Wrapped(hooks, self, callback, args, is_timer=True)
        hooks.timer_set(wrapped, self, self.time() + delay, callback, args)
        return schedule(self, delay, wrapped, *args, context=context)

    return call_later
