"""Hooks in asyncio's own functions: what was scheduled, what ran, what it waits for now.

Each is woven into the function (see weave.py). `install` is called once, when asyncio has been
imported; loops, tasks and handles that exist by then are seen from their next step on.
"""

import contextvars
import functools
import gc
import threading
import types
from asyncio import base_events, events, tasks, timeouts
from collections.abc import Callable
from concurrent.futures import process, thread

from .brief import brief
from .recording import MOST_LINES, Recording
from .waits import Waits
from .weave import weave

WAKEUP = type(len)  # task_wakeup is a built-in method
PURE_STEPS = {"__step", "__wakeup"}
# Callbacks that asyncio sets a timer for on behalf of the task that runs.
FOR_THIS_TASK = {
    "_set_result_unless_cancelled",  # sleep
    "_release_waiter",  # wait; wait_for up to 3.11
    "as_completed.<locals>._on_timeout",
    "_AsCompletedIterator._handle_timeout",
}
LoopClass = base_events.BaseEventLoop
LONGEST = 1e9  # seconds of a timer

EAGER_NOTE = (
    "a task that asyncio.Task(…, eager_start=True) or a task factory called by hand starts eagerly"
    " is seen from its second step on"
)

_is_step_type: dict[type, bool] = {}


def task_of(callback: Callable) -> object | None:
    """The task whose step this callback is, else None (`task.cancel` is no step)."""
    kind = type(callback)
    if kind is WAKEUP:
        return callback.__self__ if callback.__name__ == "task_wakeup" else None
    if kind is types.MethodType:
        owner = callback.__self__
        is_step = callback.__name__ in PURE_STEPS and hasattr(owner, "get_coro")
        return owner if is_step else None
    known = _is_step_type.get(kind)
    if known is None:
        names = ("TaskStepMethWrapper", "TaskWakeupMethWrapper")
        known = _is_step_type[kind] = kind.__name__ in names
    return callback.__self__ if known else None


def callback_name(callback: Callable) -> str:
    """The qualified name, looked up behind functools.partial and, for to_thread, Context.run."""
    while isinstance(callback, functools.partial):
        in_context = isinstance(getattr(callback.func, "__self__", None), contextvars.Context)
        callback = callback.args[0] if in_context and callback.args else callback.func
    name = getattr(callback, "__qualname__", None)
    return name if isinstance(name, str) else type(callback).__name__


