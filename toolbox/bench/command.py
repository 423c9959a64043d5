"""The command line of `python tutorial.py bench`."""

import contextlib
import difflib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator

from toolbox import catalog
from toolbox.bench import report, rounds
from toolbox.bench.model import Benchmark, Missing

FOLDER = catalog.ROOT / "bench-results"
OPTIONS = {"--quick": "少做一点，一轮，看个大概", "--runs": "整个量几遍，目标看几遍的中位数"}


class Mistake(Exception):
    """The arguments make no sense; the message is one Chinese sentence."""


def run(arguments: list[str]) -> int:
    """Measure what was asked for (all, if nothing was); 2 for a mistake, 1 if a row was refused
    for doing other work or failing, else 0. A missed target is a finding and no failure."""
    if arguments[:1] == ["soak"]:
        from toolbox.bench.soak import command

        return command.run(arguments[1:])
    try:
        asked, runs, quick = read(arguments)
    except Mistake as reason:
        print(reason, file=sys.stderr)
        return 2
    try:  # before half an hour of measuring, not after it
        FOLDER.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=FOLDER).close()
    except OSError as error:
        print(f"结果写不到 {FOLDER}：{error.strerror}", file=sys.stderr)
        return 2
    failed = False
    for module, benchmark in asked:
        with progress() as say:
            try:
                tables = [
                    rounds.measure(module, benchmark, 1 if quick else benchmark.rounds, quick, say)
                    for _ in range(runs)
                ]
            except Missing as reason:
                print(f"{benchmark.name}：{reason}", file=sys.stderr)
                continue
        result = rounds.summary(benchmark, tables, quick)
        report.print_table(result)
        file = FOLDER / f"{benchmark.name}.json"
        file.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")
        failed |= any(row["refusal"] for row in result["rows"])
    print(f"\n网页：{write_page()}")
    return int(failed)


def read(arguments: list[str]) -> tuple[list[tuple[str, Benchmark]], int, bool]:
    """What to measure, how many times, and whether quickly. Raises Mistake."""
    known = rounds.benchmarks()
    words, runs = [], 1
    rest = iter(arguments)
    for word in rest:
        if word == "--runs":
            runs = _positive(next(rest, ""))
        elif word.startswith("-") and word != "--quick":
            raise Mistake(f"bench 没有 {word} 这个选项，只有 {'、'.join(OPTIONS)}")
        elif word != "--quick":
            words.append(word)
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=3, cutoff=0.3) or list(known)
            raise Mistake(f"没有 {word} 这项。是不是：{'、'.join(near)}")
    return [known[name] for name in words or known], runs, "--quick" in arguments


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise Mistake("--runs 后面要说量几遍，例如 --runs 3")
    return int(text)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """On a terminal one line that changes, elsewhere a line for every step; both on stderr."""
    if not sys.stderr.isatty():
        yield lambda line: print(line, file=sys.stderr, flush=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update


def write_page() -> str:
    """Write the report of everything in bench-results/; return its path."""
    results = [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))
    ]
    path = FOLDER / "report.html"
    path.write_text(report.page(results), encoding="utf-8")
    return str(path)
