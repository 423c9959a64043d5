"""Lesson 4.3 through a real uvicorn, with aiohttp as the client, against real Redis and MySQL."""

import asyncio
import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import aiomysql
import pytest
import pytest_asyncio
from redis import RedisError
from redis.asyncio import Redis

from tests import processes
from toolbox import services
from toolbox.timeline import browser

pytestmark = pytest.mark.asyncio

SCRIPT = Path(__file__).parents[2] / "04_case_studies" / "03_fastapi_demo.py"
DATABASE = "asyncio_tutorial_fastapi_test"
DRAFT = {"guest": "陆羽", "text": "山水上"}
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Shop:
    """One running service: ask it, and look behind its counter."""

    def __init__(self, app, http, url):
        self.app, self.http, self.url = app, http, url
        self.house = app.state.house

    async def ask(self, method, path, **options):
        async with self.http.request(method, path, **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, **changes):
        status, note = await self.ask("POST", "/notes", json=DRAFT | changes)
        assert status == 201
        return note

    async def cache_state(self, note):
        async with self.http.get(f"/notes/{note['id']}") as answer:
            assert answer.status == 200
            return answer.headers["X-Cache"], (await answer.json())["text"]


@contextlib.asynccontextmanager
async def open_shop(lesson):
    app = lesson.create_app(DATABASE)
    async with lesson.serving(app, lesson.listen()) as url:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(20)) as http:
            yield Shop(app, http, url)