class Hooks:
    """The hooks' own state: steps that run, timers, tasks that are being created."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.waits = Waits(recording)
        self.held: dict[int, str | None] = {}  # h → what this step will throw in
        self.timer_of: dict[int, tuple] = {}  # h → (id of the future it serves, lane it times out)

    # ── the ready queue ──

    def scheduled(self, handle, callback: Callable, arguments: tuple):
        """A handle was appended to the ready queue by call_soon."""
        recording = self.recording
        ev = recording.ev
        if len(ev) >= recording.cap:
            return handle
        recording.last_number = h = recording.last_number + 1
        recording.handles[id(handle)] = h
        loop = recording.loop(handle._loop)
        task = task_of(callback)
        if task is None:
            name = callback_name(callback)
            ev.append(("soon", recording.now(), h, None, name, None, recording.by(), loop))
            return handle
        lane = recording.lane(task)
        if not arguments and (arguments := _held(callback)):
            self.held[h] = _error_in(arguments[0])
        why = _why(callback, arguments)
        if lane is None:
            lane = self.meet(task, loop)
            why = why if _is_suspended(task) else "create"
        exc = how = None
        if arguments:
            how = self.waits.ends(lane)
            if why == "cancel":  # by cancel() of this task, or of what it waits for alone?
                how = "request" if task.cancelling() else None
            else:
                exc = _error_in(arguments[0])
        ev.append(("soon", recording.now(), h, lane, None, why, recording.by(), loop, exc, how))
        return handle

    def round_begins(self, loop) -> None:
        recording = self.recording
        number = recording.loop(loop)
        if len(recording.ev) < recording.cap:
            recording.ev.append(("poll", recording.now(), len(loop._ready), number))

    def polled(self, loop, found) -> None:
        recording = self.recording
        if len(recording.ev) < recording.cap:
            number = recording.loop(loop)
            recording.ev.append(("polled", recording.now(), len(found or ()), number))

    def io_ready(self, loop, handle) -> None:
        """The selector found something; its callback goes to the ready queue."""
        recording = self.recording
        if handle._cancelled or len(recording.ev) >= recording.cap:
            return
        recording.handles[id(handle)] = h = recording.number()
        name, number = callback_name(handle._callback), recording.loop(loop)
        recording.ev.append(("io", recording.now(), h, name, number))

    def cancelled(self, handle) -> None:
        recording = self.recording
        h = recording.handles.pop(id(handle), None)
        if h is None or handle._cancelled or len(recording.ev) >= recording.cap:
            return
        in_heap = getattr(handle, "_scheduled", False)
        if h in self.timer_of:
            self._forget_timer(h)
        kind = "tcancel" if in_heap else "hcancel"
        recording.ev.append((kind, recording.now(), h, recording.by()))

    def loop_closes(self, loop) -> None:
        """Handles that never ran go with the loop; their ids may be used again."""
        for handle in (*loop._ready, *loop._scheduled):
            self.recording.handles.pop(id(handle), None)

    # ── timers ──

    def timer_set(self, timer, loop, when: float, callback: Callable, arguments: tuple):
        recording = self.recording
        if len(recording.ev) >= recording.cap:
            return timer
        recording.handles[id(timer)] = h = recording.number()
        owner, name = getattr(callback, "__self__", None), callback_name(callback)
        if isinstance(owner, timeouts.Timeout):
            lane, future = recording.lane(owner._task), None
            self.waits.timeouts.setdefault(lane, []).append((when, h))
        else:
            lane = self._running(loop) if name in FOR_THIS_TASK else recording.lane(owner)
            future = self.waits.future_in((*arguments, owner))
            if future is not None:
                self.waits.link_timer(future, h)
        self.timer_of[h] = (None if future is None else id(future), lane)
        delay = max(-LONGEST, min(when - recording.loop_time(loop), LONGEST))  # sleep(math.inf)
        recording.ev.append(
            (
                "timer",
                recording.now(),
                h,
                int(delay * 1e6),
                name,
                recording.by(),
                recording.users_line(2),
                lane,
                recording.loop(loop),
            )
        )
        return timer

    def _running(self, loop) -> int | None:
        """The lane of the task that runs; None: one that was started eagerly behind our back."""
        task, starting = tasks.current_task(loop), self.recording.here.starting
        lane = self.recording.lane(task)
        if lane is None and task is not None and starting and starting[-1] is not None:
            return starting[-1].scheduled(task)
        return lane

    def timer_due(self, timer) -> None:
        """The loop moved a timer from the heap to the ready queue."""
        recording = self.recording
        h = recording.handles.get(id(timer))
        if h is not None and len(recording.ev) < recording.cap:
            recording.ev.append(("due", recording.now(), h))
            self._forget_timer(h)

    def _forget_timer(self, h: int) -> None:
        future, lane = self.timer_of.pop(h, (None, None))
        self.waits.unlink_timer(future, lane, h)

    # ── steps ──

    def begins(self, handle) -> None:
        recording = self.recording
        here, ev = recording.here, recording.ev
        if len(ev) >= recording.cap:
            here.running.append(None)
            return
        h = recording.handles.pop(id(handle), None)
        if h is None:
            h = self._number_of_unknown(handle)
        task = task_of(handle._callback)
        loop = recording.loop(handle._loop)
        if task is None:
            lane, name, thrown = None, callback_name(handle._callback), None
        else:
            lane, name = recording.lane(task), None
            if lane is None:
                lane = self.meet(task, loop)
            thrown = _thrown(task, handle._args) or self.held.pop(h, None)
        event = ("run", recording.now(), h, lane, name, loop, thrown)
        if recording.check:
            self._begins_checked(handle._loop, event)
        else:
            ev.append(event)
        recording.lines_left = MOST_LINES
        here.running.append((h, task, lane, here.T, here.h))
        here.T, here.h = lane, h

    def _begins_checked(self, loop, event: tuple) -> None:
        """Write what the loop itself has in its queue and heap, for the check of the model."""
        recording = self.recording
        known = recording.handles.get
        with recording.lock:  # no other thread between its append and its hook
            ready = [known(id(handle), -1) for handle in loop._ready if not handle._cancelled]
            timers = [known(id(handle), -1) for handle in loop._scheduled if not handle._cancelled]
            recording.ev.append((*event, ready, sorted(timers)))

    def _number_of_unknown(self, handle) -> int:
        """call_soon_threadsafe may not have come to its hook yet; one of before, never will."""
        with self.recording.lock:
            return self.recording.handles.pop(id(handle), None) or self.recording.number()

    def ends(self) -> None:
        recording = self.recording
        here = recording.here
        begun = here.running.pop()
        if begun is None:
            return
        # Around the loop may be another loop's step, a greenlet, a generator.
        h, task, lane, here.T, here.h = begun
        if task is not None:
            self.step_ended(h, task, lane)
        elif len(recording.ev) < recording.cap:
            recording.ev.append(("end", recording.now(), h))

    def step_ended(self, h: int | None, task, lane: int) -> None:
        """Write down where the task stands now."""
        recording = self.recording
        if len(recording.ev) >= recording.cap:
            return
        ended = recording.now()
        if not task.done():
            waiting = self.waits.waiting(task)
            recording.ev.append(("end", ended, h, lane, None, "wait", waiting))
            return
        state, result, error = _outcome(task)
        entry = recording.lanes[lane]
        entry.update(name=task.get_name(), state=state)
        entry.update({"result": result} if result is not None else {})
        entry.update({"exc": error} if error is not None else {})
        recording.ev.append(("end", ended, h, lane, None, state, None, result, error))

    # ── tasks ──

    def meet(self, task, loop: int) -> int:
        """A lane for a task that is seen for the first time."""
        recording = self.recording
        recording.impl = recording.impl or f"{type(task).__module__}.{type(task).__name__}"
        starting = recording.here.starting
        if starting and starting[-1] is not None:
            lane = starting[-1].scheduled(task)
            if lane is not None:
                return lane
        at = recording.users_line(3)
        lane = recording.new_lane(task.get_name(), task.get_coro(), at, loop=loop)
        if recording.lanes[lane]["def"] and _is_suspended(task):
            recording.note("eager", EAGER_NOTE)
        recording.bind(task, lane)
        return lane

    def creating(self, loop, coro, options: dict | None = None) -> None:
        """create_task was called; an eager task runs its first step inside of it."""
        recording = self.recording
        may_be_eager = loop._task_factory is not None or (options or {}).get("eager_start")
        if not may_be_eager or recording.full():
            recording.here.starting.append(None)
        else:
            recording.here.starting.append(Starting(recording, loop, coro))

    def created(self, task):
        recording = self.recording
        starting = recording.here.starting[-1]
        if starting is not None:
            starting.created(self, task)
        else:
            self.named(task)
        return task

    def named(self, task) -> None:
        """Up to 3.12 a name is given after the task was made, or even after it was done."""
        lane = self.recording.lane(task)
        if lane is not None and hasattr(task, "get_name"):
            self.recording.lanes[lane]["name"] = task.get_name()

    def creation_over(self) -> None:
        starting = self.recording.here.starting.pop()
        if starting is not None:
            starting.over()

    # ── executors ──

    def submitted(self, executor, function: Callable, future):
        """run_in_executor handed a job over (we hold the lock: its thread waits to begin)."""
        recording = self.recording
        if recording.full():
            return future
        is_process = isinstance(executor, process.ProcessPoolExecutor)
        j = self.waits.job(future, create=True, is_process=is_process)
        name, at = callback_name(function), recording.users_line(2)
        recording.ev.append(
            ("job", recording.now(), j, name, is_process or None, recording.by(), at)
        )
        recording.jobs_under_way.add(j)
        future.add_done_callback(lambda future: self._job_done(j, future))
        return future

    def _job_done(self, j: int, future) -> None:
        recording = self.recording
        recording.jobs_under_way.discard(j)
        if not recording.full():
            state, _, error = _outcome(future)
            recording.ev.append(("jobdone", recording.now(), j, state, error, recording.by()))

    def wrapped(self, wrapper, future):
        """asyncio's future for an executor's."""
        self.waits.link_job(wrapper, future)
        return wrapper

    def thread_begins(self, item) -> None:
        with self.recording.lock:
            j = self.waits.job(item.future)
        self.recording.here.jobs.append((j, callback_name(item.fn)))
        self._thread_event("thr+")

    def thread_ends(self) -> None:
        self._thread_event("thr-")
        self.recording.here.jobs.pop()

    def _thread_event(self, kind: str) -> None:
        recording = self.recording
        j, function = recording.here.jobs[-1]
        if j is not None and not recording.full():
            name = threading.current_thread().name
            recording.ev.append((kind, recording.now(), j, function, name))


class Starting:
    """A create_task that may start its task eagerly: until we know, we write as if it did."""

    def __init__(self, recording: Recording, loop, coro) -> None:
        self.recording, self.coro = recording, coro
        here = recording.here
        self.interrupted = here.T, here.h
        at = recording.users_line(4)
        number = recording.loop(loop)
        self.lane: int | None = recording.new_lane("", coro, at, loop=number)
        self.run_event = len(recording.ev)
        recording.ev.append(("nested", recording.now(), self.lane, here.T, True))
        here.T = self.lane
        self.bound = False

    def scheduled(self, task) -> int | None:
        """A step of an unknown task goes to the ready queue meanwhile: is it the one, and eager?"""
        if self.bound or self.lane is None:
            return None
        coro = task.get_coro()
        if coro is not self.coro and _has_begun(self.coro):
            return None
        self.bound, lane = True, self.lane
        self.recording.bind(task, lane)
        self.recording.lanes[lane]["name"] = task.get_name()
        if not _has_begun(coro):
            self._was_not_eager()
        return lane

    def _was_not_eager(self) -> None:
        """Take back what was written as if it were; a factory of the user's own may have run."""
        ev, lane, here = self.recording.ev, self.lane, self.recording.here
        here.T, here.h = self.interrupted
        ev[self.run_event] = None
        for number in range(self.run_event + 1, len(ev)):
            kind, when, by, *rest = ev[number] or (None, 0, None)
            if kind in ("line", "out") and by == lane:
                ev[number] = (kind, when, here.T, *rest)
        self.lane = None

    def created(self, hooks: Hooks, task) -> None:
        """create_task has its task: if it was not scheduled meanwhile, its first step is over."""
        recording = self.recording
        if self.lane is None:
            hooks.named(task)
            return
        if not hasattr(task, "get_name") or recording.lane(task) not in (None, self.lane):
            return  # a factory's own invention, which has a lane of its own
        if not self.bound:
            recording.bind(task, self.lane)
            self.bound = True
        recording.impl = recording.impl or f"{type(task).__module__}.{type(task).__name__}"
        recording.lanes[self.lane].update(name=task.get_name(), eager=True)
        recording.here.T, recording.here.h = self.interrupted
        hooks.step_ended(None, task, self.lane)
        self.lane = None

    def over(self) -> None:
        """create_task returned or raised."""
        if self.lane is None:
            return
        lane, lanes = self.lane, self.recording.lanes
        self._was_not_eager()
        if lane == len(lanes) - 1 and not self.bound:  # there was no task after all
            lanes.pop()
            self.recording.ev[self.run_event - 1] = None
        else:
            lanes[lane]["state"] = "cancelled"


