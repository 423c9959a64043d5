"""`python tutorial.py trace`, as a learner types it."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import processes
from toolbox import catalog, cli
from toolbox.timeline import command

posix_only = pytest.mark.skipif(os.name != "posix", reason="sends signals to a process group")

HELLO = """\
import asyncio, sys

async def greet(name):
    await asyncio.sleep(0.01)
    print("你好", name)

async def main():
    await asyncio.gather(*(asyncio.create_task(greet(n), name=n) for n in sys.argv[1:]))
    {ending}

asyncio.run(main())
"""


class Learner:
    """Runs `trace` on a script in a folder of its own; the page goes there, too."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.page = folder / "page.html"

    def script(self, text: str, name: str = "我的 script.py") -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def start(self, *arguments: str) -> contextlib.AbstractContextManager[subprocess.Popen]:
        front_door = str(catalog.ROOT / "tutorial.py")
        return processes.started(
            [sys.executable, "-W", "error", front_door, "trace", "--html", self.page, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def trace(self, *arguments: str) -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            output, errors = process.communicate(timeout=50)
        return process.returncode, output, errors


@pytest.fixture
def learner(tmp_path):
    return Learner(tmp_path)


def test_a_script_runs_as_ever_and_is_shown_afterwards(learner):
    script = learner.script(HELLO.format(ending="return"))
    code, output, errors = learner.trace(script, "--", "甲", "--乙")
    assert (code, errors) == (0, "")
    said, _, drawn = output.partition("\n\n")
    assert said == "你好 甲\n你好 --乙"
    assert drawn.startswith("我的 script.py · Python 3.")
    assert "\n甲     │" in drawn and "\n--乙   │" in drawn
    assert f"网页：{learner.page}\n" in drawn
    text = learner.page.read_text(encoding="utf-8")
    assert '"argv":["甲","--乙"]' in text


def test_a_lesson_is_found_by_its_number(learner):
    code, output, errors = learner.trace("2.3")
    assert (code, errors) == (0, "")
    assert "── 1. create_task 只登记，await 才让路 ──" in output
    assert "03_task_demo.py · Python" in output


def test_the_other_files_are_written_where_asked(learner):
    script = learner.script(HELLO.format(ending="return"))
    files = {name: learner.folder / "new" / f"{name}.json" for name in ("json", "perfetto")}
    options = ["--json", str(files["json"]), f"--perfetto={files['perfetto']}"]
    code, output, errors = learner.trace(*options, "--time", script, "--", "甲")
    assert (code, errors) == (0, "")
    trace = json.loads(files["json"].read_text(encoding="utf-8"))
    assert trace["v"] == 1 and trace["argv"] == ["甲"]
    assert json.loads(files["perfetto"].read_text(encoding="utf-8"))["traceEvents"]
    assert "\n  时间  " in output
    for file in files.values():
        assert str(file) in output


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("raise ValueError('茶凉了')", 1, "ValueError: 茶凉了"),
        ("sys.exit(3)", 3, ""),
        ("import os; os._exit(4)", 4, ""),
        ("sys.exit('没有茶了')", 1, "没有茶了"),
    ],
)
def test_the_exit_code_is_the_scripts_own_and_it_is_shown_all_the_same(learner, ending, code, said):
    script = learner.script(HELLO.format(ending=ending))
    got, output, errors = learner.trace(script, "--", "甲")
    assert got == code
    assert said in errors
    assert "\n甲     │" in output
    assert learner.page.exists()


def test_a_syntax_error_is_pythons_own_and_no_timeline(learner):
    code, output, errors = learner.trace(learner.script("print('a'\n"))
    assert code == 1
    assert "SyntaxError" in errors
    assert "没有看到任务" in output


def test_a_script_without_tasks_is_told_so(learner):
    code, output, errors = learner.trace(learner.script("print('你好')\n"))
    assert (code, errors) == (0, "")
    assert output.startswith("你好\n")
    assert "没有看到任务、greenlet 或生成器" in output


def test_a_changed_folder_and_binary_output_do_no_harm(learner):
    text = "import os, sys; os.chdir('/'); sys.stdout.buffer.write(b'\\xff\\x00ok\\n')\n"
    with learner.start("--json", "kept.json", learner.script(text)) as process:
        process.stdout.reconfigure(errors="replace")
        output, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (0, "")
    assert "\x00ok" in output
    assert (learner.folder / "kept.json").exists()


@posix_only
def test_ctrl_c_ends_the_script_and_shows_what_there_was(learner):
    text = HELLO.replace("{ending}", "print('等', flush=True); await asyncio.sleep(60)")
    with learner.start(learner.script(text), "--", "甲") as process:
        for line in process.stdout:
            if line == "等\n":
                break
        processes.press_ctrl_c(process, group=True)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "KeyboardInterrupt" in errors
    assert "\n甲     │" in output
    assert learner.page.exists()


