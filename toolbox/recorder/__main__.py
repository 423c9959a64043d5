"""python -m toolbox.recorder [-o trace.json] [--no-lines] [--virtual] SCRIPT [ARGS…]"""

import argparse
import os
import signal
import sys

from .launch import record


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m toolbox.recorder", description=__doc__)
    parser.add_argument("-o", "--output", default="trace.json", help="where the trace goes")
    parser.add_argument("--no-lines", action="store_true", help="leave out source lines")
    parser.add_argument("--virtual", action="store_true", help="virtual clock: sleeping is free")
    parser.add_argument("--max-events", type=int, default=200_000, help="then it is cut off")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not os.path.isfile(options.script):
        print(f"recorder: no such file: {options.script}", file=sys.stderr)
        return 2
    code = record(
        options.script,
        options.arguments,
        output=options.output,
        lines=not options.no_lines,
        virtual=options.virtual,
        max_events=options.max_events,
    )
    if code < 0:  # end as the script did
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