def _why(callback: Callable, arguments: tuple) -> str:
    """Why a task's further step was put into the ready queue."""
    name = getattr(callback, "__name__", None) or type(callback).__name__
    if "akeup" in name:
        return "cancel" if arguments and arguments[0].cancelled() else "wake"
    return "throw" if arguments else "yield"


def _held(callback: Callable) -> tuple:
    """The C task's step keeps to itself what it is to throw in: "Task got bad yield"."""
    if type(callback) is not types.MethodType:  # a step of Python's own task has it as an argument
        for held in gc.get_referents(callback):
            if isinstance(held, BaseException):
                return (held,)
    return ()


def _error_in(argument) -> str | None:
    """What a step will raise that gets this: a future that is done, or an exception."""
    error = argument
    if not isinstance(argument, BaseException):
        if argument.cancelled():
            return "CancelledError()"
        error = getattr(argument, "_exception", None)  # exception() counts as having looked
    return None if error is None else brief(error)


def _thrown(task, arguments: tuple) -> str | None:
    """The exception with which this step begins."""
    if getattr(task, "_must_cancel", False):  # cancelled while it was in the ready queue
        return "CancelledError()"
    return _error_in(arguments[0]) if arguments else None


def _is_suspended(task) -> bool:
    return getattr(task.get_coro(), "cr_suspended", False)


