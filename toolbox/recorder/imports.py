"""Call a function as soon as the script has imported a module: nothing is imported for its sake."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself; lends the module's own loader an afterword."""

    def __init__(self, wanted: dict[str, Callable[[], None]]) -> None:
        self.wanted = wanted

    def find_spec(self, name, path=None, target=None):
        if name not in self.wanted:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    _follow(spec, self.wanted)
                    return spec
        return None


def _follow(spec: importlib.machinery.ModuleSpec, wanted: dict[str, Callable[[], None]]) -> None:
    loader = spec.loader
    execute = loader.exec_module

    def exec_module(module) -> None:
        del loader.exec_module  # the loader is as it was
        execute(module)
        if then := wanted.pop(spec.name, None):
            then()

    loader.exec_module = exec_module


def after_import(actions: dict[str, Callable[[], None]]) -> None:
    """Call each action once, after the module of that name was imported (at once if it was)."""
    waiting = {}
    for name, action in actions.items():
        if name in sys.modules:
            action()
        else:
            waiting[name] = action
    if waiting:
        sys.meta_path.insert(0, _Finder(waiting))
