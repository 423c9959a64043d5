"""A virtual clock: when only timers are left, the loop jumps to the next one instead of sleeping.

The order of steps is then the same on every run and every machine. Only the loops' clock is
virtual; time.sleep() in a loop's thread moves it on, too. While a thread or a process works for the
loop, time is real. A socket that is ready at once is served first; one that is not, loses against
the next timer.
"""

import asyncio
import time
import weakref
from asyncio import base_events

from .recording import Recording
from .weave import weave

TICK = 1e-6  # each look at the clock: timers set one after the other keep their order


class Clock:
    """The virtual time of each loop; a new loop starts where the last one stopped."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.last = 0.0
        self.times: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def look(self, loop) -> float:
        """What loop.time() says."""
        self.move(loop, TICK)
        return self.times[loop]

    def peek(self, loop) -> float:
        return self.times.get(loop, self.last)

    def move(self, loop, seconds: float) -> None:
        self.times[loop] = self.last = self.peek(loop) + seconds

    def now(self) -> int:
        """The recording's clock, in nanoseconds."""
        loop = asyncio._get_running_loop()
        return int((self.last if loop is None else self.peek(loop)) * 1e9)

    def select(self, loop, selector, timeout: float | None):
        """What selector.select(timeout) is to the loop."""
        if timeout == 0 or timeout is None:
            return selector.select(timeout)
        working = self.recording.jobs_under_way or getattr(loop, "_executor_shutdown_called", False)
        if not working:
            ready = selector.select(0)
            if not ready:
                self.move(loop, timeout)
            return ready
        began = time.perf_counter()
        ready = selector.select(timeout)
        self.move(loop, time.perf_counter() - began)
        return ready

    def sleep(self, seconds: float, really) -> None:
        """time.sleep(): in a loop's thread it moves that loop's clock."""
        loop = asyncio._get_running_loop()
        if loop is None:
            really(seconds)
        else:
            self.move(loop, seconds)


def install(recording: Recording) -> None:
    """Before the hooks, which weave `recording.select` into the loop."""
    clock = Clock(recording)
    recording.now, recording.started, recording.loop_time = clock.now, 0, clock.peek
    recording.select = clock.select
    cls = base_events.BaseEventLoop
    cls.time = weave(cls.time, {"look": clock.look}, replace={"time.monotonic()": "look(self)"})
    really = time.sleep
    time.sleep = lambda seconds: clock.sleep(seconds, really)
