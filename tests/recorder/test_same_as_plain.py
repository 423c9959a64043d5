"""A recorded script prints, returns and fails exactly as it does without the recorder."""

import os
import signal
import subprocess
import sys

import pytest

from tests import processes, pythons
from tests import test_contract as contract
from toolbox import catalog

LESSONS = catalog.lessons()
EARLY = [lesson for lesson in LESSONS if lesson.chapter in ("01", "02")]
OTHERS = [
    version
    for version in ("3.11", "3.12", "3.13", "3.14")
    if version != f"3.{sys.version_info.minor}"
]
by_file = {"ids": lambda value: value if isinstance(value, str) else value.file}


def assert_keeps_its_promise(lesson, ran, minor=sys.version_info.minor):
    """tests/test_contract.py proves the same of the plain lesson, on every Python: exit code 0,
    nothing on stderr, and to the letter the output that its docstring promises, but for measured
    numbers. So the plain lesson need not run here once more."""
    assert (ran.code, ran.stderr.decode()) == (0, "")
    promised = contract.for_this_python(lesson.promised_output, minor)
    printed = ran.stdout.decode()
    assert not (wrong := contract.mismatches(promised, printed.splitlines())), [*wrong, printed]


@pytest.mark.timeout(180)  # 4.4 has work for half a minute of a core, and others may want it, too
@pytest.mark.parametrize("lesson", LESSONS, **by_file)
def test_every_lesson(lesson, recorded, needed_services):
    needed_services(lesson)
    # Up to 3.11 lines cost much; a case study's own timeouts would strike.
    lines = sys.version_info >= (3, 12) or lesson.chapter != "04"
    run = recorded(lesson.path, options={"lines": lines}, quiet=False, timeout=170)
    assert_keeps_its_promise(lesson, run)
    # What cannot be seen may be said; a mistake of the recorder's may not.
    assert not any(note.startswith("recorder:") for note in run.trace["notes"])


@pytest.mark.parametrize("lesson", EARLY, **by_file)
@pytest.mark.parametrize("version", OTHERS)
def test_chapters_1_and_2_on_other_pythons(lesson, version, recorded):
    python = pythons.find(version)
    if python is None or (lesson.number in ("1.1", "1.5") and not _has_requirements(python)):
        pytest.skip(f"no Python {version} with what {lesson.number} needs")
    minor = int(version.partition(".")[2])
    assert_keeps_its_promise(lesson, recorded(lesson.path, python=python), minor)


def _has_requirements(python: str) -> bool:
    return not processes.run([python, "-c", "import greenlet, aiohttp"]).returncode


