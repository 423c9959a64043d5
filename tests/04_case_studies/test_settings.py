"""Where chapter 4 finds its servers, what it says when they fail, and how a lesson ends."""

import asyncio
import importlib
import os
import secrets
import subprocess
import sys
import textwrap
from urllib.parse import quote

import aiomysql
import pymysql
import pytest
import redis
from redis.asyncio import BlockingConnectionPool, Redis

from toolbox import catalog

FOLDER = catalog.ROOT / "04_case_studies"
WAYS_OUT = ("docker compose up -d", "python tutorial.py services")


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("settings")


def run_main(body, **env):
    """A lesson whose main() is `body`, in its own process."""
    script = f"import asyncio, settings\nasync def main():\n{textwrap.indent(body, '    ')}"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{script}\nsettings.run(main)"],
        cwd=FOLDER,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        encoding="utf-8",
        timeout=30,
    )


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_variable_the_local_defaults_are_used(settings, monkeypatch, value):
    for variable in settings.DEFAULTS:
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert settings.redis_url() == "redis://127.0.0.1:6379/0"
    options = settings.mysql_options()
    assert (options["host"], options["port"]) == ("127.0.0.1", 3306)
    assert (options["user"], options["password"]) == ("root", "tutorial")
    assert options["autocommit"] is True
    assert "db" not in options


@pytest.mark.parametrize(
    "url",
    [
        "redis://shop",
        "rediss://shop:7000/3",
        "redis://ada:p%40ss@[::1]:6380",
        "redis://:p@ss@shop/0",
    ],
)
def test_a_good_redis_url_is_passed_on_as_it_is(settings, monkeypatch, url):
    monkeypatch.setenv("REDIS_URL", url)
    assert settings.redis_url() == url


def test_a_mysql_url_is_taken_apart_and_unquoted(settings, monkeypatch):
    monkeypatch.setenv("MYSQL_URL", "mysql://ad%61:p%40%2Fss@shop:3307")
    options = settings.mysql_options()
    assert (options["host"], options["port"]) == ("shop", 3307)
    assert (options["user"], options["password"]) == ("ada", "p@/ss")


@pytest.mark.parametrize(
    "rest",
    [
        "到我家来",
        "http://shop",
        "{0}://",
        "{0}://shop:port",
        "{0}://shop:0",
        "{0}://shop:70000",
        "{0}://[::1",
        "{0}://root:s3/cret@shop",
        "{0}://root:12/s3cret@shop",
        "{0}://:s3#cret@shop",
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "mysql"])
def test_a_bad_url_is_explained_without_being_printed(settings, monkeypatch, scheme, rest):
    variable = f"{scheme.upper()}_URL"
    monkeypatch.setenv(variable, rest.format(scheme))
    read = {"redis": settings.redis_url, "mysql": settings.mysql_options}[scheme]
    with pytest.raises(settings.BadUrl) as caught:
        read()
    explained = settings.explain(caught.value)
    assert variable in explained and settings.DEFAULTS[variable] in explained
    assert "cret" not in explained and "12" not in explained.replace("127.0.0.1", "")


