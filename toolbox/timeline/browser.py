"""A headless Chromium, for tests and benchmarks of the page: nothing in it can wait for ever.

Playwright's own time limits do not reach into a page that hangs, nor into a browser or a driver
that does not answer. So whatever may wait stands under a time limit that kills them all.
"""

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage
    --disable-background-networking --disable-component-update --disable-sync""".split()
LONGEST_START = 30.0  # seconds


def find() -> str | None:
    """The path of this machine's Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Chromium:
    """A browser and the processes behind it: Playwright's driver and all that it started."""

    def __init__(self, path: str) -> None:
        from playwright.sync_api import sync_playwright

        self.others = _children().get(os.getpid(), set())
        self.driver: set[int] = set()
        with self.at_most(LONGEST_START):
            self.playwright = sync_playwright().start()
            try:
                launch = self.playwright.chromium.launch
                self.browser = launch(executable_path=path, args=FLAGS, timeout=25_000)
            except BaseException:
                self.playwright.stop()
                raise
        self.driver = _children().get(os.getpid(), set()) - self.others

    @contextlib.contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """What is inside and takes longer loses its browser: its calls then raise an error."""
        timer = threading.Timer(seconds, self.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def kill(self) -> None:
        """End the driver and the browser, whatever state they are in (on Linux)."""
        children = _children()
        doomed = list(self.driver or children.get(os.getpid(), set()) - self.others)
        for process in doomed:
            doomed += children.get(process, ())
        for process in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def close(self) -> None:
        """End it gently, or else by force."""
        with self.at_most(10):
            with contextlib.suppress(Exception):  # it may be dead already
                self.browser.close()
            self.playwright.stop()


def _children() -> dict[int, set[int]]:
    """Each process and its children; nothing where there is no /proc."""
    found: dict[int, set[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = status.read_text().rpartition(")")[2].split()[1]
            found.setdefault(int(parent), set()).add(int(status.parent.name))
    return found


@contextlib.contextmanager
def headless(path: str) -> Iterator[Chromium]:
    """A browser that is gone at the end."""
    chromium = Chromium(path)
    try:
        yield chromium
    finally:
        chromium.close()
