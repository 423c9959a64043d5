"""The crawler against servers that are broken or hostile, and against kill -9."""

import asyncio
import gzip
import importlib
import itertools
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tracemalloc
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import processes

CHAPTER = Path(__file__).resolve().parents[2] / "04_case_studies"
LESSON = CHAPTER / "04_async_crawler_demo.py"
a_coroutine = pytest.mark.asyncio


@pytest.fixture
def crawler(monkeypatch):
    monkeypatch.syspath_prepend(CHAPTER)
    return importlib.import_module("crawler")


@pytest.fixture
def web_page(monkeypatch):
    monkeypatch.syspath_prepend(CHAPTER)
    return importlib.import_module("web_page")


def http(body: bytes | str = b"", status=200, **headers) -> bytes:
    """A complete HTTP response; headers are written with _ for -."""
    body = body.encode() if isinstance(body, str) else body
    headers = {"Content_Type": "text/html", "Content_Length": len(body), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body


class Server:
    """Answers each path with bytes, or with a coroutine function that is given the writer."""

    def __init__(self, answers):
        self.answers, self.asked, self.home = answers, [], ""
        self.requests = []  # each as it came
        self.connections = set()

    async def connected(self, reader, writer):
        self.connections.add(asyncio.current_task())
        # CancelledError: 3.11's streams complain in the log about a handler that ends cancelled
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.converse(reader, writer)
        writer.transport.abort()

    async def converse(self, reader, writer):
        while request := await reader.readuntil(b"\r\n\r\n"):
            path = request.split(b" ", 2)[1].decode()
            self.asked.append(path)
            self.requests.append(request.decode())
            answer = self.answers(path) if callable(self.answers) else self.answers.get(path)
            if isinstance(answer, list):
                answer = answer.pop(0)
            if callable(answer):
                await answer(writer)
                writer.close()
                return await writer.wait_closed()
            writer.write(answer or http(status=404))
            await writer.drain()


@asynccontextmanager
async def serving(answers):
    server = Server(answers)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.home = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listening.close()
        for connection in server.connections:
            connection.cancel()
        await asyncio.gather(*server.connections)
        await asyncio.sleep(0)  # aborted transports close in the loop's next round


@pytest.fixture
def crawl(crawler, tmp_path):
    """Crawl a server's home page; returns {path: Page} in the order of the file."""

    async def run(server, start="", **options):
        settings = {"delay": 0, "timeout": 20, "attempts": 1, "backoff": 0.001, **options}
        out = tmp_path / "pages.jsonl"
        await crawler.Crawler(server.home + start, crawler.Options(**settings), out).run()
        pages = list(crawler.saved_pages(out))
        found = {page.url.removeprefix(server.home[:-1]): page for page in pages}
        assert len(found) == len(pages)
        return found

    return run


def links(*paths):
    return http("".join(f"<a href='{path}'>x</a>" for path in paths))


# ── frontier ──


@a_coroutine
async def test_every_page_is_asked_for_once_breadth_first(crawl):
    tree = {"/": links("/a", "/b", "/a#x"), "/a": links("/c", "/"), "/b": links("c", "/b?")}
    async with serving(tree | {"/c": http("<title> a \n b\x1b[31m</title>")}) as server:
        found = await crawl(server, workers=1)
        assert server.asked == ["/robots.txt", "/", "/a", "/b", "/c"]
    assert found["/c"].title == "a b[31m"
    assert [page.depth for page in found.values()][:4] == [0, 1, 1, 2]


@a_coroutine
async def test_endless_links_end_at_the_depth_limit(crawl):
    async with serving(lambda path: links(f"{path}x")) as server:
        assert len(await crawl(server, depth=7)) == 8


@a_coroutine
async def test_endless_links_end_at_the_page_limit(crawl, crawler):
    def fan_out(path):
        return links(*(f"{path}{n}/" for n in range(100)))

    async with serving(fan_out) as server:
        assert len(await crawl(server, depth=50, pages=30)) == 30
        assert len(server.asked) == 31


@a_coroutine
async def test_the_frontier_never_outgrows_the_page_limit(crawler, tmp_path):
    async with serving(lambda path: links(*(f"{path}{n}/" for n in range(1000)))) as server:
        crawl = crawler.Crawler(
            server.home, crawler.Options(delay=0, pages=9), tmp_path / "pages.jsonl"
        )
        await crawl.run()
        assert len(crawl.seen) == len(crawl.done) == 9


@a_coroutine
async def test_no_more_requests_at_once_than_workers(crawl):
    now, most = 0, 0

    async def slow(writer):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        writer.write(http())

    def answer(path):
        return links(*(f"/{n}" for n in range(12))) if path == "/" else slow

    async with serving(answer) as server:
        await crawl(server, workers=3)
    assert most == 3


@a_coroutine
async def test_every_request_says_who_asks_and_brings_no_cookie(crawl, crawler):
    """Under a cookie a page may be another one for each who asks; and it would be a trace."""
    answers = {"/": http("<a href='/a'>", Set_Cookie="basket=1; Path=/"), "/a": links("/b")}
    async with serving(answers) as server:
        server.home = server.home.replace("127.0.0.1", "localhost")  # no jar takes an address's
        assert list(await crawl(server, workers=1)) == ["/", "/a", "/b"]
    assert len(server.requests) == 4
    for request in server.requests:
        assert f"User-Agent: {crawler.AGENT}\r\n" in request
        assert "cookie" not in request.lower()


# ── redirects, same site ──


@a_coroutine
async def test_a_redirect_loop_ends(crawl):
    loop = {"/": http(status=302, Location="/a"), "/a": http(status=302, Location="/")}
    async with serving(loop) as server:
        assert list(await crawl(server)) == ["/", "/a"]


@a_coroutine
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_every_kind_of_redirect_is_followed(crawl, status):
    async with serving({"/": http(status=status, Location="/a"), "/a": http()}) as server:
        assert list(await crawl(server)) == ["/", "/a"]


@a_coroutine
async def test_an_endless_chain_of_redirects_ends_at_the_depth_limit(crawl):
    async with serving(lambda path: http(status=301, Location=path + "x")) as server:
        assert len(await crawl(server, depth=4)) == 5


@a_coroutine
async def test_neither_links_nor_redirects_leave_the_site(crawl):
    async with serving({"/": http("never")}) as other:
        elsewhere = other.home + "secret"
        answers = {
            "/": links("/away", elsewhere, elsewhere.replace("http:", "")),
            "/away": http(status=302, Location=elsewhere),
        }
        async with serving(answers) as server:
            found = await crawl(server)
        assert other.asked == []
    assert found["/away"].error == f"转到站外（{elsewhere}）"


@a_coroutine
@pytest.mark.parametrize("kind", ["application/octet-stream", "image/png", "x"])
async def test_robots_count_whatever_type_they_say_they_are(crawl, kind):
    rules = http("User-agent: *\nDisallow: /private", Content_Type=kind)
    async with serving({"/robots.txt": rules, "/": links("/private")}) as server:
        assert list(await crawl(server)) == ["/"]


@a_coroutine
async def test_a_redirect_obeys_robots(crawl):
    answers = {
        "/robots.txt": http("User-agent: *\nDisallow: /private"),
        "/": http(status=302, Location="/private/1"),
    }
    async with serving(answers) as server:
        await crawl(server)
        assert server.asked == ["/robots.txt", "/"]


@a_coroutine
async def test_links_are_relative_to_base_href(crawl):
    answers = {"/": http("<base href='/deep/'><a href=x><a href=/y>"), "/deep/x": http()}
    async with serving(answers) as server:
        assert list(await crawl(server)) == ["/", "/deep/x", "/y"]


@a_coroutine
async def test_a_base_href_elsewhere_takes_even_rooted_links_off_the_site(crawl):
    async with serving({"/": http("<base href='http://other.invalid/'><a href=/x>")}) as server:
        assert list(await crawl(server)) == ["/"]


# ── robots.txt, politeness ──


@a_coroutine
@pytest.mark.parametrize("status", [500, 501, 503, 521, 429])
async def test_robots_with_a_server_error_means_do_not_crawl(crawl, crawler, status):
    async with serving({"/robots.txt": http(status=status)}) as server:
        with pytest.raises(crawler.CannotCrawl, match=f"HTTP {status}"):
            await crawl(server)


@a_coroutine
async def test_robots_that_is_too_slow_means_do_not_crawl(crawl, crawler):
    async def never(writer):
        await asyncio.sleep(60)

    async with serving({"/robots.txt": never}) as server:
        with pytest.raises(crawler.CannotCrawl, match="超时"):
            await crawl(server, timeout=0.05)


@a_coroutine
async def test_robots_is_followed_through_redirects_on_the_site(crawl):
    answers = {
        "/robots.txt": http(status=301, Location="/rules"),
        "/rules": http("User-agent: *\nDisallow: /private"),
        "/": links("/private"),
    }
    async with serving(answers) as server:
        assert list(await crawl(server)) == ["/"]


@a_coroutine
async def test_robots_elsewhere_is_not_fetched(crawl):
    async with serving({"/": http()}) as other:
        moved = {"/robots.txt": http(status=301, Location=other.home), "/": http()}
        async with serving(moved) as server:
            assert list(await crawl(server)) == ["/"]
        assert other.asked == []


@a_coroutine
async def test_robots_going_round_in_circles_ends(crawl):
    async with serving({"/robots.txt": http(status=301, Location="/robots.txt")}) as server:
        await crawl(server)
        assert server.asked.count("/robots.txt") == 5


@a_coroutine
async def test_rules_for_others_are_not_ours(crawl):
    rules = "User-agent: crawler\nAllow: /\n\nUser-agent: *\nDisallow: /private"
    async with serving({"/robots.txt": http(rules), "/": links("/private")}) as server:
        assert list(await crawl(server)) == ["/"]


@a_coroutine
@pytest.mark.parametrize("name", ["asyncio-tutorial", "Asyncio-Tutorial", "asyncio-tutorial/1.0"])
async def test_rules_for_us_come_before_those_for_all(crawl, name):
    rules = f"User-agent: {name}\nDisallow: /private\n\nUser-agent: *\nAllow: /"
    async with serving({"/robots.txt": http(rules), "/": links("/private")}) as server:
        assert list(await crawl(server)) == ["/"]


@a_coroutine
async def test_a_redirect_too_long_to_follow_is_not_called_elsewhere(crawl):
    async with serving({"/": http(status=302, Location="/" + "x" * 3000)}) as server:
        [page] = (await crawl(server)).values()
        assert page.error == "转到的网址太长"


@a_coroutine
async def test_a_disallowed_start_is_said(crawl, crawler):
    async with serving({"/robots.txt": http("User-agent: *\nDisallow: /")}) as server:
        with pytest.raises(crawler.CannotCrawl, match="不让爬"):
            await crawl(server)


@a_coroutine
@pytest.mark.parametrize(
    ("asked", "delay"), [("0.5", 0.5), ("1e9", 60), ("nan", 0.1), ("-3", 0.1), ("0", 0.1)]
)
async def test_crawl_delay_is_obeyed_within_reason(crawler, asked, delay):
    robots = http(f"User-agent: *\nCrawl-delay: {asked}\n")
    async with serving({"/robots.txt": robots}) as server:
        async with crawler.visit(server.home, crawler.Options(delay=0.1)) as site:
            assert site.delay == delay


@a_coroutine
async def test_requests_start_at_least_delay_apart_however_many_workers(crawl):
    starts = []

    def answer(path):
        starts.append(asyncio.get_running_loop().time())
        return links("/1", "/2", "/3", "/4") if path == "/" else http()

    async with serving(answer) as server:
        await crawl(server, workers=4, delay=0.05, timeout=5)
    # A physical bound: a request can be seen late, but never before its turn came.
    assert starts[-1] - starts[0] >= 0.05 * (len(starts) - 1) - 0.05


@a_coroutine
async def test_retry_after_makes_everybody_wait(crawler):
    async with serving({"/busy": http(status=429, Retry_After="7")}) as server:
        options = crawler.Options(delay=0, attempts=1)
        async with crawler.visit(server.home, options) as site:
            before = crawler.time.monotonic()
            await site.fetch(server.home + "busy")
            assert site._next_turn >= before + 7
            for silly in ("Wed, 21 Oct 2015 07:28:00 GMT", "", "-1", "٣" * 5):
                site._step_back(silly)
            site._step_back("9" * 50)
            assert site._next_turn <= crawler.time.monotonic() + 60


@a_coroutine
@pytest.mark.looptime
async def test_retry_after_makes_those_wait_who_have_a_turn_already(crawler, monkeypatch):
    clock, set_out = asyncio.get_running_loop().time, []
    monkeypatch.setattr(crawler, "time", SimpleNamespace(monotonic=clock))
    site = crawler.Site(None, "http://town.example/", crawler.Options(delay=0.02))

    async def take_turn():
        await site._wait_for_turn()
        set_out.append(clock() - paused)

    await site._wait_for_turn()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(take_turn())
        await asyncio.sleep(0)
        site.pause(0.3)
        paused = clock()
    assert set_out == pytest.approx([0.3, 0.32, 0.34])


# ── requests that fail ──


@a_coroutine
async def test_what_may_pass_is_tried_again_and_what_will_not_is_not(crawl):
    async def hang_up(writer):
        writer.transport.abort()

    answers = {
        "/": links("/busy", "/reset", "/gone"),
        "/busy": [http(status=503), http(status=502), http("<title>back</title>")],
        "/reset": [hang_up, http("<title>back</title>")],
    }
    async with serving(answers) as server:
        found = await crawl(server, attempts=3)
        asked = server.asked
    assert (found["/busy"].title, found["/reset"].title) == ("back", "back")
    assert [asked.count(path) for path in ("/busy", "/reset", "/gone")] == [3, 2, 1]


@a_coroutine
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_server_that_may_recover_is_asked_again(crawl, status):
    async with serving({"/": [http(status=status), http("<title>back</title>")]}) as server:
        assert (await crawl(server, attempts=2))["/"].title == "back"


@a_coroutine
async def test_each_try_waits_longer_at_random_but_not_for_ever(crawl, monkeypatch):
    limits = []

    def at_once(low, high):
        limits.append((low, high))
        return 0

    monkeypatch.setattr("random.uniform", at_once)
    async with serving({"/": http(status=503)}) as server:
        await crawl(server, attempts=5, backoff=10)
    assert limits == [(10, 20), (20, 40), (30, 60), (30, 60)]


async def slow_loris(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999\r\n\r\n")
    with suppress(ConnectionError):
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)


async def slow_headers(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    with suppress(ConnectionError):
        for n in range(10_000):
            writer.write(b"X-%d: y\r\n" % n)
            await writer.drain()
            await asyncio.sleep(0.01)


async def endless_headers(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    with suppress(ConnectionError):
        while True:
            writer.write(b"X-Header: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 100)
            await writer.drain()
            await asyncio.sleep(0)


async def endless_informational(writer):
    with suppress(ConnectionError):
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10)
            await writer.drain()
            await asyncio.sleep(0.001)


async def endless_body(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
    with suppress(ConnectionError):
        while True:
            writer.write(b"<p>more" * 10_000)
            await writer.drain()


async def reset_in_the_middle(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 999\r\n\r\n<p>")
    await writer.drain()
    writer.transport.abort()


BOMB = gzip.compress(b"0" * 60_000_000, compresslevel=1)
HOSTILE = {
    "slow loris": (slow_loris, "超时"),
    "slow headers": (slow_headers, "超时|连接出错"),
    "endless headers": (endless_headers, "超时|连接出错"),
    "endless informational responses": (endless_informational, "超时|连接出错"),
    "endless body": (endless_body, "太大"),
    "gzip bomb": (http(BOMB, Content_Encoding="gzip"), "太大"),
    "nested gzip": (http(gzip.compress(BOMB), Content_Encoding="gzip, gzip"), "太大|连接出错|^$"),
    "many gzips in one": (
        http(gzip.compress(b"") * 20_000, Content_Encoding="gzip"),
        "连接出错|^$",
    ),
    "broken gzip": (http(b"\x1f\x8bnot gzip", Content_Encoding="gzip"), "连接出错"),
    "unknown encoding": (http(b"x", Content_Encoding="magic"), "^$"),
    "reset at once": (lambda writer: asyncio.sleep(0, writer.transport.abort()), "连接出错"),
    "reset in the middle": (reset_in_the_middle, "连接出错"),
    "content length too long": (http(b"<p>", Content_Length=999), "超时|连接出错"),
    "content length too short": (http(b"<p>much longer", Content_Length=3), "连接出错|^$"),
    "content length absurd": (http(b"<p>", Content_Length="9" * 30), "连接出错"),
    "content length negative": (http(b"<p>", Content_Length=-5), "连接出错"),
    "bad chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnot chunks",
        "连接出错",
    ),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "连接出错"),
    "status line of one megabyte": (b"HTTP/1.1 200 " + b"x" * 1_000_000, "连接出错"),
    "empty page": (http(b""), "^$"),
    "zeros": (http(b"\0" * 1000), "^$"),
    "picture": (http(b"\x89PNG", Content_Type="image/png"), "不是网页（image/png）"),
    "content type in GBK": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: \xc7\xc5/\xc7\xc5\r\n\r\n",
        "不是网页",
    ),
    "content type with control codes": (
        http(b"", Content_Type="x\x1b[31m/y"),
        r"（x\[31m/y）|连接出错",
    ),
    "strange content type": (http(b"x", Content_Type=";;;/"), "不是网页|^$"),
    "XHTML": (http("<?xml version='1.0'?><html/>", Content_Type="application/xhtml+xml"), "^$"),
    "one word": (http(b"index.html"), "^$"),
    "punycode": (http(b"-" * 400_000, Content_Type="text/html; charset=punycode"), "^$"),
    "charset hex": (http(b"zz", Content_Type="text/html; charset=hex"), "^$"),
    "broken UTF-8": (http(b"<title>\xff\xfe\x80</title>"), "^$"),
    "lone surrogates": (http(b"<title>&#xD800;\xed\xa0\x80</title><a href='&#xD800;'>"), "^$"),
    "redirect to nowhere": (http(status=302), "^$"),
    "redirect to nonsense": (http(status=302, Location="http://[::1"), "转到站外"),
    "redirect in GBK": (
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /\xc7\xc5\r\n\r\n",
        "^$",
    ),
    "deep nesting": (http("<a>" * 30_000), "^$"),
    "deep nesting of blocks": (http("<div>" * 100_000), "^$"),
    "long links": (http("<base href='/%s/'>" % ("b" * 1500) + "<a href=x>" * 30_000), "^$"),
    "huge link": (http("<a href='%s'>" % ("x" * 500_000)), "^$"),
}


# The good page comes last: whatever the hostile one did, the crawl went on.
def with_hostile(answer):
    good = http("<title>ok</title>")
    return {"/": links("/hostile", "/good"), "/hostile": answer, "/good": good}


@a_coroutine
@pytest.mark.parametrize("parser", ["soup", "fast"])
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_answers_become_pages_not_exceptions(crawl, name, parser):
    answer, error = HOSTILE[name]
    async with asyncio.timeout(20), serving(with_hostile(answer)) as server:
        found = await crawl(server, parser=parser, workers=1, depth=1, timeout=0.5)
    assert re.search(error, found["/hostile"].error), found["/hostile"].error
    assert found["/good"].title == "ok"


@a_coroutine
@pytest.mark.parametrize("name", [*[*HOSTILE][:9], "long links", "huge link"])
async def test_hostile_answers_do_not_fill_the_memory(crawl, name):
    async with serving(with_hostile(HOSTILE[name][0])) as server:
        tracemalloc.start()
        try:
            found = await crawl(server, workers=1, depth=1, timeout=0.5)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert "/hostile" in found  # it was met: not even the home page may have been read
    assert peak < 40_000_000  # the bomb alone would be 60 MB


@a_coroutine
async def test_a_title_without_end_is_cut_down(crawl):
    async with serving({"/": http("<title>" + "x" * 100_000)}) as server:
        assert (await crawl(server))["/"].title == "x" * 1000


@a_coroutine
async def test_a_mountain_of_links_is_cut_down(crawl, web_page):
    async with serving({"/": links(*(f"/{n}" for n in range(20_000)))}) as server:
        found = await crawl(server, depth=0)
    assert len(found["/"].links) == web_page.LINKS_PER_PAGE


def test_long_links_are_neither_followed_nor_remembered(web_page):
    site = web_page.SameSite("http://town.example/")
    assert site.links(["x" * 2_001], site.home, "") == []
    assert site._resolve.cache_info().currsize == 0
    assert site.links(["x" * 100], site.home, "/" + "b" * 1_950 + "/") == []


@pytest.mark.parametrize(
    ("href", "link"),
    [
        ("?q", "dir/page?q"), (" ?q", "dir/page?q"), ("#x", "dir/page?a=/b"), ("", "dir/page?a=/b"),
        ("x", "dir/x"), (" x#y", "dir/x"), ("../x", "x"), ("/x", "x"), ("\n/x ", "x"),
        ("//town.example/x", "x"), (" HTTP://TOWN.example/x", "x"),
    ],
)  # fmt: skip
def test_what_is_remembered_of_a_folder_holds_for_its_pages(web_page, href, link):
    site = web_page.SameSite("http://town.example/")
    for name in ("page", "other"):  # the second time from the cache
        url = f"{site.home}dir/{name}?a=/b"
        assert site.links([href], url, "") == [site.home + link.replace("page", name)]
        assert site.links([href], url, "") == [web_page.canonical(href, url)]


@a_coroutine
async def test_cancelling_a_crawl_leaves_no_task_and_keeps_the_file(crawler, tmp_path):
    out = tmp_path / "pages.jsonl"
    async with serving({"/": links("/slow"), "/slow": slow_loris}) as server:
        crawl = crawler.Crawler(server.home, crawler.Options(delay=0), out)
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await crawl.run()
        left = asyncio.all_tasks() - before - server.connections
    assert left == set()
    assert [page.depth for page in crawler.saved_pages(out)] == [0]


# ── the file ──


@pytest.mark.parametrize("text", [b'{"precious": 1}', b'{"precious": ', b"diary", b"\n", b"1\n2"])
def test_a_file_of_somebody_elses_is_left_as_it_is(crawler, tmp_path, text):
    (file := tmp_path / "mine.json").write_bytes(text)
    with pytest.raises(crawler.CannotCrawl, match="不是这个爬虫写的"):
        list(crawler.saved_pages(file))
    assert file.read_bytes() == text


@a_coroutine
async def test_cut_anywhere_the_file_resumes_to_the_same_pages(crawler, tmp_path):
    answers = {"/": links("/桥", "/b"), "/b": links("/c", "/d"), "/c": links("/d", "/e")}
    async with serving(answers) as server:
        options = crawler.Options(delay=0, workers=2)

        async def crawl(out):
            await crawler.Crawler(server.home, options, out).run()
            return [page.url for page in crawler.saved_pages(out)]

        whole = tmp_path / "whole.jsonl"
        urls, text = await crawl(whole), whole.read_bytes()
        for length in range(0, len(text), 7):
            out = tmp_path / "cut.jsonl"
            out.write_bytes(text[:length])
            again = await crawl(out)
            assert len(again) == len(set(again))
            assert set(again) == set(urls)


@a_coroutine
async def test_resuming_with_higher_limits_goes_on_where_the_limits_were(crawler, tmp_path):
    async with serving(lambda path: links(path + "x", path + "y")) as server:
        out = tmp_path / "pages.jsonl"
        for depth, pages, expected in ((1, 99, 3), (2, 99, 7), (9, 20, 20), (2, 5, 20)):
            options = crawler.Options(delay=0, depth=depth, pages=pages)
            await crawler.Crawler(server.home, options, out).run()
            assert len(list(crawler.saved_pages(out))) == expected
        assert len(server.asked) - server.asked.count("/robots.txt") == 20


@a_coroutine
@pytest.mark.parametrize("line", ["你好", "{}", "[]", '{"url": 1}', '{"name": "x"}', "\0" * 8])
async def test_a_file_of_somebody_else_is_refused(crawler, tmp_path, line):
    out = tmp_path / "letter.txt"
    out.write_text(line + "\n", encoding="utf-8")
    async with serving({"/": http()}) as server:
        with pytest.raises(crawler.CannotCrawl):
            await crawler.Crawler(server.home, crawler.Options(), out).run()
    assert out.read_text(encoding="utf-8") == line + "\n"


@a_coroutine
async def test_results_of_another_site_are_refused(crawler, tmp_path):
    out = tmp_path / "pages.jsonl"
    out.write_text(json.dumps({"url": "http://other.invalid/", "depth": 0}) + "\n")
    async with serving({"/": http()}) as server:
        with pytest.raises(crawler.CannotCrawl, match=r"other\.invalid"):
            await crawler.Crawler(server.home, crawler.Options(), out).run()


# ── several processes ──


@pytest.fixture
def in_processes(crawler, tmp_path):
    """A crawl by two processes that is ready to run, and its file."""
    processes = importlib.import_module("crawler_processes")

    def prepare(server, size=2, **options):
        settings = crawler.Options(**{"delay": 0, "timeout": 5, "backoff": 0.01} | options)
        out = tmp_path / "pages.jsonl"
        return processes.ProcessCrawler(server.home, settings, out, size), out

    return prepare


def tree(path):
    """1 + 6 + 36 + 216 pages."""
    return (
        links(*(f"{path}{n}/" for n in range(6))) if len(path) < 6 else http("<title>leaf</title>")
    )


@a_coroutine
async def test_processes_crawl_the_same_pages(crawler, in_processes):
    async with serving(tree) as server:
        crawl, out = in_processes(server)
        await crawl.run()
    pages = list(crawler.saved_pages(out))
    assert len(pages) == len({page.url for page in pages}) == len(server.asked) - 1 == 259
    assert sum(page.title == "leaf" for page in pages) == 216
    assert {page.depth for page in pages} == {0, 1, 2, 3}
    assert server.asked.count("/robots.txt") == 1
    assert multiprocessing.active_children() == []


@a_coroutine
async def test_processes_share_the_limits_and_the_workers(crawler, in_processes):
    now, most = 0, 0

    async def slow(writer):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        writer.write(http())

    def answer(path):
        return links(*(f"/{n}" for n in range(99))) if path == "/" else slow

    async with serving(answer) as server:
        crawl, out = in_processes(server, size=2, workers=3, pages=30)
        await crawl.run()
    assert len(list(crawler.saved_pages(out))) == 30
    assert most == 3


@a_coroutine
async def test_processes_go_on_where_one_process_was_stopped(crawler, in_processes, crawl):
    async with serving(tree) as server:
        assert len(await crawl(server, pages=50)) == 50
        more, out = in_processes(server)
        await more.run()
        assert len(server.asked) - server.asked.count("/robots.txt") == 259
    urls = [page.url for page in crawler.saved_pages(out)]
    assert len(urls) == len(set(urls)) == 259


def test_a_child_whose_parent_hangs_up_leaves_without_a_word(crawler, capfd):
    module = importlib.import_module("crawler_processes")
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = theirs, "http://127.0.0.1:1/", crawler.Options()
        child = module.SPAWN.Process(target=module.child, args=arguments)
        child.start()
    ours.recv(1, socket.MSG_PEEK)  # it is at work; what is left unread makes its line break
    ours.close()
    child.join(30)
    assert (child.exitcode, capfd.readouterr().err) == (0, "")


@a_coroutine
async def test_a_killed_process_loses_no_page(crawler, in_processes):
    async with serving(tree) as server:
        crawl, out = in_processes(server)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            running = group.create_task(crawl.run())
            for kill_after in (20, 90, 200):
                while len(crawl.done) < kill_after:
                    await asyncio.sleep(0.001)
                multiprocessing.active_children()[0].kill()
            await running
    urls = [page.url for page in crawler.saved_pages(out)]
    assert len(urls) == len(set(urls)) == 259
    assert not any(page.error for page in crawler.saved_pages(out))
    assert multiprocessing.active_children() == []


@a_coroutine
async def test_a_page_that_kills_is_given_up_and_takes_no_other_with_it(crawler, in_processes):
    async def kill_the_crawlers(writer):
        for process in multiprocessing.active_children():
            process.kill()
        await asyncio.sleep(0.1)

    def answer(path):
        return kill_the_crawlers if path == "/3/" else tree(path)

    async with asyncio.timeout(60), serving(answer) as server:
        crawl, out = in_processes(server, workers=4)
        await crawl.run()
    pages = {page.url: page for page in crawler.saved_pages(out)}
    assert len(pages) == 259 - 6 - 36
    assert [url for url, page in pages.items() if page.error] == [server.home + "3/"]
    assert pages[server.home + "3/"].error == "爬它的进程死了 3 次"


@a_coroutine
async def test_processes_that_never_get_up_end_the_crawl(in_processes):
    async def kill_the_unborn():
        while True:
            for process in multiprocessing.active_children():
                process.kill()
            await asyncio.sleep(0.001)

    async with serving(tree) as server:
        crawl, out = in_processes(server)
        killing = asyncio.create_task(kill_the_unborn())
        with pytest.raises(ExceptionGroup) as caught:
            await crawl.run()
        killing.cancel()
    assert caught.group_contains(RuntimeError, match="起不来")
    assert multiprocessing.active_children() == []
    assert out.read_bytes() == b""


@a_coroutine
async def test_retry_after_holds_back_every_process(in_processes):
    asked = []

    async def slow(writer):
        asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.02)
        writer.write(http())

    busy = [http(status=503, Retry_After="1"), http()]

    def answer(path):
        if path == "/20":
            return busy
        return links(*(f"/{n}" for n in range(90))) if path == "/" else slow

    async with serving(answer) as server:
        crawl, _ = in_processes(server, workers=2)
        await crawl.run()
    # A process that had not heard of it would have gone on, every 0.02 s for a second.
    assert max(after - before for before, after in itertools.pairwise(asked)) > 0.5


@a_coroutine
async def test_many_long_links_reach_the_processes(crawler, in_processes):
    long = [f"/{n}{'x' * 1_900}" for n in range(300)]
    async with serving({"/": links(*long)}) as server:
        crawl, out = in_processes(server, workers=300)
        await crawl.run()
    assert len(list(crawler.saved_pages(out))) == 301


@a_coroutine
async def test_cancelling_ends_the_processes(in_processes):
    async with serving({"/": links("/slow"), "/slow": slow_loris}) as server:
        crawl, out = in_processes(server)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60) as limit:
                running = asyncio.ensure_future(crawl.run())
                while "/slow" not in server.asked:
                    await asyncio.sleep(0.01)
                limit.reschedule(asyncio.get_running_loop().time())
                await running
    assert multiprocessing.active_children() == []
    assert out.read_bytes().count(b"\n") == 1