def test_a_redis_database_is_a_number(settings, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://shop/orders")
    with pytest.raises(settings.BadUrl, match="库的编号"):
        settings.redis_url()


@pytest.mark.asyncio
async def test_nobody_there_names_the_place_the_ways_out_and_no_password(settings, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://ada:s3cret@127.0.0.1:1/0")
    monkeypatch.setenv("MYSQL_URL", "mysql://ada:s3cret@127.0.0.1:1")
    with pytest.raises(redis.ConnectionError) as no_redis:
        async with Redis.from_url(settings.redis_url()) as client:
            await client.ping()
    with pytest.raises(aiomysql.OperationalError) as no_mysql:
        await aiomysql.connect(**settings.mysql_options())
    for caught, name in ((no_redis, "Redis"), (no_mysql, "MySQL")):
        explained = settings.explain(caught.value)
        assert explained.startswith(f"{name}（127.0.0.1:1）连不上，或者中途断了：")
        assert all(way in explained for way in (*WAYS_OUT, f"{name.upper()}_URL"))
        assert "s3cret" not in explained


@pytest.mark.asyncio
async def test_a_silent_redis_is_a_timeout_and_explained(settings, monkeypatch):
    hung_up = asyncio.Event()

    async def say_nothing(reader, writer):
        await reader.read()
        writer.transport.abort()
        hung_up.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}")
        with pytest.raises(redis.TimeoutError) as caught:
            async with Redis.from_url(settings.redis_url(), socket_timeout=0.1) as client:
                await client.ping()
        await hung_up.wait()
    assert settings.explain(caught.value).startswith(f"Redis（127.0.0.1:{port}）连不上")


@pytest.mark.asyncio
async def test_mysql_knows_a_wrong_password_from_wrong_sql(settings, mysql_url):
    wrong = {**settings.mysql_options(), "user": "nobody-of-this-name", "password": "s3cret"}
    with pytest.raises(aiomysql.OperationalError) as refused:
        await aiomysql.connect(**wrong)
    explained = settings.explain(refused.value)
    assert "不认这个用户名或密码" in explained and "s3cret" not in explained

    async with aiomysql.connect(**settings.mysql_options()) as connection:
        async with connection.cursor() as cursor:
            with pytest.raises(aiomysql.ProgrammingError) as typo:
                await cursor.execute("SELEKT 1")
    assert settings.explain(typo.value) is None


@pytest.mark.asyncio
async def test_a_password_in_chinese_reaches_mysql(settings, monkeypatch, mysql_url):
    name = f"asyncio_tutorial_{secrets.token_hex(4)}"  # two runs at once must not meet
    user = f"'{name}'@'%%'"
    async with (
        aiomysql.connect(**settings.mysql_options()) as connection,
        connection.cursor() as cursor,
    ):
        await cursor.execute(f"CREATE USER {user} IDENTIFIED BY %s", ("茶p@ss",))
        try:
            place = mysql_url.rpartition("@")[2]
            url = f"mysql://{name}:{quote('茶p@ss')}@{place}"
            monkeypatch.setenv("MYSQL_URL", url)
            async with aiomysql.connect(**settings.mysql_options()):
                pass
        finally:
            await cursor.execute(f"DROP USER {user}".replace("%%", "%"))


@pytest.mark.asyncio
async def test_a_full_pool_is_not_called_a_lost_connection(settings, redis_url):
    async with Redis.from_url(redis_url, max_connections=1) as impatient:
        answers = await asyncio.gather(impatient.ping(), impatient.ping(), return_exceptions=True)
    one_connection = BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=0.01)
    async with Redis.from_pool(one_connection) as waiting, waiting.pubsub() as holder:
        await holder.subscribe("asyncio-tutorial:settings")
        with pytest.raises(redis.ConnectionError) as caught:
            await waiting.ping()
    for error in (answers[1], caught.value):
        assert settings.explain(error).startswith("连接池满了：")
        assert "BlockingConnectionPool" in settings.explain(error)


@pytest.mark.asyncio
async def test_a_wrong_command_is_the_programs_own_error(settings, redis_url):
    with pytest.raises(redis.ResponseError) as caught:
        async with Redis.from_url(redis_url) as client:
            await client.execute_command("NO-SUCH-COMMAND")
    assert settings.explain(caught.value) is None


@pytest.mark.parametrize(
    "error", [ValueError("redis"), ConnectionError("not redis's"), TimeoutError(), KeyError()]
)
def test_errors_of_others_are_not_explained(settings, error):
    assert settings.explain(error) is None


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError("DENIED Redis is running in protected mode because …"),
        redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
        redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.exceptions.MasterDownError("Link with MASTER is down"),
    ],
)
def test_a_redis_that_refuses_is_explained_in_its_own_words(settings, error):
    assert f"在，但它不肯：{error}" in settings.explain(error)


def test_missing_permission_is_called_that(settings):
    error = redis.exceptions.NoPermissionError("User ada has no permissions to run 'set'")
    assert "没有权限" in settings.explain(error)


def test_a_main_that_ends_well_ends_with_0():
    ran = run_main("print('done')")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "done\n", "")


def test_a_task_that_the_program_cancelled_itself_is_not_ctrl_c():
    ran = run_main("task = asyncio.create_task(asyncio.sleep(9)); task.cancel(); await task")
    assert (ran.returncode, "CancelledError" in ran.stderr) == (1, True)
    assert "已中断" not in ran.stderr


def test_a_connection_used_after_its_query_was_cancelled_is_the_programs_own_error(settings):
    assert settings.explain(pymysql.InterfaceError("Cancelled during execution")) is None


INTERRUPTED = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(5)
finally:
    await asyncio.sleep(0)
    print("cleaned up")
"""


def test_ctrl_c_cleans_up_says_so_and_ends_with_130():
    ran = run_main(INTERRUPTED)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "cleaned up\n", "已中断\n")


INTERRUPTED_WHILE_IT_RUNS = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
    settings.stop_if_cancelled()
    await asyncio.sleep(5)
finally:
    await asyncio.sleep(0)
    print("cleaned up")
"""


def test_ctrl_c_that_meets_a_running_task_cancels_it_once():
    ran = run_main(INTERRUPTED_WHILE_IT_RUNS)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "cleaned up\n", "已中断\n")


INTERRUPTED_WHILE_IT_IS_WOKEN = """
import signal
waiter = asyncio.get_running_loop().create_future()
def wake():
    if not waiter.done():
        signal.raise_signal(signal.SIGINT)
        waiter.set_result(None)
asyncio.get_running_loop().call_soon(wake)
await waiter
await asyncio.sleep(5)
"""


