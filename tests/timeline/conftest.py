import contextlib
import copy
import json
import os
import sys
from pathlib import Path

import pytest

from tests import processes
from toolbox import catalog
from toolbox.timeline import browser, page

HERE = Path(__file__).parent
TEA = json.loads((HERE / "tea.json").read_text(encoding="utf-8"))


@pytest.fixture
def tea() -> dict:
    """A small trace that never changes: four tasks, a queue, a timer, a failure, a cancellation."""
    return copy.deepcopy(TEA)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """`recorded("02_asyncio_core/03_task_demo.py")`: that lesson's trace, made by the recorder."""
    traces: dict[str, dict] = {}

    def record(file: str | Path) -> dict:
        if file not in traces:
            output = tmp_path_factory.mktemp("trace") / "trace.json"
            command = [sys.executable, "-m", "toolbox.recorder", "-o", output, catalog.ROOT / file]
            processes.run(command, cwd=catalog.ROOT).check_returncode()
            traces[file] = json.loads(output.read_text(encoding="utf-8"))
        return traces[file]

    return record


@pytest.fixture(scope="module")
def chromium():
    """Debian's chromium, driven by Playwright. A module at a time: while Playwright's loop runs, no
    other test can run one."""
    path = browser.find()
    if path is None:
        reason = "no chromium here: apt install chromium fonts-noto-cjk"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with browser.headless(path) as chromium:
        yield chromium


@pytest.fixture
def open_page(chromium, tmp_path):
    """`open_page(trace, "#step=3")`: the page in a browser of its own, without network.

    At the end the page must have made no error and asked for nothing but itself. A page or a
    browser that hangs is killed before pytest-timeout strikes, which Playwright may not survive.
    """
    opened = []
    limit_of_pages = contextlib.ExitStack()  # not of what comes before: recording a lesson

    def open_(trace: dict, fragment: str = "", *, limit: int | None = None, **context):
        file = tmp_path / f"{len(opened)}.html"
        options = {} if limit is None else {"limit": limit}
        file.write_text(page.build(trace, **options), encoding="utf-8")
        if not opened:
            limit_of_pages.enter_context(chromium.at_most(40))
        size = {"width": 1280, "height": 720}
        window = chromium.browser.new_context(viewport=size, **context)
        tab = window.new_page()
        errors, requests = [], []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text))
        tab.on("dialog", lambda dialog: (errors.append("dialog"), dialog.dismiss()))
        tab.on("request", lambda request: requests.append(request.url))
        opened.append((window, file, errors, requests))
        tab.goto(file.as_uri() + fragment)
        return tab

    with limit_of_pages:
        yield open_
    for window, file, errors, requests in opened:
        with chromium.at_most(30):
            window.close()
        assert errors == []
        assert {url.partition("#")[0] for url in requests} == {file.as_uri()}