@contextlib.asynccontextmanager
async def private_redis(port, folder):
    """A server of this test's own: it may freeze and die."""
    programs = services.redis_programs()
    if not programs:
        pytest.skip("no Redis program on this machine")
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
    command = [programs[-1], *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            async with asyncio.timeout(10), Redis(host="127.0.0.1", port=port) as client:
                while True:
                    with contextlib.suppress(RedisError):
                        await client.ping()
                        break
                    await asyncio.sleep(0.02)
            yield process
        finally:
            process.kill()


class Proxy:
    """Stands before MySQL, so that a test can cut, hold and mend the wire."""

    def __init__(self, target):
        self.host, self.target_port = target.hostname, target.port or 3306
        self.port, self.server, self.writers = 0, None, set()
        self.flowing = asyncio.Event()

    async def mend(self):
        self.flowing.set()
        self.server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def cut(self):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def _connect(self, reader, writer):
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(self.host, self.target_port)
            self.writers |= {writer, far_writer}
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flowing.wait()
                writer.write(data)
        writer.close()


# ── the sections ──


async def test_a_def_endpoint_runs_in_a_worker_thread(lesson):
    async with open_shop(lesson) as shop:
        (welcome, menu) = await lesson.def_or_async_def(shop.http)
    assert welcome == (200, {"message": "欢迎光临", "thread": "AnyIO worker thread"})
    assert menu == (200, {"龙井": 38, "普洱": 45, "茉莉": 28})


async def test_blocking_in_async_def_serves_one_after_another(lesson):
    async with open_shop(lesson) as shop:
        measured = await lesson.block_a_thread_or_the_loop(shop.http)
    elapsed, silence, answers = measured["/brew/blocking"]
    assert elapsed >= 0.8 and silence >= 0.2
    assert answers == [(200, "MainThread")] * 4
    assert measured["/brew/def"][2] == [(200, "AnyIO worker thread")] * 4
    assert measured["/brew/async"][2] == [(200, "MainThread")] * 4


async def test_four_def_requests_are_inside_their_functions_together(lesson):
    """No clock: a barrier of four opens only if all four threads stand at it at once."""
    barrier = threading.Barrier(4, timeout=10)
    app = lesson.create_app(DATABASE)
    app.get("/meet")(lambda: barrier.wait())
    async with lesson.serving(app, lesson.listen()) as url, aiohttp.ClientSession(url) as http:
        met = await asyncio.gather(*(lesson.call(http, "GET", "/meet") for _ in range(4)))
    assert sorted(met) == [(200, n) for n in range(4)]


async def test_bad_letters_stop_at_the_door(lesson):
    async with open_shop(lesson) as shop:
        seen = await lesson.check_at_the_door(shop.http)
        assert [note["text"] for _, note in await notes(shop)] == ["'); DROP TABLE notes; --"]
    assert [status for status, _ in seen] == [422, 422, 422, 422, 201]


async def test_cache_aside_misses_then_hits_until_a_write(lesson):
    async with open_shop(lesson) as shop:
        seen = await lesson.read_through_the_cache(shop.http)
    assert seen == [(200, "miss"), (200, "hit"), (200, "miss"), (200, "hit"), (404, "-")]


async def test_listeners_are_told_what_happens(lesson):
    async with open_shop(lesson) as shop:
        assert await lesson.push_to_listeners(shop.http) == ["hello", "added", "removed"]


async def test_closing_finishes_the_tea_and_tells_the_listeners(lesson):
    tea, heard, newcomer = await lesson.close_gracefully(None)
    assert tea == (200, "MainThread")
    assert heard == ["hello", "bye", "（流结束）"]
    assert newcomer == "连不上"
    assert not [task for task in asyncio.all_tasks() if task.get_name() in ("心跳", "uvicorn")]


async def test_every_rung_gives_the_same_bytes(lesson):
    bodies = await lesson.climb_the_ladder(None)
    assert list(bodies.values()) == [{'{"龙井":38,"普洱":45,"茉莉":28}'.encode()}] * 4


async def test_the_two_tea_lists_differ_only_in_their_way(lesson):
    async with open_shop(lesson) as shop:
        for path in ("/teas", "/teas.json"):
            async with shop.http.get(path) as answer:
                assert answer.headers["Content-Type"] == "application/json"
                assert await answer.json() == {"龙井": 38, "普洱": 45, "茉莉": 28}
        assert {"/teas"} == {path for path in shop.app.openapi()["paths"] if "teas" in path}


async def test_answers_do_not_wait_for_an_acknowledgement(lesson):
    """asyncio itself turns Nagle's algorithm off for some listening sockets only."""
    with lesson.listen() as door, socket.create_connection(door.getsockname()) as guest:
        inside, _ = door.accept()
        with inside:
            assert guest and inside.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ── create, read, update, delete ──


async def notes(shop, query=""):
    status, found = await shop.ask("GET", f"/notes{query}")
    assert status == 200
    return [(note["id"], note) for note in found]


async def test_newest_notes_come_first_and_page_by_id(lesson):
    async with open_shop(lesson) as shop:
        ids = [(await shop.post(text=f"第 {n} 条"))["id"] for n in range(5)]
        assert [id for id, _ in await notes(shop, "?limit=2")] == [ids[4], ids[3]]
        assert [id for id, _ in await notes(shop, f"?limit=2&before={ids[3]}")] == [ids[2], ids[1]]


async def test_writing_the_same_again_is_no_404(lesson):
    async with open_shop(lesson) as shop:
        note = await shop.post()
        path = f"/notes/{note['id']}"
        assert await shop.ask("PUT", path, json=DRAFT) == (200, note)
        assert await shop.ask("DELETE", path) == (204, None)
        for method in ("GET", "PUT", "DELETE"):
            body = {"json": DRAFT} if method == "PUT" else {}
            assert await shop.ask(method, path, **body) == (404, {"detail": "没有这条留言"})


@pytest.mark.parametrize("text", ["🍵" * 200, "𠮷\n\t\r\\'\"%s\u2028", " 前后有空格 ", "ก็" * 100])
async def test_any_visible_text_comes_back_unchanged(lesson, text):
    async with open_shop(lesson) as shop:
        note = await shop.post(guest="🫖" * 20, text=text)
        assert note["text"] == text
        assert await shop.cache_state(note) == ("miss", text)
        assert await shop.cache_state(note) == ("hit", text)


async def test_a_hit_really_comes_from_redis_and_expires(lesson):
    async with open_shop(lesson) as shop:
        note = await shop.post()
        await shop.cache_state(note)
        async with shop.house.mysql.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute("UPDATE notes SET text = '偷偷改的'")
        assert await shop.cache_state(note) == ("hit", "山水上")
        await shop.ask("GET", "/red")
        for name in (f"note:{note['id']}", "menu"):  # a killed house leaves nothing for ever
            assert 0 < await shop.house.redis.ttl(f"asyncio-tutorial:{DATABASE}:{name}") <= 60


# ── nothing that a guest sends is a 5xx ──

BODIES = {
    "not JSON": b"{",
    "empty": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "a number for a name": b'{"guest": 1, "text": "x"}',
    "NaN": b'{"guest": NaN, "text": Infinity}',
    "half a surrogate pair": b'{"guest": "\\ud83c", "text": "x"}',
    "half a pair as a key": b'{"\\ud83c": "\\ud83c"}',
    "not UTF-8": b'{"guest": "\xff", "text": "x"}',
    "5000 digits": b'{"guest": %s, "text": "x"}' % (b"9" * 5000),
    "nested deeper than the parser goes": b"[" * 60_000,
    "NUL": b'{"guest": "a\\u0000b", "text": "x"}',
    "invisible": '{"guest": "\u00a0\u2003\u3000\\u0007", "text": "x"}'.encode(),
    "an ideographic space": '{"guest": "\u3000", "text": "x"}'.encode(),
    "201 characters": json.dumps({"guest": "a", "text": "x" * 201}).encode(),
}
PATHS = [
    *(f"/notes/{id}" for id in ("0", "-1", 2**31, 10**30, "9" * 5000, "x", "1.5", "%00", "%F0%9F")),
    *(f"/notes?limit={limit}" for limit in ("0", "51", "-1", "x", "1e400", "")),
    *(f"/notes?before={before}" for before in ("0", 2**31, "null")),
    *(f"/brew/{kind}?seconds={s}" for kind in ("def", "async") for s in ("nan", "inf", -1, 1.01)),
]


async def test_wrong_input_is_a_declared_4xx(lesson):
    async with open_shop(lesson) as shop:
        declared = shop.app.openapi()["paths"]
        note = await shop.post()
        for what, body in BODIES.items():
            for method, path in (("POST", "/notes"), ("PUT", f"/notes/{note['id']}")):
                headers = {"Content-Type": "application/json"}
                status, answer = await shop.ask(method, path, data=body, headers=headers)
                operation = declared[re.sub(r"\d+", "{note_id}", path)][method.lower()]
                assert status in (400, 422), (what, status, answer)
                assert str(status) in operation["responses"], what
        status, _ = await shop.ask("POST", "/notes", data="guest=陆羽&text=好茶")
        assert status == 422
        for path in PATHS:
            assert (await shop.ask("GET", path))[0] == 422, path
        for method in ("PATCH", "TRACE", "OPTIONS"):
            assert (await shop.ask(method, "/notes"))[0] == 405
        assert await shop.cache_state(note) == ("miss", "山水上")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_without_end_is_refused_before_it_fills_the_memory(lesson, declared):
    """A megabyte would be nothing; what counts is that no more than 64 KB are kept."""
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 1_000_000_000:
            yield b" " * 65536
            sent += 65536

    async with open_shop(lesson) as shop:
        headers = {"Content-Type": "application/json"}
        headers |= {"Content-Length": "1000000000"} if declared else {}
        note = await shop.post()
        for method, path in (("POST", "/notes"), ("PUT", f"/notes/{note['id']}")):
            sent = 0
            status, answer = await shop.ask(method, path, data=endless(), headers=headers)
            assert (status, answer) == (413, {"detail": "请求体太大，最多 65536 字节"})
            assert sent < 100_000_000  # what sockets and aiohttp had room for
        assert await shop.cache_state(note) == ("miss", "山水上")


async def test_a_body_in_small_pieces_counts_as_a_whole(lesson):
    async def pieces(count):
        yield b'{"guest": "a", "text": "x"'
        for _ in range(count):
            await asyncio.sleep(0.001)  # a piece is read before the next one comes
            yield b" " * 1000
        yield b"}"

    async with open_shop(lesson) as shop:
        headers = {"Content-Type": "application/json"}
        for count, expected in ((60, 201), (66, 413)):
            status, _ = await shop.ask("POST", "/notes", data=pieces(count), headers=headers)
            assert status == expected


async def test_no_redirect_goes_to_the_host_that_a_guest_names(lesson):
    async with open_shop(lesson) as shop:
        for path in ("/notes/", "/board/"):
            options = {"headers": {"Host": "evil.example"}, "allow_redirects": False}
            assert await shop.ask("GET", path, **options) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/notes", "GET, POST"), ("/notes/1", "DELETE, GET, PUT"), ("/board", "GET")],
)
async def test_405_lists_every_method_of_the_path(lesson, path, methods):
    async with open_shop(lesson) as shop, shop.http.patch(path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, methods)
        assert await answer.json() == {"detail": "Method Not Allowed"}


