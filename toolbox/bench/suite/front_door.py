"""What `python tutorial.py run all` adds to the lessons themselves."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

from toolbox import catalog, services
from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Stage, Target


@contextlib.contextmanager
def both_services() -> Iterator[Stage]:
    """Up before the lessons that run by themselves; `run all` starts its own, as for a learner."""
    try:
        with services.redis() as redis, services.mysql() as mysql:
            yield {services.variable("Redis"): redis, services.variable("MySQL"): mysql}
    except services.Unavailable as reason:
        raise Missing(str(reason)) from reason


def _lessons(quick: bool) -> list[catalog.Lesson]:
    return [lesson for lesson in catalog.lessons() if not quick or lesson.chapter == "02"]


def one_by_one(stage: Stage, quick: bool) -> Outcome:
    seconds, passed = 0.0, []
    for lesson in _lessons(quick):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, lesson.path], env={**os.environ, **stage}, capture_output=True
        )
        seconds += time.perf_counter() - started
        passed += [lesson.number] if done.returncode == 0 else []
    return Outcome(len(_lessons(quick)), seconds, work=passed)


def run_all(stage: Stage, quick: bool) -> Outcome:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, catalog.ROOT / "tutorial.py", "run", "02" if quick else "all"],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
    )
    seconds = time.perf_counter() - started
    ran = re.findall(r"^━━ ([\d.]+) ", done.stdout, re.MULTILINE)
    # All or none: a line of its table says which failed, and then the benchmark is refused.
    passed = ran if f"\n{len(ran)}/{len(ran)} 课通过" in done.stdout else []
    return Outcome(len(_lessons(quick)), seconds, work=passed)


ALL, SUM = "run all", "各课之和"
BENCHMARKS = [
    Benchmark(
        "run-all",
        "python tutorial.py run all 比各课之和多花多少",
        "课/秒",
        [Row(SUM, one_by_one), Row(ALL, run_all)],
        [Target(ALL, SUM, 1.2, of="time")],
        both_services,
        note="各课单独运行时，Redis 和 MySQL 已经开着；run all 自己开、自己关，都算在它的时间里。",
        rounds=2,
    )
]
