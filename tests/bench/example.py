"""Benchmarks for the tests: cheap rows, some of which go wrong in a way of their own."""

import contextlib
import sys
import time

from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Target


def steady(stage, quick):
    return Outcome(100, 2.0, work=stage["cups"])


def faster(stage, quick):
    return Outcome(100, 1.0, work=stage["cups"], memory=5e6, cpu=0.5)


def lazy(stage, quick):
    return Outcome(100, 0.1, work=stage["cups"] - 1)


def breaks(stage, quick):
    raise ValueError("茶壶碎了")


def leaves(stage, quick):
    sys.exit("没有茶了")


def chatters(stage, quick):
    print("一边煮一边说")
    return Outcome(10 if quick else 100, 2.0, work=stage["cups"])


def greedy(stage, quick):
    kept = bytearray(64 << 20)
    started = time.process_time()
    while time.process_time() < started + 0.2:
        pass
    return Outcome(len(kept), 1.0, work=stage["cups"])


def busy(share):
    return lambda stage, quick: Outcome(1, 1.0, work=stage["cups"], busy=share)


@contextlib.contextmanager
def kitchen():
    yield {"cups": 3}


@contextlib.contextmanager
def closed():
    raise Missing("厨房没开：apt install kitchen")
    yield


BENCHMARKS = [
    Benchmark(
        "tea",
        "<泡茶>",
        "杯/秒",
        [
            Row("照旧", steady),
            Row("快的", faster),
            Row("偷懒的", lazy),
            Row("打碎的", breaks),
            Row("走开的", leaves),
            Row("没装的", steady, ("no_such_tea",)),
            Row("话多的", chatters),
        ],
        [
            Target("快的", "照旧", 2.2),
            Target("快的", "照旧", 2.3),
            Target("快的", "照旧", 0.46, of="time"),
            Target("快的", "照旧", 0.44, of="time"),
            Target("没装的", "照旧", 1.0),
        ],
        kitchen,
    ),
    Benchmark("closed", "打烊", "杯/秒", [Row("照旧", steady)], stage=closed),
    Benchmark("greedy", "能吃", "杯/秒", [Row("小", steady), Row("大", greedy)], stage=kitchen),
    Benchmark("client", "量客户端", "次/秒", [Row("闲", busy(0.5)), Row("满", busy(0.98))],
              stage=kitchen, server="idle"),
    Benchmark("server", "量服务器", "次/秒", [Row("满", busy(0.98)), Row("闲", busy(0.5))],
              stage=kitchen, server="saturated"),
]  # fmt: skip
