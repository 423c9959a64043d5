import asyncio

import pytest


@pytest.fixture
def oversleep(monkeypatch):
    """`oversleep()` in a test on virtual time: whenever the loop sleeps, it wakes 1.3 s late.

    So a busy machine does, or a laptop that was closed. Alarms that were to ring one after the
    other are then due at once.
    """

    def start() -> None:
        loop = asyncio.get_running_loop()
        select = loop._selector.select

        def select_and_doze(timeout):
            events = select(timeout)
            if timeout and not events:
                loop.setup_looptime(start=loop.time() + 1.3)
            return events

        monkeypatch.setattr(loop._selector, "select", select_and_doze)

    return start
