"""What a unit of concurrency costs, measured with the functions of lesson 3.10."""

import sys
import time
from collections.abc import Callable
from functools import partial

from toolbox.bench.model import Benchmark, Outcome, Row, Stage, Target, lesson

DEMO = "03_advanced/10_memory_tuning_demo.py"
WORK = "个个都睡着了"  # how many there are differs: the figures are for each


def of_the_lesson(unit: str, stage: Stage, quick: bool) -> Outcome:
    """3.10's own measure() with 3.10's own numbers: it counts in new processes."""
    demo = lesson(DEMO)
    sys.modules["__main__"] = demo  # which these import: no more than a learner's would
    guests, processes = demo.UNITS[unit]
    asked = max(guests // 10, 1) if quick else guests
    count, kib, us = demo.measure(unit, asked, processes)
    return outcome(asked * processes, count, count * us / 1e6, kib * 1024)


def here(crowd_of: Callable[[], Callable[[int], list]], stage: Stage, quick: bool) -> Outcome:
    """The same for what 3.10 does not have, in this process: every row has a new one."""
    put_to_sleep, memory_in_use = crowd_of(), lesson(DEMO).memory_in_use
    asked = 10_000 if quick else 100_000
    before, started = memory_in_use(), time.perf_counter()
    asleep = put_to_sleep(asked)
    seconds = time.perf_counter() - started
    return outcome(asked, len(asleep), seconds, (memory_in_use() - before) / asked)


def outcome(asked: int, asleep: int, seconds: float, each: float) -> Outcome:
    work = WORK if asleep == asked else f"{asked} 个里睡着了 {asleep} 个"
    return Outcome(asked, seconds, work, memory=each)


def generators() -> Callable[[int], list]:
    def sleep():
        yield

    def put_to_sleep(count: int) -> list:
        crowd = [sleep() for _ in range(count)]
        for one in crowd:
            next(one)
        return [one for one in crowd if one.gi_frame]

    return put_to_sleep


def our_tasks() -> Callable[[int], list]:
    loop = lesson("03_advanced/mini_loop.py").Loop()

    def put_to_sleep(count: int) -> list:
        crowd = [loop.spawn(loop.sleep(3600)) for _ in range(count)]
        loop.turn()
        return [task for task in crowd if task.waits_on is not None]

    return put_to_sleep


def greenlets() -> Callable[[int], list]:
    from greenlet import getcurrent, greenlet

    home = getcurrent()

    def put_to_sleep(count: int) -> list:
        crowd = [greenlet(lambda: home.switch()) for _ in range(count)]
        for one in crowd:
            one.switch()  # comes back here at once and leaves its stack behind
        return [one for one in crowd if one and not one.dead]

    return put_to_sleep


BENCHMARKS = [
    Benchmark(
        "units",
        "并发的一个单位值多少：睡着的协程、线程、进程",
        "个/秒",
        [
            Row("asyncio 任务", partial(of_the_lesson, "协程")),
            Row("3.8 的任务", partial(here, our_tasks)),
            Row("生成器", partial(here, generators)),
            Row("greenlet", partial(here, greenlets), ("greenlet",)),
            Row("线程", partial(of_the_lesson, "线程")),
            Row("进程", partial(of_the_lesson, "进程")),
        ],
        [
            Target("asyncio 任务", "线程", 1 / 10, of="memory"),
            Target("asyncio 任务", "进程", 1 / 500, of="memory"),
        ],
        note="内存是一个的；速度是每秒能开几个、让它睡下。CPU 秒是整行的。线程和进程只算真用到的"
        "物理内存，预留的地址空间不算。进程是 spawn 的：各有各的解释器。",
    ),
]
