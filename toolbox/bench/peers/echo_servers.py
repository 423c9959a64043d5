"""python -m toolbox.bench.peers.echo_servers KIND: an echo server that prints its port.

It echoes until it is killed. All are in Python, written the way that each library's user would.
"""

import asyncio
import select
import signal
import socket
import sys
from contextlib import closing, suppress

from toolbox.bench.model import lesson


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with closing(writer):
        while heard := await reader.read(65536):
            writer.write(heard)
            await writer.drain()


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def streams(door: socket.socket) -> None:
    async with await asyncio.start_server(echo, sock=door) as server:
        await server.serve_forever()


async def protocol(door: socket.socket) -> None:
    async with await asyncio.get_running_loop().create_server(Echo, sock=door) as server:
        await server.serve_forever()


def on_asyncio(serve, door: socket.socket) -> None:
    asyncio.run(serve(door))


def on_uvloop(serve, door: socket.socket) -> None:
    import uvloop

    uvloop.run(serve(door))


def on_our_loop(door: socket.socket) -> None:
    """3.8's loop with 3.8's own handler: nothing is written for the benchmark."""
    demo = lesson("03_advanced/08_event_loop_from_scratch_demo.py")
    loop = demo.Loop()
    loop.run(demo.serve(loop, demo.Stream(loop, door), demo.echo))


def raw_epoll(door: socket.socket) -> None:
    """No coroutines, no loop to speak of: what Python itself and the system calls cost."""
    door.setblocking(False)
    with select.epoll() as epoll:
        epoll.register(door, select.EPOLLIN)
        known: dict[int, socket.socket] = {}
        while True:
            for number, _ in epoll.poll():
                if number == door.fileno():
                    near, _ = door.accept()
                    near.setblocking(False)
                    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                    epoll.register(near, select.EPOLLIN)
                    known[near.fileno()] = near
                    continue
                with suppress(ConnectionError):
                    heard = known[number].recv(65536)
                    if heard and known[number].send(heard) == len(heard):
                        continue
                known.pop(number).close()  # gone, or more than its buffer holds


KINDS = {
    "streams": lambda door: on_asyncio(streams, door),
    "protocol": lambda door: on_asyncio(protocol, door),
    "ours": on_our_loop,
    "uvloop-streams": lambda door: on_uvloop(streams, door),
    "uvloop-protocol": lambda door: on_uvloop(protocol, door),
    "epoll": raw_epoll,
}


def main() -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(300)  # whoever started us may have been killed
    kind = sys.argv[1]
    if kind.startswith("warm-"):
        # asyncio receives into 256 KiB. Until a program has once freed a larger block, glibc's
        # malloc maps those from the kernel anew for every message: two page faults, and asyncio is
        # half as fast. Many programs free one sooner or later, so we show what asyncio can do then.
        bytes(1 << 20)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as door:
        print(door.getsockname()[1], flush=True)
        KINDS[kind.removeprefix("warm-")](door)


if __name__ == "__main__":
    main()