@a_coroutine
async def test_a_crawl_that_waits_between_requests_needs_no_processes(crawler, in_processes):
    rules = {"/robots.txt": http("User-agent: *\nCrawl-delay: 1")}
    async with serving(rules) as server:
        crawl, out = in_processes(server)
        with pytest.raises(crawler.CannotCrawl, match="每 1 秒才一个请求"):
            await crawl.run()
    assert not out.exists()


# ── the command line ──


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", LESSON, *map(str, arguments)],
        env={**os.environ, "PYTHONIOENCODING": options.pop("encoding", "utf-8")},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=50,
        **options,
    )


async def run_command(*arguments, **options):
    return await asyncio.to_thread(command, *arguments, **options)


@pytest.mark.parametrize(
    "url", ["example.com", "ftp://example.com/", "http://", "到我家来", "http://x:99999/"]
)
def test_what_is_no_url_is_said_in_one_sentence(url):
    ran = command(url)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(f"“{re.escape(url)}”不是网址.*\n", ran.stderr)


def test_a_host_nobody_answers_for_is_said_in_one_sentence():
    ran = command("http://127.0.0.1:1/", "--timeout", "2")
    assert ran.returncode == 2
    assert re.fullmatch("读不到 http://127.0.0.1:1/robots.txt：连不上.*\n", ran.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--depth", "-1"),
        ("--workers", "0"),
        ("--delay", "nan"),
        ("--timeout", "inf"),
        ("--processes", "9999"),
        ("--pages", "多"),
    ],
)
def test_silly_numbers_are_refused_in_one_sentence(arguments):
    ran = command("http://127.0.0.1:1/", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"参数不对（.* 不行，要 .* 之间的数）：--help 看全部选项\n", ran.stderr)