async def test_a_hostile_seconds_never_reaches_the_blocking_endpoint(lesson):
    async with open_shop(lesson) as shop:
        assert (await shop.ask("GET", "/brew/blocking?seconds=1000000"))[0] == 422


async def test_every_operation_declares_what_it_answers(lesson):
    paths = lesson.create_app(DATABASE).openapi()["paths"]
    declared = {
        (method, path): set(operation["responses"])
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert declared["get", "/red"] == {"200", "503"}
    assert declared["post", "/notes"] == {"201", "400", "413", "422", "503"}
    assert declared["get", "/notes/{note_id}"] == {"200", "404", "422", "503"}
    assert declared["put", "/notes/{note_id}"] == {"200", "400", "404", "413", "422", "503"}
    assert declared["delete", "/notes/{note_id}"] == {"204", "404", "422", "503"}
    assert declared["get", "/health/ready"] == {"200", "503"}
    assert not {"/board", "/events"} & set(paths)


# ── a service that goes away and comes back ──


async def test_without_redis_reads_fall_back_to_mysql(lesson, tmp_path, monkeypatch):
    port = services.free_port()
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}/0")
    async with contextlib.AsyncExitStack() as stack:
        async with private_redis(port, tmp_path):
            shop = await stack.enter_async_context(open_shop(lesson))
            note = await shop.post()
            assert (await shop.cache_state(note))[0] == "miss"
            assert (await shop.cache_state(note))[0] == "hit"
            assert await shop.ask("GET", "/health/ready") == (200, {"redis": "up", "mysql": "up"})

        async with shop.http.get("/red") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert await answer.json() == {"detail": "Redis 现在用不了，请稍后再试"}
        assert await shop.ask("GET", "/health/ready") == (503, {"redis": "down", "mysql": "up"})
        assert await shop.ask("GET", "/health/live") == (200, "alive")
        assert await shop.cache_state(note) == ("down", "山水上")
        path = f"/notes/{note['id']}"
        assert (await shop.ask("PUT", path, json=DRAFT | {"text": "井水下"}))[0] == 200
        assert await shop.cache_state(note) == ("down", "井水下")
        other = await shop.post()
        assert await shop.ask("DELETE", f"/notes/{other['id']}") == (204, None)

        await stack.enter_async_context(private_redis(port, tmp_path))
        assert (await shop.ask("GET", "/red"))[0] == 200
        assert await shop.ask("GET", "/health/ready") == (200, {"redis": "up", "mysql": "up"})
        assert await shop.cache_state(note) == ("miss", "井水下")
        assert await shop.cache_state(note) == ("hit", "井水下")
        # exits run in reverse order: Redis dies once more, and closing must not need it


