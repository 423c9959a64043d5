import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

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
    tries, missing, booked, knocks = await lesson.retry_only_what_is_safe(station)
    assert tries == ["503", "503", "200"]
    assert missing == ["GET /trains/X0 404"]
    assert booked == ["订上了，共 1 张"]
    assert station.services["seats"].traced("订票") == [*booked, "POST /orders/D6 503"]
    assert knocks == {False: 300, True: 119}


async def test_an_order_that_was_never_sent_is_not_said_to_be_in_doubt(lesson, station):
    await station.services["seats"].kill()
    details = []
    for _ in range(6):  # a breaker opens at the fifth
        async with station.session.post(f"{station.door}/orders/D6") as response:
            assert response.status == 503
            details.append((await response.json())["detail"].partition(":")[0])
    assert details == ["不知道订上没有"] * 5 + ["没订上"]


async def test_what_was_wrong_with_an_order_is_told(lesson, station, monkeypatch):
    gateway = lesson.gateway("http://nowhere", "http://nowhere")
    [order] = [route.endpoint for route in gateway.routes if route.path == "/orders/{train}"]

    class Picky:
        async def once(self, *request):
            raise lesson.Rejected(409)

    gateway.state.seats = Picky()
    with pytest.raises(lesson.HTTPException) as caught:
        await order("D6")
    assert caught.value.status_code == 409


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


async def test_what_callers_got_wrong_is_told_to_them_and_trips_no_breaker(station):
    for _ in range(6):  # a breaker opens at the fifth
        status, answer = await station.ask("X0", "错")
        assert (status, answer["detail"]) == (404, "HTTP 404")
    assert (await station.ask("G7", "错"))[0] == 200


async def test_callers_who_run_out_of_time_trip_no_breaker(station):
    for _ in range(6):
        status, answer = await station.ask("K9", "急", budget=300)
        assert status == 504 or answer["余票"] is None
    assert not [
        line for line in station.services["gateway"].traced("急") if "closed → open" in line
    ]


async def test_a_strange_train_is_asked_for_as_it_is(station):
    for train in ("G7?x=1", "G7#x", "%2e%2e", "东风 1 号"):
        url = URL(f"{station.door}/trips/{quote(train, safe='')}", encoded=True)
        async with station.session.get(url, headers={"x-trace-id": train}) as response:
            assert response.status == 200
        assert await station.seen("timetable", train) == [f"GET /trains/{train} 200"]


async def test_a_budget_that_is_none_is_refused_and_logged(station):
    url = f"{station.services['timetable'].url}/trains/G7"
    for budget in ("", "abc", "0", "-5", "nan", "1e3", "60001", "9" * 400):
        headers = {"x-trace-id": f"坏{budget}", "x-budget-ms": budget}
        async with station.session.get(url, headers=headers) as response:
            assert response.status == 400
            assert "x-budget-ms" in (await response.json())["detail"]
        assert await station.seen("timetable", f"坏{budget}") == ["GET /trains/G7 400"]


async def test_who_says_no_budget_gets_the_default(downstream):
    platform = downstream.platform
    assert platform.budget_of(None) == platform.DEFAULT_BUDGET
    assert platform.budget_of(b"60000") == 60_000


async def test_a_budget_passed_on_is_always_a_good_one(downstream):
    platform = downstream.platform
    for left in (-1, 0, 0.2, 1e9, float("inf")):
        platform.DEADLINE.set(asyncio.get_running_loop().time() + left)
        sent = platform.headers()[platform.BUDGET_HEADER]
        assert platform.budget_of(sent.encode()) == int(sent)


async def test_a_request_that_fails_or_is_cancelled_is_logged_too(downstream, monkeypatch):
    said = []
    monkeypatch.setattr(downstream.platform, "log", said.append)

    async def serve(error):
        async def app(scope, receive, send):
            raise error

        scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
        with pytest.raises(type(error)):
            await downstream.platform.Edge(app)(scope, None, None)

    for error in (ZeroDivisionError(), asyncio.CancelledError(), TimeoutError()):
        await serve(error)
    assert said == ["GET /x 500"] * 3


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
    breaker = downstream.Breaker(threshold=2, cooldown=3600)

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
    breaker.opened -= 3600
    with breaker.guard():
        assert breaker.state == "half-open"
        with pytest.raises(downstream.Refused):
            knock()  # somebody is probing
    assert breaker.state == "closed"