@a_coroutine
@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a file's size")
@pytest.mark.parametrize("processes", [1, 2])
async def test_a_disk_that_is_full_is_one_sentence_and_keeps_what_is_written(
    tmp_path, crawler, processes
):
    import resource

    out = tmp_path / "pages.jsonl"
    limit = (resource.RLIMIT_FSIZE, (4096, 4096))
    options = {"preexec_fn": lambda: resource.setrlimit(*limit)}
    async with serving(tree) as server:
        arguments = (server.home, "--delay", 0, "--processes", processes, "--out", out)
        ran = await run_command(*arguments, "--parser", "fast", **options)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert re.fullmatch("读写结果文件出错（.*），已写下的都还在\n", ran.stderr)
        kept = len(list(crawler.saved_pages(out)))
        assert kept > 10
        ran = await run_command(*arguments, "--resume")
    assert f"共 {1 + 6 + 36 + 216} 页：" in ran.stdout
    nowhere = await run_command(server.home, "--out", tmp_path / "nowhere" / "pages.jsonl")
    assert (nowhere.returncode, len(nowhere.stderr.splitlines())) == (2, 1)


def test_resume_needs_a_file_and_a_file_needs_resume(tmp_path):
    (tmp_path / "pages.jsonl").touch()
    assert "--out" in command("http://127.0.0.1:1/", "--resume").stderr
    ran = command("http://127.0.0.1:1/", "--out", tmp_path / "pages.jsonl")
    assert (ran.returncode, "--resume" in ran.stderr) == (2, True)


