"""A Python that has everything in requirements.txt: the current one, or that of .venv.

Standard library only: this runs before anything is installed.
"""

import os
import re
import subprocess
import sys
from importlib import metadata

from toolbox.catalog import ROOT

REQUIREMENTS = ROOT / "requirements.txt"
VENV = ROOT / ".venv"
VENV_PYTHON = str(VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


class Failed(RuntimeError):
    """The environment cannot be made; the text says why, in Chinese."""


def missing_requirements() -> list[str]:
    """The requirements that this Python does not satisfy, e.g. ["aiohttp>=3.11,<4"]."""
    return [line for line in _requirements() if not _is_satisfied(line)]


def complete_python() -> str | None:
    """The current Python if it has every requirement, else that of .venv if it has, else None."""
    if not missing_requirements():
        return sys.executable
    question = (
        "import sys; from toolbox import environment as e; sys.exit(bool(e.missing_requirements()))"
    )
    return VENV_PYTHON if _succeeds(VENV_PYTHON, "-c", question) else None


def create() -> str:
    """Make or complete .venv, showing progress; return its Python. Raises Failed."""
    if not _succeeds(VENV_PYTHON, "-c", "import sys, pip; sys.exit(sys.version_info < (3, 11))"):
        _say("第一次使用：建立 .venv……")
        command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            said = (made.stderr or made.stdout).strip()
            way_out = "先执行 apt install python3-venv" if "ensurepip" in said else "看上面的原话"
            raise Failed(f"{said}\n在 {ROOT} 里建不了虚拟环境 .venv：{way_out}")
    _say("安装 requirements.txt（约一分钟，只此一次）……")
    _pip_install()
    return VENV_PYTHON


def go_on_in(python: str, arguments: list[str]) -> int:
    """Run the same command in another Python; return its exit code (on POSIX: never return)."""
    command = [python, *arguments]
    if os.name == "posix":
        sys.stdout.flush()
        os.execv(python, command)
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # it got Ctrl-C, too, and says 已中断
            return process.wait()


def _requirements() -> list[str]:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    wanted = []
    for line in lines:
        requirement, _, marker = line.partition("#")[0].partition(";")
        if requirement.strip() and not ("win32" in marker and sys.platform == "win32"):
            wanted.append(requirement.strip())
    return wanted


def _is_satisfied(requirement: str) -> bool:
    # requirements.txt keeps to one form, name[extra]>=a,<b, which a test holds it to.
    parts = re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+),<([\d.]+)", requirement)
    if parts is None:
        raise Failed(f"requirements.txt 里的 {requirement} 看不懂，要写成 名字>=1.2,<2")
    name, lowest, below = parts.groups()
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    # A half-deleted package has no version.
    return bool(found) and _numbers(lowest) <= _numbers(found) < _numbers(below)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*", version)[0].split("."))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _pip_install() -> None:
    command = [VENV_PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]
    command += ["--progress-bar", "off", "-r", str(REQUIREMENTS)]
    verbs = {"Collecting": "查找", "Downloading": "下载", "Installing": "安装"}
    show_progress = sys.stderr.isatty()
    said = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PIP_USER": "0"},  # "user = true" in pip.conf: an error in a venv
        encoding="utf-8",
        errors="replace",
    ) as pip:
        for line in pip.stdout:
            said.append(line)
            verb, _, what = line.strip().partition(" ")
            if show_progress and verb in verbs:
                print(f"\r\033[K  {verbs[verb]} {what[:60]}", end="", file=sys.stderr, flush=True)
    if show_progress:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if pip.returncode:
        raise Failed(
            "".join(said[-5:]) + "没有装成，上面是 pip 的原话。已装好的留着，再执行一次会接着装；"
            "网络慢时可以先给 pip 配一个镜像。"
        )


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    except OSError:
        return False
