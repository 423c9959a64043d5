"""Whatever hangs in or around the browser ends in an error and leaves no process."""

import gc
import os
import signal
import time

import pytest
from playwright.sync_api import Error

from toolbox.timeline import browser


@pytest.fixture
def path():
    return browser.find() or pytest.skip("no chromium here")


@pytest.fixture(autouse=True)
def complaints_stay_here():
    """Playwright leaves futures that nobody asks, when its driver is killed: asyncio says so when
    they are collected, and that would be in the middle of another test's output."""
    yield
    gc.collect()


def descendants() -> list[int]:
    children = browser._children()
    found = list(children.get(os.getpid(), ()))
    for process in found:
        found += children.get(process, ())
    return found


def test_a_page_that_never_answers(path):
    before = set(descendants())
    with browser.headless(path) as chromium:
        tab = chromium.browser.new_page()
        with pytest.raises(Error), chromium.at_most(1):
            tab.evaluate("() => { for (;;); }")
        with pytest.raises(Error):
            tab.context.close()
    assert set(descendants()) <= before


def test_a_browser_and_a_driver_that_never_answer(path):
    before = set(descendants())
    started = time.monotonic()
    with browser.headless(path) as chromium:
        for process in set(descendants()) - before:
            os.kill(process, signal.SIGSTOP)
        with pytest.raises(Error), chromium.at_most(1):
            chromium.browser.new_page()
    assert time.monotonic() - started < 30
    assert set(descendants()) <= before