@a_coroutine
async def test_command_crawls_reports_and_writes_json_lines(tmp_path):
    answers = {"/": links("/a", "/b"), "/a": http("<title>\U0001f600 桥</title>")}
    async with serving(answers) as server:
        out = tmp_path / "pages.jsonl"
        ran = await run_command(server.home, "--delay", 0, "--out", out, encoding="gbk")
    assert (ran.returncode, ran.stderr) == (0, "")
    pages = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {page["title"] for page in pages} == {"", "\U0001f600 桥"}
    assert sorted(page["status"] for page in pages) == [200, 200, 404]


@a_coroutine
async def test_without_out_nothing_is_left_behind(tmp_path):
    async with serving({"/": http("<title>ok</title>")}) as server:
        ran = await run_command(server.home, cwd=tmp_path)
    assert f"200 {server.home} ok" in ran.stdout
    assert list(tmp_path.iterdir()) == []


@a_coroutine
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a single child")
async def test_killed_at_any_moment_nothing_is_lost_or_stored_twice(tmp_path, crawler):
    def tree(path):
        return links(*(f"{path}{n}/" for n in range(6))) if len(path) < 6 else http()

    out = tmp_path / "pages.jsonl"
    everything = 1 + 6 + 36 + 216
    async with serving(tree) as server:
        arguments = [sys.executable, LESSON, server.home, "--delay", "0.002"]
        arguments += ["--out", out, "--resume"]
        for kill_after in (15, 60, 130):
            child = await asyncio.create_subprocess_exec(*arguments, stdout=-3, stderr=-3)
            while not out.exists() or out.read_bytes().count(b"\n") < kill_after:
                await asyncio.sleep(0.002)
            child.send_signal(signal.SIGKILL)
            await child.wait()
        child = await asyncio.create_subprocess_exec(*arguments, stdout=-3, stderr=-3)
        assert await child.wait() == 0
        urls = [page.url for page in crawler.saved_pages(out)]
        assert (len(urls), len(set(urls))) == (everything, everything)


