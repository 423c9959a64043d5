"""What recording costs, beside a plain run and asyncio's debug mode; how quick the page is."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from toolbox import catalog
from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Stage, Target
from toolbox.timeline import browser, page

# ── overhead: scripts that take their own time, so that neither starting Python nor writing the
#    trace at the end is in it ──

SLEEPING = """
import asyncio, sys, time

async def sleeper(n, rounds):
    for _ in range(rounds):
        await asyncio.sleep(0.05)
    return n

async def main(rounds):
    print(await asyncio.gather(*(sleeper(n, rounds) for n in range(10))))

started = time.perf_counter()
asyncio.run(main(int(sys.argv[1]) // 10))
print(time.perf_counter() - started, file=sys.stderr)
"""
SWITCHING = """
import asyncio, sys, time

async def main(rounds):
    for n in range(rounds):
        await asyncio.sleep(0)
    print(n)

started = time.perf_counter()
asyncio.run(main(int(sys.argv[1])))
print(time.perf_counter() - started, file=sys.stderr)
"""
PLAIN, LINES, NO_LINES, DEBUG = "不录", "录", "录，不含逐行", "不录，asyncio 调试模式"


def overhead(
    script: str,
    amounts: tuple[int, int],
    command: tuple[str, ...],
    debug: str,
    stage: Stage,
    quick: bool,
) -> Outcome:
    """Run the script; what it prints on stdout is the work, the last line of stderr its seconds."""
    amount = amounts[quick]
    with tempfile.TemporaryDirectory(prefix="asyncio-tutorial-") as folder:
        file, trace = Path(folder) / "script.py", Path(folder) / "trace.json"
        file.write_text(script, encoding="utf-8")
        words = [word.format(trace=trace) for word in command]
        done = subprocess.run(
            [sys.executable, *words, file, str(amount)],
            cwd=catalog.ROOT,
            env={**os.environ, "PYTHONASYNCIODEBUG": debug},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    return Outcome(amount, float(done.stderr.splitlines()[-1]), done.stdout)


def overhead_rows(script: str, full: int, quick: int) -> list[Row]:
    recorder = ("-m", "toolbox.recorder", "-o", "{trace}")
    ways = {
        PLAIN: ((), ""),
        LINES: (recorder, ""),
        NO_LINES: ((*recorder, "--no-lines"), ""),
        DEBUG: ((), "1"),
    }
    return [
        Row(name, partial(overhead, script, (full, quick), command, debug))
        for name, (command, debug) in ways.items()
    ]


# ── the page ──

# Pairs of tasks, queues, a lock, timers: a trace of about 20,000 events, as many as a page shows.
CROWD = """
import asyncio

async def producer(queue, items):
    for item in range(items):
        await queue.put(item)
        if item % 10 == 0:
            await asyncio.sleep(0.001)
    await queue.put(None)

async def consumer(queue, lock):
    total = 0
    while (item := await queue.get()) is not None:
        async with lock:
            total += item
            await asyncio.sleep(0)
    print("total", total)

async def main():
    lock = asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            queue = asyncio.Queue(2)
            group.create_task(producer(queue, 21), name=f"producer-{number}")
            group.create_task(consumer(queue, lock), name=f"consumer-{number}")

asyncio.run(main())
"""
# What else makes a page heavy: 4,000 lines of a log; 3,000 long ones; 9,998 tasks; a module of
# 200,000 lines.
PRINTING = """
import asyncio

async def clerk(number):
    for n in range({rounds}):
        print({what})
        await asyncio.sleep(0)

async def main():
    await asyncio.gather(*(clerk(number) for number in range(100)))

asyncio.run(main())
"""
MANY = """
import asyncio

async def guest():
    pass

async def main():
    await asyncio.gather(*(guest() for _ in range(9_998)))

asyncio.run(main())
"""
DATA = """
import asyncio, numbers_of_guests

async def main():
    await asyncio.sleep(0.001)
    print(len(numbers_of_guests.DATA))

asyncio.run(main())
"""
SHAPES = {
    "crowd": ("20,000 个事件", CROWD),
    "crawler": ("4.4 的录像", ""),
    "log": ("4,000 行日志", PRINTING.format(rounds=40, what="number, n, 'served'")),
    "wide": ("3,000 次印 1,900 个字", PRINTING.format(rounds=30, what="'x' * 1900")),
    "many": ("9,998 个任务", MANY),
    "data": ("200,000 行的模块", DATA),
}
LIMIT_OPEN, LIMIT_STEP = "上限：打开 2 秒，3 MB", "上限：一步 5 毫秒"
OPEN = {name: f"打开 {what}" for name, (what, _) in SHAPES.items()}
SLOW_STEP = {name: f"{what}的一步，95%" for name, (what, _) in SHAPES.items()}
STEP = """(steps) => steps.map((n) => {
  const { left, top } = timeline;
  const started = performance.now();
  show(n);
  if (timeline.left !== left || timeline.top !== top) timeline.draw();
  document.body.offsetHeight; // lays out what is not laid out yet
  return performance.now() - started;
})"""


@contextmanager
def page_stage() -> Iterator[Stage]:
    """All traces, recorded once."""
    path = browser.find()
    if path is None:
        raise Missing("没有 Chromium，网页没法量：apt install chromium fonts-noto-cjk")
    with tempfile.TemporaryDirectory(prefix="asyncio-tutorial-") as folder:
        numbers = "".join(f"    {n},\n" for n in range(200_000))
        Path(folder, "numbers_of_guests.py").write_text(f"DATA = [\n{numbers}]\n")
        for name, (_, text) in SHAPES.items():
            script = Path(folder, f"{name}.py")
            script.write_text(text, encoding="utf-8")
            if name == "crawler":
                script = catalog.ROOT / "04_case_studies" / "04_async_crawler_demo.py"
            # Without lines on 3.11, as `tutorial.py trace` does.
            plain = name == "crawler" and sys.version_info < (3, 12)
            lines = ("--no-lines",) if plain else ()
            words = ["-m", "toolbox.recorder", "-o", f"{folder}/{name}.json", *lines, script]
            subprocess.run(
                [sys.executable, *words],
                cwd=catalog.ROOT,
                capture_output=True,
                check=True,
                timeout=200,
            )
        yield {"chromium": path, "folder": folder}


def limit(seconds: float, size: int, stage: Stage, quick: bool) -> Outcome:
    """No measurement, but what a measurement is held against."""
    return Outcome(1, seconds, {"网页的错误": []}, cpu=0, memory=size)


def opening(name: str, stage: Stage, quick: bool) -> Outcome:
    """From the navigation to the first step, laid out; the memory is the file's size."""
    with _tab(stage) as (tab, errors):
        file = _write_page(name, stage)
        started = time.perf_counter()
        tab.goto(file.as_uri())
        tab.evaluate("document.body.offsetHeight")
        seconds = time.perf_counter() - started
    return Outcome(1, seconds, {"网页的错误": errors}, memory=file.stat().st_size)


def stepping(name: str, share: float, stage: Stage, quick: bool) -> Outcome:
    """This share of the steps forward, backward and at random take no longer than these seconds."""
    count = 100 if quick else 200
    with _tab(stage) as (tab, errors):
        tab.goto(_write_page(name, stage).as_uri())
        last = tab.evaluate("STEPS.length") - 1
        first = max(0, last // 2 - count // 2)
        ahead = list(range(first, min(last, first + count)))
        jumps = random.Random(4).choices(range(last), k=count)
        taken = sorted(tab.evaluate(STEP, [*ahead, *reversed(ahead), *jumps]))
    milliseconds = taken[min(int(len(taken) * share), len(taken) - 1)]
    return Outcome(1, milliseconds / 1000, {"网页的错误": errors}, memory=0)


@contextmanager
def _tab(stage: Stage) -> Iterator[tuple]:
    """A tab of the usual size, and the list that its errors go to."""
    with browser.headless(stage["chromium"]) as chromium, chromium.at_most(120):
        tab = chromium.browser.new_page(viewport={"width": 1280, "height": 720})
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        yield tab, errors


def _write_page(name: str, stage: Stage) -> Path:
    trace = json.loads(Path(stage["folder"], f"{name}.json").read_text(encoding="utf-8"))
    file = Path(stage["folder"], f"{name}.html")
    file.write_text(page.build(trace), encoding="utf-8")
    return file


def page_rows() -> list[Row]:
    needs = ("playwright",)
    rows = [Row(LIMIT_OPEN, partial(limit, 2.0, 3_000_000))]
    rows += [Row(words, partial(opening, name), needs) for name, words in OPEN.items()]
    rows.append(Row(LIMIT_STEP, partial(limit, 0.005, 0)))
    for name, words in SLOW_STEP.items():
        if name in ("crowd", "crawler"):
            for which, share in {"中位": 0.5, "最慢": 1.0}.items():
                rows.append(Row(words.replace("95%", which), partial(stepping, name, share), needs))
        rows.append(Row(words, partial(stepping, name, 0.95), needs))
    return rows


STARTED = "每行是脚本自己量的时间：启动 Python、写录像文件都不在内。"

BENCHMARKS = [
    Benchmark(
        "recorder-sleeping",
        "录下一个睡觉的脚本：10 个任务各自一次次 sleep(0.05)",
        "次/秒",
        overhead_rows(SLEEPING, 400, 100),
        [Target(LINES, PLAIN, 1.05, of="time")],
        note=STARTED,
    ),
    Benchmark(
        "recorder-switching",
        "录下 10,000 次 sleep(0)：最坏的情形，什么活也不干，只切换",
        "次/秒",
        overhead_rows(SWITCHING, 10_000, 2_000),
        [Target(LINES, PLAIN, 8 if sys.version_info >= (3, 12) else 20, of="time")],
        note=f"{STARTED}3.11 没有 sys.monitoring，逐行录要用 sys.settrace，所以贵得多。",
    ),
    Benchmark(
        "page",
        "录像的网页：打开，一步一步走（无头 Chromium）",
        "次/秒",
        page_rows(),
        [
            *(Target(row, LIMIT_OPEN, 1, of="time") for row in OPEN.values()),
            *(Target(row, LIMIT_OPEN, 1, of="memory") for row in OPEN.values()),
            *(Target(row, LIMIT_STEP, 1, of="time") for row in SLOW_STEP.values()),
        ],
        stage=page_stage,
        note="两行上限不是量出来的，是别的行要守的数。打开的内存一栏是网页文件的大小。"
        "一步是向前、向后、随机各 200 步，连同强制布局，时间线卷动时连同重画。",
    ),
]
