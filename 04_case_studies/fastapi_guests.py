"""4.3 的客人：问一次 (call)、听 SSE (next_event)、一直点单 (Guest)；和第 7 节的那架梯子。"""

import asyncio
import sys
import time
from pathlib import Path

import aiohttp

SERVER = Path(__file__).with_name("fastapi_server.py")
LADDER = {  # 名字: HTTP 解析、事件循环、接口；每一级只换一样
    "FastAPI 接口，h11 + asyncio": ("h11", "asyncio", "/teas"),
    "HTTP 解析换成 httptools": ("httptools", "asyncio", "/teas"),
    "事件循环换成 uvloop": ("httptools", "uvloop", "/teas"),
    "接口换成 Starlette 的": ("httptools", "uvloop", "/teas.json"),
}


async def call(http: aiohttp.ClientSession, method: str, path: str, **body) -> tuple[int, object]:
    async with http.request(method, path, **body) as answer:
        return answer.status, await answer.json(content_type=None)


async def next_event(stream: aiohttp.ClientResponse) -> str:
    """SSE 是一行行的文字：event: 名字、data: JSON、空行。这里只要名字，略过心跳。"""
    async for line in stream.content:
        name = line.decode().strip().removeprefix("event: ")
        if line.startswith(b"event: ") and name != "beat":
            return name
    return "（流结束）"


class Guest(asyncio.Protocol):
    """一条连接，答完一次马上再问。aiohttp 一问要 ≈100 微秒，会比服务器先累倒，所以写得这么省。"""

    def __init__(self, path: str, answers: list[bytes]) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self._answers, self._answer = answers, b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if data.endswith(b"}"):  # 响应头和正文可能分两次到；JSON 的最后一个字节是 }
            self._answers.append(self._answer)
            self._answer = b""
            self._transport.write(self._request)


async def requests_a_second(port: int, path: str, seconds: float) -> tuple[float, set[bytes]]:
    """16 位客人一起问；返回一秒答了几次，和出现过的正文。"""
    answers: list[bytes] = []
    connect = asyncio.get_running_loop().create_connection
    guests = [await connect(lambda: Guest(path, answers), "127.0.0.1", port) for _ in range(16)]
    try:
        await asyncio.sleep(seconds / 4)  # 热身不算
        warm, started = len(answers), time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (len(answers) - warm) / (time.perf_counter() - started)
    finally:
        for transport, _ in guests:
            transport.abort()
    return rate, {answer.partition(b"\r\n\r\n")[2] for answer in answers}


async def climb_the_ladder(_: aiohttp.ClientSession) -> dict[str, set[bytes]]:
    """每一级另开一个服务器进程：客人和它各用各的 CPU，量到的才是它。"""
    bodies, first = {}, 0.0
    for name, (http, loop, path) in LADDER.items():
        if loop == "uvloop" and sys.platform == "win32":
            loop = "asyncio"  # Windows 没有 uvloop
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, SERVER, http, loop),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # 终端里的 Ctrl-C 不直接找它：由下面的 finally 收场
        )
        try:
            port = int(await server.stdout.readline())
            rate, bodies[name] = await requests_a_second(port, path, seconds=0.4)
        finally:
            server.kill()  # 它没有连接池要还
            await server.wait()
        first = first or rate
        print(f"{name}: 每秒 ≈{rate:.0f} 次，≈{rate / first:.1f} 倍")
    return bodies