@a_coroutine
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a single child")
async def test_ctrl_c_keeps_the_file_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "pages.jsonl"
    async with serving({"/": links("/slow"), "/slow": slow_loris}) as server:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", LESSON, server.home, "--delay", "0", "--out", out),
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            stderr=asyncio.subprocess.PIPE,
        )
        while "/slow" not in server.asked:
            await asyncio.sleep(0.01)
        assert out.read_bytes().count(b"\n") == 1  # flushed, not waiting in a buffer
        processes.press_ctrl_c(child)
        _, errors = await child.communicate()
    said = errors.decode().splitlines()
    assert child.returncode == 130
    assert "--resume" in said[0]
    assert said[1:] == ["已中断"]
    assert out.read_bytes().count(b"\n") == 1


@a_coroutine
@pytest.mark.skipif(sys.platform != "linux", reason="looks for children in /proc")
@pytest.mark.parametrize("end", ["SIGINT", "SIGKILL"])
async def test_no_process_survives_the_command(tmp_path, end):
    def group_of(leader):
        stats = (path.read_text() for path in Path("/proc").glob("[0-9]*/stat"))
        fields = (stat.rpartition(")")[2].split() for stat in stats)
        return [state for state, _, group, *_ in fields if group == str(leader) and state != "Z"]

    async with serving({"/": links("/slow"), "/slow": slow_loris}) as server:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", LESSON, server.home, "--delay", "0"),
            *("--processes", "2", "--out", tmp_path / "pages.jsonl"),
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        while "/slow" not in server.asked:
            await asyncio.sleep(0.01)
        if end == "SIGINT":
            processes.press_ctrl_c(child, group=True)  # as a terminal does: to the children, too
        else:
            child.send_signal(getattr(signal, end))
        errors = (await child.communicate())[1].decode().splitlines()
        async with asyncio.timeout(20):
            while group_of(child.pid):
                await asyncio.sleep(0.02)
    if end == "SIGINT":
        assert child.returncode == 130
        assert "--resume" in errors[0]
        assert errors[1:] == ["已中断"]


