"""Every lesson prints what its docstring promises, warns of nothing and runs from anywhere."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests import processes
from toolbox import catalog

LESSONS = catalog.lessons()
CASE_STUDIES = [lesson for lesson in LESSONS if lesson.chapter == "04"]
SLOW_CALLBACK = re.compile(r"Executing .* took \d+\.\d+ seconds")
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.file)
each_case_study = pytest.mark.parametrize("lesson", CASE_STUDIES, ids=lambda lesson: lesson.file)
each_need = pytest.mark.parametrize(
    ("lesson", "need"),
    [(lesson, need) for lesson in LESSONS for need in lesson.needs],
    ids=lambda value: value if isinstance(value, str) else value.number,
)


def for_this_python(promised: list[str], minor: int = sys.version_info.minor) -> list[str]:
    """Drop the lines that other Pythons print: "[3.12+] …" and "[≤3.10] …"."""
    kept = []
    for line in promised:
        mark = re.match(r"\[(?:3\.(\d+)\+|≤3\.(\d+))\] ", line)
        if mark is None:
            kept.append(line)
        elif (mark[1] and minor >= int(mark[1])) or (mark[2] and minor <= int(mark[2])):
            kept.append(line[mark.end() :])
    return kept


def line_matches(promised: str, printed: str) -> bool:
    """Equal to the letter, but for measured numbers, which stand behind ≈."""
    fixed = [re.escape(part) for part in re.split(r"≈[\d.,]+", promised)]
    return re.fullmatch(r"≈[\d.,]+".join(fixed), printed) is not None


def mismatches(promised: list[str], printed: list[str]) -> list[str]:
    """What is wrong with `printed`, in words; after "[以下 3 行顺序不定]" three lines may swap."""
    wrong, rest, loose = [], list(printed), 0
    for line in promised:
        if group := re.fullmatch(r"\[以下 (\d+) 行顺序不定\]", line):
            loose = int(group[1])
            continue
        found = next((seen for seen in rest[: max(loose, 1)] if line_matches(line, seen)), None)
        loose = max(loose - 1, 0)
        if found is None:
            wrong.append(f"promised {line!r}, printed {rest[:1]}")
            rest = rest[1:]
        else:
            rest.remove(found)
    return wrong + [f"not promised: {line!r}" for line in rest]


def run(script, *, cwd, encoding="utf-8", timeout=50, **env) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        encoding=encoding,
        timeout=timeout,
    )


@pytest.mark.parametrize(
    ("promised", "printed", "good"),
    [
        (["≈0.2 秒"], ["≈0.31 秒"], True),
        (["≈0.2 秒"], ["≈0.2 分"], False),
        (["用时 0.2"], ["用时 0.3"], False),
        (["甲", "乙"], ["乙", "甲"], False),
        (["[以下 2 行顺序不定]", "甲", "乙", "丙"], ["乙", "甲", "丙"], True),
        (["[以下 2 行顺序不定]", "甲", "乙", "丙"], ["丙", "甲", "乙"], False),
        (["甲"], ["甲", "乙"], False),
        (["甲", "乙"], ["甲"], False),
    ],
)
def test_the_comparison_itself_can_fail(promised, printed, good):
    assert (not mismatches(promised, printed)) is good


def test_version_marks_choose_lines():
    lines = ["甲", "[3.12+] 乙", "[≤3.10] 丙"]
    assert for_this_python(lines, 12) == ["甲", "乙"]
    assert for_this_python(lines, 11) == ["甲"]
    assert for_this_python(lines, 10) == ["甲", "丙"]


@each_lesson
def test_docstring_is_complete(lesson):
    assert lesson.docstring.startswith(f"{lesson.number} {lesson.title}")
    assert lesson.video.startswith("§") or lesson.video == "视频之外"
    assert f"运行：python {lesson.file}" in lesson.docstring
    assert f"观看：python tutorial.py trace {lesson.number}" in lesson.docstring
    for part in ("先猜后跑", "预期输出", "动手试试"):
        assert f"\n{part}\n" in lesson.docstring, part
    limit = 300 if lesson.chapter == "04" else 180
    body = lesson.path.read_text(encoding="utf-8").split('"""', 2)[2]
    assert len(body.splitlines()) <= limit


@pytest.mark.timeout(120)  # 4.4 and 4.8 have work for ten seconds of a core and more
@each_lesson
@pytest.mark.parametrize("mode", ["plain", "debug, GBK, another folder"])
def test_prints_what_it_promises(lesson, mode, tmp_path, needed_services):
    needed_services(lesson)
    script, options = lesson.path, {}
    if mode != "plain":
        moved = tmp_path / "中文 目录"
        shutil.copytree(lesson.path.parent, moved, ignore=shutil.ignore_patterns("__pycache__"))
        script = moved / lesson.path.name
        options = {"encoding": "gbk", "PYTHONASYNCIODEBUG": "1"}
    left_behind = [tmp_path / "cwd", tmp_path / "tmp"]
    for folder in left_behind:
        folder.mkdir()
    cwd, tmp = map(str, left_behind)
    ran = run(script, cwd=cwd, timeout=110, TMPDIR=tmp, TEMP=tmp, TMP=tmp, **options)
    complaints = [line for line in ran.stderr.splitlines() if not SLOW_CALLBACK.fullmatch(line)]
    if mode == "plain":
        complaints = ran.stderr.splitlines()
    assert (ran.returncode, complaints) == (0, []), ran.stderr
    wrong = mismatches(for_this_python(lesson.promised_output), ran.stdout.splitlines())
    assert not wrong, "\n".join([*wrong, "printed:", ran.stdout])
    assert [*(tmp_path / "cwd").iterdir(), *(tmp_path / "tmp").iterdir()] == []


@each_need
@pytest.mark.parametrize("url", ["nobody listens", "not a URL"])
def test_missing_service_is_one_chinese_paragraph(lesson, need, url, tmp_path, needed_services):
    needed_services(lesson)
    scheme, variable = need.lower(), f"{need.upper()}_URL"
    ran = run(
        lesson.path,
        cwd=tmp_path,
        **{variable: f"{scheme}://127.0.0.1:1" if url == "nobody listens" else "到我家来"},
    )
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert variable in ran.stderr
    if url == "nobody listens":
        for way_out in ("docker compose up -d", "python tutorial.py services"):
            assert way_out in ran.stderr


@each_case_study
@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a single child")
def test_ctrl_c_says_so_and_exits_130(lesson, tmp_path, needed_services):
    needed_services(lesson)
    ran = processes.interrupted(lesson.path, at="", TMPDIR=str(tmp_path))
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")
    assert list(tmp_path.iterdir()) == []
