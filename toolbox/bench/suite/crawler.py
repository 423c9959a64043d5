"""Lesson 4.4's crawler beside what one would use instead, on the same pages."""

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urldefrag, urljoin

from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Stage, Target, lesson
from toolbox.bench.peers import crawler_far, crawler_site

LATENCY = 0.05
Crawled = tuple[dict[str, str], float]  # {url: title}, seconds


# ── The servers ──


@contextlib.contextmanager
def _near() -> Iterator[Stage]:
    _need_proc()
    with crawler_site.folders() as made, crawler_site.nginx(made) as (ports, pids):
        yield {size: _home(port) for size, port in ports.items()} | {"pids": pids}


@contextlib.contextmanager
def _far_away() -> Iterator[Stage]:
    _need_proc()
    with crawler_site.folders() as made, contextlib.ExitStack() as stack:
        homes, pids = {}, []
        for size, folder in made.items():
            server = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, crawler_far.__file__, folder, str(LATENCY)],
                    stdin=subprocess.PIPE,  # closed on leaving: that ends the server
                    stdout=subprocess.PIPE,
                )
            )
            homes[size] = _home(int(server.stdout.readline()))
            pids.append(server.pid)
        yield homes | {"pids": pids}


def _need_proc() -> None:
    if not Path("/proc/self/stat").exists():
        raise Missing("要从 /proc 读服务器用了多少 CPU，所以只在 Linux 上量（Windows 可以用 WSL）")


def _home(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


def _cpu(pids: list[int]) -> float:
    """Seconds of CPU that the processes have used."""
    ticks = 0
    for pid in pids:
        after_the_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_the_name[11]) + int(after_the_name[12])
    return ticks / 100  # USER_HZ, the same on every Linux that Python runs on


# ── Rows ──


def _row(name: str, crawl: Callable[..., Crawled], *needs: str, **options: object) -> Row:
    return Row(name, partial(_measure, partial(crawl, **options)), needs)


def _measure(crawl: Callable[..., Crawled], stage: Stage, quick: bool) -> Outcome:
    size = "quick" if quick else "full"
    home = stage[size]
    before = _cpu(stage["pids"])
    titles, seconds = crawl(home, crawler_site.paths(size))
    busy = (_cpu(stage["pids"]) - before) / seconds
    lines = sorted(f"{url.removeprefix(home)} {title}\n" for url, title in titles.items())
    same = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    return Outcome(len(titles), seconds, work=[len(titles), same], busy=busy)


def _scrapy(home: str, paths: list[str], spider: str = "Follow", requests: int = 0) -> Crawled:
    from toolbox.bench.peers import crawler_scrapy

    settings = crawler_scrapy.tuned(requests) if requests else crawler_scrapy.DEFAULT
    return crawler_scrapy.crawl(getattr(crawler_scrapy, spider), home, settings)


def _lesson(home: str, paths: list[str], **options: object) -> Crawled:
    crawler = lesson("04_case_studies/crawler.py")
    settings = crawler.Options(
        **{"delay": 0, "workers": 64, "pages": len(paths), "depth": 99} | options
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "pages.jsonl")
        crawl = crawler.Crawler(home, settings, out)
        started = time.perf_counter()
        asyncio.run(crawl.run())
        seconds = time.perf_counter() - started
        return {page.url: page.title for page in crawler.saved_pages(out)}, seconds


def _lesson_processes(home: str, paths: list[str]) -> Crawled:
    """One process per core; they get up before the clock runs, as imports do in other rows."""
    crawler = lesson("04_case_studies/crawler.py")
    many = lesson("04_case_studies/crawler_processes.py")
    settings = crawler.Options(delay=0, workers=64, pages=len(paths), depth=99, parser="fast")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "pages.jsonl")
        crawl = many.ProcessCrawler(home, settings, out, len(os.sched_getaffinity(0)))
        asyncio.run(crawl.run())
        seconds = crawl.ended - crawl.began
        return {page.url: page.title for page in crawler.saved_pages(out)}, seconds


def _same_site(home: str, hrefs: list[str], url: str) -> set[str]:
    """The links of a page, as most scripts find them."""
    links = {urldefrag(urljoin(url, href)).url for href in hrefs}
    return {link for link in links if link.startswith(home)}