@a_coroutine
async def test_command_crawls_with_processes(tmp_path):
    async with serving(tree) as server:
        ran = await run_command(server.home, "--delay", 0, "--processes", 2)
        polite = await run_command(server.home, "--processes", 2)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "共 259 页：200 × 259" in ran.stdout
    assert (polite.returncode, polite.stdout) == (2, "")
    assert "一个进程就够了" in polite.stderr


@a_coroutine
@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals")
async def test_progress_is_drawn_on_a_terminal_only():
    import pty

    async with serving({"/": links("/a")}) as server:
        quiet = await run_command(server.home)
        ours, theirs = pty.openpty()
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, LESSON, server.home, "--delay", "0.3"),
            stderr=theirs,
            stdout=-3,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(theirs)
        drawn = b""
        with suppress(OSError):  # EIO: the child is gone
            while chunk := await asyncio.to_thread(os.read, ours, 65536):
                drawn += chunk
        os.close(ours)
        assert await child.wait() == 0
    assert quiet.stderr == ""
    assert "爬取" in drawn.decode()


# ── reading a page ──


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("/a", "http://town.example/a"),
        ("b", "http://town.example/dir/b"),
        ("../b?q=1#x", "http://town.example/b?q=1"),
        ("?q", "http://town.example/dir/page?q"),
        ("#x", "http://town.example/dir/page"),
        (" /a\n", "http://town.example/a"),
        ("HTTP://TOWN.example:80", "http://town.example/"),
        ("https://town.example:443/", "https://town.example/"),
        ("//other.example", "http://other.example/"),
        ("/桥", "http://town.example/%E6%A1%A5"),
        ("/%e6%a1%a5", "http://town.example/%E6%A1%A5"),
        ("/%7Ea", "http://town.example/~a"),
        ("http://me:secret@town.example/", "http://town.example/"),
        ("/../../a", "http://town.example/a"),
        ("javascript:void(0)", None),
        ("mailto:a@b.c", None),
        ("http://[::1", None),
        ("http://a:99999/", None),
        ("http://[:]@", None),
    ],
)
def test_one_page_has_one_url(web_page, href, url):
    assert web_page.canonical(href, "http://town.example/dir/page") == url
    if url:
        assert web_page.canonical(url) == url


