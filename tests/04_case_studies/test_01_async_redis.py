"""Lesson 4.1 against real servers: what it shows, what a run leaves, what it says in trouble."""

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from redis import Redis as BlockingRedis
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from tests import processes
from toolbox import services

SCRIPT = Path(__file__).parents[2] / "04_case_studies" / "01_async_redis_demo.py"
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest_asyncio.fixture
async def shop(lesson):
    async with lesson.open_shop() as shop:
        yield shop
        await lesson.clean_up(shop)


@pytest.fixture
def private_redis(tmp_path):
    """Start servers that a test may lock, freeze and kill: `private_redis(…)` → process, URL."""
    programs = services.redis_programs()
    if not programs:
        pytest.skip("no Redis program on this machine")
    with contextlib.ExitStack() as stack:

        def start(*options, port=None):
            port = port or services.free_port()
            fixed = ["--bind", "127.0.0.1", "--port", str(port), "--dir", tmp_path, "--save", ""]
            process = stack.enter_context(
                subprocess.Popen([programs[-1], *fixed, *options], stdout=subprocess.DEVNULL)
            )
            stack.callback(process.kill)
            wait_for_an_answer(port)
            return process, f"redis://127.0.0.1:{port}/0"

        yield start


def wait_for_an_answer(port):
    for _ in range(500):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 1) as probe,
        ):
            probe.sendall(b"PING\r\n")
            if probe.recv(1):
                return
        time.sleep(0.01)
    raise AssertionError("the private Redis does not answer")