@posix
@pytest.mark.parametrize("why", ["full", "read-only", "no master", "no more clients"])
async def test_a_redis_that_refuses_is_no_better_than_none(lesson, tmp_path, monkeypatch, why):
    port = services.free_port()
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}/0")
    async with private_redis(port, tmp_path), open_shop(lesson) as shop:
        note = await shop.post()
        async with Redis(host="127.0.0.1", port=port) as admin:
            if why == "full":
                await admin.config_set("maxmemory", 1)
            elif why == "no more clients":
                await admin.client_kill_filter(_type="normal", skipme=True)
                await admin.config_set("maxclients", 1)
            else:
                stale = "yes" if why == "read-only" else "no"
                await admin.config_set("replica-serve-stale-data", stale)
                await admin.replicaof("127.0.0.1", str(services.free_port()))
            assert (await shop.cache_state(note))[1] == "山水上"
            path = f"/notes/{note['id']}"
            assert (await shop.ask("PUT", path, json=DRAFT | {"text": "井水下"}))[0] == 200
            assert (await shop.cache_state(note))[1] == "井水下"
            assert await shop.ask("DELETE", path) == (204, None)
            assert (await shop.ask("GET", "/red"))[0] == 503
            assert (await shop.ask("GET", "/health/ready"))[0] in (200, 503)
            await admin.config_set("maxclients", 1000)
            await admin.config_set("maxmemory", 0)
            await admin.replicaof("NO", "ONE")


