"""The timeline in a terminal: a lane per task, what it waited for written into the bar."""

import os
import shutil
import unicodedata
from collections import Counter, defaultdict
from typing import TextIO

from . import reading
from .reading import Span, group

GLYPHS = {
    "running": "█",
    "ready": "░",
    "sleep": "─",
    "sync": "▒",
    "task": "┄",
    "future": "·",
    "outside": "≈",
    "io": "~",
    "turn": "╌",
}
ASCII = {
    "running": "#",
    "ready": "o",
    "sleep": "-",
    "sync": "%",
    "task": "=",
    "future": ".",
    "outside": "@",
    "io": "~",
    "turn": "_",
}
COLOURS = {
    "running": "1;32",
    "ready": "33",
    "sleep": "90",
    "sync": "31",
    "task": "36",
    "future": "37",
    "outside": "35",
    "io": "34",
    "turn": "36",
}
WORDS = {
    "running": "运行",
    "ready": "就绪（排队）",
    "sleep": "睡（定时器）",
    "sync": "等锁、队列、事件",
    "task": "等别的任务",
    "future": "等 Future",
    "outside": "等线程、进程",
    "io": "等 I/O",
    "turn": "等对方切换回来",
}
ENGLISH = {
    "running": "running",
    "ready": "ready",
    "sleep": "timer",
    "sync": "lock/queue/event",
    "task": "other tasks",
    "future": "Future",
    "outside": "thread/process",
    "io": "I/O",
    "turn": "switched away",
}
ENDS = {"done": "✓", "error": "✗", "cancelled": "⊘", "gone": "∅"}
ASCII_ENDS = {"done": "+", "error": "!", "cancelled": "x", "gone": "0"}
END_COLOURS = {"done": "1;32", "error": "1;31", "cancelled": "1;33", "gone": "90"}
END_WORDS = {"done": "完成", "error": "失败", "cancelled": "被取消", "gone": "被回收"}

WIDEST_NAME = 20
MOST_LANES = 40


def show(trace: dict, stream: TextIO, *, by_time: bool = False) -> None:
    """Draw the trace into the stream: as wide as the window, in what the stream can take.

    Colour only on a terminal and without NO_COLOR; ASCII where the encoding is not UTF-8.
    """
    encoding = (stream.encoding or "ascii").lower().replace("_", "-")
    colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size((100, 24)).columns
    text = draw(
        trace,
        max(width - 1, 40),
        by_time=by_time,
        colour=colour,
        ascii_only=encoding not in ("utf-8", "utf8"),
        chinese=can_encode("就绪", encoding),
    )
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def can_encode(text: str, encoding: str) -> bool:
    """Whether the encoding has all characters of the text."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def draw(
    trace: dict,
    width: int = 100,
    *,
    by_time: bool = False,
    colour: bool = False,
    ascii_only: bool = False,
    chinese: bool = True,
) -> str:
    """The timeline as text that ends in a newline; no line is wider than `width` columns."""
    return "".join(
        f"{line}\n" for line in _Drawing(trace, width, by_time, colour, ascii_only, chinese).lines()
    )


# ── columns of text: CJK takes two ──


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(_columns_of(char) for char in text)


def _columns_of(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def printable(text: str) -> str:
    """The text with a question mark for all that could move the cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)


def clip(text: str, width: int) -> str:
    """The text in exactly `width` columns: cut with … or filled with spaces."""
    text = printable(text)
    if columns(text) > width:
        kept = ""
        for char in text:
            if columns(kept) + _columns_of(char) > width - 1:
                break
            kept += char
        text = kept + "…"
    return text + " " * (width - columns(text))


# ── the drawing ──