def start_lesson(url):
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", SCRIPT],
        env={**os.environ, "REDIS_URL": url, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def run_until(child, section):
    for line in child.stdout:
        if line.startswith(f"── {section}. "):
            return
    raise AssertionError(f"never reached section {section}: {child.stderr.read()}")


def keys_in(url):
    with BlockingRedis.from_url(url, decode_responses=True) as client:
        return sorted(client.scan_iter(count=1000))


@pytest.mark.asyncio
async def test_a_hash_comes_back_as_strings(lesson, shop):
    saved, raw = await lesson.save_and_read_back(shop)
    assert saved == {"drink": "珍珠奶茶", "price": "18"}
    assert raw == b"18"


@pytest.mark.asyncio
async def test_the_default_pool_refuses_and_the_blocking_pool_queues(lesson, shop, capsys):
    assert await lesson.wait_for_a_free_connection(shop) == (100, 200, 10)
    assert "100 个读到，100 个 MaxConnectionsError" in capsys.readouterr().out


@pytest.mark.asyncio
async def test_every_rung_reads_the_same_and_batching_needs_few_writes(lesson, shop):
    ladder = await lesson.save_round_trips(shop, rounds=2000)
    assert len(ladder) == 4
    for answers, _, _ in ladder.values():
        assert [tea for each in answers for tea in each] == ["珍珠奶茶 18 元"] * 2000
    commands_a_read = [each for _, each, _ in ladder.values()]
    assert commands_a_read[0] < 1.1 and commands_a_read[1] < 2  # others may read meanwhile
    assert commands_a_read[2] > 50 and commands_a_read[3] > 30


@pytest.mark.asyncio
async def test_watch_saves_the_update_that_get_and_set_lose(lesson, shop):
    assert await lesson.change_what_you_have_read(shop) == (1, 0, 2)


@pytest.mark.asyncio
async def test_a_cached_value_lives_until_its_ttl(lesson, shop):
    assert await lesson.forget_after_a_while(shop) == ["第 1 锅", "第 1 锅", "第 2 锅"]
    assert 0 < await shop.ttl(f"{lesson.SHOP}:cache") <= 60


@pytest.mark.asyncio
async def test_only_the_token_protects_the_next_holder(lesson, shop, capsys):
    assert await lesson.release_only_your_own_lock(shop) == (True, 0, True, 1)
    assert capsys.readouterr().out.endswith("LockNotOwnedError\n")


@pytest.mark.asyncio
async def test_a_second_taker_gets_no_lock_and_the_lock_expires_by_itself(lesson, shop):
    lock = f"{lesson.SHOP}:lock"
    assert await lesson.take_lock(shop, lock)
    assert await lesson.take_lock(shop, lock) is None
    assert 0 < await shop.pttl(lock) <= 30_000


@pytest.mark.asyncio
async def test_a_lock_and_a_second_look_brew_once(lesson, shop):
    await asyncio.gather(*(shop.ping() for _ in range(20)))  # connections first
    assert await lesson.brew_once_for_everyone(shop) == (20, 1)


@pytest.mark.asyncio
async def test_a_message_without_a_listener_is_lost(lesson, shop):
    assert await lesson.call_out(shop) == (0, 1, "2 号好了")


@pytest.mark.asyncio
async def test_a_retry_repeats_what_was_done(lesson, shop):
    assert await lesson.repeat_what_was_done(shop) == (2, 1)


def test_only_the_constructor_retries_by_default(lesson):
    assert lesson.open_shop().get_retry().get_retries() == 0
    assert Redis(host="127.0.0.1").get_retry().get_retries() == 10
    assert Redis.from_url("redis://127.0.0.1").get_retry() is None


@pytest.mark.asyncio
async def test_orders_survive_a_barista_who_faints(lesson, shop, capsys):
    left, half_done, served, rest = await lesson.lose_no_order(shop)
    assert left == ["2 号", "3 号"]
    assert half_done == ["1 号"]
    assert served == ["1 号", "2 号", "3 号"]
    assert rest == 0
    assert "socket_timeout 比 BLPOP 等得短: TimeoutError" in capsys.readouterr().out


@pytest.mark.asyncio
async def test_what_was_half_done_comes_first_and_in_its_order(lesson, shop):
    await shop.rpush(f"{lesson.SHOP}:making:甲", "1 号", "2 号")
    await shop.rpush(f"{lesson.SHOP}:orders", "3 号")
    served = []

    async def make(order):
        served.append(order)

    await lesson.serve_orders(shop, make)
    assert served == ["1 号", "2 号", "3 号"]


@posix
@pytest.mark.asyncio
async def test_orders_survive_a_barista_whose_process_is_killed(lesson, shop):
    orders = f"{lesson.SHOP}:orders"
    await shop.rpush(orders, "1 号", "2 号")
    barista = f"""
import asyncio, importlib, os, signal
lesson = importlib.import_module("01_async_redis_demo")
lesson.SHOP = {lesson.SHOP!r}
async def die(order): os.kill(os.getpid(), signal.SIGKILL)
async def main():
    async with lesson.open_shop() as shop: await lesson.serve_orders(shop, die)
asyncio.run(main())
"""
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", barista, cwd=SCRIPT.parent, env={**os.environ, "PYTHONPATH": "."}
    )
    assert await killed.wait() == -signal.SIGKILL
    assert await shop.lrange(orders, 0, -1) == ["2 号"]

    served = []

    async def make(order):
        served.append(order)

    await lesson.serve_orders(shop, make)
    assert served == ["1 号", "2 号"]


@pytest.mark.asyncio
async def test_clean_up_spares_the_shops_that_are_open(lesson, shop):
    mine, open_one, closed_one = (
        f"{lesson.SHOP}:order:1",
        "asyncio-tutorial:teashop-open0000:order:1",
        "asyncio-tutorial:teashop-closed00:order:1",
    )
    async with lesson.open_shop(client_name=open_one.removesuffix(":order:1")) as neighbour:
        await neighbour.mset({mine: 1, open_one: 1, closed_one: 1})
        await lesson.clean_up(shop)
        assert await neighbour.mget(mine, open_one, closed_one) == [None, "1", None]
        await neighbour.delete(open_one)


def test_a_run_touches_only_its_own_keys_and_leaves_none(private_redis):
    _, url = private_redis()
    with BlockingRedis.from_url(url) as owner:
        owner.set("somebody's", "own")
        own = ("resetkeys", "~asyncio-tutorial:*", "resetchannels", "&asyncio-tutorial:*")
        # From here on any other key or channel and every FLUSH is an error.
        owner.execute_command("ACL", "SETUSER", "default", *own, "-flushall", "-flushdb")
    with start_lesson(url) as child:
        _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (0, "")
    assert keys_in(url) == ["somebody's"]