@posix
async def test_a_frozen_redis_is_as_good_as_none(lesson, tmp_path, monkeypatch):
    port = services.free_port()
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}/0")
    async with private_redis(port, tmp_path) as process, open_shop(lesson) as shop:
        note = await shop.post()
        process.send_signal(signal.SIGSTOP)
        try:
            assert (await shop.ask("GET", "/red"))[0] == 503
            assert await shop.cache_state(note) == ("down", "山水上")
        finally:
            process.send_signal(signal.SIGCONT)
        assert (await shop.ask("GET", "/red"))[0] == 200


@pytest_asyncio.fixture
async def proxy(mysql_url, monkeypatch):
    target = urlsplit(mysql_url)
    proxy = Proxy(target)
    await proxy.mend()
    login = target.netloc.rpartition("@")[0]
    monkeypatch.setenv("MYSQL_URL", f"mysql://{login}@127.0.0.1:{proxy.port}")
    yield proxy
    proxy.cut()


async def test_without_mysql_notes_are_503_and_cached_ones_are_not(lesson, proxy):
    async with open_shop(lesson) as shop:
        note = await shop.post()
        await shop.cache_state(note)
        proxy.cut()
        away = (503, {"detail": "MySQL 现在用不了，请稍后再试"})
        assert await shop.ask("POST", "/notes", json=DRAFT) == away
        assert await shop.ask("GET", "/notes") == away
        assert await shop.ask("GET", "/health/ready") == (503, {"redis": "up", "mysql": "down"})
        assert await shop.cache_state(note) == ("hit", "山水上")
        assert (await shop.ask("GET", "/red"))[0] == 200
        await proxy.mend()
        assert await shop.ask("GET", "/health/ready") == (200, {"redis": "up", "mysql": "up"})
        assert [id for id, _ in await notes(shop)] == [note["id"]]


async def test_a_mysql_that_says_nothing_is_given_up(lesson, proxy, monkeypatch):
    async with open_shop(lesson) as shop:
        note = await shop.post()
        monkeypatch.setattr(sys.modules["fastapi_store"], "MYSQL_PATIENCE", 0.3)
        proxy.flowing.clear()
        away = (503, {"detail": "MySQL 现在用不了，请稍后再试"})
        assert await shop.ask("GET", "/notes") == away
        assert (await shop.ask("GET", "/health/ready"))[0] == 503
        proxy.flowing.set()
        monkeypatch.setattr(sys.modules["fastapi_store"], "MYSQL_PATIENCE", 3)
        assert [id for id, _ in await notes(shop)] == [note["id"]]


