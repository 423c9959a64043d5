"""Lesson 4.2 on a real server: what each section shows, and what it says when the server goes."""

import asyncio
import contextlib
import os
import subprocess
import sys
import traceback
import warnings
from urllib.parse import urlsplit

import aiomysql
import pymysql
import pytest
import pytest_asyncio

from tests import processes
from toolbox import catalog

pytestmark = pytest.mark.asyncio

SCRIPT = catalog.ROOT / "04_case_studies" / "02_async_mysql_demo.py"


@pytest_asyncio.fixture
async def city(lesson):
    async with lesson.bike_city() as pool:
        yield pool


async def databases(lesson) -> set[str]:
    """Those of this lesson: of this run and of any other."""
    async with aiomysql.connect(**lesson.settings.mysql_options()) as conn:
        names = {name for (name,) in await lesson.ask(conn, "SHOW DATABASES")}
    return {name for name in names if name.startswith("asyncio_tutorial_mysql_")}


async def sleeping(lesson) -> list[int]:
    async with aiomysql.connect(**lesson.settings.mysql_options()) as conn:
        rows = await lesson.ask(conn, "SHOW PROCESSLIST")
    return [row[0] for row in rows if row[3] == lesson.DATABASE and "SLEEP" in (row[7] or "")]


# ── what the sections show ──


async def test_all_rows_are_here_once_execute_returns(lesson, city, capsys):
    rows = await lesson.connect_and_fetch(city)
    assert rows == [
        {"name": "东门站", "bikes": 10},
        {"name": "西门站", "bikes": 10},
        {"name": "图书馆站", "bikes": 4},
    ]
    assert "rowcount = 3" in capsys.readouterr().out


async def test_parameters_stay_data(lesson, city):
    pasted, passed, stored = await lesson.pass_values_as_parameters(city)
    assert (pasted, passed) == (3, 0)
    assert stored == "小明', 1); DROP TABLE dock; -- "
    assert await lesson.bikes_at(city, lesson.EAST) == [10]


async def test_a_pasted_string_can_bring_a_whole_statement(lesson, city):
    typed = "x'; DROP TABLE ride; -- "
    await lesson.ask_pool(city, f"SELECT * FROM dock WHERE name = '{typed}'")
    with pytest.raises(aiomysql.ProgrammingError, match="1146"):
        await lesson.ask_pool(city, "SELECT * FROM ride")


async def test_without_autocommit_writes_vanish_and_reads_are_stale(lesson, city):
    assert await lesson.forget_autocommit(city) == (4, 3, 4)


async def test_only_a_transaction_moves_all_or_nothing(lesson, city):
    assert await lesson.move_all_or_nothing(city) == [5, 0]
    assert await lesson.bikes_at(city, lesson.EAST, lesson.WEST) == [10, 10]


async def test_a_transaction_that_ends_well_is_committed(lesson, city):
    async with city.acquire() as conn, lesson.transaction(conn):
        await lesson.ask(conn, lesson.WRITE, 7, lesson.EAST)
    assert await lesson.bikes_at(city, lesson.EAST) == [7]


async def test_a_failed_transaction_is_rolled_back_on_the_same_connection(lesson, city):
    async with city.acquire() as conn:
        with pytest.raises(ZeroDivisionError):
            async with lesson.transaction(conn):
                await lesson.ask(conn, lesson.WRITE, 0, lesson.EAST)
                raise ZeroDivisionError
        assert not conn.get_transaction_status()
        assert await lesson.ask(conn, lesson.READ, lesson.EAST) == ((10,),)


@pytest.mark.parametrize("where", ["in a query", "between queries"])
async def test_a_cancelled_transaction_rolls_back_and_stays_cancelled(lesson, city, where):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), city.acquire() as conn, lesson.transaction(conn):
            await lesson.ask(conn, lesson.WRITE, 0, lesson.EAST)
            if where == "in a query":
                await lesson.ask(conn, "SELECT SLEEP(1)")
            await asyncio.sleep(1)
    assert await lesson.bikes_at(city, lesson.EAST) == [10]