def test_two_runs_at_once_do_not_disturb_each_other(private_redis):
    _, url = private_redis()
    with start_lesson(url) as first, start_lesson(url) as second:
        outcomes = [child.communicate(timeout=30)[1] for child in (first, second)]
    assert (first.returncode, second.returncode, outcomes) == (0, 0, ["", ""])
    assert keys_in(url) == []


@posix
@pytest.mark.parametrize("section", [3, 7, 9])
def test_ctrl_c_leaves_no_key(private_redis, section):
    _, url = private_redis()
    ran = processes.interrupted(SCRIPT, at=f"── {section}. ", REDIS_URL=url)
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")
    assert f"── {section}. " in ran.stdout
    assert keys_in(url) == []


@pytest.mark.asyncio
async def test_a_swallowed_cancellation_stops_the_lesson_after_the_section(lesson, monkeypatch):
    ran = []

    async def swallow(shop):
        ran.append("swallow")
        lesson.settings._interrupted.append(signal.SIGINT)  # Ctrl-C came, and redis swallowed it

    async def next_section(shop):
        ran.append("next")

    monkeypatch.setattr(lesson.settings, "_interrupted", [])
    monkeypatch.setattr(lesson, "SECTIONS", {"1": swallow, "2": next_section})
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(lesson.main())
    assert ran == ["swallow"]


def test_the_next_run_sweeps_what_a_killed_run_left(private_redis):
    _, url = private_redis()
    with start_lesson(url) as killed:
        run_until(killed, 9)
        killed.kill()
        killed.communicate()
    left = keys_in(url)
    assert left
    assert all(key.startswith("asyncio-tutorial:teashop-") for key in left)
    with start_lesson(url) as child:
        _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (0, "")
    assert keys_in(url) == []


@pytest.mark.parametrize("credentials", [":not-the-secret@", ""])
def test_a_wrong_password_is_one_paragraph_that_does_not_tell_it(private_redis, credentials):
    _, url = private_redis("--requirepass", "the-secret")
    with start_lesson(url.replace("//", f"//{credentials}")) as child:
        _, errors = child.communicate(timeout=10)
    assert child.returncode == 2
    assert "不认这个用户名或密码" in errors
    assert "Traceback" not in errors
    assert "secret" not in errors


@pytest.mark.parametrize("section", [1, 5, 9, 10])
def test_a_redis_that_dies_is_one_paragraph(private_redis, section):
    server, url = private_redis()
    with start_lesson(url) as child:
        run_until(child, section)
        server.kill()
        _, errors = child.communicate(timeout=10)
    assert child.returncode == 2
    assert errors.startswith("Redis（127.0.0.1:") and "连不上，或者中途断了" in errors
    assert "Traceback" not in errors


@posix
def test_a_redis_that_freezes_is_not_waited_for(private_redis):
    server, url = private_redis()
    with start_lesson(url) as child:
        run_until(child, 5)
        server.send_signal(signal.SIGSTOP)
        _, errors = child.communicate(timeout=20)
    assert child.returncode == 2
    assert "连不上，或者中途断了" in errors
    assert "Traceback" not in errors


def test_the_courses_aioredis_spellings_are_gone():
    client = Redis.from_url("redis://127.0.0.1")
    assert not hasattr(client, "hmset_dict")
    assert not hasattr(client, "wait_closed")
    with pytest.raises(TypeError, match="encoding"):
        client.hgetall("asyncio-tutorial:teashop", encoding="utf-8")


# ── redis_batching.py: one line for all tasks ──


@pytest.fixture
def batching(lesson):
    """Make a client for a URL: `batching(url, patience=…)`."""
    return importlib.import_module("redis_batching").BatchingRedis


async def outcomes(*calls):
    """What each call came to, none for ever: a value or an exception."""
    async with asyncio.timeout(20):
        return await asyncio.gather(*calls, return_exceptions=True)


