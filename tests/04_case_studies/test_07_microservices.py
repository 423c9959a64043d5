import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio


@pytest.fixture
def downstream(lesson):
    import microservices_downstream

    return microservices_downstream


@pytest_asyncio.fixture
async def station(lesson, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    async with lesson.station_opened(lesson.__file__) as station:
        yield station


async def test_one_trace_id_reaches_every_process_and_no_other(lesson, station):
    answer, elapsed, lines = await lesson.trace_through_all(station)
    assert answer == {"时刻": "08:15", "余票": 7}
    assert elapsed >= 0.09
    assert lines == {
        "timetable": ["GET /trains/G7 200"],
        "seats": ["GET /seats/G7 200"],
        "gateway": ["GET /trips/G7 200"],
    }


async def test_a_callee_stops_at_the_deadline_it_was_told(lesson, station):
    wasted, status, lines = await lesson.pass_the_deadline_on(station)
    assert (wasted, status) == (1, 504)
    assert lines == ["GET /seats/K9 504"] * 2 + [str({"时刻": "08:15", "余票": None})]


async def test_get_is_retried_and_post_is_not(lesson, station):
    tries, booked, knocks = await lesson.retry_only_what_is_safe(station)
    assert tries == ["503", "503", "200"]
    assert booked == ["订上了，共 1 张"]
    assert station.services["seats"].traced("订票") == [*booked, "POST /orders/D6 503"]
    assert knocks == {False: 300, True: 119}


async def test_a_bulkhead_lets_four_in(lesson, station):
    assert await lesson.keep_the_slow_one_in_its_cabin(station) == (4, 8, 4)


async def test_every_request_is_answered_while_a_service_dies_and_returns(lesson, station, capsys):
    counts, moves, probes = await lesson.survive_a_kill(station)
    assert (counts["5xx"], counts["挂住"]) == (0, 0)
    assert counts["完整"] and counts["降级"]
    assert moves[:2] == ["断路器 closed → open", "断路器 open → half-open"]
    assert moves[-1] == "断路器 half-open → closed"
    assert probes == [200, 200]
    assert "5xx 0，挂住 0" in capsys.readouterr().out


async def test_without_what_it_cannot_do_without_the_gateway_says_503_at_once(station):
    await station.services["timetable"].kill()
    status, answer = await station.ask("G7")
    assert status == 503
    assert answer["detail"]
    assert await station.status("gateway", "/health") == 200


async def test_the_last_guest_is_served_before_the_gateway_leaves(lesson, station):
    probes, still_there, status, code = await lesson.finish_before_leaving(station)
    assert (probes, still_there, status, code) == ([503, 200], True, 200, 0)


async def test_a_breaker_opens_probes_once_and_closes(downstream):
    breaker = downstream.Breaker(threshold=2, cooldown=0.05)

    def knock(error=None):
        with breaker.guard():
            if error:
                raise error

    for _ in range(2):
        with pytest.raises(downstream.Failed):
            knock(downstream.Failed())
    assert breaker.state == "open"
    with pytest.raises(downstream.Refused):
        knock()
    await asyncio.sleep(0.06)
    with breaker.guard():
        assert breaker.state == "half-open"
        with pytest.raises(downstream.Refused):
            knock()  # somebody is probing
    assert breaker.state == "closed"


async def test_a_cancelled_probe_opens_the_breaker_again(downstream):
    breaker = downstream.Breaker(threshold=1, cooldown=0)
    with contextlib.suppress(downstream.Failed), breaker.guard():
        raise downstream.Failed
    with pytest.raises(asyncio.CancelledError), breaker.guard():
        assert breaker.state == "half-open"
        raise asyncio.CancelledError
    assert breaker.state == "open"


async def test_successes_in_between_keep_it_closed(downstream):
    breaker = downstream.Breaker(threshold=2)
    for _ in range(3):
        with contextlib.suppress(downstream.Failed), breaker.guard():
            raise downstream.Failed
        with breaker.guard():
            pass
    assert breaker.state == "closed"


async def test_what_was_refused_is_not_retried(downstream):
    asked = []

    async def refuse():
        asked.append(1)
        raise downstream.Refused

    with pytest.raises(downstream.Refused):
        await downstream.retry(refuse, downstream.RetryBudget())
    assert len(asked) == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for children in /proc")
async def test_a_killed_lesson_leaves_no_process(lesson):
    with subprocess.Popen(
        [sys.executable, "-u", lesson.__file__], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        child.stdout.readline()
        path = f"/proc/{child.pid}/task/{child.pid}/children"
        with open(path) as listed:
            services = [int(pid) for pid in listed.read().split()]
        assert len(services) == 3
        child.send_signal(signal.SIGKILL)
        child.communicate()
    async with asyncio.timeout(20):
        while any(_alive(pid) for pid in services):
            await asyncio.sleep(0.05)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
