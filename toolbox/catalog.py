"""Which lessons exist, read from the files themselves: their names, docstrings and nothing else."""

import ast
import re
import textwrap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Lesson:
    """One numbered script; `path` is absolute."""

    path: Path

    @property
    def chapter(self) -> str:
        """The chapter's two digits, e.g. "02"."""
        return self.path.parent.name[:2]

    @property
    def number(self) -> str:
        """Chapter and lesson without leading zeros, e.g. "2.3"."""
        return f"{int(self.chapter)}.{int(self.path.name[:2])}"

    @property
    def file(self) -> str:
        """The path below the repository's root, with forward slashes."""
        return self.path.relative_to(self.path.parents[1]).as_posix()

    @property
    def title(self) -> str:
        """The first line of the docstring, without its number."""
        first = next(iter(self.docstring.splitlines()), self.path.stem)
        return first.removeprefix(self.number).strip()

    @property
    def video(self) -> str:
        """The section of the course that the lesson follows, or 视频之外."""
        return self._field("视频")

    @property
    def needs(self) -> tuple[str, ...]:
        """The services without which the lesson cannot run: "Redis", "MySQL", in that order."""
        return tuple(name for name in ("Redis", "MySQL") if name in self._field("需要"))

    @property
    def promised_output(self) -> list[str]:
        """The lines of the docstring's 预期输出 block, its marks (≈, [3.12+], …) included."""
        block = re.search(r"^预期输出\n((?:    .*\n|\n)+)", self.docstring + "\n", re.MULTILINE)
        return textwrap.dedent(block.group(1)).strip().splitlines() if block else []

    @cached_property
    def docstring(self) -> str:
        """What the file says of itself, or "" if it does not parse: run it to see why."""
        try:
            return ast.get_docstring(ast.parse(self.path.read_bytes())) or ""
        except (SyntaxError, ValueError):
            return ""

    def _field(self, name: str) -> str:
        line = re.search(rf"^{name}：(.*)$", self.docstring, re.MULTILINE)
        return line.group(1).strip() if line else ""


def lessons(root: Path = ROOT) -> list[Lesson]:
    """Every lesson below `root`, in the order in which they are to be read."""
    return [Lesson(path) for path in sorted(root.glob("0[1-9]_*/[0-9][0-9]_*_demo.py"))]