def connections(url):
    with BlockingRedis.from_url(url) as client:
        return len(client.client_list()) - 1


@pytest.mark.asyncio
async def test_a_thousand_first_calls_share_one_connection_and_keep_their_order(
    batching, private_redis
):
    _, url = private_redis()
    async with batching(url) as client:
        await outcomes(*(client.call("SET", f"k{n}", n) for n in range(1000)))
        assert connections(url) == 1
        assert await outcomes(*(client.get(f"k{n}") for n in range(1000))) == [
            str(n) for n in range(1000)
        ]
        assert await client.get("nobody") is None
    assert connections(url) == 0
    assert client._line._timer.cancelled()  # nobody watches a line that is gone
    with pytest.raises(redis_errors.ConnectionError, match="关了"):
        await client.get("k1")


@pytest.mark.asyncio
async def test_who_gives_up_does_not_shift_the_answers(batching, private_redis):
    _, url = private_redis()
    async with batching(url) as client:
        await outcomes(*(client.call("SET", f"k{n}", n) for n in range(100)))
        tasks = [asyncio.create_task(client.get(f"k{n}")) for n in range(100)]
        await asyncio.sleep(0)  # all commands are queued, none is written
        for task in tasks[::3]:
            task.cancel()
        answers = await outcomes(*tasks)
        for n, answer in enumerate(answers):
            assert isinstance(answer, asyncio.CancelledError) if n % 3 == 0 else answer == str(n)
        assert await client.get("k7") == "7"


@pytest.mark.asyncio
async def test_who_dials_and_gives_up_leaves_the_line_to_the_others(batching, private_redis):
    _, url = private_redis()
    async with batching(url) as client:
        first, second = (asyncio.create_task(client.call("PING")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        answers = await outcomes(first, second)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1] == b"PONG"


@pytest.mark.asyncio
async def test_an_empty_value_is_an_empty_str(batching, private_redis):
    _, url = private_redis()
    async with batching(url) as client:
        await client.call("SET", "nothing", "")
        assert await client.get("nothing") == ""


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["/3", "?db=3", "/1?db=3"])
async def test_the_database_is_the_one_that_redis_py_takes(batching, private_redis, end):
    _, url = private_redis()
    url = url.removesuffix("/0") + end
    async with batching(url) as client, Redis.from_url(url) as other:
        await other.set("tea", "龙井")
        assert await client.get("tea") == "龙井"


@pytest.mark.asyncio
async def test_an_error_belongs_to_its_own_caller(batching, private_redis):
    _, url = private_redis()
    async with batching(url) as client:
        await client.call("SET", "tea", "龙井")
        before, wrong, after = await outcomes(
            client.get("tea"), client.call("INCR", "tea"), client.get("tea")
        )
        assert (before, after) == ("龙井", "龙井")
        assert isinstance(wrong, redis_errors.ResponseError)
        assert str(wrong) == "ERR value is not an integer or out of range"
        with pytest.raises(TypeError):
            await client.call("SET", "tea", object())
        bad, good = b"\xff", await outcomes(client.call("SET", "bytes", b"\xff"))
        broken, tea = await outcomes(client.get("bytes"), client.get("tea"))
        assert (good, await client.call("GET", "bytes")) == ([b"OK"], bad)
        assert isinstance(broken, UnicodeDecodeError) and tea == "龙井"


@pytest.mark.asyncio
async def test_the_exercise_that_writes_at_once_works_as_it_is_written(
    lesson, batching, private_redis
):
    late, at_once = "call_soon(self._write)", "self._write()"
    exercise = "".join(lesson.__doc__.split())
    assert f"把redis_batching.py里的{late}换成当场{at_once}" in exercise
    source = (SCRIPT.parent / "redis_batching.py").read_text(encoding="utf-8")
    assert source.count(f"self._loop.{late}") == 1
    changed = types.ModuleType("redis_batching_at_once")
    exec(source.replace(f"self._loop.{late}", at_once), vars(changed))
    _, url = private_redis()
    async with changed.BatchingRedis(url) as client:
        await outcomes(*(client.call("SET", f"k{n}", n) for n in range(100)))
        assert await outcomes(*(client.get(f"k{n}") for n in range(100))) == [
            str(n) for n in range(100)
        ]


