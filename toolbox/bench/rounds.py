"""Run the rows of a benchmark in turn, round after round, and judge what came out."""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import pkgutil
import platform
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path

from toolbox import catalog
from toolbox.bench import suite
from toolbox.bench.model import Benchmark, Outcome, Row, Stage, Target

REQUIREMENTS = catalog.ROOT / "requirements-bench.txt"
LONGEST = 300.0  # seconds that one run of one row may take
SATURATED = 0.97
ENOUGH = 0.9  # a target is reached at this part of its figure


@dataclass
class Measured:
    """One row's rounds; `refusal` (Chinese) says why the row does not count."""

    name: str
    outcomes: list[Outcome] = field(default_factory=list)
    refusal: str = ""

    @property
    def speeds(self) -> list[float]:
        """Units of work a second, one for each round."""
        return [outcome.amount / outcome.seconds for outcome in self.outcomes]

    def median(self, of: str) -> float:
        """The median speed (1/s), time (s), memory (bytes) or cpu (s) of the rounds."""
        values = self.speeds if of == "speed" else [self._value(one, of) for one in self.outcomes]
        return statistics.median(values)

    @staticmethod
    def _value(outcome: Outcome, of: str) -> float:
        return outcome.seconds if of == "time" else getattr(outcome, of)


def benchmarks() -> dict[str, tuple[str, Benchmark]]:
    """All benchmarks by name, each with the module of suite/ that it stands in."""
    found = {}
    for module in pkgutil.iter_modules(suite.__path__, f"{suite.__name__}."):
        for benchmark in importlib.import_module(module.name).BENCHMARKS:
            found[benchmark.name] = (module.name, benchmark)
    return found


def measure(
    module: str, benchmark: Benchmark, rounds: int, quick: bool, say: Callable[[str], None]
) -> list[Measured]:
    """Run every row `rounds` times, alternating; `say` gets a line before each run.

    `module` is the one whose BENCHMARKS hold the benchmark: workers import it. A row that is not
    installed, fails, or does other work than the first one is refused and not run again. Raises
    Missing when the stage cannot be set.
    """
    table = [Measured(row.name, refusal=_not_installed(row)) for row in benchmark.rows]
    with benchmark.stage() as stage:
        for number in range(rounds):
            for index, measured in enumerate(table):
                if not measured.refusal:
                    say(f"{benchmark.name} 第 {number + 1}/{rounds} 轮：{measured.name}")
                    _run_once(module, benchmark, index, measured, stage, quick)
                    _compare_work(table, measured)
    for measured in table:
        _check_server(benchmark, measured)
    return table


def _run_once(
    module: str, benchmark: Benchmark, index: int, measured: Measured, stage: Stage, quick: bool
) -> None:
    words = [module, benchmark.name, str(index), "quick" if quick else "full"]
    with subprocess.Popen(
        [sys.executable, "-m", "toolbox.bench.worker", *words],
        cwd=catalog.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as worker:
        try:
            output, errors = worker.communicate(json.dumps(stage), timeout=LONGEST)
        except subprocess.TimeoutExpired:
            measured.refusal = f"{LONGEST:.0f} 秒还没跑完"
            return
        finally:  # the servers that it started, too; they may outlive it when it fails
            _kill_group(worker)
    if worker.returncode:
        last = errors.strip().splitlines()[-1:] or ["没有说为什么"]
        measured.refusal = f"退出码 {worker.returncode}：{last[0]}"
        return
    measured.outcomes.append(Outcome(**json.loads(output.splitlines()[-1])))


def _kill_group(worker: subprocess.Popen) -> None:
    if os.name != "posix":
        worker.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)


def _compare_work(table: list[Measured], measured: Measured) -> None:
    baseline = next((row for row in table if row.outcomes), measured)
    if measured.outcomes and measured.outcomes[-1].work != baseline.outcomes[0].work:
        theirs, ours = baseline.outcomes[0].work, measured.outcomes[-1].work
        measured.refusal = f"做的事和“{baseline.name}”不一样：{ours}，不是 {theirs}"


