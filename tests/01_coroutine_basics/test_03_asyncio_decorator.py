"""Lesson 1.3 on this Python, and as a script on every older one that can be found."""

import asyncio
import inspect
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import looptime
import pytest

from tests.test_contract import for_this_python, mismatches
from toolbox import catalog

CHAPTER = catalog.ROOT / "01_coroutine_basics"
LESSON = catalog.Lesson(CHAPTER / "03_asyncio_decorator_demo.py")
NEXT_LESSON = catalog.Lesson(CHAPTER / "04_async_await_demo.py")  # names the same errata


def test_python_says_that_the_decorator_is_gone(lesson, capsys):
    gone = "AttributeError: module 'asyncio' has no attribute 'coroutine'"
    assert lesson.ask_for_the_decorator() == gone
    assert lesson.COMPLAINTS == [gone] * len(lesson.COMPLAINTS)
    assert capsys.readouterr().out.splitlines()[-1] == "这次用的是 types.coroutine"


def test_romeo_and_juliet_are_generators_with_a_stamp(lesson):
    for part in (lesson.romeo, lesson.juliet):
        assert inspect.isgeneratorfunction(part)
        assert part.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE


def test_loop_alternates_the_two_on_its_own_in_the_time_of_the_slower_one(
    lesson, capsys, monkeypatch
):
    """On virtual time, with a clock ten times as fast: the number printed must be measured."""
    loop = looptime.new_event_loop()
    monkeypatch.setattr(lesson.asyncio, "new_event_loop", lambda: loop)
    monkeypatch.setattr(lesson.time, "perf_counter", lambda: 10 * loop.time())
    assert lesson.let_the_loop_direct() == pytest.approx(2)
    *lines, took = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines] == ["1", "3", "2", "4"]
    assert took == "用时 ≈2.0 秒"


def test_run_closes_its_loop(lesson):
    @lesson.coroutine
    def which_loop():
        yield
        return asyncio.get_running_loop()

    assert lesson.run(which_loop()).is_closed()


def test_yield_from_hands_the_future_itself_to_whoever_drives(lesson, capsys):
    assert lesson.hand_a_future_to_the_loop() == (True, "两声", "三声")
    lines = capsys.readouterr().out.splitlines()
    # set_result wakes Juliet only after Romeo has yielded.
    assert lines[-3:] == ["罗密欧: 扔石子", "罗密欧: 躲到树后", "朱丽叶: 听到三声，开窗"]


def test_only_a_stamped_generator_may_yield_from_a_coroutine(lesson):
    refused, handed, awaitable = lesson.stamp_a_generator()
    assert refused == "cannot 'yield from' a coroutine object in a non-coroutine generator"
    assert handed is None
    assert awaitable == [False, True]


# 视频勘误 ------------------------------------------------------------------------------------


def test_erratum_asyncio_has_no_coroutine_decorator():
    with pytest.raises(AttributeError, match="module 'asyncio' has no attribute 'coroutine'"):
        _ = asyncio.coroutine


@pytest.mark.parametrize(
    "line",
    [
        "loop = asyncio.get_event_loop()",
        "task = asyncio.ensure_future(asyncio.sleep(0)); loop = task.get_loop();"
        "loop.run_until_complete(task)",
    ],
    ids=["get_event_loop", "ensure_future"],
)
def test_erratum_outside_a_running_loop(line):
    """In a process of its own: pytest-asyncio sets event loops in this one."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import asyncio; {line}; loop.close()"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    if sys.version_info < (3, 12):
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
        return
    said = "DeprecationWarning: There is no current event loop"
    if sys.version_info >= (3, 14):
        said = "RuntimeError: There is no current event loop in thread 'MainThread'."
    assert ran.returncode == 1
    assert said in ran.stderr.splitlines()
    assert said in LESSON.docstring
    assert said in NEXT_LESSON.docstring


@pytest.mark.skipif(sys.version_info < (3, 12), reason="generators counted as coroutines")
def test_create_task_takes_no_generator_but_gather_does(lesson):
    @lesson.coroutine
    def scene():
        part = lesson.romeo()
        with pytest.raises(TypeError, match="a coroutine was expected, got <generator"):
            asyncio.create_task(part)  # noqa: RUF006 — no task comes of it
        return (yield from asyncio.gather(part))

    assert lesson.run(scene()) == [None]


@pytest.mark.skipif(
    not (3, 12) <= sys.version_info < (3, 14), reason="only 3.12 and 3.13 are that strict"
)
def test_asyncio_run_takes_no_generator(lesson):
    with ThreadPoolExecutor(1) as thread:  # there it leaves pytest's own event loop alone
        refused = thread.submit(asyncio.run, lesson.romeo()).exception()
    assert isinstance(refused, ValueError)
    assert str(refused).startswith("a coroutine was expected, got <generator")


# Older Pythons -------------------------------------------------------------------------------


def find_python(minor):
    """A working CPython 3.`minor`; pyenv's shims stand on PATH even where they lead nowhere."""
    name = f"python3.{minor}"
    versions = Path.home() / ".pyenv" / "versions"
    for candidate in (shutil.which(name), *versions.glob(f"3.{minor}.*/bin/python")):
        if candidate is None:
            continue
        asked = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[1])"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        if (asked.returncode, asked.stdout.strip()) == (0, str(minor)):
            return candidate
    return None


@pytest.mark.parametrize("debug", ["", "1"], ids=["plain", "debug"])
@pytest.mark.parametrize("minor", [8, 9, 10])
def test_same_file_runs_on_older_pythons(minor, debug, tmp_path):
    python = find_python(minor)
    if python is None:
        pytest.skip(f"no Python 3.{minor} on PATH or under ~/.pyenv/versions")
    ran = subprocess.run(
        [python, "-W", "error", LESSON.path],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONIOENCODING": "utf-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONASYNCIODEBUG": debug,
        },
        capture_output=True,
        encoding="utf-8",
        timeout=30,
    )
    complaints = [] if debug else ran.stderr.splitlines()
    assert (ran.returncode, complaints) == (0, []), ran.stderr
    wrong = mismatches(for_this_python(LESSON.promised_output, minor), ran.stdout.splitlines())
    assert not wrong, "\n".join([*wrong, "printed:", ran.stdout])


def test_old_and_new_pythons_are_promised_the_same_scenes():
    def scenes(minor):
        lines = for_this_python(LESSON.promised_output, minor)
        return lines[next(at for at, line in enumerate(lines) if line.startswith("── 2.")) :]

    assert scenes(8) == scenes(14)
