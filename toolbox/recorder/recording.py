"""What is written down: events in order, lanes, and the numbers that stand for objects.

Hooks append tuples, which is cheap; `trace()` turns them into the dictionaries of schema.md.
Nothing here keeps a task, a handle or a future alive: "exception was never retrieved" must come
when it would have come without us.
"""

import ast
import dis
import importlib.util
import os
import sys
import sysconfig
import threading
import time
import weakref
from collections.abc import Callable
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from itertools import islice
from pathlib import Path
from types import CodeType

from .brief import printable

STDLIB = os.path.realpath(sysconfig.get_paths()["stdlib"]) + os.sep
OWN_FOLDER = os.path.dirname(os.path.realpath(__file__)) + os.sep

# The keys of each kind's tuple behind (kind, time). A value of None is left out of the trace, but
# for the keys in NULLABLE.
KEYS = {
    "new": ("T",),
    "soon": ("h", "T", "cb", "why", "by", "L", "exc", "how"),
    "timer": ("h", "when", "cb", "by", "at", "T", "L"),
    "due": ("h",),
    "tcancel": ("h", "by"),
    "hcancel": ("h", "by"),
    "io": ("h", "cb", "L"),
    "poll": ("ready", "L"),
    "polled": ("n", "L"),
    "run": ("h", "T", "cb", "L", "thrown", "ready", "timers"),
    "nested": ("T", "in", "eager", "thrown"),
    "end": ("h", "T", "cb", "state", "w", "result", "exc"),
    "line": ("T", "f", "l", "more", "by"),
    "out": ("T", "s", "text", "bytes", "by"),
    "job": ("j", "fn", "proc", "by", "at"),
    "thr+": ("j", "fn", "thread"),
    "thr-": ("j", "fn", "thread"),
    "jobdone": ("j", "state", "exc", "by"),
    "gone": ("T",),
}
NULLABLE = {("line", "T"), ("out", "T"), ("nested", "in")}
ASYNC = CO_COROUTINE | CO_ASYNC_GENERATOR
LONGEST_TEXT = 2000
MOST_LINES = 200  # of one step: a loop that counts to a million tells nothing new after that
LINES_SHARE = 0.5  # of all events: lines must not push out switches and waits


class Here(threading.local):
    """What runs in this thread now; a lane T, a handle h, and what they interrupt."""

    def __init__(self) -> None:
        self.T: int | None = None
        self.h: int | None = None
        self.running: list = []  # steps begun and not ended, innermost last
        self.jobs: list = []  # jobs of an executor, likewise
        self.starting: list = []  # calls of create_task under way
        self.generators: list = []


