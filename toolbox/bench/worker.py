"""python -m toolbox.bench.worker MODULE BENCHMARK ROW QUICK < stage.json: run one row once.

Prints the outcome as the last line, JSON. A process for every run: no row inherits another's
memory, caches or loop.
"""

import dataclasses
import importlib
import json
import os
import sys
import time
from pathlib import Path

from toolbox.bench.model import Benchmark, Outcome


def main() -> None:
    module, name, row, quick = sys.argv[1:]
    benchmarks: list[Benchmark] = importlib.import_module(module).BENCHMARKS
    rows = next(benchmark for benchmark in benchmarks if benchmark.name == name).rows
    stage = json.load(sys.stdin)
    started = time.process_time() + _children_cpu()
    outcome = rows[int(row)].run(stage, quick == "quick")
    cpu = time.process_time() + _children_cpu() - started
    print()
    print(json.dumps(dataclasses.asdict(_completed(outcome, cpu))))


def _completed(outcome: Outcome, cpu: float) -> Outcome:
    return dataclasses.replace(
        outcome,
        cpu=cpu if outcome.cpu is None else outcome.cpu,
        memory=_peak() if outcome.memory is None else outcome.memory,
    )


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _peak() -> int:
    """Bytes of this process at its peak, and of the largest child that has ended; 0 on Windows."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would include what the process was before exec
        words = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(words["VmHWM"].split()[0]) * 1024 + children
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit + children


if __name__ == "__main__":
    main()