async def test_a_wrong_statement_is_our_fault_not_an_outage(lesson):
    store = sys.modules["fastapi_store"]
    with pytest.raises(aiomysql.OperationalError):
        with store.needing("MySQL"):
            raise aiomysql.OperationalError(1054, "Unknown column")
    with pytest.raises(store.Unavailable):
        with store.needing("MySQL"):
            raise aiomysql.OperationalError(2013, "Lost connection")


async def test_a_crowd_reads_through_one_line_and_a_cut_line_costs_nobody_an_answer(lesson):
    async with open_shop(lesson) as shop:
        note = await shop.post()
        await shop.cache_state(note)
        number = await shop.house.cache.call("CLIENT", "ID")
        crowd = await asyncio.gather(*(shop.cache_state(note) for _ in range(100)))
        assert set(crowd) == {("hit", "山水上")}
        assert await shop.house.cache.call("CLIENT", "ID") == number

        reads = asyncio.gather(*(shop.cache_state(note) for _ in range(100)))
        for _ in range(5):
            await shop.house.redis.client_kill_filter(_id=number)
            await asyncio.sleep(0.01)
            number = await shop.house.cache.call("CLIENT", "ID")
        assert {text for _, text in await reads} == {"山水上"}  # hit, or down and asked MySQL
        assert await shop.cache_state(note) == ("hit", "山水上")


@posix
async def test_a_frozen_redis_holds_a_crowd_up_for_a_second_only(lesson, tmp_path, monkeypatch):
    port = services.free_port()
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}/0")
    async with private_redis(port, tmp_path) as process, open_shop(lesson) as shop:
        note = await shop.post()
        await shop.cache_state(note)
        process.send_signal(signal.SIGSTOP)
        put = shop.house.redis.set
        shop.house.redis.set = None  # who found it down does not wait for it once more
        try:
            for _ in range(2):  # who waits on the line that is there; who waits for a new one
                async with asyncio.timeout(10):
                    crowd = await asyncio.gather(*(shop.cache_state(note) for _ in range(50)))
                assert set(crowd) == {("down", "山水上")}
        finally:
            shop.house.redis.set = put
            process.send_signal(signal.SIGCONT)
        assert await shop.cache_state(note) == ("hit", "山水上")


# ── listeners ──


async def test_a_guest_who_leaves_gives_the_inbox_back(lesson):
    async with open_shop(lesson) as shop:
        async with shop.http.get("/events") as stream:
            await lesson.next_event(stream)
            assert len(shop.house.listeners) == 1
            stream.close()
        async with asyncio.timeout(10):
            while shop.house.listeners:
                await asyncio.sleep(0.01)


async def test_a_slow_listener_loses_the_oldest_and_still_hears_bye(lesson):
    async with open_shop(lesson) as shop:
        with shop.house.listening() as inbox:
            for n in range(300):
                shop.house.tell("added", {"id": n})
            shop.house.say_goodbye()
            letters = [inbox.get_nowait() for _ in range(inbox.qsize())]
        assert len(letters) == 100
        assert letters[-1] == ("bye", {})
        assert letters[-2] == ("added", {"id": 299})


async def test_listeners_who_leave_in_mid_sentence_take_their_inboxes_along(lesson):
    async with open_shop(lesson) as shop:

        async def listen(stream_number):
            async with shop.http.get("/events") as stream:
                await lesson.next_event(stream)
                shop.house.tell(
                    "added", {"text": "长" * 50_000}
                )  # more than a socket takes at once

        gc.disable()  # or the collector would do what the server forgot
        try:
            await asyncio.gather(*map(listen, range(50)))
            async with asyncio.timeout(10):
                while shop.house.listeners:
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()


async def test_a_listener_who_slips_in_after_the_bell_is_sent_away(lesson):
    async with open_shop(lesson) as shop:
        shop.house.say_goodbye()
        async with shop.http.get("/events") as stream:
            heard = [await lesson.next_event(stream) for _ in range(3)]
    assert heard == ["hello", "bye", "（流结束）"]


