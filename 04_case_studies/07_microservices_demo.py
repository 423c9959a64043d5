"""4.7 微服务：下游会慢、会坏、会死，请求都要有下落

视频：视频之外
运行：python 04_case_studies/07_microservices_demo.py
观看：python tutorial.py trace 4.7（一步步看谁在跑、谁在等）
配套：microservices_downstream.py（怎样问下游：先读它）、_station.py（布景）、_platform.py（进程）

先猜后跑
    第 2 节，问的人等了 0.2 秒，断开连接走了。余票服务那条要 1 秒的查询，会停下来吗？

预期输出
    ── 1. 扇出 (fan-out)：一起问，一个 trace id 串起三个进程 ──
    {'时刻': '08:15', '余票': 7}: 两个下游各 0.1 秒，一起问 ≈0.13 秒
      甲 | timetable: GET /trains/G7 200
      甲 | seats: GET /seats/G7 200
      甲 | gateway: GET /trips/G7 200
    ── 2. 截止时间 (deadline) 要往下传，否则下游替没人要的请求白干 ──
    不传截止时间: 问的人 0.2 秒就走了，余票服务照样查完 1 次，没人要
    传了截止时间: 余票服务到点自己停手，504，查完 0 次
    经过网关，一共 0.8 秒: {'时刻': '08:15', '余票': None}（留两成时间降级 (degrade)）
    ── 3. 只重试做两遍也没事的，而且要有预算 ──
    GET 余票: 503 → 503 → 200，旅客看到 {'时刻': '08:15', '余票': 7}
    GET 没有的车次: 旅客看到 404，时刻服务被问 1 次：问错了，它又没坏
    POST 订票: 不知道订上没有: HTTP 503；其实订上了，共 1 张；再发就是两张，除非带幂等键
    全坏时 100 个请求: 每次都重试，敲门 300 次；有预算，敲门 119 次
    ── 4. 舱壁 (bulkhead)：一个下游慢下来，只淹它那一舱 ──
    12 位旅客一起问: 余票服务里只放 4 位，8 位当场降级，开闸后 4 位完整
    ── 5. 断路器 (circuit breaker)：下游死了又活，旅客个个有答复 ──
    边问边杀: 余票服务被 SIGKILL，后来在原来的端口重新起来；旅客一直在问
    ≈29 个请求个个有答复: 完整 ≈8，降级 ≈21，5xx 0，挂住 0
    降级的里面 ≈21 个被断路器当场挡下: 断路器 closed → open，最后 half-open → closed
    它倒着的时候，网关 /health 200，/ready 200：下游倒了，重启网关也没用
    ── 6. 优雅退出 (graceful shutdown)：先摘牌，再关门，做完手上的才走 ──
    说了要停: /ready 503，不再派活给它；/health 200，也别杀它
    门关了: 新来的连不上；里面还有一位，进程还在: True
    最后一位: 200；然后网关退出，退出码 0

动手试试
    1. 把 or_nothing 去掉（直接 app.state.seats.get）：第 5 节余票服务被杀时，旅客看到什么？
    2. 把 Breaker 的 threshold 改成 10000：第 5 节还有谁被“当场挡下”？它等 10 秒，没等到哪句话？
    3. 把 Downstream 的 limit 改成 1000：第 4 节余票服务放进了几次（重试也算）？谁在等谁？
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
import microservices_platform as platform
import settings
from fastapi import FastAPI, HTTPException
from microservices_downstream import (
    Downstream,
    Failed,
    Refused,
    Rejected,
    RetryBudget,
    Unavailable,
    or_nothing,
    retry,
)
from microservices_station import Station, seats, station_opened, timetable


def gateway(timetable_url: str, seats_url: str) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as session:
            app.state.timetable = Downstream(session, timetable_url, limit=100)
            app.state.seats = Downstream(session, seats_url)
            yield

    app = FastAPI(lifespan=lifespan)
    platform.add_probes(app)

    @app.get("/trips/{train}")
    async def trip(train: str) -> dict[str, object]:
        """时刻非有不可，余票可以没有。"""
        try:
            async with asyncio.TaskGroup() as group:
                time = group.create_task(app.state.timetable.get("trains", train))
                seats = group.create_task(or_nothing(app.state.seats.get("seats", train)))
        except* Unavailable as errors:
            problem = errors.exceptions[0]
        else:
            return {"时刻": time.result(), "余票": seats.result()}
        if isinstance(problem, Rejected):  # 没有这趟车：旅客问错了，不是谁坏了
            raise HTTPException(problem.status, str(problem))
        raise HTTPException(503, str(problem), {"Retry-After": "1"})

    @app.post("/orders/{train}")
    async def order(train: str) -> object:
        """没有幂等键 (idempotency key)，做两遍就是两张票：只问一次。"""
        try:
            return await app.state.seats.once("POST", "orders", train)
        except Rejected as error:
            raise HTTPException(error.status, str(error)) from error
        except Refused as error:  # 没去问，就一定没订上
            raise HTTPException(503, f"没订上: {error}", {"Retry-After": "1"}) from error
        except Unavailable as error:
            raise HTTPException(503, f"不知道订上没有: {error}") from error

    return app


async def trace_through_all(station: Station) -> tuple[dict, float, dict[str, list[str]]]:
    started = time.perf_counter()
    (_, first), _ = await asyncio.gather(station.ask("G7", "甲"), station.ask("G8", "乙"))
    elapsed = time.perf_counter() - started
    print(f"{first}: 两个下游各 0.1 秒，一起问 ≈{elapsed:.2f} 秒")
    lines = {name: await station.seen(name, "甲") for name in ("timetable", "seats", "gateway")}
    for name, seen in lines.items():
        print(f"  甲 | {name}: {'，'.join(seen)}")
    return first, elapsed, lines


async def pass_the_deadline_on(station: Station) -> tuple[int, int, list[str]]:
    url = f"{station.services['seats'].url}/seats/K9"
    with contextlib.suppress(TimeoutError):
        timeout = aiohttp.ClientTimeout(total=0.2)
        async with station.session.get(url, headers={"x-trace-id": "不传"}, timeout=timeout):
            pass
    wasted = await station.seen("seats", "不传", text="查完了")
    print(f"不传截止时间: 问的人 0.2 秒就走了，余票服务照样查完 {len(wasted)} 次，没人要")
    headers = {"x-trace-id": "传", "x-budget-ms": "200"}
    async with station.session.get(url, headers=headers) as response:
        status = response.status
    lines = await station.seen("seats", "传")
    print(f"传了截止时间: 余票服务到点自己停手，{status}，查完 {lines.count('查完了')} 次")
    _, answer = await station.ask("K9", "经网关", budget=800)
    lines += await station.seen("seats", "经网关")
    print(f"经过网关，一共 0.8 秒: {answer}（留两成时间降级 (degrade)）")
    return len(wasted), status, [*lines, str(answer)]


async def retry_only_what_is_safe(
    station: Station,
) -> tuple[list[str], list[str], list[str], dict[bool, int]]:
    _, answer = await station.ask("D5", "重试")
    tries = [line.split()[-1] for line in await station.seen("seats", "重试", 3)]
    print(f"GET 余票: {' → '.join(tries)}，旅客看到 {answer}")
    status, _ = await station.ask("X0", "没有")
    missing = await station.seen("timetable", "没有")
    print(f"GET 没有的车次: 旅客看到 {status}，时刻服务被问 {len(missing)} 次：问错了，它又没坏")
    order = f"{station.door}/orders/D6"
    async with station.session.post(order, headers={"x-trace-id": "订票"}) as response:
        detail = (await response.json())["detail"]
    booked = await station.seen("seats", "订票", text="订上了")
    print(f"POST 订票: {detail}；其实{booked[0]}；再发就是两张，除非带幂等键")
    knocks: dict[bool, int] = dict.fromkeys((False, True), 0)
    for thrifty in knocks:
        budget = RetryBudget(100 if thrifty else 10_000)

        async def always_fails(thrifty: bool = thrifty) -> None:
            knocks[thrifty] += 1
            raise Failed("503")

        for _ in range(100):
            with contextlib.suppress(Failed):
                await retry(always_fails, budget, backoff=0)
    print(f"全坏时 100 个请求: 每次都重试，敲门 {knocks[False]} 次；有预算，敲门 {knocks[True]} 次")
    return tries, missing, booked, knocks


async def keep_the_slow_one_in_its_cabin(station: Station) -> tuple[int, int, int]:
    """Z1 的余票一直查不完：舱里占住 4 个，其余的不等它。"""
    waiting = [asyncio.create_task(station.ask("Z1", "舱壁")) for _ in range(12)]
    async with contextlib.AsyncExitStack() as stack:
        for task in waiting:
            stack.callback(task.cancel)
        answers = asyncio.as_completed(waiting)
        early = [await next(answers) for _ in range(8)]  # 闸还没开，它们已经回来了
        inside = await station.seen("seats", "舱壁", 4, text="等开闸")
        await station.open_gate()
        late = [await next(answers) for _ in range(4)]
    degraded = sum(answer.get("余票") is None for _, answer in early)
    full = sum(answer.get("余票") is not None for _, answer in late)
    print(f"12 位旅客一起问: 余票服务里只放 {len(inside)} 位，{degraded} 位当场降级", end="，")
    print(f"开闸后 {full} 位完整")
    return len(inside), degraded, full


async def survive_a_kill(station: Station) -> tuple[dict[str, int], list[str], list[int]]:
    counts = dict.fromkeys(("完整", "降级", "5xx", "挂住"), 0)
    stop = asyncio.Event()

    async def keep_asking() -> None:
        while not stop.is_set():
            try:
                async with asyncio.timeout(15):
                    status, answer = await station.ask("G7", "杀")
            except TimeoutError:
                counts["挂住"] += 1
                continue
            kind = "5xx" if status >= 500 else "降级" if answer["余票"] is None else "完整"
            counts[kind] += 1
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(keep_asking())
        await station.seen("seats", "杀", 3)
        dead = station.services["seats"]
        await dead.kill()
        await station.seen("gateway", "杀", text="closed → open")
        probes = [await station.status("gateway", path) for path in ("/health", "/ready")]
        await station.start("seats", "--port", str(dead.port))  # 别人记着的地址不变
        await station.seen("gateway", "杀", text="half-open → closed")
        await station.seen("seats", "杀", 3)
        stop.set()
    moves = await station.seen("gateway", "杀", text="断路器")
    refused = await station.seen("gateway", "杀", 0, text="断路器开着")
    moves = [move for move in moves if "→" in move]
    total, full, degraded = sum(counts.values()), counts["完整"], counts["降级"]
    print("边问边杀: 余票服务被 SIGKILL，后来在原来的端口重新起来；旅客一直在问")
    print(f"≈{total} 个请求个个有答复: 完整 ≈{full}，降级 ≈{degraded}，", end="")
    print(f"5xx {counts['5xx']}，挂住 {counts['挂住']}")
    last = moves[-1].removeprefix("断路器 ")
    print(f"降级的里面 ≈{len(refused)} 个被断路器当场挡下: {moves[0]}，最后 {last}")
    print(f"它倒着的时候，网关 /health {probes[0]}，/ready {probes[1]}：下游倒了，重启网关也没用")
    return counts, moves, probes


async def finish_before_leaving(station: Station) -> tuple[list[int], bool, int, int]:
    """先说不再接活，再关门，做完手上的，才走。"""
    guest = asyncio.create_task(station.ask("Z1", "最后"))
    try:
        await station.seen("seats", "最后", text="等开闸")
        door = station.services["gateway"]
        await door.drain()
        while (ready := await station.status("gateway", "/ready")) == 200:
            await asyncio.sleep(0.01)
        probes = [ready, await station.status("gateway", "/health")]
        print(f"说了要停: /ready {probes[0]}，不再派活给它；/health {probes[1]}，也别杀它")
        leaving = asyncio.create_task(door.stop())
        with contextlib.suppress(aiohttp.ClientConnectionError):
            while True:
                await station.status("gateway", "/ready")
        print(f"门关了: 新来的连不上；里面还有一位，进程还在: {not leaving.done()}")
        still_there = not leaving.done()
        await station.open_gate()
        status, _ = await guest
        code = await leaving
    finally:
        guest.cancel()
    print(f"最后一位: {status}；然后网关退出，退出码 {code}")
    return probes, still_there, status, code


SECTIONS = {
    "1. 扇出 (fan-out)：一起问，一个 trace id 串起三个进程": trace_through_all,
    "2. 截止时间 (deadline) 要往下传，否则下游替没人要的请求白干": pass_the_deadline_on,
    "3. 只重试做两遍也没事的，而且要有预算": retry_only_what_is_safe,
    "4. 舱壁 (bulkhead)：一个下游慢下来，只淹它那一舱": keep_the_slow_one_in_its_cabin,
    "5. 断路器 (circuit breaker)：下游死了又活，旅客个个有答复": survive_a_kill,
    "6. 优雅退出 (graceful shutdown)：先摘牌，再关门，做完手上的才走": finish_before_leaving,
}


async def main() -> None:
    async with station_opened(__file__) as station:
        for title, section in SECTIONS.items():
            print(f"── {title} ──")
            await section(station)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["gateway", "timetable", "seats"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--downstream", nargs=2, metavar="URL")
    arguments = parser.parse_args()
    if arguments.role is None:
        settings.run(main)
    else:
        build = {"gateway": lambda: gateway(*arguments.downstream), "timetable": timetable}
        app = build.get(arguments.role, seats)()
        asyncio.run(platform.serve(app, arguments.port))
