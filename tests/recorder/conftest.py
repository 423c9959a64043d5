import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).resolve().parents[2]
RECORD = (
    "import json, sys; sys.path.insert(0, {root!r}); from toolbox.recorder import record;"
    " sys.exit(record({script!r}, {arguments!r}, output={output!r}, **{options!r}))"
)


@dataclass
class Run:
    """What came of running a script: plainly, or with a trace."""

    code: int
    stdout: bytes
    stderr: bytes
    trace: dict = field(default_factory=dict)

    @property
    def lanes(self) -> dict[str, dict]:
        return {lane["name"]: lane for lane in self.trace["tasks"]}

    def of(self, *kinds: str, name: str | None = None) -> list[dict]:
        """The events of these kinds (of this lane)."""
        lane = None if name is None else self.lanes[name]["id"]
        return [
            event
            for event in self.trace["ev"]
            if event["k"] in kinds and (lane is None or event.get("T") == lane)
        ]

    def waits(self, name: str) -> list[dict]:
        """What this lane waited for, in order."""
        return [event["w"] for event in self.of("end", name=name) if event["state"] == "wait"]


@pytest.fixture
def script(tmp_path):
    """Write a script: `script(source)`; the path of the file."""

    def write(source: str, name: str = "script.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    return write


def _execute(command, cwd, stdin, env, timeout=50.0) -> subprocess.CompletedProcess:
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1", **env}
    return processes.run(command, timeout=timeout, cwd=cwd, env=variables, input=stdin)


@pytest.fixture
def plain(tmp_path):
    """Run a script as anybody would: `plain(path, *arguments)`."""

    def run(path, *arguments, python=sys.executable, flags=("-W", "error"), stdin=b"", **env):
        ran = _execute([python, *flags, str(path), *arguments], tmp_path, stdin, env)
        return Run(ran.returncode % 256, ran.stdout, ran.stderr)

    return run


@pytest.fixture
def recorded(tmp_path):
    """Run it with the recorder: `recorded(path, *arguments, options={…})`."""

    def run(
        path,
        *arguments,
        python=sys.executable,
        flags=("-W", "error"),
        stdin=b"",
        options=None,
        quiet=True,
        root=ROOT,
        timeout=50.0,
        **env,
    ):
        output = tmp_path / "traces" / "trace.json"
        output.parent.mkdir(exist_ok=True)
        code = RECORD.format(
            root=str(root),
            script=str(path),
            arguments=list(arguments),
            output=str(output),
            options=options or {},
        )
        ran = _execute([python, *flags, "-c", code], tmp_path, stdin, env, timeout)
        assert output.exists(), ran.stderr.decode()
        trace = json.loads(output.read_bytes())
        if quiet:
            assert trace["notes"] == []
        return Run(ran.returncode % 256, ran.stdout, ran.stderr, trace)

    return run
