import asyncio
import contextlib
import importlib
import os
import signal
import subprocess

import pytest

from toolbox import catalog


def pytest_xdist_auto_num_workers():
    """Most tests wait: two cores keep four workers busy."""
    return max(4, os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items):
    """Tests of one lesson run in one process: with REDIS_URL, MYSQL_URL or Docker, all processes
    share the servers, and tests that look for leftovers of a lesson would see it run elsewhere."""
    for item in items:
        lesson = item.callspec.params.get("lesson") if hasattr(item, "callspec") else None
        if isinstance(lesson, catalog.Lesson):
            item.add_marker(pytest.mark.xdist_group(lesson.path.stem))
        elif item.path.parent.name[:1] == "0":
            item.add_marker(pytest.mark.xdist_group(lesson_of(item.path).stem))


def lesson_of(test_file):
    """tests/CHAPTER/test_NN_x.py → CHAPTER/NN_x_demo.py"""
    stem = test_file.stem.removeprefix("test_")
    return catalog.ROOT / test_file.parent.name / f"{stem}_demo.py"


@pytest.fixture(scope="session", autouse=True)
def no_stray_loop():
    """looptime asks every test for the current loop; up to 3.13 that makes one, never closed."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_reaches_children():
    """A shell's background job ignores SIGINT, and its children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def a_failed_test_waits_for_nobody():
    """`with Popen(…)` waits for the child, whatever happened; one that hangs would hang us all."""
    leave = subprocess.Popen.__exit__

    def leave_or_kill(child, kind, error, traceback):
        if kind is not None:
            child.kill()
        return leave(child, kind, error, traceback)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__exit__", leave_or_kill)
        yield


@pytest.fixture(scope="session")
def redis_url():
    """A Redis that these tests may use; REDIS_URL is set for lessons and their processes."""
    yield from _service("REDIS_URL", "redis")


@pytest.fixture(scope="session")
def mysql_url():
    """A MySQL that these tests may use; MYSQL_URL is set for lessons and their processes."""
    yield from _service("MYSQL_URL", "mysql")


def _service(variable, name):
    from toolbox import services

    with (
        unavailable_is_skipped(),
        getattr(services, name)() as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(variable, url)
        yield url


@pytest.fixture
def available():
    """`with available(), services.mysql() as url`: skip where there is no way to one."""
    return unavailable_is_skipped


@contextlib.contextmanager
def unavailable_is_skipped():
    """Where no way leads to a service, a test is skipped with that reason; in CI it fails."""
    from toolbox import services

    try:
        yield
    except services.Unavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture
def needed_services(request):
    """Start what a lesson needs: `needed_services(lesson)`."""

    def start(lesson: catalog.Lesson) -> None:
        for name in lesson.needs:
            request.getfixturevalue(f"{name.lower()}_url")

    return start


@pytest.fixture
def lesson(request, monkeypatch, needed_services):
    """The lesson that this test file is about, imported; the services that it needs are up.

    Imported by its own name, so that process pools can pickle its functions.
    """
    path = lesson_of(request.path)
    needed_services(catalog.Lesson(path))
    monkeypatch.syspath_prepend(path.parent)
    return importlib.import_module(path.stem)