async def test_the_heart_tells_how_late_it_was(lesson):
    async with open_shop(lesson) as shop:
        with shop.house.listening() as inbox:
            assert await shop.ask("GET", "/brew/blocking?seconds=0.5") == (200, "MainThread")
            async with asyncio.timeout(10):
                while True:
                    event, data = await inbox.get()
                    if event == "beat" and data["late_ms"] >= 300:
                        break
    assert data.keys() == {"late_ms", "listeners", "hit", "miss", "down"}


# ── closing ──


async def leftovers(mysql_url, redis_url):
    store = sys.modules["settings"]
    async with aiomysql.connect(**store.mysql_options()) as admin, admin.cursor() as cursor:
        await cursor.execute("SHOW DATABASES LIKE %s", (f"{DATABASE}%",))
        databases = [row[0] for row in await cursor.fetchall()]
    async with Redis.from_url(redis_url) as client:
        keys = [key async for key in client.scan_iter(f"asyncio-tutorial:{DATABASE}*")]
    return databases, keys


async def test_nothing_is_left_behind_not_even_after_an_error(lesson, mysql_url, redis_url):
    with pytest.raises(ExceptionGroup) as caught:
        async with open_shop(lesson) as shop:
            await shop.cache_state(await shop.post())
            await shop.ask("GET", "/red")
            assert await leftovers(mysql_url, redis_url) != ([], [])
            raise RuntimeError("厨房着火")
    assert caught.group_contains(RuntimeError, match="厨房着火")
    assert await leftovers(mysql_url, redis_url) == ([], [])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelling_main_still_finishes_a_running_request(lesson):
    """That is what Ctrl-C does: asyncio.run cancels main."""
    answers = []

    async def keep_open():
        app = lesson.create_app(DATABASE)
        async with lesson.serving(app, lesson.listen()) as url:
            opened.set_result(url)
            await asyncio.Event().wait()

    opened = asyncio.get_running_loop().create_future()
    main = asyncio.create_task(keep_open())
    url = await opened
    async with aiohttp.ClientSession(url) as http:
        tea = asyncio.create_task(lesson.call(http, "GET", "/brew/async?seconds=0.5"))
        async with http.get("/events") as stream:
            await lesson.next_event(stream)
            main.cancel()
            assert await lesson.next_event(stream) == "bye"
        answers.append(await tea)
    with pytest.raises(asyncio.CancelledError):
        await main
    assert answers == [(200, "MainThread")]


async def test_a_database_left_by_a_killed_run_is_replaced(lesson, mysql_url):
    options = sys.modules["settings"].mysql_options()
    async with aiomysql.connect(**options) as admin, admin.cursor() as cursor:
        await cursor.execute(f"CREATE DATABASE {DATABASE}")
    async with open_shop(lesson) as shop:
        assert await notes(shop) == []


# ── the page, the documentation, the command line ──


async def test_page_and_docs_load_nothing_from_outside(lesson):
    async with open_shop(lesson) as shop:
        for path in ("/board", "/docs"):
            async with shop.http.get(path) as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
                html = await answer.text()
            html = html.replace("http://www.w3.org/2000/svg", "")
            assert not re.findall(r"https?://|[\"']//", html)
            for asset in re.findall(r'(?:src|href)="(/[^"]+)"', html):
                async with shop.http.get(asset) as answer:
                    assert answer.status == 200, asset
        assert (await shop.ask("GET", "/openapi.json"))[0] == 200


def tear_down_the_wall(url):
    """Change a note that hangs on the wall no more, then tear off all that do. What hangs there."""
    change = """([id, text]) => fetch(`/notes/${id}`, {
        method: "PUT", headers: {"Content-Type": "application/json"},
        body: JSON.stringify({guest: "x", text}),
    })"""
    with browser.headless(browser.find()) as chromium, chromium.at_most(40):
        page = chromium.browser.new_page()
        page.goto(f"{url}/board")

        def wait_for(count):
            page.wait_for_function(f"document.querySelectorAll('li[data-id]').length === {count}")

        wait_for(20)
        page.evaluate(change, [1, "y"])
        page.evaluate(change, [22, "z"])
        page.get_by_text("z", exact=True).wait_for()  # the news of the first came before
        wait_for(20)
        for left in [*range(19, 0, -1), 2]:
            page.locator("li[data-id] button", has_text="撕").first.click()
            wait_for(left)
        return page.locator("li").all_inner_texts()