def _has_begun(coro) -> bool:
    """Whether a coroutine has run at all."""
    frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
    suspended = getattr(coro, "cr_suspended", None) or getattr(coro, "gi_suspended", None)
    running = getattr(coro, "cr_running", None) or getattr(coro, "gi_running", None)
    return frame is None or bool(suspended or running)


def _outcome(task) -> tuple[str, str | None, str | None]:
    """State, result, exception. `task.exception()` would count as having looked at it."""
    if task.cancelled():
        return "cancelled", None, None
    if task._exception is not None:
        return "error", None, brief(task._exception)
    return "done", brief(task._result), None


def install(recording: Recording) -> Hooks:
    """Weave the hooks into asyncio."""
    hooks = Hooks(recording)
    _weave(LoopClass, "call_soon", {"hook": hooks.scheduled}, result="hook(_, callback, args)")
    _weave_threadsafe(hooks)
    _weave(
        LoopClass,
        "call_at",
        {"hook": hooks.timer_set},
        result="hook(_, self, when, callback, args)",
    )
    _weave_round(hooks)
    _weave(LoopClass, "_add_callback", {"hook": hooks.io_ready}, start="hook(self, handle)")
    _weave(LoopClass, "close", {"hook": hooks.loop_closes}, start="hook(self)")
    _weave_create_task(hooks)
    _weave(events.Handle, "cancel", {"hook": hooks.cancelled}, start="hook(self)")
    steps = {"begins": hooks.begins, "ends": hooks.ends}
    _weave(events.Handle, "_run", steps, start="begins(self)", finish="ends()")
    _weave_executors(hooks)
    return hooks


