"""1.5: the same pictures, fetched with its own code and with what one would use instead."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Stage, Target, lesson
from toolbox.bench.peers import crawler_far

LESSON = "01_coroutine_basics/05_sync_vs_async_demo.py"
LATENCY = 0.05
PICTURES = {"full": 400, "quick": 40}


@contextlib.contextmanager
def gallery() -> Iterator[Stage]:
    """All pictures ready in memory, in a process that only waits: 1.5's own gallery has a thread
    for each request, and with 400 at once it would be the one that is measured."""
    if not Path("/proc/self/stat").exists():
        raise Missing("要从 /proc 读服务器用了多少 CPU，所以只在 Linux 上量（Windows 可以用 WSL）")
    demo = lesson(LESSON)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PICTURES["full"]):
            Path(folder, f"{number:03}.png").write_bytes(demo.paint(str(number)))
        Path(folder, "index.html").touch()  # what the server wants to have
        with subprocess.Popen(
            [sys.executable, crawler_far.__file__, folder, str(LATENCY)],
            stdin=subprocess.PIPE,  # closed on leaving: that ends the server
            stdout=subprocess.PIPE,
        ) as server:
            yield {"port": int(server.stdout.readline()), "pid": server.pid}


def _measure(fetch_all: Callable[[object], object], stage: Stage, quick: bool) -> Outcome:
    """`fetch_all(trip)` brings home the pictures of 1.5's trip."""
    demo = lesson(LESSON)
    count = PICTURES["quick" if quick else "full"]
    home = f"http://127.0.0.1:{stage['port']}"
    urls = [demo.checked(f"{home}/{number:03}.png") for number in range(count)]
    # In memory where that can be had: to make 400 files may take longer than to fetch them.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        pictures = demo.name_files(Path(folder), urls)
        trip, before = demo.Trip(pictures), _cpu(stage["pid"])
        started = time.perf_counter()
        fetch_all(trip)
        seconds = time.perf_counter() - started
        busy = (_cpu(stage["pid"]) - before) / seconds
        files = sorted(Path(folder).iterdir())
        same = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    return Outcome(count, seconds, work=[len(files), same], busy=busy)


def _cpu(pid: int) -> float:
    """Seconds of CPU that the process has used; finer than the ticks of /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _row(name: str, fetch_all: Callable[[object], object], *needs: str) -> Row:
    return Row(name, partial(_measure, fetch_all), needs)


def _one_by_one(trip) -> None:
    lesson(LESSON).one_by_one(trip)


def _pool(trip) -> None:
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda item: trip.fetch(*item), trip.pictures.items()))


def _threads(trip) -> None:
    lesson(LESSON).with_threads(trip)


def _coroutines(trip) -> None:
    asyncio.run(lesson(LESSON).with_coroutines(trip))


def _default(trip, limit: int = 100) -> None:
    """1.5 before its last two lines: a connector as it comes, all tasks started at once."""
    import aiohttp

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=limit)
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            for item in trip.pictures.items():
                group.create_task(trip.fetch_async(session, *item))

    asyncio.run(main())


def _httpx(trip) -> None:
    import httpx

    async def main() -> None:
        # verify: there is no TLS here, and loading certificates would take longer than the pictures
        options = {"timeout": 10, "trust_env": False, "verify": False}
        async with (
            httpx.AsyncClient(limits=httpx.Limits(max_connections=None), **options) as client,
            asyncio.TaskGroup() as group,
        ):

            async def fetch(path: Path, url: object) -> None:
                path.write_bytes((await client.get(str(url))).content)  # noqa: ASYNC240 — as 1.5

            for item in trip.pictures.items():
                group.create_task(fetch(*item))

    asyncio.run(main())


def _streams(trip) -> None:
    async def fetch(path: Path, url) -> None:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(f"GET {url.raw_path} HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            path.write_bytes(await reader.readexactly(length))  # noqa: ASYNC240 — as 1.5
        finally:
            writer.close()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for item in trip.pictures.items():
                group.create_task(fetch(*item))

    asyncio.run(main())


BLOCKING, LESSONS = "1.5 阻塞，一幅一幅", "1.5 协程（aiohttp，不限连接，边登记边上路）"
BENCHMARKS = [
    Benchmark(
        "download",
        "1.5 下载：400 幅画，每幅等 50 毫秒",
        "幅/秒",
        [
            _row(BLOCKING, _one_by_one),
            _row("32 个线程（ThreadPoolExecutor）", _pool),
            _row("1.5 多线程，一幅一个", _threads),
            _row("aiohttp，默认的 100 条连接", _default),
            _row("aiohttp，不限连接", partial(_default, limit=0)),
            _row(LESSONS, _coroutines),
            _row("httpx，不限连接", _httpx, "httpx"),
            _row("asyncio 的流，手写 HTTP", _streams),
        ],
        [Target(LESSONS, BLOCKING, 170)],
        gallery,
        "idle",
        "服务器在另一个进程，画都在内存里，下到的也写在内存盘 (tmpfs) 上。"
        "每幅至少等 50 毫秒，所以再快也快不过阻塞的 400 多倍。",
    )
]
