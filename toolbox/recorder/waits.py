"""What does a task wait for? Read from its chain of awaits, from its coroutine to the innermost.

The part that depends only on code positions (where, which function of asyncio) is worked out once
for each place; objects, timers and jobs are looked up each time.
"""

import asyncio
import gc
import inspect
import math
import os
import re
import sys
import types
import weakref

from .brief import brief
from .recording import Recording

ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep

# asyncio's functions that name a wait; the outermost one on the chain counts.
KINDS = {
    "sleep": "sleep",
    "Lock.acquire": "lock",
    "Semaphore.acquire": "semaphore",
    "Event.wait": "event",
    "Condition.wait": "condition",
    "Queue.get": "queue",
    "Queue.put": "queue",
    "Queue.join": "queue",
    "Barrier.wait": "barrier",
    "TaskGroup.__aexit__": "taskgroup",
    "_wait": "wait",
    "as_completed.<locals>._wait_for_one": "wait",
    "_AsCompletedIterator._wait_for_one": "wait",
    "_cancel_and_wait": "task",
    "to_thread": "thread",
    "Process.wait": "subprocess",
    "Process.communicate": "subprocess",
    "create_subprocess_exec": "subprocess",
    "create_subprocess_shell": "subprocess",
    "StreamReader._wait_for_data": "io",
    "FlowControlMixin._drain_helper": "io",
    "StreamWriter.wait_closed": "io",
    "open_connection": "io",
    "BaseEventLoop.create_connection": "io",
    "_UnixSelectorEventLoop.create_unix_connection": "io",
    "BaseEventLoop.create_server": "io",
    "Server.serve_forever": "io",
    "Server.wait_closed": "io",
}
if sys.version_info < (3, 12):  # later it awaits its argument itself, inside a timeout()
    KINDS["wait_for"] = "task"
SOCKET = "BaseSelectorEventLoop.sock_"
LOOP_METHOD = re.compile(r"^_?\w+EventLoop\.")  # the learner knows it as loop.create_connection
PRETTY = {
    "as_completed.<locals>._wait_for_one": "as_completed",
    "_AsCompletedIterator._wait_for_one": "as_completed",
    "_wait": "wait",
    "FlowControlMixin._drain_helper": "StreamWriter.drain",
    "StreamReader._wait_for_data": "StreamReader.read",
}
OPAQUE = {
    "async_generator_asend",
    "async_generator_athrow",
    "anext_awaitable",
    "coroutine_wrapper",
}
MAY_END = ("Queue.get", "Queue.put", "Barrier.wait")  # by shutdown(); by abort() or reset()
DEEPEST = 200


def await_chain(coro: object) -> list:
    """The frames from the task's coroutine to the innermost await."""
    frames = []
    while coro is not None and len(frames) < DEEPEST:
        kind = type(coro)
        if kind is types.CoroutineType:
            frame, coro = coro.cr_frame, coro.cr_await
        elif kind is types.GeneratorType:
            frame, coro = coro.gi_frame, coro.gi_yieldfrom
        else:
            frame, coro = _frame_of_others(coro)
        if isinstance(frame, types.FrameType):
            frames.append(frame)
    return frames


def _frame_of_others(awaitable: object) -> tuple[object, object]:
    """(frame, what it waits for) of an async generator, of what wraps one, of Cython's."""
    if hasattr(awaitable, "cr_frame"):
        return awaitable.cr_frame, awaitable.cr_await
    if hasattr(awaitable, "gi_frame"):
        return awaitable.gi_frame, awaitable.gi_yieldfrom
    if hasattr(awaitable, "ag_frame"):
        return awaitable.ag_frame, awaitable.ag_await
    if type(awaitable).__name__ in OPAQUE:
        for inside in gc.get_referents(awaitable):
            if type(inside).__name__ in OPAQUE or any(
                hasattr(inside, name) for name in ("cr_frame", "gi_frame", "ag_frame")
            ):
                return None, inside
    return None, None


