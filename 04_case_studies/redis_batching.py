"""4.1、4.3 共用：自动合批 (auto-batching) 的 Redis 客户端。

同一圈事件循环里，不管多少个任务各自 await client.get(…)，命令都在一条连接上一次写出；Redis 按
顺序回答，所以第 n 个回答就是第 n 个人等的。redis-py 不做这件事；生产里 Python 用 coredis
（许多命令复用少数几条连接），Node.js 用 ioredis 的 enableAutoPipelining。

别从这里发 BLPOP（排在后面的人都得陪它等）、SUBSCRIBE、WATCH、MULTI（它们管的是整条连接，不是
一个命令）：这些用 redis.asyncio，一人占一条连接。
"""

import asyncio
import ssl
from collections import deque
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
from redis import exceptions

ERRORS = {  # 错误回答的第一个词 → 异常；别的都是 ResponseError
    "LOADING": exceptions.BusyLoadingError,  # 刚重启，还在读盘：是一种 ConnectionError
    "NOAUTH": exceptions.AuthenticationError,
    "WRONGPASS": exceptions.AuthenticationError,
    "NOPERM": exceptions.NoPermissionError,
}


def error_reply(text: str) -> exceptions.RedisError:
    return ERRORS.get(text.partition(" ")[0], exceptions.ResponseError)(text)


class Line(asyncio.Protocol):
    """一条连接：还没写出的命令，和按顺序等着回答的人。断了就扔掉，不会把回答接错。"""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._replies = hiredis.Reader(replyError=error_reply)
        self._commands: list[bytes] = []
        self._waiters: deque[asyncio.Future] = deque()
        self._loop = asyncio.get_running_loop()
        self._may_write = True
        self.lost = self._loop.create_future()

    def send(self, *words: str | bytes | int) -> asyncio.Future:
        if self.lost.done():
            raise exceptions.ConnectionError("Redis 的连接断了")
        self._commands.append(hiredis.pack_command(words))
        if len(self._commands) == 1:
            self._loop.call_soon(self._write)  # 不马上写：这一圈里别人的命令也赶得上
        self._waiters.append(waiter := self._loop.create_future())
        return waiter

    def _write(self) -> None:
        # uvloop 的连接断了再写是 RuntimeError；等着的人由 connection_lost 去告诉
        if self._may_write and self._commands and not self.transport.is_closing():
            self.transport.write(b"".join(self._commands))  # 一圈一次系统调用
            self._commands.clear()

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        while (reply := self._replies.gets()) is not False:  # False：下一个回答还没收全
            waiter = self._waiters.popleft()
            if waiter.done():  # 取消了，不等了；位置还在，后面的人就不会错位
                continue
            if isinstance(reply, exceptions.RedisError):
                waiter.set_exception(reply)
            else:
                waiter.set_result(reply)

    # 对面读得慢，缓冲区满了：先攒着。人人都在等自己的回答，攒下的不会比任务多
    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._write()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._watch(first=None, seen=0)

    def _watch(self, first: asyncio.Future | None, seen: int) -> None:
        """一条线一个定时器，而不是一个命令一个：排头的人连着三次没换，就当这条线死了。

        三次而不是一次：也许只是我们自己堵住了事件循环，回答早到了，还没来得及读。
        """
        seen = seen + 1 if self._waiters and self._waiters[0] is first else 0
        if seen == 3:
            self.transport.abort()
        first = self._waiters[0] if self._waiters else None
        self._timer = self._loop.call_later(self._patience / 4, self._watch, first, seen)

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        self.lost.set_result(None)
        for waiter in self._waiters:  # 做没做不知道（4.1 第 9 节），所以不替谁重发
            if not waiter.done():
                waiter.set_exception(exceptions.ConnectionError("等回答时，Redis 的连接断了"))


class BatchingRedis:
    """所有任务共用一个。断了：等着的人马上得到 ConnectionError，下一个命令再去连。

    Redis 不应答，最多等 patience 秒。
    """

    def __init__(self, url: str, patience: float = 1) -> None:
        self._url, self._patience = urlsplit(url), patience
        self._line: Line | None = None
        self._dialling: asyncio.Task[Line] | None = None
        self._closed = False

    async def get(self, key: str) -> str | None:
        value = await self.call("GET", key)
        return None if value is None else value.decode()

    async def call(self, *words: str | bytes | int):
        """发任何命令；回答是 bytes、int、None 或它们的 list，错误回答在这里抛出。"""
        line = self._line
        if line is None or line.lost.done():
            line = await self._dial()
        return await line.send(*words)

    async def _dial(self) -> Line:
        if self._closed:
            raise exceptions.ConnectionError("这个客户端关了")
        if self._dialling is None:  # 断线时一千个任务一起来，也只拨一次
            self._dialling = asyncio.create_task(self._connect(), name="连 Redis")
            self._dialling.add_done_callback(self._dialled)
        dialling = self._dialling
        await asyncio.wait([dialling])  # 和 await dialling 不同：我被取消，别人照样等得到
        if dialling.cancelled():
            raise exceptions.ConnectionError("还没连上，这个客户端就关了")
        return dialling.result()

    def _dialled(self, dialling: asyncio.Task[Line]) -> None:
        self._dialling = None
        if not dialling.cancelled() and not dialling.exception():
            self._line = dialling.result()

    async def _connect(self) -> Line:
        try:
            async with asyncio.timeout(self._patience):
                return await self._connect_and_log_in()
        except TimeoutError as error:
            raise exceptions.TimeoutError("Redis 不应答") from error
        except OSError as error:
            raise exceptions.ConnectionError(f"连不上 Redis：{error}") from error

    async def _connect_and_log_in(self) -> Line:
        url = self._url
        _, line = await asyncio.get_running_loop().create_connection(
            lambda: Line(self._patience),
            url.hostname,
            url.port or 6379,
            ssl=ssl.create_default_context() if url.scheme == "rediss" else None,
        )
        try:
            if url.password:
                name = [unquote(url.username)] if url.username else []
                await line.send("AUTH", *name, unquote(url.password))
            [number] = parse_qs(url.query).get("db", [url.path.strip("/") or 0])  # 和 redis-py 一样
            await line.send("SELECT", number)
        except BaseException:
            line.transport.abort()
            raise
        return line

    async def aclose(self) -> None:
        self._closed = True
        if dialling := self._dialling:
            dialling.cancel()
            await asyncio.wait([dialling])
            self._dialled(dialling)  # 也许刚好连上了：那条线也要关
        if self._line and not self._line.lost.done():
            self._line.transport.abort()  # 还有人在等？他们得到 ConnectionError
            await asyncio.shield(self._line.lost)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
