"""Child processes that end with their test: whatever goes wrong, the whole group is killed.

subprocess.run(timeout=…) kills the child alone, not what that has started; leaving `with Popen`
by an exception, pytest-timeout's included, waits for the child without any limit.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def started(command: list, **options) -> Iterator[subprocess.Popen]:
    """A child in a process group of its own; on an exception the group is killed."""
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        try:
            yield process
        except BaseException:
            _kill(process)
            raise


def run(command: list, *, timeout: float = 50, input: bytes | None = None, **options):
    """subprocess.run(capture_output=True), but its group does not outlive it."""
    options |= dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with started(command, **options) as process:
        output, errors = process.communicate(input, timeout=timeout)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def interrupted(script, *arguments, at: str, after: float = 0.02, **variables: str):
    """Run a script that gets Ctrl-C `after` seconds from when it prints a line beginning with `at`.

    It must still be busy then. Returns what `run` does, in text. Not on Windows.
    """
    return run(
        [sys.executable, "-W", "error", str(script), *arguments],
        encoding="utf-8",
        env={
            **os.environ,
            "PYTHONIOENCODING": "utf-8",
            "PYTHONPATH": str(Path(__file__).parent / "ctrl_c"),
            "CTRL_C": json.dumps([at, after]),
            **variables,
        },
    )


# A case study, but the first call of the function that is named waits until it hears a line.
WAITS_AT = """
import importlib, sys
import settings
lesson, name = importlib.import_module(sys.argv[1]), sys.argv[2]
function = getattr(lesson, name)

def wait_first(*args, **options):
    setattr(lesson, name, function)
    print("waiting", flush=True)
    sys.stdin.readline()
    return function(*args, **options)

setattr(lesson, name, wait_first)
settings.run(lesson.main)
"""


@contextlib.contextmanager
def waiting_at(lesson, function: str, **variables: str) -> Iterator[subprocess.Popen]:
    """A case study, stopped where it first calls one of its functions; a line sends it on."""
    path = Path(lesson)
    with started(
        [sys.executable, "-W", "error", "-c", WAITS_AT, path.stem, function],
        cwd=path.parent,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert "waiting\n" in iter(process.stdout.readline, "")
        yield process


def press_ctrl_c(process, *, group: bool = False) -> None:
    """SIGINT to a process that waits (or to its group), once the kernel says that it does wait.

    A signal that comes just before epoll_wait() or sleep() is heard only when that returns, for
    asyncio.run() sets no wakeup fd. A person presses again; a test would wait with the child.
    """
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not _all_asleep(process.pid, group):
        time.sleep(0.001)
    if group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)


def _all_asleep(pid: int, group: bool) -> bool:
    """What /proc says; where there is none, anybody may be asleep."""
    stats = Path("/proc").glob("[0-9]*/stat") if group else [Path(f"/proc/{pid}/stat")]
    for path in stats:
        try:
            state, _, its_group, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if state in "RD" and (not group or int(its_group) == pid):
            return False
    return True


def _kill(process: subprocess.Popen) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