@pytest.mark.asyncio
async def test_a_cut_line_fails_all_who_wait_and_the_next_call_dials(batching, private_redis):
    _, url = private_redis()
    async with batching(url, patience=30) as client, Redis.from_url(url) as other:
        number = await client.call("CLIENT", "ID")
        waiting = [asyncio.create_task(client.call("BLPOP", "nobody's", 0))]
        waiting += [asyncio.create_task(client.get("tea")) for _ in range(99)]
        while not (await other.info("clients"))["blocked_clients"]:
            await asyncio.sleep(0.01)
        await other.client_kill_filter(_id=number)
        lost = await outcomes(*waiting)
        assert len(lost) == 100
        assert all(isinstance(error, redis_errors.ConnectionError) for error in lost)
        assert await client.call("CLIENT", "ID") != number


@pytest.mark.asyncio
async def test_redis_dies_and_comes_back_on_its_port(batching, private_redis):
    server, url = private_redis()
    async with batching(url) as client:
        assert await client.call("SET", "tea", "龙井") == b"OK"
        server.kill()
        server.wait()
        errors = await outcomes(*(client.get("tea") for _ in range(50)))
        errors += await outcomes(client.get("tea"))
        assert all(isinstance(error, redis_errors.ConnectionError) for error in errors)
        private_redis(port=urlsplit(url).port)
        assert await client.get("tea") is None


@posix
@pytest.mark.asyncio
async def test_a_frozen_redis_is_given_up_and_used_again(batching, private_redis):
    server, url = private_redis()
    async with batching(url, patience=0.4) as client:
        assert await client.call("SET", "tea", "龙井") == b"OK"
        server.send_signal(signal.SIGSTOP)
        try:
            given_up = await outcomes(*(client.get("tea") for _ in range(10)))
            no_answer = await outcomes(*(client.get("tea") for _ in range(10)))
        finally:
            server.send_signal(signal.SIGCONT)
        assert {type(error) for error in given_up} == {redis_errors.ConnectionError}
        assert {type(error) for error in no_answer} == {redis_errors.TimeoutError}
        assert await client.get("tea") == "龙井"


def test_a_loop_that_stood_still_is_no_dead_redis(batching, private_redis):
    """uvloop looks at its clock before it reads: the answer that is there must still count."""

    async def stand_still():
        async with batching(url, patience=0.4) as client:
            await client.call("SET", "tea", "龙井")
            for _ in range(3):
                answer = asyncio.create_task(client.get("tea"))
                await asyncio.sleep(0.15)  # the watch has seen this waiter, perhaps
                waiting = asyncio.create_task(client.call("BLPOP", "nobody's", 0.01))
                await asyncio.sleep(0)
                time.sleep(0.5)
                assert (await answer, await waiting) == ("龙井", None)

    _, url = private_redis()
    loops = [asyncio.new_event_loop]
    if sys.platform != "win32":
        loops.append(importlib.import_module("uvloop").new_event_loop)
    for new_loop in loops:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(stand_still())


def test_a_command_sent_as_the_line_breaks_is_told_so(batching, private_redis):
    """uvloop refuses to write to a closed transport; the loop's exception handler must not hear."""

    async def send_and_break(complaints):
        asyncio.get_running_loop().set_exception_handler(lambda _, why: complaints.append(why))
        async with batching(url) as client:
            for abort_first in (True, False):
                await client.call("PING")
                line = client._line
                if abort_first:
                    line.transport.abort()
                waiting = line.send("PING")
                if not abort_first:
                    line.transport.abort()
                [told] = await outcomes(waiting)
                assert type(told) is redis_errors.ConnectionError

    _, url = private_redis()
    loops, complaints = [asyncio.new_event_loop], []
    if sys.platform != "win32":
        loops.append(importlib.import_module("uvloop").new_event_loop)
    for new_loop in loops:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(send_and_break(complaints))
    assert complaints == []