class Recording:
    """The events and lanes so far, and whose number is whose."""

    def __init__(self, script: str, arguments: list[str], options: dict) -> None:
        self.script = os.path.realpath(script)
        self.root = os.path.dirname(self.script) + os.sep
        self.arguments = arguments
        self.cap: int = options["max_events"]
        self.virtual: bool = options["virtual"]
        self.lines: bool = options["lines"]
        self.check: bool = options.get("check", False)
        self.now: Callable[[], int] = time.perf_counter_ns
        self.started = self.now()
        self.loop_time: Callable = lambda loop: loop.time()
        self.select: Callable | None = None  # instead of the selector's, under a virtual clock
        self.jobs_under_way: set[int] = set()
        self.ev: list[tuple] = []
        self.lanes: list[dict] = []
        self.loops: list[dict] = []
        self.notes: list[str] = []
        self.impl: str | None = None
        self.died: str | None = None
        self.lines_left = MOST_LINES  # until the next step begins or something is printed
        self.lines_budget = int(self.cap * LINES_SHARE)
        self.before_trace: list[Callable[[], None]] = []
        # Told each exception that leaves a function of the script; for greenlets.
        self.unwinds: Callable[[BaseException], None] = lambda error: None
        self.here = Here()
        self.lock = threading.RLock()
        self.printing = threading.RLock()  # what two threads print is written down as it came out
        self.handles: dict[int, int] = {}  # id(handle) → h, until it ran or was cancelled
        self.last_number = 0
        self._lane_of: dict[int, int] = {}  # id(task) → T
        self._lane_refs: dict[int, weakref.ref] = {}
        self._loop_of: dict[int, int] = {}
        self._loop_refs: dict[int, weakref.ref] = {}
        self._objects: dict[int, tuple[weakref.ref, str]] = {}
        self._per_class: dict[str, int] = {}
        self._is_users: dict[str, bool] = {}
        self._short: dict[str, str] = {}
        self._source: dict[str, list[str]] = {}

    # ── numbers ──

    def full(self) -> bool:
        return len(self.ev) >= self.cap

    def number(self) -> int:
        self.last_number += 1
        return self.last_number

    def lane(self, task: object) -> int | None:
        """The lane of a task that is known, else None."""
        return self._lane_of.get(id(task))

    def new_lane(self, name: str, coro: object, at: list | None, **more: object) -> int:
        """A lane for `coro` (a coroutine, or a code object); its `new` event is written, too."""
        number = len(self.lanes)
        tried = [coro, *(getattr(coro, name, None) for name in ("cr_code", "gi_code", "__code__"))]
        code = next((found for found in tried if isinstance(found, CodeType)), None)
        names = getattr(coro, "__qualname__", None), getattr(coro, "co_qualname", None)
        known = code is not None and self.is_users(code.co_filename)
        lane = {
            "id": number,
            "name": name,
            "coro": next((n for n in names if isinstance(n, str)), type(coro).__name__),
            "def": [self.short(code.co_filename), code.co_firstlineno] if known else None,
            "by": self.by(),
            "at": at,
            "state": "pending",
            **{key: value for key, value in more.items() if value},
        }
        self.lanes.append(lane)
        self.ev.append(("new", self.now(), number))
        return number

    def bind(self, thing: object, lane: int) -> None:
        """From now on `thing` (a task, a greenlet) is this lane; until it is collected."""
        key = id(thing)

        def forget(_: object, self: "Recording" = self) -> None:
            if self._lane_of.get(key) != lane:
                return
            del self._lane_of[key], self._lane_refs[key]
            if self.lanes[lane]["state"] == "pending" and not self.full():
                self.ev.append(("gone", self.now(), lane))

        self._lane_of[key] = lane
        self._lane_refs[key] = weakref.ref(thing, forget)

    def name_lane(self, lane: int, name: str, coro: str) -> None:
        """Name it after its function; the second of that name is called name#2."""
        entry = self.lanes[lane]
        key = f"{entry['lane']} {name}"
        self._per_class[key] = number = self._per_class.get(key, 0) + 1
        if name != "main":
            entry["name"] = name if number == 1 else f"{name}#{number}"
        entry["coro"] = coro

    def loop(self, loop: object) -> int:
        """The loop's index."""
        key = id(loop)
        number = self._loop_of.get(key)
        return self._add_loop(loop, key) if number is None else number

    def _add_loop(self, loop: object, key: int) -> int:
        number = self._loop_of[key] = len(self.loops)
        self._loop_refs[key] = weakref.ref(loop, lambda _: self._loop_of.pop(key, None))
        thread = threading.current_thread().name
        self.loops.append({"id": number, "class": type(loop).__name__, "thread": thread})
        return number

    def object(self, thing: object) -> str:
        """ "Queue#1": the class and a number that stays."""
        ref, name = self._objects.get(id(thing), (None, ""))
        if ref is None or ref() is not thing:
            cls = type(thing).__name__
            self._per_class[cls] = count = self._per_class.get(cls, 0) + 1
            name = f"{cls}#{count}"
            try:
                self._objects[id(thing)] = (weakref.ref(thing), name)
            except TypeError:  # slots without __weakref__
                return cls
        return name

    # ── where ──

    def is_users(self, filename: str) -> bool:
        """Whether this file is the learner's: in the script's folder, no library, not ours."""
        known = self._is_users.get(filename)
        if known is None:
            path = os.path.realpath(filename)
            known = self._is_users[filename] = (
                path.startswith(self.root)
                and not path.startswith((STDLIB, OWN_FOLDER))
                and not any(f"{os.sep}{part}-packages{os.sep}" in path for part in ("site", "dist"))
                and os.path.isfile(path)
            )
            if known:
                self._read(filename, path)
        return known

    def short(self, filename: str) -> str:
        """The user's file as the trace names it."""
        return self._short[filename]

    def _read(self, filename: str, path: str) -> None:
        name = Path(os.path.relpath(path, self.root)).as_posix()
        self._short[filename] = name
        if name not in self._source:
            self._source[name] = _decoded(Path(path).read_bytes()).removesuffix("\n").split("\n")

    def place(self, frame) -> dict:
        """The exact expression (PEP 657) at which a frame of the user's stands: at, expr."""
        code, line = frame.f_code, frame.f_lineno
        position = (line, line, None, None)
        if frame.f_lasti >= 0:
            exact = next(islice(code.co_positions(), frame.f_lasti // 2, None))
            position = exact if exact[0] is not None else position
        at = [self.short(code.co_filename), *position]
        text = self.text(at)
        if code.co_flags & ASYNC and (not text.startswith("await ") or _is_of_block(frame)):
            at = self._head(at)
            text = self.text(at)
        return {"at": at, "expr": text} if text else {"at": at}

    def _head(self, at: list) -> list:
        """`async for x in y`, `async with y`, where Python names the whole block, or only y."""
        name, line, _, column, _ = at
        for node in ast.walk(self._tree(name)):
            if isinstance(node, ast.AsyncFor):
                inner = [node.iter]
            elif isinstance(node, ast.AsyncWith):
                inner = [item.context_expr for item in node.items]
            else:
                continue
            if (line, column) in {(part.lineno, part.col_offset) for part in (node, *inner)}:
                last = inner[-1]
                return [name, node.lineno, last.end_lineno, node.col_offset, last.end_col_offset]
        return at

    def _tree(self, name: str) -> ast.AST:
        try:
            return ast.parse("\n".join(self._source[name]))
        except SyntaxError:
            return ast.Module(body=[], type_ignores=[])

    def text(self, at: list) -> str:
        """The source between two positions, on one line."""
        name, first, last, begin, end = at
        lines = [line.encode() for line in self._source[name][first - 1 : last]]
        if not lines or begin is None or end is None:
            return ""
        lines[-1] = lines[-1][:end]
        lines[0] = lines[0][begin:]
        text = ""
        for line in lines:
            part = " ".join(line.decode("utf-8", "replace").split())
            apart = text and part and text[-1] not in "([{" and part[0] not in ")]}"
            text += f" {part}" if apart else part
        return text if len(text) <= 100 else text[:99] + "…"

    def function_at(self, name: str, line: int) -> tuple[str, int] | None:
        """(name, first line) of the innermost function around this line."""
        around = [
            node
            for node in ast.walk(self._tree(name))
            if isinstance(node, ast.FunctionDef) and node.lineno <= line <= node.end_lineno
        ]
        return (around[-1].name, around[-1].lineno) if around else None

    def users_line(self, depth: int = 2) -> list | None:
        """[file, line] of the nearest frame of the user's."""
        return self.users_line_above(sys._getframe(depth - 1))

    def users_line_above(self, frame) -> list | None:
        """The same, starting with the caller of this frame."""
        frame = frame.f_back
        is_users = self._is_users
        while frame is not None:
            filename = frame.f_code.co_filename
            known = is_users.get(filename)
            if known or (known is None and self.is_users(filename)):
                return [self._short[filename], frame.f_lineno]
            frame = frame.f_back
        return None

    def by(self) -> dict:
        """Who does this: the lane or the callback that runs in this thread."""
        here = self.here
        if here.T is not None:
            return {"T": here.T}
        if here.h is not None:
            return {"h": here.h}
        thread = threading.current_thread()
        if thread is not threading.main_thread():
            j = here.jobs[-1][0] if here.jobs else None
            return {"thread": thread.name} if j is None else {"thread": thread.name, "j": j}
        return {}

    # ── the whole ──

    def output(self, stream: str, text: str, is_bytes: bool = False) -> None:
        """Something was printed; what one print() writes in pieces is one event."""
        lane, ev = self.here.T, self.ev
        by = None if lane is not None else self.by() or None
        self.lines_left = MOST_LINES
        last = ev[-1] if ev else None
        if last and last[0] == "out" and _whose(last) == (lane, stream, is_bytes or None, by):
            if not last[4].endswith("\n"):
                longer = (*last[:4], _cut(last[4] + text), *last[5:])
                if ev[-1] is last:  # no other thread came between
                    ev[-1] = longer
                    return
        if len(ev) < self.cap:
            ev.append(("out", self.now(), lane, stream, _cut(text), is_bytes or None, by))

    def note(self, what: str, sentence: str) -> None:
        """Something cannot be seen: say so, once."""
        note = f"{what}: {sentence}"
        if note not in self.notes and len(self.notes) < 20:
            self.notes.append(note)

    def trouble(self, what: str, error: BaseException) -> None:
        """An observer must not break what it observes: note our own mistakes and go on."""
        self.note("recorder", f"{what}: {type(error).__name__}: {error}")

    def trace(self) -> dict:
        """The trace as schema.md describes it."""
        for action in self.before_trace:
            action()
        return {
            "v": 1,
            "script": os.path.basename(self.script),
            "argv": [printable(argument) for argument in self.arguments],
            "python": sys.version.split()[0],
            "impl": self.impl,
            "virtual": self.virtual,
            "truncated": self.full(),
            "died": self.died,
            "notes": self.notes,
            "loops": self.loops,
            "src": {
                name: [printable(line) for line in lines] for name, lines in self._source.items()
            },
            "tasks": [{**lane, "name": printable(lane["name"])} for lane in self.lanes],
            "ev": [self._event(event) for event in self.ev if event is not None],
        }

    def _event(self, event: tuple) -> dict:
        kind, when, *values = event
        made = {"k": "run" if kind == "nested" else kind, "t": (when - self.started) // 1000}
        for key, value in zip(KEYS[kind], values, strict=False):
            if value is not None or (kind, key) in NULLABLE:
                made[key] = value
        if made.get("L") == 0:
            del made["L"]
        if kind == "out":
            text = printable(made["text"])
            if len(text.removesuffix("\n")) > LONGEST_TEXT:
                text = text[:LONGEST_TEXT] + ("…\n" if text.endswith("\n") else "…")
            made["text"] = text
        return made


def _is_of_block(frame) -> bool:
    """Whether it waits for an `async with` or `async for`, also if that begins with an `await`."""
    awaits = [
        (step.opname == "GET_ANEXT" or step.arg > 0)  # 1: __aenter__, 2: __aexit__
        for step in dis.get_instructions(frame.f_code)
        if step.opname in ("GET_AWAITABLE", "GET_ANEXT") and step.offset <= frame.f_lasti
    ]
    return bool(awaits) and awaits[-1]


def _cut(text: str) -> str:
    """As much as is kept, and a little more, to tell; whether its line is complete."""
    return text if len(text) <= LONGEST_TEXT + 1 else text[: LONGEST_TEXT + 1] + text[-1:]


def _whose(out: tuple) -> tuple:
    """Of an `out` event all but its text."""
    return out[2], out[3], out[5], out[6]


def _decoded(source: bytes) -> str:
    """As Python reads it: its own encoding, no BOM, `\\n` alone ends a line."""
    try:
        return importlib.util.decode_source(source)
    except (SyntaxError, UnicodeDecodeError, LookupError):  # nor can Python run it
        return source.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