async def test_lost_update_is_shown_and_cured_twice(lesson, city):
    assert await lesson.take_two_at_once(city) == [9, 8, 8]


async def test_executemany_needs_white_space_around_values(lesson, city):
    assert await lesson.insert_many(city) == [500, 1]
    assert await lesson.ask_pool(city, "SELECT COUNT(*) FROM ride") == ((1000,),)


async def test_cancelled_in_the_middle_of_its_rows_sscursor_lets_go(lesson, city):
    """Two rows too long to wait in the server's buffer, and one that takes a second."""
    sql = "SELECT REPEAT('x', 100000), IF(id = 3, SLEEP(1), 0) FROM dock ORDER BY id"
    async with city.acquire() as conn:
        with pytest.raises(TimeoutError):
            async with lesson.reading(conn, aiomysql.SSCursor) as rows:
                await rows.execute(sql)
                await rows.fetchone()
                async with asyncio.timeout(0.05):
                    while await rows.fetchone():
                        pass
        assert conn.closed
    assert await lesson.bikes_at(city, lesson.EAST) == [10]


async def test_sscursor_left_early_reads_the_rest_first(lesson, city):
    async with city.acquire() as conn:
        async with lesson.reading(conn, aiomysql.SSCursor) as rows:
            await rows.execute("SELECT 1 UNION SELECT 2")
            assert await rows.fetchone() == (1,)
        assert await lesson.ask(conn, "SELECT 3") == ((3,),)


async def test_sscursor_never_holds_the_whole_result(lesson, city):
    (all_rows, buffered), (streamed_rows, streamed) = await lesson.stream_rows(city)
    assert all_rows == streamed_rows == 3**7
    everything = 3**7 * 500 * 2 // 1024  # KiB: Python keeps these characters in two bytes each
    assert streamed < everything < buffered


async def test_a_shared_connection_answers_the_wrong_question(lesson, city, capsys):
    clash, shifted, *names = await lesson.query_two_at_once(city)
    assert clash.startswith("readexactly() called while another coroutine is already waiting")
    assert shifted == lesson.WEST
    assert names == [lesson.EAST, lesson.WEST]
    assert "图书馆站 → 西门站" in capsys.readouterr().out


async def test_the_shifted_connection_does_not_go_back_to_the_pool(lesson, city):
    await lesson.query_two_at_once(city)
    for dock in (lesson.EAST, lesson.WEST, lesson.LIBRARY):
        assert await lesson.ask_pool(city, "SELECT %s", dock) == ((dock,),)


async def test_two_queries_run_on_the_server_at_once(lesson, city):
    async def see_both():
        async with asyncio.timeout(5):
            while len(await sleeping(lesson)) < 2:
                await asyncio.sleep(0.01)

    async with city.acquire(), city.acquire():
        pass  # both connections are open: neither query waits for one
    async with asyncio.TaskGroup() as group:
        group.create_task(see_both())
        group.create_task(lesson.query_two_at_once(city))


async def test_a_full_pool_needs_a_deadline(lesson, city):
    assert await lesson.borrow_with_a_deadline(city) == ["TimeoutError", "TimeoutError", "借到了"]


async def test_a_cancelled_query_runs_on_until_it_is_killed(lesson, city):
    slow = ["SELECT SLEEP(0.7)"]
    kills = "SHOW GLOBAL STATUS LIKE 'Com_kill'"
    [(_, before)] = await lesson.ask_pool(city, kills)
    assert await lesson.stop_the_server_too(city) == [slow, slow]
    [(_, after)] = await lesson.ask_pool(city, kills)
    assert int(after) > int(before)
    assert await sleeping(lesson) == []
    # both audits were rolled back: only the two writers behind them took a bike
    assert await lesson.bikes_at(city, lesson.EAST) == [8]


