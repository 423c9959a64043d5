"""The course's foreign packages as they are today.

What must be installed to be seen is seen in CI only, in a throwaway environment.
"""

import os
import subprocess
import sys
import venv
import zipfile
from importlib.util import find_spec

import aiohttp
import pytest

in_ci_only = pytest.mark.skipif(
    not os.environ.get("CI"), reason="installs packages into a throwaway environment: CI only"
)


@pytest.fixture(scope="module")
def throwaway(tmp_path_factory):
    """The python of a fresh, empty environment."""
    folder = tmp_path_factory.mktemp("throwaway")
    venv.create(folder)
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def pip(python, *arguments):
    command = [sys.executable, "-m", "pip", "--python", python, "--quiet", *arguments]
    subprocess.run(command, check=True, timeout=50)


def last_line_of_errors(*command):
    ran = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30)
    return (ran.stderr.splitlines() or [""])[-1]


@in_ci_only
def test_aioredis_can_no_longer_be_imported(throwaway):
    pip(throwaway, "install", "aioredis==2.0.1")
    assert last_line_of_errors(throwaway, "-c", "import aioredis") == (
        "TypeError: duplicate base class TimeoutError"
        if sys.version_info < (3, 12)
        else "ModuleNotFoundError: No module named 'distutils'"
    )


@in_ci_only
def test_the_asyncio_on_the_index_was_a_backport_of_2015_and_is_empty_today(throwaway, tmp_path):
    for version in ("3.4.3", "4.0.0"):
        pip(throwaway, "download", "--no-deps", f"asyncio=={version}", "--dest", tmp_path)
    old, new = map(zipfile.ZipFile, sorted(tmp_path.iterdir()))
    with old, new:
        assert old.getinfo("asyncio/tasks.py").date_time[0] == 2015
        assert "asyncio/runners.py" not in old.namelist()  # asyncio.run is of 2018
        assert not [name for name in new.namelist() if name.endswith(".py")]


@pytest.mark.asyncio
async def test_aiohttp_warns_of_verify_ssl():
    async with aiohttp.ClientSession() as session:
        with (
            pytest.warns(DeprecationWarning, match="verify_ssl is deprecated, use ssl=False"),
            pytest.raises(aiohttp.ClientConnectionError),
        ):
            await session.get("http://127.0.0.1:1", verify_ssl=False)


@pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not for this platform")
def test_a_uvloop_policy_is_deprecated_since_3_14():
    course = "import asyncio, uvloop; asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())"
    complaint = last_line_of_errors(sys.executable, "-W", "error", "-c", course)
    if sys.version_info < (3, 14):
        assert complaint == ""
    else:
        assert complaint.startswith("DeprecationWarning: ") and "3.16" in complaint
