"""schemathesis reads 4.3's OpenAPI schema and tries to break its word."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from toolbox import services
from toolbox.bench import rounds
from toolbox.bench.model import Missing
from toolbox.bench.soak import Check, lessons

TITLE = "4.3 被 schemathesis 乱敲：没有 5xx，事事合乎它自己的 OpenAPI"
SEED = 43
PATIENCE = 300  # seconds


def checks(say: Callable[[str], None], quick: bool) -> Iterator[Check]:
    if not importlib.util.find_spec("schemathesis"):
        raise Missing(f"没有装 schemathesis：{rounds.install_command()}")
    with (
        tempfile.TemporaryDirectory() as folder,
        services.redis(say=say) as redis,
        services.mysql(say=say) as mysql,
        lessons.tea_house(Path(folder, "errors"), redis, mysql) as (server, url),
    ):
        say(f"schemathesis 在敲 {url}，种子 {SEED}……")
        report = fuzz(url, Path(folder), quick)
        alive = server.poll() is None
        traceback = Path(folder, "errors").read_text(encoding="utf-8").count("Traceback")
    cases, found = report["test_cases"]["generated"], report["failures"]
    tested, total = report["operations"]["tested"], report["operations"]["total"]
    yield Check(
        "接口都敲到了（--quick 不敲 /brew，泡茶慢）" if quick else "接口都敲到了",
        f"{tested}/{total} 个，{cases} 个用例，{report['running_time']:.0f} 秒",
        tested == total - 3 * quick and not report["errors"],
    )
    broken = [kind for kind in found if kind["type"] == "ServerError"]
    yield Check("没有 5xx", f"{count(broken)} 次{words(broken)}", not broken)
    other = [kind for kind in found if kind not in broken]
    yield Check("没有一个回答违反自己的 OpenAPI", f"{count(other)} 次{words(other)}", not other)
    yield Check(
        "敲完还活着，没有出过 traceback",
        f"{'活着' if alive else '退出了'}，traceback {traceback} 个",
        alive and not traceback,
    )


def fuzz(url: str, folder: Path, quick: bool) -> dict:
    """schemathesis's own report. /events and /board are not in the schema; the rest is tried.

    One worker: with more, CPython 3.11's ast.parse fails in hypothesis's threads now and then
    ("AST constructor recursion depth mismatch").
    """
    result = folder / "report.json"
    options = {
        "--checks": "all",
        "--seed": SEED,
        "--max-examples": 2 if quick else 60,
        "--phases": "coverage,fuzzing" if quick else "examples,coverage,fuzzing,stateful",
        "--request-timeout": 10,
        "--generation-database": "none",
        "--report-json-path": result,
    }
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--exclude-path-regex", "^/brew"] if quick else []
    command += ["--continue-on-failure", *(str(word) for pair in options.items() for word in pair)]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=PATIENCE)
    if not result.exists():
        raise RuntimeError(done.stdout.decode() + done.stderr.decode())
    return json.loads(result.read_text(encoding="utf-8"))


def count(failures: list[dict]) -> int:
    return sum(kind["count"] for kind in failures)


def words(failures: list[dict]) -> str:
    return "".join(f"；{kind['title']}：{'、'.join(kind['operations'])}" for kind in failures)
