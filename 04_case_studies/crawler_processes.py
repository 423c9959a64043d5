"""4.4 的最后一级：一个核忙不过来，就一个核一个进程。

    父进程   队列、去重、结果文件都只有它这一份，所以 4.4 的保证一个字不用改
    子进程   下载、解析、拼链接：花时间的都在这里

中间是一对套接字 (socketpair)，来往都是一行一条 JSON：网址成批地去，网页成批地回，回来的一行就是结果
文件里的一行。要成批，是因为一页一次的话，叫醒对方比活本身还贵。
"""

import asyncio
import json
import multiprocessing
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from crawler import CannotCrawl, Crawler, Options, Page, as_line, connect, to_json

SPAWN = multiprocessing.get_context("spawn")  # 三个系统上都一样；fork 会把事件循环也抄一份
CHUNK = 1 << 18
MOST_DEATHS = 3


@asynccontextmanager
async def talk(
    connection: socket.socket,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(sock=connection, limit=CHUNK)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


# ── 子进程 ──


def child(connection: socket.socket, home: str, options: Options) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C 归父进程管
    try:
        asyncio.run(fetch_for_parent(connection, home, options))
    except* ConnectionError:  # 父进程先走了；断在任务组里，它就在 ExceptionGroup 里面
        pass


async def fetch_for_parent(connection: socket.socket, home: str, options: Options) -> None:
    loop, todo, ready = asyncio.get_running_loop(), asyncio.Queue(), []

    def send(line: bytes) -> None:
        if not ready:
            loop.call_soon(flush)  # 循环的这一圈里做好的，一起寄
        ready.append(line)

    def flush() -> None:
        writer.write(b"".join(ready))
        ready.clear()

    async def work() -> None:
        while True:
            url, depth = await todo.get()
            send(as_line(await site.fetch(url, depth)))

    def pause_everybody(seconds: float) -> None:
        site.pause(seconds)
        send(b"%f\n" % seconds)

    async with (
        talk(connection) as (reader, writer),
        connect(home, options) as site,
        asyncio.TaskGroup() as group,
    ):
        site.on_pause = pause_everybody
        workers = [group.create_task(work()) for _ in range(options.workers)]
        send(b"0\n")  # 到岗
        while line := await reader.readline():
            message = json.loads(line)
            if isinstance(message, list):  # 网址和深度
                todo.put_nowait(message)
            else:
                site.pause(message)
        for worker in workers:
            worker.cancel()


# ── 父进程 ──


@dataclass
class Child:
    """一个子进程：怎样对它说话，它手里有哪些还没爬完的网址。"""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    given: dict[str, int] = field(default_factory=dict)  # 网址 → 深度
    at_work: bool = False

    def tell(self, messages: list) -> None:
        self.writer.write("".join(to_json(message) + "\n" for message in messages).encode())


@asynccontextmanager
async def hired(home: str, options: Options) -> AsyncIterator[Child]:
    """一个进程；离开时它一定不在了，无论怎样离开。"""
    ours, theirs = socket.socketpair()
    with ours:
        process = SPAWN.Process(target=child, args=(theirs, home, options), daemon=True)
        with theirs, born_deaf_to_ctrl_c():
            process.start()
        try:
            async with talk(ours) as (reader, writer):
                yield Child(reader, writer)
        finally:
            process.kill()  # 该收的都收了，不必告别；我们若被 kill -9，它读到结尾也就走了
            process.join()


@contextmanager
def born_deaf_to_ctrl_c() -> Iterator[None]:
    """这期间出生的进程生来就不理 Ctrl-C：还没起床就被打断，它会吐一段 traceback。"""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class ProcessCrawler(Crawler):
    """和 Crawler 一样爬，只是工人分在几个进程里。"""

    def __init__(self, start: str, options: Options, out: Path, processes: int) -> None:
        super().__init__(start, options, out)
        self.children: list[Child] = []
        self.began = self.ended = 0.0  # 人到齐、开始爬的时刻，收下最后一页的时刻
        self._size = min(processes, options.workers)
        self._deaths: Counter[str] = Counter()  # 网址 → 爬它的时候死过几个进程
        self._suspects: list[tuple[str, int]] = []  # 这样的网址，要单独再爬
        self._stillborn = 0  # 接连几个没到岗就死了

    def _staff(self) -> list[Callable[[], Coroutine]]:
        if self._site.delay:
            raise CannotCrawl(f"每 {self._site.delay:g} 秒才一个请求：一个进程就够了")
        share, more = divmod(self.options.workers, self._size)
        return [partial(self._employ, share + (n < more)) for n in range(self._size)]

    async def _employ(self, workers: int) -> None:
        """雇一个进程；它死了，手里的网址放回队列，再雇一个。"""
        options = replace(self.options, workers=workers)
        while True:
            async with hired(self._site.home, options) as worker:
                self.children.append(worker)
                try:
                    with suppress(ConnectionError):
                        await self._listen(worker)
                finally:
                    self.children.remove(worker)
            self._take_back(worker)

    async def _listen(self, worker: Child) -> None:
        rest = b""
        while data := await worker.reader.read(CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if isinstance(message, dict):
                    self._file.write(line + b"\n")
                    self._settle(worker, Page(**message))
                else:  # 到岗了；或者服务器说过几秒再来，那就是所有进程的事
                    worker.at_work = True
                    self._stillborn = 0
                    for one in self.children:
                        one.tell([message])
            self._file.flush()
            self._deal()

    def _settle(self, worker: Child, page: Page) -> None:
        del worker.given[page.url]
        self._take(page)
        self._queue.task_done()
        self.ended = time.perf_counter()

    def _take_back(self, worker: Child) -> None:
        """它手里的还要爬。多半是它自己倒霉；总死在同一页上，就怪那一页：记下来，不再爬。"""
        self._stillborn += not worker.at_work
        if self._stillborn > MOST_DEATHS * self._size:
            raise RuntimeError("爬虫的子进程起不来")
        for url, depth in list(worker.given.items()):
            self._deaths[url] += 1
            if self._deaths[url] < MOST_DEATHS:
                self._suspects.append((url, depth))
            else:
                page = Page(url, depth, error=f"爬它的进程死了 {MOST_DEATHS} 次")
                self._file.write(as_line(page))
                self._settle(worker, page)
        self._file.flush()
        self._deal()

    def _deal(self) -> None:
        """谁手里不够，就补给谁；队列短的时候平分。"""
        working = [worker for worker in self.children if worker.at_work]
        if not self.began and len(working) < self._size:
            return
        self.began = self.began or time.perf_counter()
        for worker in working:
            if worker.given.keys() & self._deaths.keys():
                continue  # 它手里有死过进程的网址：只给它这一个，免得连累别的
            # 手里多留一倍：一半在爬，一半在等，不必爬完一页才来要下一页
            room = 2 * self.options.workers // self._size - len(worker.given)
            jobs = self._next(min(room, -(-self._queue.qsize() // len(working))))
            if not jobs and not worker.given and self._suspects and not self._on_trial():
                jobs = [self._suspects.pop()]
            if jobs:
                worker.given.update(jobs)
                worker.tell(jobs)

    def _on_trial(self) -> bool:
        """死过进程的网址，一次只试一个：两个一起试，一个害死大家，另一个也要跟着背锅。"""
        return any(worker.given.keys() & self._deaths.keys() for worker in self.children)

    def _next(self, count: int) -> list[tuple[str, int]]:
        jobs = []
        while len(jobs) < count and not self._queue.empty():
            url, depth = self._queue.get_nowait()
            if url in self.done:  # 接着上次爬，已经有了
                self._queue.task_done()
            else:
                jobs.append((url, depth))
        return jobs
