"""Lesson 4.3's JSON reads on several servers, and beside other frameworks."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from toolbox import catalog, services
from toolbox.bench.model import Benchmark, Missing, Outcome, Row, Stage, Target

LOAD = Path(__file__).parents[1] / "peers" / "http_load.c"
CONNECTIONS = 64


@contextmanager
def _load() -> Iterator[Stage]:
    """The program that asks, compiled for this machine: Python would be slower than the servers."""
    if sys.platform != "linux":
        raise Missing("压测程序用 epoll 写成，只能在 Linux 上量；Windows 用户可以进 WSL")
    if not (compiler := shutil.which("cc") or shutil.which("gcc")):
        raise Missing("没有 C 编译器，压测程序要当场编译：apt install gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="asyncio-tutorial-") as folder:
        command = [compiler, "-O2", "-o", f"{folder}/http_load", LOAD]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["没有说为什么"])[0]
            raise Missing(f"编译 {LOAD.name} 失败（{reason}）：apt install gcc libc6-dev")
        yield {"load": f"{folder}/http_load", "environment": {}}


@contextmanager
def _load_and_services() -> Iterator[Stage]:
    try:
        with _load() as stage, services.redis() as redis, services.mysql() as mysql:
            yield stage | {"environment": {"REDIS_URL": redis, "MYSQL_URL": mysql}}
    except services.Unavailable as reason:
        raise Missing(str(reason)) from None


def _measure(kind: str, path: str, cores: int, stage: Stage, quick: bool) -> Outcome:
    """Keep one server busy; a server of one process on one core, the load on the others."""
    with subprocess.Popen(
        [sys.executable, "-m", "toolbox.bench.peers.web_servers", kind],
        stdin=subprocess.PIPE,  # closed on leaving: that ends the servers that clear up
        stdout=subprocess.PIPE,
        cwd=catalog.ROOT,
        env=os.environ | stage["environment"],
        text=True,
    ) as server:
        try:
            port = server.stdout.readline().strip()
            content = _first_answer(f"http://127.0.0.1:{port}{path}")
            family = _family(server.pid)
            _share_out_the_cores(family, cores)
            words = [stage["load"], port, path, str(CONNECTIONS)]
            subprocess.run([*words, "0.5"], stdout=subprocess.PIPE, check=True)  # warm
            cpu, seconds = _cpu(family), "1" if quick else "4"
            done = subprocess.run([*words, seconds], stdout=subprocess.PIPE, text=True, check=True)
            cpu = _cpu(family) - cpu
            memory = sum(_memory(pid) for pid in family)
        finally:
            if not stage["environment"]:
                for pid in reversed(_family(server.pid)):
                    os.kill(pid, 9)
    answers, took, wrong = map(float, done.stdout.split())
    work = {"正文": hashlib.sha256(content).hexdigest()[:16], "不一样": int(wrong)}
    return Outcome(answers, took, work, cpu=cpu, memory=memory, busy=cpu / took)


def _first_answer(url: str) -> bytes:
    """The body, its JSON written in one way; waits until the server is up."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.dumps(json.load(answer), sort_keys=True).encode()
        except OSError:  # URLError is one
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _family(pid: int) -> list[int]:
    """A process and all that it started."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for file in children for child in file.read_text().split()]
    return [pid, *(relative for child in found for relative in _family(child))]


def _share_out_the_cores(family: list[int], cores: int) -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    if cores == 1 and others:
        for pid in family:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {first})
        os.sched_setaffinity(0, others)  # the load inherits it


def _cpu(family: list[int]) -> float:
    """Seconds of CPU that the processes have used."""
    ticks = 0
    for pid in family:
        after_the_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_the_name[11]) + int(after_the_name[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def _row(name: str, kind: str, *needs: str, path: str = "/teas", cores: int = 1) -> Row:
    return Row(name, partial(_measure, kind, path, cores), needs)


SLOW, SHIPPED = "4.3 的 /teas，h11 + asyncio", "4.3 的 /teas，如课里：httptools + uvloop"
SLOW_JSON = "4.3 的 /teas.json（Starlette 的接口），h11 + asyncio"
SHIPPED_JSON = "4.3 的 /teas.json，如课里"
PLAIN, BATCHED = "redis.asyncio，一个请求一条 GET", "4.3，如课里：自动合批"
UVICORN = ("fastapi", "uvicorn", "uvloop", "httptools")

BENCHMARKS = [
    Benchmark(
        "fastapi",
        "一个 JSON 接口，服务器跑满（4.3）",
        "次/秒",
        [
            _row(SLOW, "h11", *UVICORN),
            _row(SHIPPED, "shipped", *UVICORN),
            _row("同上，两个进程", "two", *UVICORN, cores=2),
            _row(SLOW_JSON, "h11", *UVICORN, path="/teas.json"),
            _row(SHIPPED_JSON, "shipped", *UVICORN, path="/teas.json"),
            _row("4.3 的 /teas，granian", "granian", *UVICORN, "granian"),
            _row("4.3 的 /teas，hypercorn", "hypercorn", *UVICORN, "hypercorn"),
            _row("只有 Starlette，httptools + uvloop", "starlette", *UVICORN),
            _row("手写 ASGI，httptools + uvloop", "asgi", *UVICORN),
            _row("aiohttp.web，uvloop", "aiohttp", "aiohttp", "uvloop"),
        ],
        [Target(SHIPPED, SLOW, 2), Target(SHIPPED_JSON, SLOW_JSON, 2)],
        _load,
        server="saturated",
        note=f"{CONNECTIONS} 条连接，答完一次马上再问；服务器占一个核（两个进程那行不限），"
        "每个回答的正文都比过。内存和 CPU 是服务器的。",
    ),
    Benchmark(
        "fastapi-redis",
        "读一条在缓存里的留言，服务器跑满（4.3）",
        "次/秒",
        [
            _row(PLAIN, "redis plain", *UVICORN, "redis", "aiomysql", path="/notes/1"),
            _row(BATCHED, "redis batching", *UVICORN, "redis", "aiomysql", path="/notes/1"),
        ],
        [Target(BATCHED, PLAIN, 1.45)],
        _load_and_services,
        server="saturated",
        note=f"{CONNECTIONS} 条连接，都命中缓存；两行只差读缓存的客户端，都是 httptools + uvloop。",
    ),
]
