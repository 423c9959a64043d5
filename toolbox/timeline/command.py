"""What `python tutorial.py trace` was asked to do, and what it shows of a trace."""

import json
import sys
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from . import page, perfetto, reading, remarks, terminal

USAGE = (
    "python tutorial.py trace [--time] [--open] [--json 文件] [--perfetto 文件] 课或脚本 [-- 参数]"
)
FOLDER = Path(__file__).resolve().parents[2] / "traces"


class Mistake(ValueError):
    """The command line makes no sense; the text says why, in Chinese."""


@dataclass
class Asked:
    """A command line, understood."""

    script: str = ""  # a lesson's number or name, or a path
    arguments: list[str] = field(default_factory=list)  # the script's own
    by_time: bool = False
    open: bool = False
    files: dict[str, str] = field(default_factory=dict)  # "json", "perfetto", "html" → path


def read(arguments: list[str]) -> Asked:
    """Understand the words behind `trace`. Raises Mistake."""
    asked, words = Asked(), list(arguments)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if word == "--":
            asked.arguments = words
            break
        if word == "--time":
            asked.by_time = True
        elif word == "--open":
            asked.open = True
        elif option in ("--json", "--perfetto", "--html"):
            file = value if equals else words.pop(0) if words else ""
            if not file:
                raise Mistake(f"{option} 后面要说写到哪个文件")
            asked.files[option[2:]] = file
        elif word.startswith("-"):
            raise Mistake(f"trace 没有 {word} 这个选项；脚本自己的参数放在 -- 后面。用法：{USAGE}")
        elif asked.script:
            raise Mistake(f"一次只看一个脚本；{word} 若是它的参数，放在 -- 后面")
        else:
            asked.script = word
    if not asked.script:
        raise Mistake(f"trace 后面要说看哪一课或哪个脚本。用法：{USAGE}")
    return asked


def show(recorded: Path, asked: Asked, out: TextIO | None = None) -> None:
    """Draw the timeline, write the page and the other files; say in Chinese what went wrong.

    `recorded` is the recorder's file; it may be missing (the script was killed).
    """
    out = out or sys.stdout
    try:
        trace = json.loads(recorded.read_text(encoding="utf-8"))
        reading.check(trace)
    except FileNotFoundError:
        print("没有录下来：脚本没有来得及写录像就没了", file=sys.stderr)
        return
    except ValueError as reason:
        print(f"录像读不了：{reason}", file=sys.stderr)
        return
    short = reading.shorten(trace)
    print(file=out)
    terminal.show(short.trace, out, by_time=asked.by_time)
    for sentence, _ in remarks.remarks(trace, short):
        print(sentence, file=out)
    if not trace["tasks"]:
        print("没有看到任务、greenlet 或生成器：脚本没有用到它们，或者没有走到那里", file=out)
    target = Path(asked.files.get("html") or FOLDER / _page_name(asked.script, trace))
    if _write("网页", target, page.build(trace), out) and asked.open:
        webbrowser.open(target.resolve().as_uri())
    if "json" in asked.files:
        text = json.dumps(trace, ensure_ascii=False, separators=(",", ":"))
        _write("录像", Path(asked.files["json"]), text, out)
    if "perfetto" in asked.files:
        text = json.dumps(perfetto.convert(trace), ensure_ascii=False)
        _write("给 ui.perfetto.dev 的文件", Path(asked.files["perfetto"]), text, out)


def _page_name(script: str, trace: dict) -> str:
    """Two scripts that are called main.py keep a page each: their folders have names."""
    path, stem = Path(script), Path(trace["script"]).stem
    return f"{path.resolve().parent.name}-{stem}.html" if path.is_file() else f"{stem}.html"


def _write(what: str, path: Path, text: str, out: TextIO) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    except OSError as reason:
        print(f"{what}写不到 {path}：{reason.strerror or reason}", file=sys.stderr)
        return False
    print(f"{what}：{path.resolve()}", file=out)
    return True