@posix
@pytest.mark.asyncio
async def test_a_redis_that_reads_slowly_stops_the_writing(batching, private_redis):
    server, url = private_redis()
    async with batching(url, patience=30) as client:
        await client.call("PING")
        server.send_signal(signal.SIGSTOP)
        try:
            big = [asyncio.create_task(client.call("SET", n, "茶" * 100_000)) for n in range(100)]
            await asyncio.sleep(0.1)
            small = [asyncio.create_task(client.call("STRLEN", n)) for n in range(100)]
            await asyncio.sleep(0.1)
            assert not client._line._may_write
            assert len(client._line._commands) == 100
        finally:
            server.send_signal(signal.SIGCONT)
        assert await outcomes(*big) == [b"OK"] * 100
        assert await outcomes(*small) == [300_000] * 100
        assert await outcomes(*(client.get(n) for n in range(5))) == ["茶" * 100_000] * 5


@pytest.mark.asyncio
async def test_login_and_database_come_before_any_command(batching, private_redis):
    _, url = private_redis("--requirepass", "se/cret")
    right = url.replace("//", "//:se%2Fcret@")
    async with batching(right) as client:
        await client.call("ACL", "SETUSER", "茶客", "on", ">p@ss", "~tea", "+get", "+select")
        await client.call("SET", "tea", "龙井")
    async with batching(right.removesuffix("0") + "3") as third:
        assert await third.get("tea") is None
    async with batching(url.replace("//", "//%E8%8C%B6%E5%AE%A2:p%40ss@")) as guest:
        assert await guest.get("tea") == "龙井"
        with pytest.raises(redis_errors.NoPermissionError):
            await guest.call("SET", "tea", "")
    for login in ("", ":wrong@"):
        async with batching(url.replace("//", f"//{login}")) as stranger:
            errors = await outcomes(stranger.get("tea"), stranger.get("tea"))
            assert all(isinstance(error, redis_errors.AuthenticationError) for error in errors)
    async with batching(right.removesuffix("0") + "99") as lost:
        with pytest.raises(redis_errors.ResponseError, match="DB index"):
            await lost.get("tea")


@pytest.mark.asyncio
async def test_rediss_begins_with_a_handshake(batching):
    """A password must not travel in the clear."""

    async def hear(reader, writer):
        heard.set_result(await reader.read(1))
        writer.transport.abort()

    heard = asyncio.get_running_loop().create_future()
    async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with batching(f"rediss://:se%2Fcret@{host}:{port}") as client:
            with pytest.raises(redis_errors.ConnectionError):
                await client.get("tea")
    assert await heard == b"\x16"


@pytest.mark.asyncio
async def test_closing_lets_nobody_wait(batching, private_redis):
    _, url = private_redis()
    async with batching(url) as client:
        stuck = asyncio.create_task(client.call("BLPOP", "nobody's", 0))
        while connections(url) == 0:
            await asyncio.sleep(0.01)
    assert isinstance((await outcomes(stuck))[0], redis_errors.ConnectionError)

    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes calls, never answers
        async with batching(f"redis://127.0.0.1:{mute.getsockname()[1]}/0") as client:
            stuck = asyncio.create_task(client.get("tea"))
            await asyncio.sleep(0.05)
        assert isinstance((await outcomes(stuck))[0], redis_errors.ConnectionError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_server_that_is_still_loading_or_no_redis_at_all(batching):
    replies = [b"-LOADING Redis is loading\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]

    async def answer(reader, writer):
        await reader.read(100)
        writer.write(replies.pop(0))
        await reader.read()
        writer.transport.abort()
        hung_up.release()

    hung_up = asyncio.Semaphore(0)
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with batching(f"redis://{host}:{port}") as client:
            with pytest.raises(redis_errors.BusyLoadingError):
                await client.get("tea")
            with pytest.raises(redis_errors.ConnectionError):
                await client.get("tea")
        for _ in range(2):
            await hung_up.acquire()
    assert [type(what["exception"]).__name__ for what in complaints] == ["ProtocolError"]
