"""Lesson 4.1 against real servers: what it shows, what a run leaves, what it says in trouble."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytest_asyncio
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

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

        def start(*options):
            port = services.free_port()
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
async def test_a_pipeline_answers_every_command_in_order(lesson, shop):
    assert await lesson.save_round_trips(shop, rounds=100) == ["珍珠奶茶 18 元"] * 100


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
    with start_lesson(url) as child:
        run_until(child, section)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=10)
    assert (child.returncode, errors) == (130, "已中断\n")
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