def _check_server(benchmark: Benchmark, measured: Measured) -> None:
    if benchmark.server is None or measured.refusal:
        return
    busy = measured.median("busy")
    if benchmark.server == "idle" and busy >= SATURATED:
        measured.refusal = f"服务器先满了（用了 {busy:.2f} 个核），量的不是客户端"
    if benchmark.server == "saturated" and busy < SATURATED:
        measured.refusal = f"服务器没有跑满（只用了 {busy:.2f} 个核）"


def _not_installed(row: Row) -> str:
    missing = [name for name in row.needs if importlib.util.find_spec(name) is None]
    return f"没有装 {'、'.join(missing)}：{install_command()}" if missing else ""


def install_command() -> str:
    """What a reader types to have every peer."""
    python = Path(sys.executable)
    if python.is_relative_to(catalog.ROOT):
        python = python.relative_to(catalog.ROOT)
    return f"{python} -m pip install -r {REQUIREMENTS.name}"


def judge(target: Target, runs: list[list[Measured]]) -> tuple[float, bool] | None:
    """(ratio, reached) of a target, by the median of the runs; None if a row does not count."""
    ratios = []
    for table in runs:
        row, baseline = (_find(table, name) for name in (target.row, target.baseline))
        if row.refusal or baseline.refusal:
            return None
        ratios.append(row.median(target.of) / baseline.median(target.of))
    ratio = statistics.median(ratios)
    if target.is_least:
        return ratio, ratio >= target.figure * ENOUGH
    return ratio, ratio <= target.figure / ENOUGH


def _find(table: list[Measured], name: str) -> Measured:
    return next(row for row in table if row.name == name)


# ── The result, as bench-results/NAME.json holds it and report.py shows it ──


def summary(benchmark: Benchmark, runs: list[list[Measured]], quick: bool) -> dict:
    """Everything that is known of a benchmark after one or more runs, as JSON values.

    Each row's rounds are those of all runs together; `ratio` is its speed beside the first row's.
    A quick look does less than the targets are about, so it is judged by none.
    """
    rows = [
        Measured(
            same_row[0].name,
            [outcome for measured in same_row for outcome in measured.outcomes],
            next((measured.refusal for measured in same_row if measured.refusal), ""),
        )
        for same_row in zip(*runs, strict=True)
    ]
    baseline = next((row for row in rows if not row.refusal), None)
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "unit": benchmark.unit,
        "note": benchmark.note,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "quick": quick,
        "runs": len(runs),
        "machine": machine(),
        "versions": versions(),
        "rows": [_row_summary(row, baseline) for row in rows],
        "targets": [] if quick else [_target_summary(aim, runs) for aim in benchmark.targets],
    }


def _row_summary(row: Measured, baseline: Measured | None) -> dict:
    if row.refusal or baseline is None:
        return {"name": row.name, "refusal": row.refusal}
    busy = [outcome.busy for outcome in row.outcomes if outcome.busy is not None]
    return {
        "name": row.name,
        "refusal": "",
        "speed": row.median("speed"),
        "least": min(row.speeds),
        "most": max(row.speeds),
        "ratio": row.median("speed") / baseline.median("speed"),
        "cpu": row.median("cpu"),
        "memory": row.median("memory"),
        "busy": statistics.median(busy) if busy else None,
        "outcomes": [dataclasses.asdict(outcome) for outcome in row.outcomes],
    }


def _target_summary(target: Target, runs: list[list[Measured]]) -> dict:
    ratio, reached = judge(target, runs) or (None, None)
    return {**dataclasses.asdict(target), "ratio": ratio, "reached": reached}


def machine() -> dict[str, object]:
    """The computer: processor, cores that we may use, system, Python."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    available = getattr(os, "process_cpu_count", None) or (lambda: len(os.sched_getaffinity(0)))
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": available() if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """The installed version of every package that the two requirements files name."""
    found = {}
    for file in (catalog.ROOT / "requirements.txt", REQUIREMENTS):
        for name in re.findall(r"^[\w-]+", file.read_text(encoding="utf-8"), re.MULTILINE):
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return found
