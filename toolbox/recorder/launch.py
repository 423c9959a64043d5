"""Start a script in a process of its own, with the recorder in it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

INJECT = Path(__file__).resolve().parent / "inject"


def record(
    script: str | os.PathLike,
    arguments: Sequence[str] = (),
    *,
    output: str | os.PathLike,
    lines: bool = True,
    virtual: bool = False,
    max_events: int = 200_000,
    check: bool = False,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    wrap: Callable[[list], list] = list,
    patience: float = 10,
) -> int:
    """Run `script` in a child process, write its trace to `output`, return its exit code.

    The script reads our stdin and prints to our stdout and stderr what it would print without us.
    The trace is written when the process ends, in whatever way it ends itself: by an exception,
    sys.exit, os._exit, Ctrl-C (which goes to the script; we wait for it). Only a process that is
    killed leaves none: `output` then does not exist. A negative number is the signal that ended it,
    as in subprocess.

    lines       write source lines (and lanes for generators), too; on Python 3.11 this makes all
                calls slow, those in libraries included
    virtual     a virtual clock: sleeping costs no time
    max_events  after so many events the trace is cut off (`truncated`)
    check       write the loop's own queue and heap beside each step, for `model.mismatches`
    python      the interpreter; any supported one, this package need not be installed there
    environment the script's environment variables, instead of ours
    wrap        makes of the script's command the one that is started
    patience    seconds that the script has to clean up when we are told to end; it gets SIGINT then
    """
    output = os.path.abspath(output)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(output)
    variables = dict(os.environ if environment is None else environment)
    before = variables.get("PYTHONPATH")
    options = {
        "script": os.path.abspath(script),
        "arguments": list(arguments),
        "output": output,
        "lines": lines,
        "virtual": virtual,
        "max_events": max_events,
        "check": check,
        "pythonpath": before,
    }
    variables["ASYNCIO_RECORDER"] = json.dumps(options)
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(INJECT), before]))
    flags = subprocess._args_from_interpreter_flags()  # -W error, -X dev, …
    command = [python, *flags, os.fspath(script), *arguments]
    with subprocess.Popen(wrap(command), env=variables) as process:
        return _wait(process, patience)


def _wait(process: subprocess.Popen, patience: float) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the script got it, too: what it does then is its own affair
            continue
        except BaseException:
            try:
                if os.name == "posix":  # it is Ctrl-C that makes it clean up
                    process.send_signal(signal.SIGINT)
                    process.wait(patience)
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()
            raise
