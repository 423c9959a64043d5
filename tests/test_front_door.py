"""tutorial.py as a learner uses it, in a small clone of its own."""

import base64
import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import processes, pythons
from toolbox import catalog, cli, environment, services

posix_only = pytest.mark.skipif(os.name != "posix", reason="sends signals to a process group")

LESSON = '"""{number} {title}\n\n视频：视频之外\n{needs}"""\n{body}\n'


class Clone:
    """A copy of the front door and the toolbox with lessons of the test's own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.requirements = folder / "requirements.txt"
        shutil.copy(catalog.ROOT / "tutorial.py", folder)
        shutil.copytree(
            catalog.ROOT / "toolbox",
            folder / "toolbox",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        self.requirements.write_text("# nothing\n", encoding="utf-8")

    def lesson(self, file: str, body: str, needs: str = "") -> None:
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        number = f"{int(path.parent.name[:2])}.{int(path.name[:2])}"
        text = LESSON.format(number=number, title=path.stem, body=body, needs=needs)
        path.write_text(text, encoding="utf-8")

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(self.folder / "tutorial.py"), *arguments],
            cwd=self.folder.parent,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )

    def call(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        with self.start(*arguments, **variables) as process:
            output, errors = process.communicate(timeout=170)
        return process.returncode, output, errors

    def interrupt(self, process: subprocess.Popen) -> tuple[int, str, str]:
        """Ctrl-C: SIGINT to the whole process group."""
        processes.press_ctrl_c(process, group=True)
        output, errors = process.communicate(timeout=10)
        return process.returncode, output, errors


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "我的 clone"
    folder.mkdir()
    return Clone(folder)


def test_without_a_command_it_says_what_there_is(clone):
    code, output, errors = clone.call()
    assert (code, errors) == (0, "")
    for command in cli.COMMANDS:
        assert f"\n  {command} " in output


def test_an_unknown_command_is_one_sentence_with_the_nearest(clone):
    code, output, errors = clone.call("rum")
    assert (code, output) == (2, "")
    assert errors == "没有 rum 这个命令。是不是：run\n"


@pytest.mark.parametrize(
    ("word", "nearest"), [("2.11", "2.1"), ("02_kettl_demo", "02_kettle_demo"), ("茶", "2.1")]
)
def test_an_unknown_lesson_is_one_sentence_with_the_nearest(clone, word, nearest):
    clone.lesson("02_asyncio_core/01_cup_demo.py", "")
    clone.lesson("02_asyncio_core/02_kettle_demo.py", "")
    code, output, errors = clone.call("run", word)
    assert (code, output) == (2, "")
    assert errors.startswith(f"没有 {word} 这一课。是不是：")
    assert nearest in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "word", ["2.1", "02_asyncio_core/01_cup_demo.py", "01_cup_demo", "./01_cup_demo.py"]
)
def test_one_lesson_runs_with_its_options_and_its_exit_code(clone, word):
    clone.lesson("02_asyncio_core/01_cup_demo.py", "import sys; print(sys.argv[1:]); sys.exit(7)")
    assert clone.call("run", word, "--hot", "2") == (7, "['--hot', '2']\n", "")


@pytest.mark.parametrize("words", [["all"], ["02", "1.1"], ["2", "02_asyncio_core", "01"]])
def test_many_lessons_end_in_a_table_and_1_if_one_failed(clone, words):
    clone.lesson("01_coroutine_basics/01_leaf_demo.py", "print('叶')")
    clone.lesson("02_asyncio_core/01_cup_demo.py", "print('杯')")
    code, output, _ = clone.call("run", *words)
    assert code == 0
    assert output.count("✓") == 2
    assert "2/2 课通过" in output
    clone.lesson("02_asyncio_core/01_cup_demo.py", "raise SystemExit(3)")
    code, output, _ = clone.call("run", *words)
    assert code == 1
    assert "✗ 退出码 3" in output
    assert "1/2 课通过" in output


def test_list_shows_every_lesson(clone):
    clone.lesson("01_coroutine_basics/01_leaf_demo.py", "", needs="需要：Redis\n")
    code, output, _ = clone.call("list")
    assert code == 0
    assert [word in output for word in ("1.1", "01_leaf_demo", "视频之外", "Redis")] == [True] * 4


def test_needed_services_reach_the_lesson(clone, redis_url, mysql_url):
    clone.lesson(
        "04_case_studies/01_both_demo.py",
        "import os; print(os.environ['REDIS_URL'], os.environ['MYSQL_URL'])",
        needs="需要：Redis、MySQL\n",
    )
    assert clone.call("run", "4.1")[:2] == (0, f"{redis_url} {mysql_url}\n")


@posix_only
def test_services_started_for_a_run_are_stopped_after_it(clone):
    clone.lesson(
        "04_case_studies/01_redis_demo.py",
        "import os; print(os.environ['REDIS_URL'])",
        needs="需要：Redis\n",
    )
    code, output, errors = clone.call("run", "4.1", REDIS_URL="")
    assert code == 0
    assert errors.startswith("Redis：") and output.strip() in errors
    assert services.is_free(int(output.rpartition(":")[2].partition("/")[0]))


@pytest.fixture
def without_mysql(clone):
    """In this clone no way leads to MySQL."""
    with open(clone.folder / "toolbox/services.py", "a", encoding="utf-8") as module:
        module.write("\n\n@contextlib.contextmanager\ndef mysql(port=None, say=None):\n")
        module.write("    raise Unavailable(explain('MySQL', ['这里没有']))\n    yield\n")
    clone.lesson("04_case_studies/01_mysql_demo.py", "print('来过')", needs="需要：MySQL\n")
    clone.lesson("04_case_studies/02_plain_demo.py", "print('来过')")


def test_a_lesson_whose_service_cannot_be_had_is_marked_not_failed(clone, without_mysql):
    code, output, _ = clone.call("run", "all", MYSQL_URL="", COLUMNS="200")
    assert code == 0
    assert re.search(r"^4\.1 +⊘ ", output, re.MULTILINE)
    assert "\n⊘ 4.1：没有可用的 MySQL：这里没有" in output
    assert output.count("来过") == 1
    assert "1/2 课通过" in output


def test_one_lesson_whose_service_cannot_be_had_says_so_and_exits_2(clone, without_mysql):
    code, output, errors = clone.call("run", "4.1", MYSQL_URL="")
    assert (code, output) == (2, "")
    assert errors.startswith("没有可用的 MySQL：这里没有")


@posix_only
def test_ctrl_c_stops_a_run_within_the_lesson(clone):
    clone.lesson(
        "01_coroutine_basics/01_nap_demo.py", "import time; print('睡', flush=True); time.sleep(50)"
    )
    clone.lesson("01_coroutine_basics/02_next_demo.py", "print('不该来')")
    with clone.start("run", "all") as process:
        while "睡" not in process.stdout.readline():
            pass
        code, output, errors = clone.interrupt(process)
    assert code == 130
    assert "不该来" not in output
    assert errors.endswith("已中断\n")


TIDY = """
import pathlib, time
room = pathlib.Path("room")
room.touch()
try:
    print("睡", flush=True)
    time.sleep(50)