class Site:
    """What the code positions of a chain of awaits tell: the same each time it is met."""

    def __init__(self, recording: Recording, frames: list) -> None:
        self.fixed: dict = {}
        self.known: int | None = None  # which frame names the wait
        self.name = ""
        # Kept, so that the ids by which a site is found stay theirs (hashing code is slow).
        self.codes = codes = [frame.f_code for frame in frames]
        users = [i for i, code in enumerate(codes) if recording.is_users(code.co_filename)]
        last = users[-1] if users else -1
        if users:
            self.fixed.update(recording.place(frames[last]))
        self._find_api(codes, last + 1)
        # Lines of outer frames do not change while the inner one waits.
        if users:
            self.fixed["stack"] = [
                [codes[i].co_qualname, recording.short(codes[i].co_filename), frames[i].f_lineno]
                for i in users
            ]

    def _find_api(self, codes: list, first: int) -> None:
        library = [
            (i, codes[i].co_qualname)
            for i in range(first, len(codes))
            if codes[i].co_filename.startswith(ASYNCIO)
        ]
        names = [name for _, name in library if not name.rpartition(".")[2].startswith("_")]
        for i, name in library:
            if name in KINDS or name.startswith(SOCKET):
                self.known, self.name = i, name
                break
        if self.name == "Condition.wait" and library[-1][1] == "Lock.acquire":
            self.known, self.name = library[-1]  # notified; now it needs the lock again
        told = ("Barrier.wait", "Queue.join", "Queue.put")  # also inside of wait_for
        if self.name in told or self.name.startswith(("_As", "as_")):
            names = [PRETTY.get(self.name, self.name)]
        if names or self.name:
            name = names[0] if names else PRETTY.get(self.name, self.name)
            self.fixed["api"] = LOOP_METHOD.sub("loop.", name)
        if self.name:
            self.fixed["kind"] = "io" if self.name.startswith(SOCKET) else KINDS[self.name]