@pytest.mark.skipif(not browser.find(), reason="no chromium here")
async def test_a_wall_torn_bare_shows_the_older_notes(lesson):
    async with open_shop(lesson) as shop:
        for number in range(22):
            await shop.post(text=f"{number}")
        texts = await asyncio.to_thread(tear_down_the_wall, shop.url)
    assert [text.split()[0] for text in texts] == ["1", "y"]


@contextlib.contextmanager
def serving_process(*options):
    with subprocess.Popen(
        [sys.executable, "-u", "-W", "error", SCRIPT, "--serve", *options],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        # a shell's background job ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@posix
@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "已中断\n"), (signal.SIGTERM, 0, "")]
)
async def test_serving_ends_gracefully_with_a_listener_inside(lesson, number, code, said):
    with serving_process("--port", "0") as process:
        said_first = "".join(process.stdout.readline() for _ in range(3))
        url = re.search(r"(http\S+)/board", said_first)[1]
        async with aiohttp.ClientSession(url) as http, http.get("/events") as stream:
            assert await lesson.next_event(stream) == "hello"
            if number == signal.SIGINT:
                processes.press_ctrl_c(process)
            else:
                process.send_signal(number)
            assert await lesson.next_event(stream) == "bye"
            assert await lesson.next_event(stream) == "（流结束）"
        output, errors = await asyncio.to_thread(process.communicate, timeout=20)
    assert said_first == f"留言板   {url}/board\n接口文档 {url}/docs\nCtrl-C 打烊\n"
    assert (process.returncode, output.strip(), errors) == (code, "", said)


@posix
@pytest.mark.parametrize("port", ["taken", "70000"])
async def test_a_port_that_cannot_be_had_is_one_sentence(lesson, port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1]) if port == "taken" else port
        with serving_process("--port", port) as process:
            output, errors = await asyncio.to_thread(process.communicate, timeout=20)
    expected = f"端口 {port} 用不了，多半已被占用：换一个，例如 --port 8001\n"
    assert (process.returncode, output, errors) == (2, "", expected)


@pytest.mark.parametrize("options", [["--port", "茶"], ["--prot", "1"], ["茶"]])
async def test_wrong_arguments_are_one_sentence(lesson, options):
    with serving_process(*options) as process:
        output, errors = await asyncio.to_thread(process.communicate, timeout=20)
    said = "只认得 --serve 和 --port 端口号；-h 看说明\n"
    assert (process.returncode, output, errors) == (2, "", said)


async def test_two_houses_at_once_share_nothing(lesson):
    """As --serve and the lesson beside it: neither opening nor closing touches the other's."""
    open_one = lesson.serving(lesson.create_app(), lesson.listen())
    async with open_one as url, aiohttp.ClientSession(url) as http:
        assert (await lesson.call(http, "POST", "/notes", json=DRAFT))[0] == 201
        other = lesson.serving(lesson.create_app(), lesson.listen())
        async with other as url, aiohttp.ClientSession(url) as neighbour:
            assert await lesson.call(neighbour, "GET", "/notes") == (200, [])
            assert (await lesson.call(neighbour, "GET", "/notes/1"))[0] == 404
            assert await lesson.call(http, "GET", "/notes/1") == (200, DRAFT | {"id": 1})
        assert await lesson.call(http, "GET", "/notes") == (200, [DRAFT | {"id": 1}])


# ── the erratum ──


async def test_on_event_is_deprecated(lesson):
    app = lesson.create_app(DATABASE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app.on_event("startup")
    messages = [str(warning.message) for warning in caught]
    assert any(
        "on_event is deprecated, use lifespan event handlers instead." in m for m in messages
    )
