"""1.5 协程的意义：一个线程，同时等很多幅画

视频：§2 协程意义
运行：python 01_coroutine_basics/05_sync_vs_async_demo.py
      也可以给网址：… 05_sync_vs_async_demo.py --out 图片 https://… https://…
      （不给网址，下载本脚本自己开的画廊；不加 --out，下到临时目录，结束时删掉）
观看：python tutorial.py trace 1.5（一步步看谁在跑、谁在等）

先猜后跑
    画廊有 8 幅画，服务器取一幅要 0.1–0.25 秒，一幅一幅下载共 1.5 秒。
    8 个线程一起下要几秒？只用一个线程的 aiohttp，会比 8 个线程慢多少？

预期输出
    ── 1. 阻塞：等一幅的时候，什么也没做 ──
    8 幅，用了 1 个线程，≈1.51 秒
    ── 2. 多线程：一人等一幅 ──
    8 幅，用了 8 个线程，≈0.25 秒
    ── 3. 协程：一个人同时等所有的画 ──
    8 幅，用了 1 个线程，≈0.26 秒
    ── 4. 算账：省下的是等待，再快也快不过最慢的一幅 ──
    最慢的一幅 ≈0.25 秒：速度至多是第 1 节的 ≈6.0 倍，协程做到 ≈5.9 倍

视频勘误
    课程的三张图在别人的服务器上，可能早已不在：这里自己开画廊，真网址由你给。
    session.get(url, verify_ssl=False) 今天是
    DeprecationWarning: verify_ssl is deprecated, use ssl=False instead
    换成 ssl=False 也不对：那是不查证书 (certificate)，谁都能冒充服务器。两样都别写。

动手试试
    1. 把最慢的两幅改成 0.5 秒，三种下法各变成多少？改最快的一幅呢？
    2. 把 TCPConnector(limit=0) 改成 limit=2，第 3 节要几秒？为什么？
       400 幅画时，limit 和那句 sleep(0) 各值多少：python tutorial.py bench download
    3. 在 fetch_async 的 async with 前加一句 time.sleep(0.1)，第 3 节变成几秒？为什么不是多 0.1 秒？
"""

import argparse
import asyncio
import contextlib
import http.client
import itertools
import re
import sys
import tempfile
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, current_thread
from urllib.request import ProxyHandler, build_opener

import aiohttp
from yarl import URL  # aiohttp 自带：网址里的中文和空格由它编码

SECONDS = {"sunrise": 0.25, "harbor": 0.25, "lotus": 0.2, "crane": 0.2, "bridge": 0.2}
SECONDS |= {"snow": 0.15, "rain": 0.15, "moon": 0.1}  # 画 → 服务器取它要几秒
TIMEOUT = 10


class Trip:
    """去一趟画廊，连账一起记：谁在等、每幅等了多久、哪些没拿到。"""

    def __init__(self, pictures: dict[Path, URL]):
        self.pictures, self.seconds, self.failures, self.threads = pictures, {}, {}, set()
        # 本机的画廊，http_proxy 里的代理找不到；外面的网址，两个客户端都走代理
        self.local = {url.host for url in pictures.values()} <= {"127.0.0.1", "localhost", "::1"}
        self.opener = build_opener(ProxyHandler({} if self.local else None))
        self.started = time.perf_counter()

    def fetch(self, path: Path, url: URL) -> None:
        with self.waiting_for(path), self.opener.open(str(url), timeout=TIMEOUT) as response:
            path.write_bytes(response.read())  # 与课程的 requests 一样阻塞 (blocking)：收完才返回

    async def fetch_async(self, session: aiohttp.ClientSession, path: Path, url: URL) -> None:
        with self.waiting_for(path, self.started):  # 大家一起出发：从那时算起，什么都不漏
            async with session.get(url, raise_for_status=True) as response:  # 等它时，让路
                path.write_bytes(await response.read())  # noqa: ASYNC240 — 几 KB 不值得交给线程

    @contextlib.contextmanager
    def waiting_for(self, path: Path, since: float | None = None):
        since = since or time.perf_counter()
        try:
            yield
        except (OSError, ValueError, http.client.HTTPException, aiohttp.ClientError) as error:
            self.failures[path] = error  # 一幅失败，不拖累别的画
            if hasattr(error, "close"):  # urllib 的 HTTPError 身上还开着一条连接
                error.close()
        self.seconds[path] = time.perf_counter() - since
        self.threads.add(current_thread())
        if sys.stderr.isatty():  # 重定向到文件时，进度条只是垃圾；\r：这一趟的结果会盖住它
            done, total = len(self.seconds), len(self.pictures)
            print(f"[{'#' * (16 * done // total):.<16}] {done}/{total}", end="\r", file=sys.stderr)

    def finish(self) -> "Trip":
        self.elapsed = time.perf_counter() - self.started
        arrived = len(self.pictures) - len(self.failures)
        print(f"{arrived} 幅，用了 {len(self.threads)} 个线程，≈{self.elapsed:.2f} 秒")
        return self


def one_by_one(trip: Trip) -> Trip:
    for path, url in trip.pictures.items():
        trip.fetch(path, url)
    return trip.finish()


