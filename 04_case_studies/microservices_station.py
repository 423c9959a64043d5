"""4.7 的布景：时刻、余票两个服务（会慢、会坏），和门外的旅客。"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import microservices_platform as platform
from fastapi import FastAPI, HTTPException
from microservices_platform import Service

SLOW = 1.0  # 秒：K9 的余票要查这么久


def timetable() -> FastAPI:
    app = FastAPI()
    platform.add_probes(app)

    @app.get("/trains/{train}")
    async def train(train: str) -> str:
        if train == "X0":
            raise HTTPException(404, "没有这趟车")
        await asyncio.sleep(0.1)
        return "08:15"

    return app


def seats() -> FastAPI:
    app = FastAPI()
    platform.add_probes(app)
    calls: collections.Counter[str] = collections.Counter()
    gate = asyncio.Event()

    @app.get("/seats/{train}")
    async def left(train: str) -> int:
        calls[train] += 1
        if train == "D5" and calls[train] <= 2:  # 头两次坏，第三次好
            raise HTTPException(503)
        if train == "K9":
            await asyncio.sleep(SLOW)
            platform.log("查完了")
        if train == "Z1":
            platform.log("等开闸")
            await gate.wait()
        await asyncio.sleep(0.1)
        return 7

    @app.post("/orders/{train}")
    async def order(train: str) -> None:
        calls["订单"] += 1
        platform.log(f"订上了，共 {calls['订单']} 张")
        raise HTTPException(503)  # 订上了，回话却坏在半路

    @app.post("/gate")
    async def open_gate() -> None:
        gate.set()
        await asyncio.sleep(0)
        gate.clear()

    return app


class Station:
    """三个进程，和我们：站在门外的旅客。"""

    def __init__(self, script: str, session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self.script, self.session, self.stack = script, session, stack
        self.services: dict[str, Service] = {}

    async def start(self, name: str, *options: str) -> None:
        running = platform.running(self.script, name, *options)
        self.services[name] = await self.stack.enter_async_context(running)

    @property
    def door(self) -> str:
        return self.services["gateway"].url

    async def ask(self, train: str, trace: str = "-", budget: int = 10_000) -> tuple[int, dict]:
        headers = {platform.TRACE_HEADER: trace, platform.BUDGET_HEADER: str(budget)}
        async with self.session.get(f"{self.door}/trips/{train}", headers=headers) as response:
            return response.status, await response.json()

    async def status(self, service: str, path: str) -> int:
        async with self.session.get(self.services[service].url + path) as response:
            return response.status

    async def open_gate(self) -> None:
        async with self.session.post(self.services["seats"].url + "/gate"):
            pass

    async def seen(self, service: str, trace: str, count: int = 1, text: str = "") -> list[str]:
        """等到那个服务的日志里，这个 trace id 有了 count 行（日志比回答晚到一步）。"""
        async with asyncio.timeout(10):
            while True:
                lines = [line for line in self.services[service].traced(trace) if text in line]
                if len(lines) >= count:
                    return lines
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def station_opened(script: str) -> AsyncIterator[Station]:
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        station = Station(script, session, stack)
        async with asyncio.TaskGroup() as group:
            for name in ("timetable", "seats"):
                group.create_task(station.start(name))
        urls = [station.services[name].url for name in ("timetable", "seats")]
        await station.start("gateway", "--downstream", *urls)
        yield station
