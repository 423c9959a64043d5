#!/usr/bin/env python3
"""asyncio 教程的入口：python tutorial.py

第一次使用时建 .venv、装 requirements.txt，然后在里面继续；当前环境里已经装齐的，就用当前环境。
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 — said before anything newer is parsed
    sys.exit(
        f"需要 Python 3.11 或更新的版本，现在是 {sys.version.split()[0]}（{sys.executable}）。"
        "机器上另有新的，就用它，例如 python3.12 tutorial.py；没有就到 python.org 装一个"
    )

from toolbox import cli, environment

NEEDS_LITTLE = {"doctor"}


def main(arguments: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        command = arguments[0] if arguments else "help"
        if command in cli.COMMANDS:
            python = environment.complete_python()
            if python is None and command not in NEEDS_LITTLE:
                python = environment.create()
            if python not in (None, sys.executable):
                return environment.go_on_in(python, [__file__, *arguments])
        return cli.main(arguments)
    except environment.Failed as reason:
        print(reason, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\n已中断", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
