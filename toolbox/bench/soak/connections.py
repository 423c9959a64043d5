"""10,000 connections at once to 3.8's loop and to 4.3; `python -m … connections WHICH` is a server.

The servers are the lessons' own, each in a process of its own, with a desk beside it: a second port
that tells how many tasks the loop has. Linux only: memory and connections are read from /proc.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toolbox import catalog, services
from toolbox.bench.model import Missing, lesson
from toolbox.bench.soak import Check

TITLE = "3.8 的循环和 4.3 各接 10,000 条同时开着的连接，两轮：条条有回答，走后什么也不剩"
PATIENCE = 90  # seconds for any one step
SPARE = 200  # descriptors that a process needs beside its connections
AT_THE_DOOR = 256  # connecting at the same time; more would overflow the queue of the listener
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def checks(say: Callable[[str], None], quick: bool) -> Iterator[Check]:
    if sys.platform != "linux":
        raise Missing("内存和连接要从 Linux 的 /proc 里读，这个系统没有")
    wanted = 1_000 if quick else 10_000
    with descriptors(wanted + SPARE) as allowed:
        count = min(wanted, allowed - SPARE)
        if count < wanted:
            say(f"ulimit -Hn 只许开 {allowed} 个文件，只能试 {count} 条连接：ulimit -Hn 20000 再来")
        with server("3.8") as (process, ports):
            yield from judge("3.8", wanted, asyncio.run(cycles(process.pid, ports, count, echo)))
        with services.redis(say=say) as redis, services.mysql(say=say) as mysql:
            with server("4.3", REDIS_URL=redis, MYSQL_URL=mysql) as (process, ports):
                path = asyncio.run(write_a_note(ports[0]))
                seen = asyncio.run(cycles(process.pid, ports, count, reading(path)))
                yield from judge("4.3", wanted, seen)


@contextlib.contextmanager
def descriptors(needed: int) -> Iterator[int]:
    """Raise the soft limit of open files, for the servers, too; gives what is allowed now."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    allowed = needed if hard == endless else min(needed, hard)
    allowed = allowed if soft != endless and soft < allowed else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        yield needed if allowed == endless else allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def server(which: str, **environment: str) -> Iterator[tuple[subprocess.Popen, list[int]]]:
    """A server's process and its ports: the door, the desk. Gone at the end."""
    with subprocess.Popen(
        services.dying_with_us([sys.executable, "-m", __name__, which], signal.SIGTERM),
        cwd=catalog.ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is for us; we stop the server
    ) as process:
        try:
            ports = process.stdout.readline().split()
            if not ports:
                raise RuntimeError(f"{which} 没有起来")
            yield process, list(map(int, ports))
        finally:
            process.terminate()  # 4.3 removes its database then
            try:
                process.wait(10)
            finally:
                process.kill()


# ── The visitors ──


@dataclass
class Cycle:
    answered: int
    failures: Counter
    held: int  # connections that the server had at the same time
    left: int  # that it still had when all visitors had gone
    tasks: tuple[int, int]  # of the server, before and after
    memory: int  # the server's peak, bytes


async def cycles(
    pid: int, ports: list[int], count: int, talk: Callable[[Pair, int], Awaitable[None]]
) -> list[Cycle]:
    return [await cycle(pid, *ports, count, talk) for _ in range(2)]


async def cycle(pid: int, door: int, desk: int, count: int, talk) -> Cycle:
    forget_peak(pid)
    before, failures = await tasks(desk), Counter()
    gate = asyncio.Semaphore(AT_THE_DOOR)

    async def attempt(step: Callable[..., Awaitable], *words: object):
        try:
            async with asyncio.timeout(PATIENCE):
                return await step(*words)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            failures[type(error).__name__] += 1

    async def connect(number: int) -> Pair:
        # One address has too few ports for 10,000 connections and those that have just closed; and
        # none of them may be the server's, or connections() would count both ends.
        source = f"127.0.0.{2 + number % 4}"
        async with gate:
            return await asyncio.open_connection("127.0.0.1", door, local_addr=(source, 0))

    opened = await asyncio.gather(*(attempt(connect, number) for number in range(count)))
    pairs = [pair for pair in opened if pair]
    held = connections(door)
    await asyncio.gather(*(attempt(talk, pair, number) for number, pair in enumerate(pairs)))
    for _, writer in pairs:
        writer.close()
    await asyncio.gather(*(attempt(writer.wait_closed) for _, writer in pairs))
    deadline = time.monotonic() + 10
    while connections(door) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    after = await tasks(desk)
    answered = count - failures.total()
    return Cycle(answered, failures, held, connections(door), (before, after), peak(pid))


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # see proc(5): VmHWM begins again


def peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def connections(port: int) -> int:
    """How many connections a server on 127.0.0.1 has: not those that wait for their end."""
    listen, time_wait = "0A", "06"
    address = int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder)
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # The kernel gives the table piece by piece; while it changes, a row may come twice.
    states = {row[2]: row[3] for row in rows if row[1] == f"{address:08X}:{port:04X}"}
    return sum(state not in (listen, time_wait) for state in states.values())


async def tasks(desk: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", desk)
    with contextlib.closing(writer):
        return int(await reader.read())


async def echo(pair: Pair, number: int) -> None:
    reader, writer = pair
    said = f"第 {number} 位\n".encode()
    writer.write(said)
    if await reader.readexactly(len(said)) != said:
        raise ValueError("不是回声")


def reading(path: str) -> Callable[[Pair, int], Awaitable[None]]:
    async def read(pair: Pair, number: int) -> None:
        note = await request(pair, "GET", path)
        if note["guest"] != "陆羽":
            raise ValueError("不是那条留言")

    return read


async def write_a_note(door: int) -> str:
    """The path of a note that all may read."""
    pair = await asyncio.open_connection("127.0.0.1", door)
    with contextlib.closing(pair[1]):
        note = await request(pair, "POST", "/notes", {"guest": "陆羽", "text": "山水上"})
    return f"/notes/{note['id']}"


async def request(pair: Pair, method: str, path: str, body: object = None) -> dict:
    """One HTTP request, as little as will do: aiohttp would weigh more than what it visits."""
    reader, writer = pair
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json", "", ""]
    writer.write("\r\n".join(lines).encode() + data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    answer = await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
    status = head.split()[1]
    if status not in ("200", "201"):
        raise ValueError(status)
    return json.loads(answer)


def judge(which: str, wanted: int, seen: list[Cycle]) -> Iterator[Check]:
    first, second = seen
    failures = "，".join(f"{kind} × {n}" for kind, n in (first.failures + second.failures).items())
    yield Check(
        f"{which} 同时开着 {wanted:,} 条连接，条条有自己的回答",
        f"开着 {first.held:,}、{second.held:,} 条，答了 {first.answered:,}、{second.answered:,} 条"
        + (failures and f"（{failures}）"),
        all(cycle.held >= wanted and cycle.answered == wanted for cycle in seen),
    )
    yield Check(
        f"{which} 的内存：第二轮 ≤ 第一轮 + 5%",
        f"峰值 {first.memory / 1e6:.1f} → {second.memory / 1e6:.1f} MB",
        second.memory <= first.memory * 1.05,
    )
    (before, _), (_, after) = first.tasks, second.tasks
    yield Check(
        f"人走以后，{which} 不剩连接，不剩任务",
        f"连接 {first.left}、{second.left} 条；任务 {before} 个 → {after} 个",
        first.left == second.left == 0 and after <= before,
    )


# ── The servers ──


def serve_our_loop() -> None:
    demo = lesson("03_advanced/08_event_loop_from_scratch_demo.py")
    loop = demo.Loop()

    async def report(stream) -> None:
        with contextlib.closing(stream):
            await stream.write(str(len(loop.tasks)).encode())

    async def main() -> None:
        door, desk = (
            demo.Stream(loop, socket.create_server(("127.0.0.1", 0), backlog=1024)) for _ in "12"
        )
        print(door.sock.getsockname()[1], desk.sock.getsockname()[1], flush=True)
        loop.spawn(demo.serve(loop, desk, report))
        await loop.spawn(demo.serve(loop, door, demo.echo))

    loop.run(main())


def serve_the_tea_house() -> None:
    """What `03_fastapi_demo.py --serve` does, and the desk."""
    demo = lesson("04_case_studies/03_fastapi_demo.py")

    async def report(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            writer.write(str(len(asyncio.all_tasks())).encode())

    async def main() -> None:
        door = demo.listen()
        async with await asyncio.start_server(report, "127.0.0.1", 0) as desk:
            print(door.getsockname()[1], desk.sockets[0].getsockname()[1], flush=True)
            await demo.serve(door)

    demo.settings.run(main, demo.fast_loop())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    {"3.8": serve_our_loop, "4.3": serve_the_tea_house}[sys.argv[1]]()