def with_threads(trip: Trip) -> Trip:
    threads = [Thread(target=trip.fetch, args=item, daemon=True) for item in trip.pictures.items()]
    for thread in threads:
        thread.start()  # daemon：Ctrl-C 时不等它收完
    for thread in threads:
        thread.join()
    return trip.finish()


async def with_coroutines(trip: Trip) -> Trip:
    options = {"timeout": aiohttp.ClientTimeout(total=TIMEOUT), "trust_env": not trip.local}
    options["connector"] = aiohttp.TCPConnector(limit=0)  # 不限；默认同时 100 条，400 幅要排四队
    async with aiohttp.ClientSession(**options) as session, asyncio.TaskGroup() as group:
        for path, url in trip.pictures.items():
            group.create_task(trip.fetch_async(session, path, url))
            await asyncio.sleep(0)  # 这一幅的请求先上路，再登记下一幅：8 幅看不出，400 幅看得出
    return trip.finish()


def settle(*trips: Trip) -> tuple[float, float, float] | None:
    """每幅画取三趟里最快的一次，其中最慢的就是极限：怎么同时下，也得等完它。"""
    if not (arrived := set(trips[0].pictures).difference(*(trip.failures for trip in trips))):
        return print("没有一幅三趟都下到，没有账可算")
    limit = max(min(trip.seconds[path] for trip in trips) for path in arrived)
    blocking = sum(trips[0].seconds[path] for path in arrived)
    most, got = blocking / limit, blocking / max(trips[-1].seconds[path] for path in arrived)
    print(f"最慢的一幅 ≈{limit:.2f} 秒：速度至多是第 1 节的 ≈{most:.1f} 倍，协程做到 ≈{got:.1f} 倍")
    return limit, most, got


# 课到这里讲完了。下面是它用到的：网址、文件名、画、画廊。
def checked(text: str) -> URL:
    with contextlib.suppress(ValueError):
        if (url := URL(text)).scheme in ("http", "https") and re.fullmatch(r"\S+", url.host or ""):
            return url
    raise ValueError(f"{text} 不是 http 或 https 网址")


def name_files(folder: Path, urls: list[URL]) -> dict[Path, URL]:
    """网址是别人写的：只留安全的字符，前面编号；跑不出目录，不同名，也不覆盖旧文件。"""
    pictures, numbers = {}, itertools.count(1)
    for url in urls:
        name = re.sub(r"[^\w.-]", "_", url.name)[-60:] or "picture"
        paths = (folder / f"{number:02}-{name}" for number in numbers)
        pictures[next(path for path in paths if not path.exists())] = url
    return pictures


def paint(name: str) -> bytes:
    """一张真的 PNG：96 × 96，颜色由画名决定。"""
    png, color = b"\x89PNG\r\n\x1a\n", zlib.crc32(name.encode()).to_bytes(4)[:3]
    header, rows = bytes([0, 0, 0, 96, 0, 0, 0, 96, 8, 2, 0, 0, 0]), (b"\0" + color * 96) * 96
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        png += len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
    return png


@contextlib.contextmanager
def open_gallery(delays: dict[str, float]):
    """画事先画好，一个请求一个线程：慢的只有“去取画”，三种下法面对同一台服务器。"""
    paintings = {f"/{name}.png": (seconds, paint(name)) for name, seconds in delays.items()}

    class Request(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seconds, png = paintings[self.path]
            time.sleep(seconds)
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n" + png)

    class Gallery(ThreadingHTTPServer):
        request_queue_size = 64  # 默认只容 5 个连接排队：8 个一起来，挤掉的 1 秒后才重来

    with Gallery(("127.0.0.1", 0), Request) as gallery, contextlib.ExitStack() as stack:
        Thread(target=gallery.serve_forever, args=(0.02,), daemon=True).start()
        stack.callback(gallery.shutdown)
        yield [URL(f"http://127.0.0.1:{gallery.server_port}{path}") for path in paintings]


def main() -> int:
    parser = argparse.ArgumentParser(description="同样的画，三种下法")
    parser.error = lambda _: parser.exit(2, "没法开始：只认得 --out 文件夹 和网址；-h 看说明\n")
    parser.add_argument("urls", nargs="*", metavar="网址", help="不给，就下载自己开的画廊")
    parser.add_argument("--out", type=Path, metavar="文件夹", help="下到这里；不给，就用临时的")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        try:
            urls = [checked(text) for text in args.urls]
            folder = args.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()  # 写不进去，现在就说
            pictures = name_files(folder, urls or stack.enter_context(open_gallery(SECONDS)))
        except (ValueError, OSError) as error:
            parser.exit(2, f"没法开始：{error}\n")
        print("── 1. 阻塞：等一幅的时候，什么也没做 ──")
        blocking = one_by_one(Trip(pictures))
        print("── 2. 多线程：一人等一幅 ──")
        threads = with_threads(Trip(pictures))
        print("── 3. 协程：一个人同时等所有的画 ──")
        coroutines = asyncio.run(with_coroutines(Trip(pictures)))
        print("── 4. 算账：省下的是等待，再快也快不过最慢的一幅 ──")
        settle(blocking, threads, coroutines)
    failures = blocking.failures | threads.failures | coroutines.failures
    for path, error in failures.items():
        print(*f"没下到 {pictures[path]}（{type(error).__name__}）{error}".split(), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