async def test_who_set_out_before_it_opened_is_no_probe_and_no_news(downstream):
    breaker = downstream.Breaker(threshold=1, cooldown=0)
    with contextlib.ExitStack() as slow, contextlib.ExitStack() as probe:
        slow.enter_context(breaker.guard())
        with pytest.raises(downstream.Failed), breaker.guard():
            raise downstream.Failed
        probe.enter_context(breaker.guard())
        slow.close()
        assert breaker.state == "half-open"
        probe.close()
        assert breaker.state == "closed"


async def test_who_set_out_before_it_opened_is_no_news_after_it_closed_again(downstream):
    breaker = downstream.Breaker(threshold=1, cooldown=0)
    with pytest.raises(downstream.Failed), breaker.guard():  # slow
        with contextlib.suppress(downstream.Failed), breaker.guard():
            raise downstream.Failed
        with breaker.guard():
            assert breaker.state == "half-open"
        raise downstream.Failed
    assert (breaker.state, breaker.failures) == ("closed", 0)


async def test_several_that_fail_at_once_open_it_once(downstream, monkeypatch):
    breaker, moves = downstream.Breaker(threshold=1), []
    monkeypatch.setattr(downstream.platform, "log", lambda text, **_: moves.append(text))
    with pytest.raises(downstream.Failed), breaker.guard(), breaker.guard(), breaker.guard():
        raise downstream.Failed
    assert moves == ["断路器 closed → open"]


async def test_a_cancelled_probe_opens_the_breaker_again(downstream):
    breaker = downstream.Breaker(threshold=1, cooldown=0)
    with contextlib.suppress(downstream.Failed), breaker.guard():
        raise downstream.Failed
    with pytest.raises(asyncio.CancelledError), breaker.guard():
        assert breaker.state == "half-open"
        raise asyncio.CancelledError
    assert breaker.state == "open"


async def test_only_what_it_did_wrong_counts_against_it(downstream):
    breaker = downstream.Breaker(threshold=1)
    for error in (downstream.TooLate(), downstream.Refused(), asyncio.CancelledError()):
        with pytest.raises(type(error)), breaker.guard():
            raise error
    assert (breaker.state, breaker.failures) == ("closed", 0)


@pytest_asyncio.fixture
async def callee():
    """Answers /hang never, /404 and the like with that status, /text with what is not JSON."""

    async def answer(request):
        if request.path == "/hang":
            await asyncio.Event().wait()
        if request.path == "/text":
            return web.Response(text="<p>", content_type="application/json")
        return web.json_response("data", status=int(request.path[1:]))

    with socket.create_server(("127.0.0.1", 0)) as door:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.SockSite(runner, door).start()
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "error", "counts"),
    [
        ("hang", "Failed", 1),
        ("text", "Failed", 1),
        ("500", "Failed", 1),
        ("504", "TooLate", 0),
        ("404", "Rejected", 0),
    ],
)
async def test_what_a_callee_says_becomes_one_of_our_words(downstream, callee, path, error, counts):
    downstream.platform.DEADLINE.set(float("inf"))
    async with aiohttp.ClientSession() as session:
        asked = downstream.Downstream(session, callee, patience=0.05 if path == "hang" else 30)
        with pytest.raises(downstream.Unavailable) as caught:
            await asked.once("GET", path)
        assert (type(caught.value).__name__, asked.breaker.failures) == (error, counts)


async def test_an_impatient_caller_leaves_a_slow_callee_in_good_name(downstream, callee):
    downstream.platform.DEADLINE.set(asyncio.get_running_loop().time() + 0.05)
    async with aiohttp.ClientSession() as session:
        asked = downstream.Downstream(session, callee, patience=30)
        with pytest.raises(downstream.TooLate):
            await asked.get("hang")
        assert asked.breaker.failures == 0


async def test_successes_in_between_keep_it_closed(downstream):
    breaker = downstream.Breaker(threshold=2)
    for _ in range(3):
        with contextlib.suppress(downstream.Failed), breaker.guard():
            raise downstream.Failed
        with breaker.guard():
            pass
    assert breaker.state == "closed"


async def test_retries_wait_at_random_up_to_twice_as_long(downstream, monkeypatch):
    limits = []

    def at_once(low, high):
        limits.append((low, high))
        return 0

    async def fail():
        raise downstream.Failed

    monkeypatch.setattr("random.uniform", at_once)
    with pytest.raises(downstream.Failed):
        await downstream.retry(fail, downstream.RetryBudget())
    assert limits[:2] == [(0, 0.02), (0, 0.04)]


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
