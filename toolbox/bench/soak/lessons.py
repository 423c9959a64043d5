"""What several conditions share: a lesson of chapter 4 in a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from toolbox.catalog import ROOT
from toolbox.services import dying_with_us


@contextlib.contextmanager
def running(file: str, *words: object, errors: Path, **environment: str) -> Iterator:
    """The lesson's own command line; `errors` receives its stderr. It is gone at the end."""
    command = [sys.executable, ROOT / "04_case_studies" / file, *map(str, words)]
    command = dying_with_us(command, signal.SIGINT)  # as Ctrl-C: 4.3 removes its database then
    with errors.open("ab") as stderr:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for us; we stop the lesson
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()  # 4.3 removes its database then
            try:
                process.wait(10)
            finally:
                process.kill()


@contextlib.contextmanager
def tea_house(
    errors: Path, redis: str, mysql: str, **environment: str
) -> Iterator[tuple[subprocess.Popen, str]]:
    """4.3 as it ships: its process and its address."""
    with running(
        "03_fastapi_demo.py",
        *("--serve", "--port", "0"),
        errors=errors,
        REDIS_URL=redis,
        MYSQL_URL=mysql,
        **environment,
    ) as server:
        first = server.stdout.readline()
        if not first:
            raise RuntimeError(errors.read_text(encoding="utf-8"))
        yield server, first.split()[-1].removesuffix("/board")
