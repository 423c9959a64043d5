"""爬虫本身：4.4 一步步讲解它，4.8 把它分到几个进程上。

    Site      一个站点：robots.txt、节奏、超时、重试、大小上限；网址 → Page
    Crawler   队列、去重、上限、工人；结果文件同时是存档

一页怎样读（归一网址、认编码、解析）在 web_page.py。
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import aiohttp
from bs4.exceptions import ParserRejectedMarkup
from protego import Protego
from web_page import PARSERS, SameSite, canonical, decode
from yarl import URL

AGENT = "asyncio-tutorial/1.0 (educational crawler)"
NAME = AGENT.split()[0]  # 给 robots.txt 认的。Protego 找子串：给它整句，写给 crawler 的也算我们的
ROBOTS_BYTES = 512_000  # RFC 9309：至少读 500 KiB
WORTH_RETRYING = {None, 429, 500, 502, 503, 504}  # None：没等到完整的回答
REDIRECTS = {301, 302, 303, 307, 308}
READABLE = {"text/html", "application/xhtml+xml", "text/plain"}
LONGEST_PAUSE = 60.0  # robots.txt 的 Crawl-delay 和 Retry-After，最多听它这么久


class CannotCrawl(Exception):
    """这次爬取开不了头；消息是给人看的一句中文。"""


@dataclass(frozen=True)
class Options:
    """一次爬取的全部上限。workers 就是同时最多几个请求：一次只爬一台主机。"""

    depth: int = 5
    pages: int = 500
    workers: int = 4
    delay: float = 0.2  # 两次请求的开头至少隔多少秒
    timeout: float = 10.0  # 一次请求从头到尾：只管“多久没动静”，挡不住一秒吐一个字节的服务器
    attempts: int = 3
    backoff: float = 0.5
    page_bytes: int = 1_000_000  # 解压之后的大小
    parser: str = "soup"


@dataclass
class Page:
    """一个网址的结局，也是结果文件的一行。"""

    url: str
    depth: int
    status: int | None = None
    title: str = ""
    links: list[str] = field(default_factory=list)
    error: str = ""


START = b'{"url": "'  # 每一行都这样开头；不是的，就是别人的文件，截不得
to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps 每次都新造一个编码器


def as_line(page: Page) -> bytes:
    return to_json(vars(page)).encode() + b"\n"


def printable(text: str) -> str:
    """对方给的文字会打印到终端：去掉控制码、落单的代理码 (surrogate)。"""
    return "".join(filter(str.isprintable, text))


# ── 站点 ──


@dataclass(frozen=True)
class Answer:
    """一次 HTTP 请求的结果；error 非空就是没拿到能用的网页。"""

    status: int | None = None
    body: bytes = b""
    charset: str | None = None
    location: str = ""
    error: str = ""


@asynccontextmanager
async def visit(start: str, options: Options) -> AsyncIterator["Site"]:
    """打开连接、读 robots.txt；离开时连接关好，无论怎样离开。"""
    async with connect(start, options) as site:
        await site.read_robots()
        yield site


@asynccontextmanager
async def connect(start: str, options: Options) -> AsyncIterator["Site"]:
    # asyncio 每次收数据先要 256 KiB。glibc 的 malloc 要等见过一次更大的 free，才会把这么大的内存
    # 留着再用，不然次次向内核要、还给内核：这一行省下一页两成的时间，别的系统上也无害
    bytes(1 << 20)
    async with aiohttp.ClientSession(
        headers={"User-Agent": AGENT},
        timeout=aiohttp.ClientTimeout(total=options.timeout),
        connector=aiohttp.TCPConnector(limit=options.workers),
        cookie_jar=aiohttp.DummyCookieJar(),  # 不收 Cookie：每一页都像第一次来
    ) as session:
        yield Site(session, str(URL(start).origin()) + "/", options)


class Site:
    """一个站点：协议、主机、端口都相同才算同站。"""

    def __init__(self, session: aiohttp.ClientSession, home: str, options: Options) -> None:
        self.session, self.home, self.options = session, home, options
        self.delay = options.delay
        self.parse = PARSERS[options.parser]
        self.links = SameSite(home).links
        self._next_turn, self._pauses = 0.0, 0
        self.on_pause = self.pause  # 分在几个进程里爬时，这是大家的事

    async def read_robots(self) -> None:
        """4xx：没有规矩，都能爬；5xx、超时、连不上：不知道规矩，就不爬（RFC 9309）。

        不看 Content-Type：写错了类型的规矩也是规矩。
        """
        url, answer = self.home + "robots.txt", Answer()
        for _ in range(5):
            answer = await self.request(url, ROBOTS_BYTES, readable=None)
            url = canonical(answer.location, url) if answer.location else None
            if url is None or not url.startswith(self.home):
                break
        if answer.status in WORTH_RETRYING or answer.status >= 500:
            why = answer.error or f"HTTP {answer.status}"
            raise CannotCrawl(f"读不到 {self.home}robots.txt：{why}。不知道规矩，就不爬")
        rules = Protego.parse(decode(answer.body) if answer.status == 200 else "")
        self.delay = max(self.delay, min(rules.crawl_delay(NAME) or 0, LONGEST_PAUSE))
        self._permits = lru_cache(10_000)(lambda url: rules.can_fetch(url, NAME))

    def allows(self, url: str) -> bool:
        return url.startswith(self.home) and self._permits(url)

    async def fetch(self, url: str, depth: int = 0) -> Page:
        """网址 → Page；网络和网页再坏，也是一个带 error 的 Page，不是异常。"""
        answer = await self.request(url, self.options.page_bytes)
        page = Page(url, depth, answer.status, error=answer.error)
        if answer.location:
            # 跳转不是请求的一部分，而是一条链接：它和别的链接一样过同站、robots、去重三关，
            # 所以跳转成环、跳到站外都不用另外处理
            page.links = self.links([answer.location], url, "")
            if not page.links:
                target = canonical(answer.location, url) or "不是网址"
                same = target.startswith(self.home)  # 同站，只是太长
                page.error = "转到的网址太长" if same else f"转到站外（{target[:200]}）"
        elif answer.status == 200 and not answer.error:
            try:
                parsed = self.parse(answer.body, answer.charset)
            except (ParserRejectedMarkup, RecursionError) as error:
                page.error = f"解析失败（{type(error).__name__}）"
            else:
                page.title = printable(" ".join(parsed.title[:1000].split()))
                page.links = self.links(parsed.hrefs, url, parsed.base)
        return page

    async def request(
        self, url: str, limit: int, readable: Container[str] | None = READABLE
    ) -> Answer:
        """重试几次：退避 (backoff) 逐次加倍，再乘一个随机数 (jitter)，免得大家约好了一起回来。

        生产里用 tenacity；这里手写，是因为它每次调用要 ≈25 µs，而多数请求一次就成。
        """
        for attempt in range(self.options.attempts):
            if attempt:
                ceiling = min(self.options.backoff * 2**attempt, LONGEST_PAUSE)
                await asyncio.sleep(random.uniform(ceiling / 2, ceiling))
            answer = await self._ask(url, limit, readable)
            if answer.status not in WORTH_RETRYING:
                break
        return answer

    async def _ask(self, url: str, limit: int, readable: Container[str] | None) -> Answer:
        await self._wait_for_turn()
        try:
            async with self.session.get(URL(url, encoded=True), allow_redirects=False) as response:
                status, headers = response.status, response.headers
                if status in WORTH_RETRYING:
                    self._step_back(headers.get("Retry-After", ""))
                    return Answer(status, error=f"HTTP {status}")
                if status in REDIRECTS:
                    return Answer(status, location=headers.get("Location", ""))
                if status != 200:
                    return Answer(status)
                kind = response.content_type
                if readable and "Content-Type" in headers and kind not in readable:
                    return Answer(status, error=f"不是网页（{printable(kind)}）")
                body = bytearray()
                # 边读边数解压后的字节：Content-Length 可能是假的，几 KB 的压缩包能解出几 GB
                while chunk := await response.content.readany():
                    body += chunk
                    if len(body) > limit:
                        too_big = f"太大（超过 {limit} 字节）"
                        return Answer(status, bytes(body[:limit]), error=too_big)
                return Answer(status, bytes(body), response.charset)
        except TimeoutError:
            return Answer(error="超时")
        except aiohttp.ClientConnectorError as error:
            return Answer(error=f"连不上（{type(error).__name__}）")
        except (aiohttp.ClientError, ValueError) as error:  # ValueError：对方的 HTTP 不成样子
            return Answer(error=f"连接出错（{type(error).__name__}）")

    async def _wait_for_turn(self) -> None:
        """先占号再睡：几个工人同时来，也是一个接一个地出发。"""
        pauses = -1
        while pauses != self._pauses:  # 睡着的时候，服务器说了“过 N 秒再来”：重新占号
            pauses, now = self._pauses, time.monotonic()
            turn = max(now, self._next_turn)
            self._next_turn = turn + self.delay
            if turn > now:
                await asyncio.sleep(turn - now)

    def _step_back(self, retry_after: str) -> None:
        """服务器说“过 N 秒再来”，所有工人都等。"""
        if retry_after.isdecimal():
            self.on_pause(min(int(retry_after[:9]), LONGEST_PAUSE))

    def pause(self, seconds: float) -> None:
        self._next_turn = max(self._next_turn, time.monotonic() + seconds)
        self._pauses += 1


# ── 爬取 ──


def saved_pages(path: Path) -> Iterator[Page]:
    """结果文件里的每一页；末尾的半行（写到一半被杀）截掉，那一页会重爬。"""
    if not path.exists():
        return
    with path.open("r+b") as file:
        good = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and line.startswith(START[: len(line)]):
                break
            try:
                yield Page(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise CannotCrawl(f"{path} 第 {number} 行不是这个爬虫写的，没法接着爬") from error
            good += len(line)
        file.truncate(good)


class Crawler:
    """从 start 开始广度优先 (breadth-first)：一个队列，几个工人。

    结果文件 out 是唯一的存档。队列从不落盘，因为它由结果推得出来：收下一页 = 写一行 + 把它的链接
    入队 (_take)，接着爬 = 把写过的行按原来的顺序重新收下一遍。所以什么时候被杀都不丢、不重。
    """

    def __init__(self, start: str, options: Options, out: Path) -> None:
        self.start, self.options, self.out = start, options, out
        self.seen: set[str] = set()  # 入过队的
        self.done: set[str] = set()  # 收下了的
        self._queue: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    async def run(self) -> None:
        """爬到队列空了为止；out 里已经有的不再爬。"""
        async with visit(self.start, self.options) as self._site:
            self._enqueue([self.start], 0)
            if not self.seen:
                raise CannotCrawl(f"{self._site.home}robots.txt 不让爬 {self.start}")
            for page in saved_pages(self.out):
                if not page.url.startswith(self._site.home):
                    raise CannotCrawl(f"{self.out} 是别的站点的结果（{page.url}），没法接着爬")
                self._take(page)
            staff = self._staff()
            with self.out.open("ab") as self._file:
                async with asyncio.TaskGroup() as group:
                    staff = [group.create_task(work()) for work in staff]
                    await self._queue.join()  # 队列空，而且取出的都收下了：不会再有新链接
                    for worker in staff:
                        worker.cancel()  # 3.13 起也可以 queue.shutdown()

    def _staff(self) -> list[Callable[[], Coroutine]]:
        return [self._work] * self.options.workers

    async def _work(self) -> None:
        while True:
            url, depth = await self._queue.get()
            if url not in self.done:
                page = await self._site.fetch(url, depth)
                self._file.write(as_line(page))
                self._file.flush()  # 交给操作系统了：kill -9 也丢不了（断电才需要 fsync）
                self._take(page)
            self._queue.task_done()

    def _take(self, page: Page) -> None:
        self.done.add(page.url)
        if page.depth < self.options.depth:  # 深度按第一次发现它的路算
            self._enqueue(page.links, page.depth + 1)

    def _enqueue(self, links: list[str], depth: int) -> None:
        for url in links:
            if len(self.seen) >= self.options.pages:
                break  # 上限在入口：队列和 seen 再大也大不过它
            if url not in self.seen and self._site.allows(url):
                self.seen.add(url)
                self._queue.put_nowait((url, depth))