class Waits:
    """Looks up what a suspended task waits for, and which timer or job will end it."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.sites: dict[tuple, Site] = {}
        # lane → its asyncio.timeout()s: when they are due, their timers
        self.timeouts: dict[int | None, list[tuple[float, int]]] = {}
        self._timers: dict[int, tuple[weakref.ref, int]] = {}  # id(future) → timer
        self._jobs: dict[int, tuple[weakref.ref, int]] = {}  # id(future) → job
        self._owners: dict[int, weakref.ref] = {}  # lane → the queue or barrier that it waits at

    def waiting(self, task) -> dict:
        """The `w` of schema.md; a mistake of ours is noted and hides no event."""
        try:
            return self._waiting(task)
        except Exception as error:
            self.recording.trouble("waits", error)
            return {"kind": "future"}

    def _waiting(self, task) -> dict:
        frames = await_chain(task.get_coro())
        key = tuple([(id(frame.f_code), frame.f_lasti) for frame in frames])
        site = self.sites.get(key)
        if site is None:
            site = self.sites[key] = Site(self.recording, frames)
        found = site.fixed
        future = task._fut_waiter
        if future is None:
            if found.get("kind") not in ("yield", "sleep", None):
                found = {name: found[name] for name in found if name != "kind"}
            return {**found, "kind": "yield"}
        found, lane = dict(found), self.recording.lane(task)
        if site.known is not None:
            self._look_inside(site.name, frames[site.known], found, lane)
        self._look_at(future, found)
        if self.timeouts and (limits := self.timeouts.get(lane)):
            found["timeout"] = min(limits)[1]
        return found

    def _look_inside(self, name: str, frame, found: dict, lane: int | None) -> None:
        """Objects in the local variables of asyncio's function."""
        kind = found["kind"]
        if kind in ("thread", "process"):
            return
        local = frame.f_locals
        if kind == "sleep":
            found["delay"] = _number(local.get("delay"))
        elif kind == "taskgroup":
            self._awaited(local["self"]._tasks, found)
        elif name == "_wait":
            self._awaited(local["fs"], found)
            found["until"] = local["return_when"]
        elif name in ("_cancel_and_wait", "wait_for"):
            self._awaited([local["fut"]], found)
        elif name.startswith("_AsCompletedIterator"):
            self._awaited(local["self"]._todo, found)
        elif (owner := local.get("self")) is not None and not name.startswith(SOCKET):
            if kind != "io" or name.startswith("StreamReader"):
                found["obj"] = self.recording.object(owner)
            if name in MAY_END:
                self._owners[lane] = weakref.ref(owner)

    def ends(self, lane: int) -> str | None:
        """Whether the lane is woken because what it waits at is over: `how` of schema.md."""
        owner = self._owners.pop(lane, lambda: None)()
        if owner is None:
            return None
        look = inspect.getattr_static  # which runs no __getattr__ that the script may have written
        if look(owner, "_is_shutdown", False):
            return "shutdown"
        state = look(owner, "_state", None)
        return "broken" if getattr(state, "name", None) in ("BROKEN", "RESETTING") else None

    def _look_at(self, future, found: dict) -> None:
        """What the future itself tells."""
        kind = found.get("kind")
        if hasattr(future, "get_coro"):
            found.setdefault("kind", "task")
            self._awaited([future], found)
        elif hasattr(future, "_children"):
            found.setdefault("kind", "gather")
            found.setdefault("api", "gather")
            self._awaited(future._children, found)
        elif (timer := self._linked(self._timers, future)) is not None:
            self._timed(timer, found)
        elif (job := self._linked(self._jobs, future)) is not None:
            found["kind"] = "process" if job < 0 else kind or "thread"
            found["job"] = abs(job)
        elif kind is None and (inner := _shielded(future)) is not None:
            found.update(kind="task", api="shield")
            self._awaited([inner], found)
        found.setdefault("kind", "future")

    def _timed(self, timer: int, found: dict) -> None:
        if found.get("kind") in ("wait", "task"):
            found["timeout"] = timer
        else:
            found["timer"] = timer

    def _awaited(self, things, found: dict) -> None:
        """The lanes of those that are not done yet; if some have none, how many there are."""
        lanes = [self.recording.lane(thing) for thing in things if not thing.done()]
        found["on"] = sorted(lane for lane in lanes if lane is not None)
        if len(found["on"]) < len(lanes):
            found["count"] = len(lanes)

    # ── futures and their timers and jobs ──

    @staticmethod
    def future_in(things: tuple):
        """The first future among them."""
        return next((thing for thing in things if isinstance(thing, asyncio.Future)), None)

    @staticmethod
    def _linked(table: dict, future) -> int | None:
        entry = table.get(id(future))
        return entry[1] if entry is not None and entry[0]() is future else None

    def link_timer(self, future, h: int) -> None:
        self._timers[id(future)] = (weakref.ref(future), h)

    def unlink_timer(self, future_id: int | None, lane: int | None, h: int) -> None:
        if future_id is not None:
            entry = self._timers.get(future_id)
            if entry is not None and entry[1] == h:
                del self._timers[future_id]
        elif lane in self.timeouts:
            limits = [limit for limit in self.timeouts[lane] if limit[1] != h]
            if limits:
                self.timeouts[lane] = limits
            else:
                del self.timeouts[lane]

    def job(self, future, create: bool = False, is_process: bool = False) -> int | None:
        """The number of an executor's future; one that asyncio did not submit has none."""
        known = self._linked(self._jobs, future)
        if known is None and create:
            known = self.recording.number()
            self._jobs[id(future)] = (weakref.ref(future), -known if is_process else known)
            return known
        return None if known is None else abs(known)

    def link_job(self, wrapper, future) -> None:
        entry = self._jobs.get(id(future))
        if entry is not None and entry[0]() is future:
            self._jobs[id(wrapper)] = (weakref.ref(wrapper), entry[1])


def _shielded(future):
    """The task behind `shield()`: only a closure of its callback knows it."""
    for callback, _ in getattr(future, "_callbacks", None) or ():
        if getattr(callback, "__qualname__", "") == "shield.<locals>._outer_done_callback":
            names = callback.__code__.co_freevars
            return callback.__closure__[names.index("inner")].cell_contents
    return None


def _number(value: object) -> object:
    """Without running what a subclass may have made of it."""
    if isinstance(value, float) and math.isfinite(value):  # JSON has no other
        return float.__float__(value)
    return int.__int__(value) if isinstance(value, int) else brief(value)
