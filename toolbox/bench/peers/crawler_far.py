"""python crawler_far.py FOLDER LATENCY: serve a folder's pages from far away.

Every page waits LATENCY seconds, in the loop's timer and so without using the processor; all
responses stand ready in memory. Prints its port, ends when its standard input does.
"""

import asyncio
import sys
from pathlib import Path

NOTHING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def response(file: Path) -> bytes:
    body, kind = file.read_bytes(), "html" if file.suffix == ".html" else "plain"
    head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body


class Far(asyncio.Protocol):
    def __init__(self, responses: dict[bytes, bytes], latency: float) -> None:
        self.responses, self.latency, self.received = responses, latency, b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            answer = self.responses.get(self.received.split(b" ", 2)[1], NOTHING)
            self.received = self.received[end + 4 :]
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, answer)


def load(folder: Path) -> dict[bytes, bytes]:
    responses = {
        b"/" + file.relative_to(folder).as_posix().encode(): response(file)
        for file in folder.rglob("*.*")
    }
    return responses | {b"/": responses[b"/index.html"]}


async def main(responses: dict[bytes, bytes], latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Far(responses, latency), "127.0.0.1", 0, backlog=1024)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(main(load(Path(sys.argv[1])), float(sys.argv[2])))
