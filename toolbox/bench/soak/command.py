"""The command line of `python tutorial.py bench soak`."""

import importlib
import pkgutil
import sys
from types import ModuleType

from toolbox.bench import soak
from toolbox.bench.model import Missing
from toolbox.services import Unavailable


def run(arguments: list[str]) -> int:
    """Try the named conditions, or all; 1 if something did not hold or could not be tried."""
    known = conditions()
    words = [word for word in arguments if word != "--quick"]
    if unknown := [word for word in words if word not in known]:
        print(f"bench soak 没有 {unknown[0]}，只有 {'、'.join(known)}", file=sys.stderr)
        return 2
    results = [_try(known[name], "--quick" in arguments) for name in words or known]
    print(f"\n{sum(results)}/{len(results)} 项站得住")
    return int(not all(results))


def conditions() -> dict[str, ModuleType]:
    """The modules of this package that are conditions, by the names that a user types."""
    names = [module.name for module in pkgutil.iter_modules(soak.__path__)]
    modules = {name: importlib.import_module(f"{soak.__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "checks")}


def _try(condition: ModuleType, quick: bool) -> bool:
    print(f"\n── {condition.TITLE} ──", flush=True)
    held = True
    try:
        for check in condition.checks(_say, quick):
            print(f"{'✓' if check.ok else '✗'} {check.what}：{check.found}", flush=True)
            held &= check.ok
    except (Missing, Unavailable) as reason:
        print(f"– 没法试：{reason}", flush=True)
        return False
    return held


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