finally:
    room.unlink()
"""


@posix_only
@pytest.mark.parametrize("command", ["run", "trace"])
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_front_door_that_is_told_to_end_lets_its_lesson_clean_up(clone, ending, command):
    if ending == "SIGKILL" and sys.platform != "linux":
        pytest.skip("PR_SET_PDEATHSIG is Linux's")
    clone.lesson("01_coroutine_basics/01_nap_demo.py", TIDY)
    room = clone.folder.parent / "room"
    with clone.start(command, "1.1") as process:
        assert process.stdout.readline() == "睡\n"
        assert room.exists()
        process.send_signal(getattr(signal, ending))
        process.communicate(timeout=30)  # the lesson holds the other end, too
    assert not room.exists()
    assert process.returncode % 256 in (128 + getattr(signal, ending), 256 - signal.SIGKILL)


@posix_only
def test_a_lesson_may_take_as_long_to_clean_up_as_4_3_gives_its_requests(clone):
    slowly = TIDY.replace("room.unlink()", "time.sleep(6.2); room.unlink()")
    clone.lesson("01_coroutine_basics/01_nap_demo.py", slowly)
    with clone.start("run", "1.1") as process:
        assert process.stdout.readline() == "睡\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert not (clone.folder.parent / "room").exists()


@posix_only
def test_a_ctrl_c_that_only_the_front_door_got_is_handed_on(clone):
    clone.lesson("01_coroutine_basics/01_nap_demo.py", TIDY)
    front_door = clone.folder / "toolbox/cli.py"
    text = front_door.read_text(encoding="utf-8")
    front_door.write_text(text.replace("PATIENCE = 10", "PATIENCE = 1"), encoding="utf-8")
    with clone.start("run", "1.1") as process:
        assert process.stdout.readline() == "睡\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130 and not (clone.folder.parent / "room").exists()


def test_a_copy_of_a_lesson_is_not_taken_for_the_lesson(clone):
    clone.lesson("01_coroutine_basics/01_tea_demo.py", "print('原来的')")
    copy = clone.folder.parent / "01_tea_demo.py"
    copy.write_text("print('改过的')\n", encoding="utf-8")
    code, output, errors = clone.call("run", str(copy))
    assert (code, output) == (2, "") and "不是这里的课，直接运行它" in errors
    code, output, _ = clone.call("trace", str(copy))
    assert code == 0 and "改过的" in output
    assert "原来的" in clone.call("run", "bygone/01_tea_demo.py")[1]


def test_services_says_that_a_given_url_answers_or_not(clone, redis_url):
    with clone.start("services", REDIS_URL="redis://me:secret@127.0.0.1:1", MYSQL_URL="x") as one:
        output, errors = one.communicate(timeout=30)
    assert (one.returncode, output) == (2, "")
    assert "REDIS_URL" in errors and "连不上" in errors and "secret" not in errors


def test_a_lesson_that_does_not_parse_says_so_itself(clone):
    clone.lesson("01_coroutine_basics/01_typo_demo.py", "print('x'")
    clone.lesson("01_coroutine_basics/02_fine_demo.py", "print('好')")
    assert clone.call("list")[0] == 0
    code, output, errors = clone.call("run", "all", COLUMNS="200")
    assert code == 1
    assert "01_typo_demo.py" in errors and "SyntaxError" in errors
    assert re.search(r"^1\.1 +✗ 退出码 1 ", output, re.MULTILINE) and "1/2 课通过" in output


@posix_only
def test_a_lesson_killed_by_a_signal_has_a_shells_exit_code(clone):
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    clone.lesson("01_coroutine_basics/01_dead_demo.py", text)
    assert clone.call("run", "1.1")[0] == 137


@posix_only
@pytest.mark.xdist_group("standard ports")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_services_hold_until_they_are_told_to_end(clone, ending, available, monkeypatch):
    monkeypatch.delenv("MYSQL_URL", raising=False)
    with available(), services.mysql():
        pass
    with clone.start("services", REDIS_URL="", MYSQL_URL="") as process:
        said = list(itertools.takewhile(lambda line: "就绪" not in line, process.stdout))
        urls = [line.strip().partition("=") for line in said if "_URL=" in line[:10]]
        ports = [
            int(url.partition("@")[2].rpartition(":")[2].partition("/")[0] or 0)
            or int(url.rpartition(":")[2].partition("/")[0])
            for _, _, url in urls
        ]
        assert not any(map(services.is_free, ports))
        os.kill(process.pid, ending)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == (130 if ending == signal.SIGINT else 143)
    assert ("已中断" in errors) is (ending == signal.SIGINT)
    assert [name for name, *_ in urls] == ["REDIS_URL", "MYSQL_URL"], errors
    assert all(map(services.is_free, ports))


def test_test_hands_its_arguments_to_pytest(clone):
    (clone.folder / "test_tea.py").write_text("def test_hot(): pass\ndef test_cold(): assert 0\n")
    code, output, _ = clone.call("test", "-q", "-k", "hot")
    assert code == 0 and "1 passed, 1 deselected" in output
    assert clone.call("test", "-q")[0] == 1


def test_doctor_says_what_is_there(clone, redis_url, mysql_url):
    code, output, errors = clone.call("doctor")
    assert (code, errors) == (0, "")
    for found in ("✓ Python 3.", "✓ requirements.txt 已装齐", "✓ Redis：", "✓ MySQL："):
        assert found in output


def test_doctor_says_what_is_missing_and_how_to_mend_it(clone):
    clone.requirements.write_text("no-such-tea>=1,<2\n")
    code, output, errors = clone.call("doctor", REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, errors) == (1, "")
    assert "✗ requirements.txt 还缺 no-such-tea>=1,<2；" in output
    assert "✗ Redis：环境变量 REDIS_URL（redis://127.0.0.1:1/0）连不上" in output
    assert not (clone.folder / ".venv").exists()


def wheel(folder: Path, name: str, version: str, code: str) -> None:
    """The smallest wheel that pip installs (packaging.python.org, binary distribution format)."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = ""
    for path, text in files.items():
        digest = (
            base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        )
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.mark.timeout(180)
def test_first_use_makes_an_environment_and_goes_on_inside_it(clone, tmp_path):
    wheel(tmp_path, "oolong", "1.5", "taste = '甘'\n")
    clone.requirements.write_text("oolong[leaf]>=1.2,<2  # tea\n")
    clone.lesson("01_coroutine_basics/01_taste_demo.py", "import oolong; print(oolong.taste)")
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_USER": "1"}
    code, output, errors = clone.call("run", "1.1", **offline)
    assert (code, output) == (0, "甘\n")
    assert "第一次使用" in errors
    assert clone.call("run", "1.1", **offline) == (0, "甘\n", "")
    # A requirement that is raised later is installed into the same environment.
    wheel(tmp_path, "oolong", "3.0", "taste = '醇'\n")
    clone.requirements.write_text("oolong>=3,<4\n")
    code, output, errors = clone.call("run", "1.1", **offline)
    assert (code, output) == (0, "醇\n")
    assert "安装" in errors and "第一次使用" not in errors


