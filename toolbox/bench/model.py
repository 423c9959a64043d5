"""What a benchmark consists of. Rows and stages are written against this module alone."""

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal

from toolbox import catalog

Stage = dict[str, object]


class Missing(Exception):
    """Something that is no Python package is not here; the message is one Chinese sentence that
    says how to get it."""


@dataclass(frozen=True)
class Outcome:
    """What one run of one row came to.

    `amount` units of work took `seconds`; import and start-up time are the row's to leave out.
    `work` is what was done, as JSON: equal for all rows of a benchmark, or the row does not count.
    `cpu` (seconds) and `memory` (bytes) are by default those of the row's process and its children;
    a row that measures something else, such as a server or one task, gives them itself.
    `busy` is the share of one core (0–1, more if it has several processes) that the server used.
    """

    amount: float
    seconds: float
    work: object = None
    cpu: float | None = None
    memory: float | None = None
    busy: float | None = None


@dataclass(frozen=True)
class Row:
    """One way to do the work.

    `run(stage, quick)` is called in a new process for every round. `needs` are distributions of
    requirements-bench.txt, by their import names.
    """

    name: str
    run: Callable[[Stage, bool], Outcome]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """`row` beside `baseline`: the ratio of medians is to be at least, or at most, `figure`."""

    row: str
    baseline: str
    figure: float
    of: Literal["speed", "memory", "time"] = "speed"

    @property
    def is_least(self) -> bool:
        return self.of == "speed"


@dataclass(frozen=True)
class Benchmark:
    """Rows that do the same work, and what is claimed of them.

    The first row is the baseline of the table. `stage()` is entered once, in the parent, and gives
    every row the same surroundings as a dict of JSON values; it raises Missing when it cannot.
    `server` says what the server under the rows must be for a round to count: "idle" (a client is
    measured: busy < 0.97), "saturated" (the server is measured: busy ≥ 0.97), or None. `rounds` is
    how often the rows are run; a benchmark whose rounds take minutes asks for fewer.
    """

    name: str
    title: str
    unit: str
    rows: list[Row]
    targets: list[Target] = field(default_factory=list)
    stage: Callable[[], AbstractContextManager[Stage]] = lambda: nullcontext({})
    server: Literal["idle", "saturated"] | None = None
    note: str = ""
    rounds: int = 5


def lesson(path: str) -> ModuleType:
    """Import a lesson or its sibling, e.g. "04_case_studies/crawler.py", as the lessons do."""
    file = catalog.ROOT / path
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    return importlib.import_module(file.stem)