async def test_fifty_loads_of_one_tick_are_one_query(lesson, city, capsys):
    assert await lesson.load_in_one_query(city) == [(50, [*range(50)]), (1, [*range(50)])]
    assert "50 个任务各自 load: 1 条 SELECT" in capsys.readouterr().out


class Fetch:
    """Docks by number from the real server; keeps what it was asked for, may be made to wait."""

    def __init__(self, lesson, pool, slow=0):
        self.lesson, self.pool, self.slow, self.asked = lesson, pool, slow, []

    async def __call__(self, ids):
        self.asked.append(ids)
        marks = ", ".join(["%s"] * len(ids))
        sql = f"SELECT id, bikes, SLEEP(%s) FROM dock WHERE id IN ({marks})"
        return {
            row[0]: row[1] for row in await self.lesson.ask_pool(self.pool, sql, self.slow, *ids)
        }


async def test_a_missing_row_is_none_and_a_key_is_asked_for_once(lesson, city):
    fetch = Fetch(lesson, city)
    async with asyncio.TaskGroup() as group:
        loader = lesson.Loader(group, fetch)
        loads = [group.create_task(loader.load(key)) for key in (1, 99, 1, 2)]
    assert [load.result() for load in loads] == [10, None, 10, 10]
    assert fetch.asked == [[1, 99, 2]]


async def test_whoever_comes_while_a_query_runs_is_in_the_next(lesson, city):
    fetch = Fetch(lesson, city, slow=0.1)
    async with asyncio.TaskGroup() as group:
        loader = lesson.Loader(group, fetch)
        first = group.create_task(loader.load(1))
        while not fetch.asked:
            await asyncio.sleep(0)
        assert await loader.load(3) == 4
    assert (first.result(), fetch.asked) == (10, [[1], [3]])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
async def test_eager_tasks_are_gathered_too(lesson, city):
    fetch = Fetch(lesson, city)
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with asyncio.TaskGroup() as group:
        loader = lesson.Loader(group, fetch)
        loads = [group.create_task(loader.load(key)) for key in (1, 2, 3)]
    assert [load.result() for load in loads] == [10, 10, 4]
    assert fetch.asked == [[1, 2, 3]]


async def test_an_error_of_the_query_reaches_every_caller_and_no_one_else(lesson, city):
    async def fetch(ids):
        if 99 in ids:
            await lesson.ask_pool(city, "SELECT * FROM nowhere")
        return dict.fromkeys(ids, "好")

    async with asyncio.TaskGroup() as group:
        loader = lesson.Loader(group, fetch)
        results = await asyncio.gather(*map(loader.load, (1, 99)), return_exceptions=True)
        assert [type(result) for result in results] == [aiomysql.ProgrammingError] * 2
        assert await loader.load(1) == "好"


async def test_an_error_told_to_many_does_not_grow_with_each(lesson):
    async def fetch(ids):
        raise ValueError("坏了")

    async with asyncio.TaskGroup() as group:
        loader = lesson.Loader(group, fetch)
        errors = await asyncio.gather(*map(loader.load, range(50)), return_exceptions=True)
        frames = [frame.name for frame in traceback.extract_tb(errors[0].__traceback__)]
        assert frames.count("fetch") == 1  # where it went wrong is still said
        assert len(frames) < 8


