"""toolbox/bench: rows in turn, the same work or none, targets judged, a table and a page."""

import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest

from tests.bench import example
from toolbox import catalog, services
from toolbox.bench import command, report, rounds

KNOWN = {benchmark.name: benchmark for benchmark in example.BENCHMARKS}


def measure(name: str, times: int = 1, quick: bool = False) -> tuple[list, list[str]]:
    said = []
    return rounds.measure(example.__name__, KNOWN[name], times, quick, said.append), said


@pytest.fixture(scope="module")
def tea() -> dict:
    """The summary of the benchmark `tea` after one run of two rounds."""
    table, _ = measure("tea", times=2)
    return rounds.summary(KNOWN["tea"], [table], quick=False)


def test_rows_take_turns_and_a_refused_one_is_not_run_again():
    _, said = measure("tea", times=2)
    names = [line.partition("：")[2] for line in said]
    assert names == [
        "照旧",
        "快的",
        "偷懒的",
        "打碎的",
        "走开的",
        "话多的",
        "照旧",
        "快的",
        "话多的",
    ]
    assert said[0] == "tea 第 1/2 轮：照旧"


def test_a_row_counts_only_if_it_did_the_same_work(tea):
    refusals = {row["name"]: row["refusal"] for row in tea["rows"]}
    assert refusals["照旧"] == refusals["快的"] == refusals["话多的"] == ""
    assert refusals["偷懒的"] == "做的事和“照旧”不一样：2，不是 3"
    assert refusals["打碎的"] == "退出码 1：ValueError: 茶壶碎了"
    assert refusals["走开的"] == "退出码 1：没有茶了"
    assert refusals["没装的"].startswith("没有装 no_such_tea：")
    assert refusals["没装的"].endswith(" -m pip install -r requirements-bench.txt")


def test_medians_ratios_and_targets_at_nine_tenths(tea):
    rows = {row["name"]: row for row in tea["rows"]}
    assert (rows["照旧"]["speed"], rows["快的"]["speed"], rows["快的"]["ratio"]) == (50, 100, 2)
    assert (rows["快的"]["memory"], rows["快的"]["cpu"]) == (5e6, 0.5)
    assert [target["ratio"] for target in tea["targets"]] == [2, 2, 0.5, 0.5, None]
    assert [target["reached"] for target in tea["targets"]] == [True, False, True, False, None]


def test_the_median_of_three_runs_decides():
    runs = []
    for seconds in (1.0, 4.0, 1.1):
        table, _ = measure("client")
        table[1].refusal = ""
        table[1].outcomes = [example.Outcome(1, seconds)]
        runs.append(table)
    target = example.Target("满", "闲", 0.9)
    assert rounds.judge(target, runs) == (1 / 1.1, True)


def test_cpu_and_memory_are_those_of_the_rows_own_process():
    [small, large], _ = measure("greedy")
    assert large.median("memory") - small.median("memory") > 60 << 20
    assert large.median("cpu") >= 0.2 > small.median("cpu")


def test_a_server_must_be_idle_or_saturated_as_the_benchmark_says():
    (idle, full), _ = measure("client")
    assert (idle.refusal, full.refusal[:6]) == ("", "服务器先满了")
    (full, idle), _ = measure("server")
    assert (full.refusal, idle.refusal) == ("", "服务器没有跑满（只用了 0.50 个核）")


def test_quick_does_less_says_so_and_is_judged_by_no_target(capsys):
    table, _ = measure("tea", quick=True)
    assert table[-1].outcomes[0].amount == 10
    looked = rounds.summary(KNOWN["tea"], [table], quick=True)
    report.print_table(looked)
    output = capsys.readouterr().out
    assert ("--quick" in output, "目标" in output) == (True, False)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_a_row_that_takes_too_long_is_stopped(monkeypatch):
    monkeypatch.setattr(rounds, "LONGEST", 0.01)
    table, _ = measure("greedy")
    assert [row.refusal for row in table] == ["0 秒还没跑完"] * 2