def _httpx(home: str, paths: list[str]) -> Crawled:
    import httpx
    from selectolax.lexbor import LexborHTMLParser

    titles, seen, queue = {}, {home}, asyncio.Queue()

    async def work(client: httpx.AsyncClient) -> None:
        while True:
            url = await queue.get()
            tree = LexborHTMLParser((await client.get(url)).text)
            titles[url] = tree.css_first("title").text()
            hrefs = [link.attributes["href"] for link in tree.css("a[href]")]
            for link in _same_site(home, hrefs, url) - seen:
                seen.add(link)
                queue.put_nowait(link)
            queue.task_done()

    async def main() -> None:
        queue.put_nowait(home)
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx.AsyncClient(limits=limits) as client, asyncio.TaskGroup() as group:
            workers = [group.create_task(work(client)) for _ in range(64)]
            await queue.join()
            for worker in workers:
                worker.cancel()

    started = time.perf_counter()
    asyncio.run(main())
    return titles, time.perf_counter() - started


def _requests(home: str, paths: list[str]) -> Crawled:
    import requests
    from bs4 import BeautifulSoup

    titles, seen, todo = {}, {home}, [home]
    started = time.perf_counter()
    with requests.Session() as session:
        while todo:
            url = todo.pop()
            soup = BeautifulSoup(session.get(url).content, "html.parser")
            titles[url] = soup.title.get_text()
            links = _same_site(home, [link["href"] for link in soup("a", href=True)], url) - seen
            seen |= links
            todo += links
    return titles, time.perf_counter() - started


def _fetch_only(home: str, paths: list[str], workers: int = 64) -> Crawled:
    """aiohttp given all URLs at once, nothing parsed: no crawler on this client can be faster."""
    import aiohttp

    async def work(session: aiohttp.ClientSession, todo: list[str], titles: dict) -> None:
        while todo:
            url = todo.pop()
            async with session.get(url) as response:
                body = await response.read()
            start = body.index(b"<title>") + 7
            titles[url] = body[start : body.index(b"</title>", start)].decode()

    async def main() -> dict[str, str]:
        todo, titles = [home + path for path in reversed(paths)], {}
        connector = aiohttp.TCPConnector(limit=workers)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(work(session, todo, titles))
        return titles

    started = time.perf_counter()
    titles = asyncio.run(main())
    return titles, time.perf_counter() - started


SCRAPY, SCRAPY_OURS = "Scrapy，并发 64", "Scrapy，并发 64，归一和去重换成 4.4 的"
SOUP, FAST = "4.4 默认（BeautifulSoup）", "4.4 --parser fast"
EVERY_CORE = "4.4 --parser fast --processes 核数"
LESSON = ("aiohttp", "bs4", "lxml", "selectolax", "protego")

NEAR = Benchmark(
    "crawler",
    "爬虫：2000 页，每页约 10 KB、30 条链接，本机的 nginx",
    "页/秒",
    [
        _row(SCRAPY, _scrapy, "scrapy", requests=64),
        _row("Scrapy，默认设置", _scrapy, "scrapy"),
        _row(SCRAPY_OURS, _scrapy, "scrapy", *LESSON, spider="Normalised", requests=64),
        _row(SOUP, _lesson, *LESSON),
        _row(FAST, _lesson, *LESSON, parser="fast"),
        _row(EVERY_CORE, _lesson_processes, *LESSON),
        _row("httpx + selectolax", _httpx, "httpx", "selectolax"),
        _row("requests + BeautifulSoup，一页接一页", _requests, "requests", "bs4"),
        _row("只下载，不解析（aiohttp 的上限）", _fetch_only, "aiohttp"),
    ],
    [
        Target(SOUP, SCRAPY, 1.8),
        Target(FAST, SCRAPY, 14),
        Target(EVERY_CORE, SCRAPY, 25),
        Target(EVERY_CORE, SCRAPY_OURS, 15),
        Target(SOUP, SCRAPY, 0.55, of="memory"),
        Target(FAST, SCRAPY, 0.55, of="memory"),
    ],
    _near,
    "idle",
    "Scrapy 和 4.4 都守 robots.txt，都把结果写成 JSON Lines；其余各行是最短的写法，不管这些。"
    "多进程那行，起进程的时间不算，内存是父进程加一个子进程的。",
)
FAR = Benchmark(
    "crawler-latency",
    "爬虫：同样的网页，每页要等 50 毫秒，256 个工人",
    "页/秒",
    [
        _row("Scrapy，并发 256", _scrapy, "scrapy", requests=256),
        _row(SOUP, _lesson, *LESSON, workers=256),
        _row(FAST, _lesson, *LESSON, workers=256, parser="fast"),
        _row("只下载，不解析（aiohttp 的上限）", _fetch_only, "aiohttp", workers=256),
    ],
    [Target(FAST, "Scrapy，并发 256", 10)],
    _far_away,
    "idle",
    "256 个工人、50 毫秒，最多每秒 5120 页。",
)
BENCHMARKS = [NEAR, FAR]