def _weave(owner: type, name: str, names: dict[str, Callable], **how: object) -> None:
    setattr(owner, name, weave(getattr(owner, name), names, **how))


def _weave_round(hooks: Hooks) -> None:
    select = "self._selector.select(timeout)"
    names = {"begins": hooks.round_begins, "due": hooks.timer_due, "polled": hooks.polled}
    replace = {}
    if hooks.recording.select:
        names["select"] = hooks.recording.select
        replace[select] = "select(self, self._selector, timeout)"
    _weave(
        LoopClass,
        "_run_once",
        names,
        start="begins(self)",
        replace=replace,
        after={
            "self._ready.append(handle)": "due(handle)",
            f"event_list = {select}": "polled(self, event_list)",
        },
    )


def _weave_threadsafe(hooks: Hooks) -> None:
    """The loop's thread may be about to run the handle before our hook was called: it waits."""
    hook = {"hook": hooks.scheduled, "lock": hooks.recording.lock}
    _weave(
        LoopClass,
        "call_soon_threadsafe",
        hook,
        start="lock.acquire()",
        result="hook(_, callback, args)",
        finish="lock.release()",
    )


def _weave_create_task(hooks: Hooks) -> None:
    code = LoopClass.create_task.__code__
    options = ", kwargs" if "kwargs" in code.co_varnames else ""
    _weave(
        LoopClass,
        "create_task",
        {"creating": hooks.creating, "created": hooks.created, "over": hooks.creation_over},
        start=f"creating(self, coro{options})",
        result="created(_)",
        finish="over()",
    )

    if hasattr(tasks, "_set_task_name"):
        tasks._set_task_name = weave(
            tasks._set_task_name, {"named": hooks.named}, finish="named(task)"
        )


def _weave_executors(hooks: Hooks) -> None:
    submit = "executor.submit(func, *args)"
    wrap = f"futures.wrap_future({submit}, loop=self)"
    _weave(
        LoopClass,
        "run_in_executor",
        {
            "lock": hooks.recording.lock,
            "submitted": hooks.submitted,
            "wrapped": hooks.wrapped,
        },
        start="lock.acquire(); future = None",
        replace={
            wrap: f"wrapped(futures.wrap_future(future := submitted(executor, func, {submit}),"
            " loop=self), future)"
        },
        finish="lock.release()",
    )
    _weave(
        thread._WorkItem,
        "run",
        {"begins": hooks.thread_begins, "ends": hooks.thread_ends},
        start="begins(self)",
        finish="ends()",
    )