def test_the_table_says_everything_in_a_narrow_window(tea, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    report.print_table(tea)
    output = capsys.readouterr().out
    for words in ("<泡茶>", "杯/秒", "2.00×", "4.8 MiB", "偷懒的：不算，做的事和“照旧”不一样"):
        assert words in output
    assert "✓ 速度：快的 ÷ 照旧 ＝ 2.00，目标 ≥ 2.2" in output
    assert "✗ 速度：快的 ÷ 照旧 ＝ 2.00，目标 ≥ 2.3" in output
    assert "– 速度：没装的 ÷ 照旧 没有量到，目标 ≥ 1" in output


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_the_page_has_a_chart_for_each_and_asks_for_nothing(tea):
    text = report.page([tea, {**tea, "quick": True}])
    reader = Reader()
    reader.feed(text)
    kinds = [tag for tag, _ in reader.tags]
    assert kinds.count("svg") == 2
    assert kinds.count("rect") == 2 * sum(not row["refusal"] for row in tea["rows"])
    assert not {"script", "link", "img", "iframe"} & set(kinds)
    assert not any(key in ("src", "href", "style") for _, keys in reader.tags for key in keys)
    assert "&lt;泡茶&gt;" in text and "<泡茶>" not in text
    assert text.count("--quick") == 1
    widths = [float(keys["width"]) for tag, keys in reader.tags if tag == "rect"][:2]
    assert widths[1] == pytest.approx(2 * widths[0])
    assert text.count(tea["machine"]["python"]) == 1  # the same for both
    assert f"pytest {tea['versions']['pytest']}" in text


def test_what_is_claimed_of_memory_is_drawn_too(tea):
    target = {**tea["targets"][0], "of": "memory"}
    assert report.page([{**tea, "targets": [target]}]).count("<svg") == 2


@pytest.fixture
def at(monkeypatch, tmp_path):
    """The command line, with the tests' benchmarks and a folder of the test's own."""
    known = {name: (example.__name__, benchmark) for name, benchmark in KNOWN.items()}
    monkeypatch.setattr(rounds, "benchmarks", lambda: known)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    return tmp_path


def test_results_are_kept_and_the_page_shows_all_of_them(at, capsys):
    assert command.run(["greedy", "--quick"]) == 0
    assert command.run(["tea", "--quick", "--runs", "2"]) == 1
    assert sorted(path.name for path in at.iterdir()) == ["greedy.json", "report.html", "tea.json"]
    kept = json.loads((at / "tea.json").read_text(encoding="utf-8"))
    assert (kept["runs"], kept["quick"], len(kept["rows"][0]["outcomes"])) == (2, True, 2)
    page = (at / "report.html").read_text(encoding="utf-8")
    assert "&lt;泡茶&gt;" in page and "能吃" in page
    assert capsys.readouterr().out.endswith(f"网页：{at / 'report.html'}\n")


def test_what_cannot_be_staged_is_said_and_the_rest_goes_on(at, capsys):
    assert command.run(["closed", "greedy", "--quick"]) == 0
    output, errors = capsys.readouterr()
    assert "closed：厨房没开：apt install kitchen" in errors
    assert "能吃" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tee"], "没有 tee 这项。是不是：tea"),
        (["--fast"], "bench 没有 --fast 这个选项，只有 --quick、--runs\n"),
        (["tea", "--runs"], "--runs 后面要说量几遍，例如 --runs 3\n"),
        (["--runs", "0"], "--runs 后面要说量几遍，例如 --runs 3\n"),
        (["soak", "tee"], "bench soak 没有 tee，只有 "),
    ],
)
def test_mistakes_are_one_sentence(at, capsys, arguments, said):
    assert command.run(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(said) and len(errors.splitlines()) == 1


def test_every_benchmark_compares_rows_that_it_has():
    known = rounds.benchmarks()
    assert known
    for _, benchmark in known.values():
        names = [row.name for row in benchmark.rows]
        assert len(set(names)) == len(names) > 1
        for target in benchmark.targets:
            assert {target.row, target.baseline} <= set(names)


def test_benchmarks_are_listed_without_any_of_the_peers():
    """What only requirements-bench.txt installs is imported by the row that needs it, no sooner."""
    peers = re.findall(r"^[\w-]+", rounds.REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    code = (
        f"import sys; sys.modules |= dict.fromkeys({peers}); from toolbox.bench import rounds; "
        "from toolbox.bench.soak import command; rounds.benchmarks(); command.conditions()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=catalog.ROOT, check=True)


def test_results_are_not_for_the_repository():
    ignored = (catalog.ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert f"{command.FOLDER.name}/" in ignored


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_measured(
    at, capsys, monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(command, "FOLDER", tmp_path / "file" / "bench-results")
    assert command.run(["tea"]) == 2
    output, errors = capsys.readouterr()
    assert output == "" and errors.startswith("结果写不到 ") and len(errors.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_what_soak_starts_dies_with_it_even_by_kill():
    code = (
        "from toolbox.bench.soak import hostile\n"
        "with hostile.hostile_site() as url: print(url, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=catalog.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as soak:
        port = int(soak.stdout.readline().strip(" /\n").rpartition(":")[2])
        assert not services.is_free(port)
        soak.kill()
    deadline = time.monotonic() + 10
    while not services.is_free(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert services.is_free(port)
