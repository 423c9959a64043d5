"""Child processes that end with their test: whatever goes wrong, the whole group is killed.

subprocess.run(timeout=…) kills the child alone, not what that has started; leaving `with Popen`
by an exception, pytest-timeout's included, waits for the child without any limit.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator


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


def _kill(process: subprocess.Popen) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