@pytest.mark.parametrize(
    ("body", "declared", "text"),
    [
        ("桥".encode(), None, "桥"),
        ("桥".encode("gbk"), None, "桥"),
        ("镕".encode("gbk"), "gb2312", "镕"),
        (b"<meta charset=gb2312>" + "镕".encode("gbk"), None, "<meta charset=gb2312>镕"),
        (b'<meta content="text/html; charset=big5">' + "橋".encode("big5"), None,
         '<meta content="text/html; charset=big5">橋'),
        (b"\xef\xbb\xbf" + "桥".encode(), "gbk", "桥"),
        ("桥".encode("utf-16"), None, "桥"),
        ("桥".encode() + b"\xff", "utf-8", "桥\ufffd"),
        ("桥".encode(), "no-such-charset", "桥"),
        ("桥".encode(), "iso-no-such", "桥"),
        (b"dma-", "punycode", "dma-"),  # Python knows it, and takes minutes for a megabyte
        (b"\xff" * 3, None, "\ufffd" * 3),
        (b"", None, ""),
    ],
)  # fmt: skip
def test_charsets_are_found_as_browsers_find_them(web_page, body, declared, text):
    assert web_page.decode(body, declared) == text


@pytest.mark.parametrize("parser", ["soup", "fast"])
def test_parsers_return_plain_strings(web_page, parser):
    page = "<base href=/b><title>a &amp; b</title><svg><title>no</title></svg><a href=x><a><a href>"
    parsed = web_page.PARSERS[parser](page.encode(), "utf-8")
    assert (parsed.title, parsed.base, parsed.hrefs[0]) == ("a & b", "/b", "x")
    assert {type(text) for text in (parsed.title, parsed.base, *parsed.hrefs)} == {str}