class _Drawing:
    def __init__(self, trace, width, by_time, colour, ascii_only, chinese):
        self.trace, self.width, self.by_time = trace, width, by_time
        self.colour, self.ascii, self.chinese = colour, ascii_only, chinese
        self.glyphs = ASCII if ascii_only else GLYPHS
        self.ends = ASCII_ENDS if ascii_only else ENDS
        self.names = list(map(printable, reading.names(trace)))
        self.steps = reading.steps(trace)
        self.ended = reading.ends(trace["ev"])
        self.spans: dict[int, list[Span]] = {}
        for span in reading.spans(trace):
            self.spans.setdefault(span.lane, []).append(span)
        self.lanes = [lane["id"] for lane in trace["tasks"] if not reading.is_closing(lane)]
        self.drawn = self._most_telling()
        widest = max((columns(self.names[lane]) for lane in self.drawn), default=0)
        self.name_width = min(widest, WIDEST_NAME, width // 3)
        self.bar = width - self.name_width - 3
        self._step_of = self._count_steps()
        self._start = min((s.start for spans in self.spans.values() for s in spans), default=0)

    def lines(self):
        yield from self._head()
        if not self.trace["tasks"]:
            return
        yield self._axis()
        for lane in self.drawn:
            name = clip(self.names[lane], self.name_width)
            if self.ascii:
                name = name.replace("…", "~")
            yield f"{name} {'|' if self.ascii else '│'}{self._bar(lane)}"
        if (rest := len(self.lanes) - MOST_LANES) > 0:
            yield self._say(f"……还有 {rest} 条没有画，网页里都有", f"... and {rest} more lanes")
        yield from self._legend()

    def _most_telling(self) -> list[int]:
        """As many lanes as fit: the script's own before a library's, then those that do most."""

        def telling(lane: int) -> tuple[bool, int]:
            return self.trace["tasks"][lane]["def"] is not None, len(self.spans.get(lane, []))

        return sorted(sorted(self.lanes, key=telling, reverse=True)[:MOST_LANES])

    # x

    def _count_steps(self) -> list[int]:
        """For each event, the number of the step that it belongs to, from 0."""
        result, number = [], -1
        wanted = set(self.steps)
        for index in range(len(self.trace["ev"])):
            number += index in wanted
            result.append(max(number, 0))
        return result

    def _length(self) -> int:
        """The extent of x: µs, or steps."""
        events = self.trace["ev"]
        if not events:
            return 1
        return max(events[-1]["t"] - self._start if self.by_time else len(self.steps), 1)

    def _x(self, event: int) -> int:
        if self.by_time:  # what came before the first lane takes no room
            return max(self.trace["ev"][event]["t"] - self._start, 0)
        return self._step_of[event]

    def _column(self, event: int) -> int:
        return min(self.bar - 2, self._x(event) * (self.bar - 1) // self._length())

    # parts

    def _head(self):
        trace = self.trace
        kinds = Counter(trace["tasks"][lane].get("lane", "task") for lane in self.lanes)
        zh = {"task": "个任务", "greenlet": "个 greenlet", "generator": "个生成器"}
        en = {"task": "tasks", "greenlet": "greenlets", "generator": "generators"}
        count = self._say(
            "、".join(f"{n} {zh[kind]}" for kind, n in kinds.items()) or "没有任务",
            ", ".join(f"{n} {en[kind]}" for kind, n in kinds.items()) or "no task",
        )
        length = trace["ev"][-1]["t"] / 1e6 if trace["ev"] else 0
        parts = [
            trace["script"],
            f"Python {trace['python']}",
            count,
            self._say(f"{len(self.steps)} 步", f"{len(self.steps)} steps"),
            f"{length:.2f} s" if self.ascii else f"{length:.2f} 秒",
        ]
        text = " | ".join(parts) if self.ascii else " · ".join(parts)
        yield clip(text, self.width).rstrip()

    def _axis(self) -> str:
        """Numbers of steps, or times, over the bars; each stands over its own column."""
        length, usable = self._length(), self.bar - 1
        wanted = max(1, usable // 12)
        interval = _round_number(length / wanted)
        row = ""
        first = -(-self._start // interval) * interval if self.by_time else 0
        for tick in range(first, first + length, interval):
            # Steps count from 1, as in the page.
            column = (tick - self._start if self.by_time else max(tick - 1, 0)) * usable // length
            text = _time(tick, interval) if self.by_time else str(max(tick, 1))
            if column >= len(row) + bool(row) and column + len(text) <= usable:
                row = row.ljust(column) + text
        unit = self._say("时间" if self.by_time else "步", "time" if self.by_time else "step")
        label = " " * max(self.name_width - columns(unit), 0) + unit
        return f"{label}  {row}".rstrip()

    def _bar(self, lane: int) -> str:
        cells: list[tuple[str, str]] = [(" ", "")] * self.bar
        spans = self.spans.get(lane, [])
        for span in sorted(spans, key=lambda span: group(span.state) == "running"):
            kind = group(span.state)
            begin, end = self._column(span.first), self._column(span.last)
            end = max(end, begin + 1)
            for column in range(begin, end):
                cells[column] = (self.glyphs[kind], kind)
            if span.wait is not None and kind != "ready":
                self._write_into(cells, begin, end, span, kind)
        for span in spans:  # what runs is never hidden by a label
            if span.state == reading.RUNNING:
                cells[self._column(span.first)] = (self.glyphs["running"], "running")
        if self._is_crowded(spans):
            for column, kind in self._mostly(spans):
                cells[column] = (self.glyphs[kind], kind)
        state = self.ended.get(lane)
        if spans and state:
            last = max(index for index, cell in enumerate(cells) if cell[1]) + 1
            cells[min(last, self.bar - 1)] = (self.ends[state], f"end {state}")
        return self._paint(cells)

    def _is_crowded(self, spans: list[Span]) -> bool:
        """Whether a lane runs so often that its runs, drawn in every column, would hide its waits:
        in a long trace."""
        runs = sum(span.state == reading.RUNNING for span in spans)
        room = self._column(spans[-1].last) - self._column(spans[0].first) + 1 if spans else 0
        return runs >= 6 and runs > room / 2

    def _mostly(self, spans: list[Span]):
        """Each column of a lane, and what it does for most of it."""
        width = self._length() / (self.bar - 1)
        shares: dict[int, Counter[str]] = defaultdict(Counter)
        for span in spans:
            begin, end = self._x(span.first), self._x(span.last)
            for column in range(self._column(span.first), self._column(span.last) + 1):
                share = min(end, (column + 1) * width) - max(begin, column * width)
                shares[column][group(span.state)] += share
        return [(column, share.most_common(1)[0][0]) for column, share in shares.items()]

    def _write_into(self, cells, begin: int, end: int, span: Span, kind: str) -> None:
        """What is waited for, into a bar that is long enough."""
        label = self._label(span)
        if columns(label) + 4 > end - begin:
            return
        column = begin + 1
        for char in f" {label} ":
            size = _columns_of(char)
            if size == 0:
                continue
            cells[column] = (char, kind)
            if size == 2:
                cells[column + 1] = ("", kind)
            column += size

    def _label(self, span: Span) -> str:
        wait = span.wait
        if span.state in ("task", "gather", "wait", "taskgroup") and wait.get("on"):
            on = [self.names[lane] for lane in wait["on"] if lane < len(self.names)]
            label = ",".join(on)
            if columns(label) > 24:
                label = self._say(f"{len(on)} 个任务", f"{len(on)} tasks")
            return label
        return printable(reading.waiting_for(wait))

    def _paint(self, cells) -> str:
        if not self.colour:
            return "".join(char for char, _ in cells).rstrip()
        text, before = "", ""
        for char, kind in cells:
            if kind != before:
                text += "\033[0m" * bool(before)
                code = END_COLOURS[kind[4:]] if kind.startswith("end ") else COLOURS.get(kind)
                text += f"\033[{code}m" if code else ""
                before = kind
            text += char
        return text.rstrip() if not before else text + "\033[0m"

    def _legend(self):
        used = {group(span.state) for lane in self.drawn for span in self.spans.get(lane, [])}
        words = WORDS if self.chinese else ENGLISH
        parts = [(self.glyphs[kind], words[kind], COLOURS[kind]) for kind in GLYPHS if kind in used]
        states = {self.ended.get(lane) for lane in self.drawn}
        parts += [
            (self.ends[state], END_WORDS[state] if self.chinese else state, END_COLOURS[state])
            for state in self.ends
            if state in states
        ]
        row, length = "", 0
        for glyph, word, code in parts:
            size = columns(word) + 4
            if length + size > self.width:
                yield row.rstrip()
                row, length = "", 0
            row += (f"\033[{code}m{glyph}\033[0m" if self.colour else glyph) + f" {word}  "
            length += size
        yield row.rstrip()

    def _say(self, chinese: str, english: str) -> str:
        return chinese if self.chinese else english


def _round_number(number: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, …"""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= number:
                return factor * power
        power *= 10


def _time(microseconds: int, interval: int) -> str:
    if microseconds == 0:
        return "0"
    if interval < 1000:
        return f"{microseconds / 1000:g}ms"
    return f"{microseconds // 1000}ms" if interval < 1_000_000 else f"{microseconds // 1_000_000}s"