SCRIPTS = {
    "exit code": "import sys; print('before'); sys.exit(7)",
    "exit words": "import sys; sys.exit('再见')",
    "os._exit": "import os, sys; print('x', flush=True); os._exit(5)",
    "exception": """
        import asyncio
        async def main():
            await asyncio.sleep(0)
            1 / 0
        asyncio.run(main())
    """,
    "exceptions in a group, chained": """
        import asyncio
        async def bad(text):
            await asyncio.sleep(0)
            try:
                int(text)
            except ValueError as error:
                raise KeyError(text) from error
        async def main():
            async with asyncio.TaskGroup() as group:
                group.create_task(bad("a"))
                group.create_task(bad("b"))
        asyncio.run(main())
    """,
    "exception in a callback": """
        import asyncio
        async def main():
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        asyncio.run(main())
    """,
    "exception in a thread": """
        import asyncio
        def job():
            raise RuntimeError("in a thread")
        asyncio.run(asyncio.to_thread(job))
    """,
    "not a coroutine": """
        import asyncio
        async def main():
            asyncio.get_running_loop().create_task(3)
        asyncio.run(main())
    """,
    "interrupt inside a step": """
        import asyncio
        async def main():
            await asyncio.sleep(0)
            raise KeyboardInterrupt
        asyncio.run(main())
    """,
    "syntax error": "print('x'\n",
    "binary and text": r"""
        import sys
        print("text", flush=True)
        sys.stdout.buffer.write(b"\x00\xff\xfe\n")
        sys.stdout.buffer.flush()
        print("more")
        sys.stdout.write("end")
        sys.stderr.write("wrong\n")
    """,
    "text before binary, unflushed": r"""
        import sys
        print("text")
        sys.stdout.buffer.write(b"bytes first\n")
    """,
    "who am I": """
        import sys, os, inspect, __main__
        print(sys.argv, sys.path, __name__, __file__, __main__.__file__, __spec__, __package__)
        print(sorted(vars(__main__)), os.getcwd(), sys.flags, sys.warnoptions)
        print({k: v for k, v in sorted(os.environ.items()) if "PYTHON" in k or "RECORD" in k})
        print([f.function for f in inspect.stack()], sys.stdin.read())
        print(sys.stdout, sys.stdout.line_buffering, sys.stdout.errors, sys.stdout.newlines)
    """,
    "tasks and handles look as ever": """
        import asyncio, re
        async def main():
            task = asyncio.create_task(asyncio.sleep(0), name="t")
            loop = asyncio.get_running_loop()
            for thing in (task, loop.call_soon(print), loop.call_later(0, print)):
                print(re.sub("0x[0-9a-f]+|when=[0-9.]+", "", repr(thing)))
            print(asyncio.Task, type(task), asyncio.Handle._run.__qualname__, loop.call_soon)
            await task
            print(re.sub("0x[0-9a-f]+", "", repr(task)))
        asyncio.run(main())
    """,
    "the stack in debug mode": """
        import asyncio
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_debug(True)
            handle = loop.call_soon(print, "x")
            timer = loop.call_later(0, print, "y")
            task = asyncio.create_task(asyncio.sleep(0))
            for thing in (handle, timer, task):
                print([(f.name, f.lineno) for f in thing._source_traceback])
            await task
        asyncio.run(main())
    """,
    "a module named like the recorder's": """
        import lines, clock, html, json
        print(lines.MINE, clock.MINE, html.escape("<"))
    """,
    "chdir": "import os; os.chdir('/'); print(os.getcwd())",
    "generators and threads": """
        import threading
        def count(n):
            yield from range(n)
        def work():
            print(list(count(3)))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        import atexit
        atexit.register(print, "goodbye")
    """,
    "process pool": """
        import asyncio
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        def square(n):
            return n * n
        async def main():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                print(await asyncio.get_running_loop().run_in_executor(pool, square, 7))
        if __name__ == "__main__":
            asyncio.run(main())
    """,
    "forked pool": """
        import os, sys
        if hasattr(os, "fork"):
            child = os.fork()
            if child == 0:
                print("child", flush=True)
                os._exit(3)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_that_would_notice(name, script, plain, recorded):
    path = script(SCRIPTS[name])
    script("MINE = 'mine'", "lines.py")
    script("MINE = 'mine'", "clock.py")
    flags = () if name in ("forked pool",) else ("-W", "error")
    one = plain(path, "甲", "--x", stdin=b"input", flags=flags)
    other = recorded(path, "甲", "--x", stdin=b"input", flags=flags)
    assert (one.code, one.stdout.decode("utf-8", "backslashreplace"), one.stderr.decode()) == (
        other.code,
        other.stdout.decode("utf-8", "backslashreplace"),
        other.stderr.decode(),
    )
    assert other.trace["script"] == "script.py"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a single child")
@pytest.mark.parametrize("endless", ["waits", "computes"])
def test_ctrl_c_ends_it_and_shows_what_was_recorded(endless, script, tmp_path):
    waits = """
        import asyncio
        async def main():
            print("begun", flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """
    computes = """
        def count():
            return sum(range(10))
        print("begun", flush=True)
        while True:
            count()
    """
    path = script(waits if endless == "waits" else computes)
    command = [sys.executable, "-m", "toolbox.recorder", "-o", str(tmp_path / "t.json"), str(path)]
    with processes.started(
        command,
        cwd=catalog.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as process:
        assert process.stdout.readline() == b"begun\n"
        if endless == "waits":
            processes.press_ctrl_c(process, group=True)
        else:
            os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors.decode().splitlines()[-1] == "KeyboardInterrupt"
    assert "recorder" not in errors.decode()
    trace = (tmp_path / "t.json").read_text()
    assert '"died":"KeyboardInterrupt()"' in trace
    assert "begun" in trace


def test_a_missing_script_is_said_so(tmp_path):
    ran = processes.run(
        [sys.executable, "-m", "toolbox.recorder", str(tmp_path / "none.py")],
        cwd=catalog.ROOT,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "no such file" in ran.stderr