@pytest.mark.timeout(180)
def test_an_environment_that_cannot_be_made_is_said_in_chinese(clone, tmp_path):
    clone.requirements.write_text("no-such-tea>=1,<2\n")
    clone.lesson("01_coroutine_basics/01_taste_demo.py", "print('不该来')")
    code, output, errors = clone.call("run", "1.1", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert code == 2
    assert "不该来" not in output
    assert "没有装成" in errors and "no-such-tea" in errors and "Traceback" not in errors


def test_requirements_keep_to_the_form_that_the_front_door_reads():
    assert environment.missing_requirements() == []


@pytest.mark.parametrize(
    ("version", "satisfied"),
    [
        ("0.9", False),
        ("1.2", True),
        ("1.10.3", True),
        ("1.9rc1", True),
        ("2", False),
        ("2.0", False),
    ],
)
def test_bounds_are_compared_as_numbers(monkeypatch, version, satisfied):
    monkeypatch.setattr(environment.metadata, "version", lambda name: version)
    assert environment._is_satisfied("tea[leaf]>=1.2,<2") is satisfied


@pytest.mark.parametrize("version", ["3.8", "3.10"])
def test_an_old_python_is_told_what_is_needed(clone, version):
    if (python := pythons.find(version)) is None:
        pytest.skip(f"no Python {version} here")
    done = subprocess.run([python, clone.folder / "tutorial.py"], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"需要 Python 3.11 或更新的版本，现在是 {version}." in done.stderr
    assert "Traceback" not in done.stderr