@posix_only
def test_a_killed_script_leaves_a_sentence(learner):
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    code, output, errors = learner.trace(learner.script(text))
    assert code == 137
    assert errors == "没有录下来：脚本没有来得及写录像就没了\n"
    assert output == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "trace 后面要说看哪一课或哪个脚本"),
        (["茶"], "没有 茶 这一课，也没有这个文件。是不是："),
        (["nothing.py"], "没有 nothing.py 这一课，也没有这个文件"),
        (["02"], "trace 一次看一课，02 有 "),
        (["--slow", "2.3"], "trace 没有 --slow 这个选项；脚本自己的参数放在 -- 后面"),
        (["2.3", "2.4"], "一次只看一个脚本；2.4 若是它的参数，放在 -- 后面"),
        (["2.3", "--json"], "--json 后面要说写到哪个文件"),
        (["--json=", "2.3"], "--json 后面要说写到哪个文件"),
    ],
)
def test_mistakes_are_one_sentence(capsys, arguments, said):
    assert cli.trace(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(said)
    assert len(errors.splitlines()) == 1


def test_a_file_of_ones_own_wins_over_a_lesson_of_the_same_name(learner):
    script = learner.script("print('我自己的')\n", "03_task_demo.py")
    code, output, _ = learner.trace(script)
    assert code == 0
    assert output.startswith("我自己的\n")


def test_what_cannot_be_written_is_said_and_the_rest_goes_on(learner, tea, capsys):
    recorded = learner.folder / "trace.json"
    recorded.write_text(json.dumps(tea), encoding="utf-8")
    in_the_way = learner.folder / "file"
    in_the_way.touch()
    kept = learner.folder / "kept.json"
    files = {"html": str(in_the_way / "page.html"), "json": str(kept)}
    command.show(recorded, command.Asked("tea.py", files=files))
    output, errors = capsys.readouterr()
    assert errors.startswith(f"网页写不到 {in_the_way / 'page.html'}：")
    assert json.loads(kept.read_text(encoding="utf-8")) == tea
    assert "闲人" in output


@pytest.mark.parametrize("text", ["{", "[]", '{"v": 2, "ev": []}'])
def test_a_trace_that_cannot_be_read_is_one_sentence(tmp_path, capsys, text):
    recorded = tmp_path / "trace.json"
    recorded.write_text(text, encoding="utf-8")
    command.show(recorded, command.Asked("x.py"))
    assert capsys.readouterr().err.startswith("录像读不了：")


def test_pages_go_to_a_folder_that_git_ignores_and_open_opens_them(tea, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(command, "FOLDER", tmp_path / "traces")
    monkeypatch.setattr(command.webbrowser, "open", opened.append)
    recorded = tmp_path / "trace.json"
    recorded.write_text(json.dumps(tea), encoding="utf-8")
    command.show(recorded, command.read(["tea.py", "--open"]))
    page = tmp_path / "traces" / "tea.html"
    assert opened == [page.as_uri()]
    assert page.exists()
    ignored = (catalog.ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "traces/" in ignored


def test_two_scripts_of_one_name_keep_a_page_each(tea, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FOLDER", tmp_path / "traces")
    recorded = tmp_path / "trace.json"
    recorded.write_text(json.dumps({**tea, "script": "main.py"}), encoding="utf-8")
    for name in ("one", "two"):
        script = tmp_path / name / "main.py"
        script.parent.mkdir()
        script.touch()
        command.show(recorded, command.read([str(script)]))
    pages = sorted(page.name for page in (tmp_path / "traces").iterdir())
    assert pages == ["one-main.html", "two-main.html"]


def test_what_a_lesson_needs_is_started_as_run_does(monkeypatch, tmp_path):
    lesson = catalog.Lesson(tmp_path / "02_x" / "01_x_demo.py")
    lesson.path.parent.mkdir()
    text = '"""2.1 x\n\n需要：Redis\n"""\nimport os; print(os.environ["REDIS_URL"])\n'
    lesson.path.write_text(text, encoding="utf-8")
    started = []

    @contextlib.contextmanager
    def redis(say):
        started.append(time.monotonic())
        yield "redis://127.0.0.1:1"

    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(catalog, "lessons", lambda: [lesson])
    monkeypatch.setattr(cli.services, "redis", redis)
    kept = tmp_path / "kept.json"
    page = tmp_path / "page.html"
    assert cli.trace(["2.1", "--json", str(kept), "--html", str(page)]) == 0
    assert len(started) == 1
    texts = [
        event["text"] for event in json.loads(kept.read_text("utf-8"))["ev"] if "text" in event
    ]
    assert texts == ["redis://127.0.0.1:1\n"]


@pytest.mark.parametrize("chapter", ["02", "04"])
def test_case_studies_are_recorded_without_lines_where_lines_slow_libraries(
    chapter, monkeypatch, tmp_path, capsys
):
    """On Python 3.11, lines make every call of a library slow: 4.4 would meet its own timeouts."""
    lesson = catalog.Lesson(tmp_path / f"{chapter}_x" / "01_x_demo.py")
    lesson.path.parent.mkdir()
    text = "import asyncio\n\nasync def main():\n    pass\n\nasyncio.run(main())\n"
    lesson.path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(catalog, "lessons", lambda: [lesson])
    kept, page = tmp_path / "kept.json", tmp_path / "page.html"
    files = ["--json", str(kept), "--html", str(page)]
    assert cli.trace([lesson.number, *files]) == 0
    lines = sys.version_info >= (3, 12) or chapter != "04"
    kinds = {event["k"] for event in json.loads(kept.read_text("utf-8"))["ev"]}
    assert {"run", "end"} <= kinds
    assert ("line" in kinds) is lines
    said = "Python 3.11 上逐行录会拖慢库，第 4 章各课的超时会先到：这次不录逐行执行\n"
    assert capsys.readouterr().err == ("" if lines else said)