def test_large_pages_do_not_reach_the_parser_that_is_quadratic(web_page, monkeypatch):
    monkeypatch.setattr(web_page, "LexborHTMLParser", None)
    for declared in ("utf-8", "gbk", None):
        page = b"<title>big</title>" + b"<div>" * 30_000
        assert web_page.read_fast(page, declared).title == "big"


@pytest.mark.parametrize("declared", ["utf-8", "UTF-8", "utf8", None, "no-such-charset"])
def test_undecoded_and_decoded_pages_read_the_same(web_page, declared):
    for text in (b"\xe6\xa1\xa5", b"\xff\xfe\x80", b"\xed\xa0\x80", b"a\0b", b"\xef\xbb\xbf"):
        page = b"<meta charset=utf-8><title>%s</title><a href='/%s'>" % (text, text)
        decoded = web_page.parse_fast(web_page.decode(page, declared))
        assert web_page.read_fast(page, declared) == decoded


def test_a_page_full_of_tags_is_cut_before_a_tree_is_built(web_page):
    page = "<title>a\0b</title><a %s>" % ("y " * 6000) + "<a href=x>" * 90_000
    parsed = web_page.parse_soup(page)
    assert (parsed.title, len(parsed.hrefs)) == ("ab", web_page.TAGS - 4)