@pytest.mark.parametrize("when", ["before the query", "during the query"])
async def test_a_cancelled_caller_does_not_disturb_the_others(lesson, city, when):
    fetch = Fetch(lesson, city, slow=0.1)
    async with asyncio.TaskGroup() as group:
        loader = lesson.Loader(group, fetch)
        leaving, staying = (group.create_task(loader.load(key)) for key in (1, 3))
        await asyncio.sleep(0)
        while when == "during the query" and not fetch.asked:
            await asyncio.sleep(0)
        leaving.cancel()
    assert leaving.cancelled()
    assert staying.result() == 4
    assert len(fetch.asked) == 1


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 50])
async def test_nobody_waits_for_a_query_whose_owner_is_gone(lesson, city, ticks):
    async def own():
        nonlocal loader
        async with asyncio.TaskGroup() as group:
            loader = lesson.Loader(group, Fetch(lesson, city, slow=1))
            await asyncio.sleep(60)

    loader = None
    owner = asyncio.create_task(own())
    await asyncio.sleep(0)
    caller = asyncio.create_task(loader.load(1))
    await asyncio.sleep(0)
    for _ in range(ticks):
        await asyncio.sleep(0)
    owner.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([owner, caller])
    assert caller.cancelled()


async def test_the_course_passed_coroutines_to_wait(lesson, city):
    first, second = (lesson.ask_pool(city, "SELECT 1") for _ in range(2))
    with contextlib.closing(first), contextlib.closing(second):
        with pytest.raises(TypeError, match="Passing coroutines is forbidden"):
            await asyncio.wait([first, second])


# ── the database of its own ──


async def test_the_database_exists_only_inside(lesson):
    async with lesson.bike_city():
        assert await databases(lesson) == {lesson.DATABASE}
    assert await databases(lesson) == set()


async def test_the_database_goes_after_an_error_and_after_a_cancellation(lesson):
    with pytest.raises(ZeroDivisionError):
        async with lesson.bike_city():
            raise ZeroDivisionError
    assert await databases(lesson) == set()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), lesson.bike_city() as pool:
            await lesson.ask_pool(pool, "SELECT SLEEP(1)")
    assert await databases(lesson) == set()


