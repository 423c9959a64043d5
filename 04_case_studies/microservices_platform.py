"""4.7 的地基：一个服务的进程怎样起、怎样停；一个请求怎样带着 trace id 和时间预算过门。

生产里这些是别人做的：OpenTelemetry 传 trace id，gRPC 传截止时间，systemd、Kubernetes 管进程。
"""

import asyncio
import contextlib
import json
import math
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

TRACE_HEADER, BUDGET_HEADER = "x-trace-id", "x-budget-ms"
TRACE: ContextVar[str] = ContextVar("trace", default="-")
DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)
DEFAULT_BUDGET, LONGEST_BUDGET = 5_000, 60_000  # 毫秒；没说的按 5 秒：没有期限的请求会占着不走


def time_left() -> float:
    return DEADLINE.get() - asyncio.get_running_loop().time()


def headers() -> dict[str, str]:
    """传剩下多少毫秒，不传几点几分：两台机器的钟对不齐。"""
    budget = max(round(min(time_left() * 1000, LONGEST_BUDGET)), 1)
    return {TRACE_HEADER: TRACE.get(), BUDGET_HEADER: str(budget)}


def budget_of(sent: bytes | None) -> int | None:
    """请求带来的毫秒数；没带就用默认的，不成样子的是 None。"""
    if sent is None:
        return DEFAULT_BUDGET
    budget = int(sent) if sent.isdigit() and len(sent) <= 5 else 0
    return budget if 0 < budget <= LONGEST_BUDGET else None


def log(text: str) -> None:
    """一行日志；trace id 从 context 里来，谁也不必一路当参数传。"""
    with contextlib.suppress(OSError):  # 父进程已经不在
        os.write(1, json.dumps([TRACE.get(), text]).encode() + b"\n")


class Edge:
    """每个服务的门口 (ASGI middleware)：认领 trace id，看着钟，到点就停手，最后记一行日志。"""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        sent = dict(scope["headers"])
        # uvicorn 给每个请求一个任务，也就给了它自己的 context：set 了不必还原
        TRACE.set(sent.get(TRACE_HEADER.encode(), b"-").decode(errors="replace"))
        budget = budget_of(sent.get(BUDGET_HEADER.encode()))
        status = 0

        async def remember(message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        async def refuse(status: int, why: str) -> None:
            await JSONResponse({"detail": why}, status)(scope, receive, remember)

        try:
            if budget is None:
                return await refuse(400, f"{BUDGET_HEADER} 要 1 到 {LONGEST_BUDGET} 的整数")
            DEADLINE.set(asyncio.get_running_loop().time() + budget / 1000)
            async with asyncio.timeout_at(DEADLINE.get()) as deadline:
                await self.app(scope, receive, remember)
        except TimeoutError:
            if status or not deadline.expired():
                raise  # 已经开口答了，或者不是我们的钟响
            await refuse(504, "超时")
        finally:
            log(f"{scope['method']} {scope['path']} {status or 500}")


def add_probes(app: FastAPI) -> None:
    """health：进程还转吗（不转就重启它）；ready：能接活吗（不能就别派活，不必重启）。"""
    app.add_middleware(Edge)
    app.state.draining = False

    @app.get("/health")
    async def health() -> str:
        return "ok"

    # 这里不问下游：下游一倒，所有网关就会一起“没准备好”，整站消失
    @app.get("/ready")
    async def ready() -> JSONResponse:
        return JSONResponse(not app.state.draining, 503 if app.state.draining else 200)


async def serve(app: FastAPI, port: int) -> None:
    """先印端口，再开门；stdin 来一行就不再接新活，读到结尾就做完手上的请求再走。

    生产里前者是 preStop 钩子，后者是 SIGTERM（uvicorn 本来就认得）。
    """
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(app, ws="none", log_config=None, timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)

    def obey() -> None:
        while os.read(0, 64):
            loop.call_soon_threadsafe(setattr, app.state, "draining", True)
        # 父进程关了 stdin，或者死了（哪怕是 SIGKILL）：不留下孤儿
        with contextlib.suppress(RuntimeError):  # 循环已经关了
            loop.call_soon_threadsafe(setattr, server, "should_exit", True)

    with socket.create_server(("127.0.0.1", port)) as door:
        os.write(1, b"%d\n" % door.getsockname()[1])
        threading.Thread(target=obey, daemon=True).start()
        await server.serve(sockets=[door])


class Service:
    """父进程眼里的一个服务。"""

    def __init__(self, name: str, process: asyncio.subprocess.Process, port: int) -> None:
        self.name, self.process, self.port = name, process, port
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[tuple[str, str]] = []  # (trace id, 日志)

    async def collect(self) -> None:
        async for line in self.process.stdout:
            self.lines.append(tuple(json.loads(line)))

    def traced(self, trace: str) -> list[str]:
        return [text for seen, text in self.lines if seen == trace]

    async def kill(self) -> None:
        self.process.kill()  # SIGKILL：没有 finally，没有遗言
        await self.process.wait()

    async def drain(self) -> None:
        self.process.stdin.write(b"drain\n")
        await self.process.stdin.drain()

    async def stop(self) -> int:
        self.process.stdin.close()
        return await self.process.wait()


@contextlib.asynccontextmanager
async def running(script: str, name: str, *options: str) -> AsyncIterator[Service]:
    """另一个进程里的服务；怎样离开都一样：它一定已经不在了。"""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        "--role",
        name,
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C 只给我们，由我们收场
    )
    try:
        first = await process.stdout.readline()
        if not first:
            raise RuntimeError(f"{name} 没有起来")
        service = Service(name, process, int(first))
        reader = asyncio.create_task(service.collect())
        try:
            yield service
            await service.stop()
            await reader
        finally:
            reader.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
