"""3.8's loop beside asyncio, uvloop and the bare system calls."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from toolbox import catalog
from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Stage, Target, lesson

PEERS = Path(__file__).parents[1] / "peers"
CONNECTIONS = 256


# ── echo: the server is measured, from outside ──


@contextmanager
def echo_stage() -> Iterator[Stage]:
    """The two C programs, compiled for this machine: one is a row, the other drives every row."""
    if sys.platform != "linux":
        raise Missing("压测程序用 epoll 写成，只能在 Linux 上量；Windows 用户可以进 WSL")
    if not (compiler := shutil.which("cc") or shutil.which("gcc")):
        raise Missing("没有 C 编译器，压测程序要当场编译：apt install gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="asyncio-tutorial-") as folder:
        for name in ("echo_server", "echo_load"):
            command = [compiler, "-O2", "-o", f"{folder}/{name}", PEERS / f"{name}.c"]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["没有说为什么"])[0]
                raise Missing(f"编译 {name}.c 失败（{reason}）：apt install gcc libc6-dev")
        yield {"programs": folder}


def echo(kind: str, stage: Stage, quick: bool) -> Outcome:
    """Keep one server busy; the server on one core, the load on another."""
    messages = 20_000 if quick else 200_000
    core, *others = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "toolbox.bench.peers.echo_servers", kind]
    if kind == "C":
        command = [f"{stage['programs']}/echo_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=catalog.ROOT, text=True) as server:
        try:
            os.sched_setaffinity(server.pid, {core})
            os.sched_setaffinity(0, others or {core})  # the load inherits it
            words = [server.stdout.readline().strip(), server.pid, CONNECTIONS, messages]
            load = [f"{stage['programs']}/echo_load", *map(str, words)]
            report = subprocess.run(load, stdout=subprocess.PIPE, text=True, check=True).stdout
            memory = held(server.pid, "VmHWM")
        finally:
            server.kill()
    right, wrong, seconds, cpu = map(float, report.split())
    work = {"一样": int(right), "不一样": int(wrong)}
    return Outcome(messages, seconds, work, cpu=cpu, memory=memory, busy=cpu / seconds)


def held(pid: int, what: str) -> int:
    """Physical memory of a process, bytes: VmRSS now, VmHWM at its peak (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) * 1024


# ── sleepers: a million coroutines asleep at once ──


def sleepers(name: str, stage: Stage, quick: bool) -> Outcome:
    """Put all to sleep, let them wake at the same moment, count them.

    The time is that of falling asleep and of waking up, without the wait between; the memory is the
    peak, less what the process held before the first coroutine.
    """
    count, linux = 100_000 if quick else 1_000_000, sys.platform == "linux"
    run, spawner = LOOPS[name]()
    before, started = held(os.getpid(), "VmRSS") if linux else 0, time.monotonic()
    asleep, woken = run(crowd(spawner, count))
    seconds = time.monotonic() - woken + asleep - started
    memory = held(os.getpid(), "VmHWM") - before if linux else None  # elsewhere: all of the process
    return Outcome(count, seconds, work=count, memory=memory)


async def crowd(spawner: Callable, count: int) -> tuple[float, float]:
    """When the last of `count` fell asleep, and when the first could wake; returns when all did."""
    spawn, sleep = spawner()
    left, deadline, asleep = count, 0.0, 0.0

    async def sleeper() -> None:
        nonlocal left, asleep
        asleep = time.monotonic()
        await sleep(deadline - asleep)
        left -= 1

    started = time.monotonic()
    for _ in range(count):
        spawn(sleeper())
    now = time.monotonic()
    deadline = now + 3 * (now - started) + 2  # they run only when we wait, below
    await sleep(deadline - now)
    while left:
        await sleep(0)
    if asleep >= deadline:
        raise RuntimeError("最后一个还没睡，第一个已经到点了：机器太忙")
    return asleep, deadline


def asyncio_pair() -> tuple[Callable, Callable]:
    return asyncio.get_running_loop().create_task, asyncio.sleep


def on_asyncio() -> tuple[Callable, Callable]:
    return asyncio.run, asyncio_pair


def on_uvloop() -> tuple[Callable, Callable]:
    import uvloop

    return uvloop.run, asyncio_pair


def on_our_loop() -> tuple[Callable, Callable]:
    loop = lesson("03_advanced/mini_loop.py").Loop()
    return loop.run, lambda: (loop.spawn, loop.sleep)


LOOPS = {"asyncio": on_asyncio, "uvloop": on_uvloop, "ours": on_our_loop}


BENCHMARKS = [
    Benchmark(
        "echo",
        "回声服务器：256 条连接，每次 64 字节",
        "条/秒",
        [
            Row("asyncio streams", partial(echo, "streams")),
            Row("asyncio Protocol", partial(echo, "protocol")),
            Row("asyncio streams，释放过大块", partial(echo, "warm-streams")),
            Row("asyncio Protocol，释放过大块", partial(echo, "warm-protocol")),
            Row("3.8 的循环", partial(echo, "ours")),
            Row("uvloop streams", partial(echo, "uvloop-streams"), ("uvloop",)),
            Row("uvloop Protocol", partial(echo, "uvloop-protocol"), ("uvloop",)),
            Row("Python 直接用 epoll", partial(echo, "epoll")),
            Row("C 直接用 epoll", partial(echo, "C")),
        ],
        [
            Target("3.8 的循环", "asyncio streams", 2.0),
            Target("3.8 的循环", "asyncio Protocol", 1.1),
            Target("3.8 的循环", "asyncio streams，释放过大块", 2.0),
            Target("3.8 的循环", "asyncio Protocol，释放过大块", 1.1),
            Target("3.8 的循环", "C 直接用 epoll", 0.5),
        ],
        echo_stage,
        server="saturated",
        note="服务器独占一个核，压测程序在另一个核上；它比最快的服务器还快，所以量到的是服务器。"
        "每条消息都不一样，每个回声都逐字节比过。CPU 秒和内存是服务器的。"
        "asyncio 每次用 256 KiB 的缓冲区收；进程若还没有释放过更大的块，glibc 的 malloc 每次都"
        "向内核现要，多两次缺页中断：光写 asyncio 的程序就是这样，所以另列两行先释放过的。",
    ),
    Benchmark(
        "sleepers",
        "同时睡着的协程：一百万个（--quick 十万个）",
        "个/秒",
        [
            Row("asyncio", partial(sleepers, "asyncio")),
            Row("uvloop", partial(sleepers, "uvloop"), ("uvloop",)),
            Row("3.8 的循环", partial(sleepers, "ours")),
        ],
        [
            Target("3.8 的循环", "asyncio", 0.7, of="memory"),
            Target("3.8 的循环", "asyncio", 0.5, of="time"),
        ],
        note="全都睡下了，才有第一个醒。用时是建任务、睡下、醒来的，不算中间那段睡着的；内存是峰值减去"
        "建第一个之前进程已经占着的。",
    ),
]