def test_ctrl_c_that_meets_the_loop_waking_somebody_is_no_error():
    ran = run_main(INTERRUPTED_WHILE_IT_IS_WOKEN)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "已中断\n")


BLOCKED = """
import signal
signal.raise_signal(signal.SIGINT)
signal.raise_signal(signal.SIGINT)
signal.raise_signal(signal.SIGINT)
print("not reached")
"""


def test_ctrl_c_pressed_again_and_again_stops_what_never_awaits():
    ran = run_main(BLOCKED)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "已中断\n")


ALL_AT_ONCE = """
ended = []
async def work(seconds):
    try:
        await asyncio.sleep(seconds)
        raise settings.BadUrl("散了吧")
    finally:
        await asyncio.sleep(0)
        ended.append(seconds)
try:
    await settings.all_at_once(work(60), work(0))
finally:
    print(sorted(ended))
"""


def test_all_at_once_leaves_nobody_behind():
    ran = run_main(ALL_AT_ONCE)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "[0, 60]\n", "散了吧\n")
    ran = run_main("print(await settings.all_at_once(*(asyncio.sleep(0, n) for n in range(3))))")
    assert (ran.returncode, ran.stdout) == (0, "[0, 1, 2]\n")


SWALLOWED = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(5)
except asyncio.CancelledError:
    pass  # as asyncio.wait_for may on 3.11
"""


def test_ctrl_c_is_not_forgotten_when_somebody_swallows_it():
    ran = run_main(SWALLOWED)
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")


SWALLOWED_IN_A_GROUP = """
import contextlib
async def deaf():
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)  # as 3.11's wait_for does, under redis
    settings.stop_if_cancelled()
    await asyncio.get_running_loop().create_future()
async with asyncio.TaskGroup() as group:
    group.create_task(deaf())
    await asyncio.sleep(0)
    raise settings.BadUrl("散了吧")
"""


def test_a_task_that_swallowed_its_cancellation_can_ask():
    ran = run_main(SWALLOWED_IN_A_GROUP)
    assert (ran.returncode, ran.stderr) == (2, "散了吧\n")


NESTED_GROUPS = """
from redis.asyncio import Redis
async def ask():
    async with Redis.from_url(settings.redis_url()) as client:
        await client.ping()
async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
    outer.create_task(ask())
    inner.create_task(ask())
"""


def test_nobody_there_ends_with_2_also_from_inside_nested_groups():
    ran = run_main(NESTED_GROUPS, REDIS_URL="redis://:s3cret@127.0.0.1:1")
    assert ran.returncode == 2
    assert ran.stderr.startswith("Redis（127.0.0.1:1）连不上，或者中途断了：")
    assert len(ran.stderr.splitlines()) == 2  # said once, however many tasks failed
    assert "s3cret" not in ran.stderr and "Traceback" not in ran.stderr


def test_a_bad_url_ends_with_2():
    ran = run_main("settings.redis_url()", REDIS_URL="到我家来")
    assert ran.returncode == 2
    assert ran.stderr.startswith("环境变量 REDIS_URL 不是能用的地址")


@pytest.mark.parametrize("error", ["ZeroDivisionError()", "ExceptionGroup('', [KeyError()])"])
def test_the_programs_own_errors_keep_their_traceback(error):
    ran = run_main(f"raise {error}")
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr and error.split("(")[0] in ran.stderr


def test_an_own_error_beside_a_lost_server_keeps_its_traceback():
    ran = run_main("""
from redis import ConnectionError as Lost
raise ExceptionGroup("", [Lost("gone"), ZeroDivisionError("mine")])
""")
    assert ran.returncode == 1
    assert "ZeroDivisionError: mine" in ran.stderr


FAILED_WHILE_CLOSING = """
async def fail():
    await asyncio.sleep(0)
    raise ValueError
try:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
except* ValueError:
    pass
settings.stop_if_cancelled()  # before 3.13 task.cancelling() may stay at 1
print("went on")
"""


def test_a_group_that_failed_is_not_mistaken_for_ctrl_c():
    ran = run_main(FAILED_WHILE_CLOSING)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "went on\n", "")


def test_ctrl_c_after_a_group_that_failed_still_ends_with_130():
    ran = run_main(FAILED_WHILE_CLOSING + INTERRUPTED)
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")


STUCK = """
import signal
signal.raise_signal(signal.SIGINT)
try:
    await asyncio.sleep(5)
except asyncio.CancelledError:
    await asyncio.get_running_loop().create_future()  # swallowed, and nobody will complete this
"""


def test_a_program_that_swallowed_ctrl_c_and_is_stuck_is_cancelled_again():
    ran = run_main(STUCK)
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")