async def test_a_database_left_by_a_killed_run_is_replaced_without_a_warning(lesson, capsys):
    await lesson.administer(f"CREATE DATABASE {lesson.DATABASE}")
    async with aiomysql.connect(**lesson.options()) as conn:
        await lesson.ask(conn, "CREATE TABLE dock (leftover INT)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with lesson.bike_city() as pool:
            assert len(await lesson.connect_and_fetch(pool)) == 3


async def test_databases_without_an_owner_go_and_others_stay(lesson):
    own_database = sys.modules["own_database"]
    dead, alive = lesson.DATABASE + "dead", lesson.DATABASE + "live"
    await lesson.administer(f"CREATE DATABASE {dead}")
    async with own_database.own_database(alive, alive):
        async with lesson.bike_city():
            assert await databases(lesson) == {lesson.DATABASE, alive}
        assert await databases(lesson) == {alive}
    assert await databases(lesson) == set()


async def test_whoever_comes_second_to_a_stray_is_not_warned(lesson):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await lesson.administer(f"DROP DATABASE IF EXISTS {lesson.DATABASE}gone")


async def test_two_runs_at_once_do_not_disturb_each_other(lesson):
    runs = [await start(address()) for _ in range(2)]
    errors = await asyncio.gather(*(finish(run, 40) for run in runs))
    assert ([run.returncode for run in runs], errors) == ([0, 0], ["", ""])
    assert await databases(lesson) == set()


async def test_the_next_run_sweeps_what_a_killed_run_left(lesson):
    child = await start(address())
    while not (await child.stdout.readline()).decode().startswith("── 10. "):
        pass
    child.kill()
    await finish(child)
    assert len(await databases(lesson)) == 1
    async with asyncio.timeout(10):  # until the server has seen that its client is gone
        while await databases(lesson):
            async with lesson.bike_city():
                pass


# ── bad situations, seen from outside ──


class Proxy:
    """Stands before the real server; `cut()` drops every connection, `die()` takes no more."""

    async def __aenter__(self):
        self._calls, self._dead = set(), False
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        await self.die()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def cut(self):
        for call in self._calls:
            call.cancel()

    async def die(self):
        # Server.close() forgets a connection that is just being accepted: open, and nobody's.
        # One turn of the loop makes it a call, which then finds the server dead.
        await asyncio.sleep(0)
        self._server.close()
        self._dead = True
        self.cut()

    async def _meet(self, reader, writer):
        real = urlsplit(os.environ["MYSQL_URL"])
        self._calls.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            async with hang_up(writer):
                if self._dead:
                    return
                far_reader, far_writer = await asyncio.open_connection(real.hostname, real.port)
                async with hang_up(far_writer), asyncio.TaskGroup() as both_ways:
                    both_ways.create_task(self._pump(reader, far_writer))
                    both_ways.create_task(self._pump(far_reader, writer))

    async def _pump(self, source, target):
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()


@contextlib.asynccontextmanager
async def hang_up(writer):
    try:
        yield
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def address(**changes):
    real = urlsplit(os.environ["MYSQL_URL"])
    part = {"user": real.username, "password": real.password, "port": real.port, **changes}
    return "mysql://{user}:{password}@{host}:{port}".format(host=real.hostname, **part)


async def start(url):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-u", "-W", "error", SCRIPT),
        env={**os.environ, "MYSQL_URL": url, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def finish(child, seconds=15):
    async with asyncio.timeout(seconds):
        _, errors = await child.communicate()
    return errors.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a single child")
@pytest.mark.parametrize("section", [5, 7, 8, 10, 11])
async def test_ctrl_c_leaves_no_database(lesson, section):
    interrupted, at = processes.interrupted, f"── {section}. "
    if section == 7:
        at = "Cursor "  # and not while this one reads, but in the middle of SSCursor's rows
    ran = await asyncio.to_thread(interrupted, SCRIPT, at=at, after=0.005, MYSQL_URL=address())
    assert (ran.returncode, ran.stderr) == (130, "已中断\n")
    assert f"── {section}. " in ran.stdout
    assert await databases(lesson) == set()


@pytest.mark.parametrize("section", range(1, 12))
async def test_a_server_that_dies_in_a_section_is_one_paragraph(lesson, section):
    try:
        async with Proxy() as proxy:
            child = await start(address(port=proxy.port))
            while not (await child.stdout.readline()).decode().startswith(f"── {section}. "):
                pass
            await proxy.die()
            errors = await finish(child)
        assert "Traceback" not in errors
        assert (child.returncode, len(errors.splitlines())) == (2, 2)
        assert f"MySQL（127.0.0.1:{proxy.port}）" in errors
    finally:
        async with lesson.bike_city():
            pass  # sweeps what the child could not


async def test_a_server_that_comes_back_leaves_no_database(lesson):
    """All connections drop, but new ones are taken: the clean-up uses one of its own."""
    async with Proxy() as proxy:
        child = await start(address(port=proxy.port))
        while not (await child.stdout.readline()).decode().startswith("── 10. "):
            pass
        proxy.cut()
        errors = await finish(child)
    assert (child.returncode, "Traceback" in errors) == (2, False)
    assert await databases(lesson) == set()


async def test_wrong_password_is_refused_without_printing_it(lesson):
    child = await start(address(password="not-the-one"))
    errors = await finish(child)
    assert child.returncode == 2
    assert "不认这个用户名或密码" in errors
    assert "not-the-one" not in errors
    assert "Traceback" not in errors


async def test_a_server_that_never_greets_is_given_up(lesson, monkeypatch):
    hung_up = asyncio.Event()

    async def say_nothing(reader, writer):
        async with hang_up(writer):
            await reader.read()
        hung_up.set()

    clock = asyncio.timeout
    monkeypatch.setattr(lesson.asyncio, "timeout", lambda seconds: clock(min(seconds, 0.2)))
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        monkeypatch.setenv("MYSQL_URL", address(port=silent.sockets[0].getsockname()[1]))
        with pytest.raises(pymysql.err.OperationalError, match="没有回音") as caught:
            await lesson.administer("SELECT 1")
        assert "MYSQL_URL" in lesson.settings.explain(caught.value)
        await hung_up.wait()
