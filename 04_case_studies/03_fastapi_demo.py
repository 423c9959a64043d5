"""4.3 FastAPI：一家茶馆的留言板，从开门到打烊

视频：§5.3 FastAPI（/ 与 /red）
运行：python 04_case_studies/03_fastapi_demo.py
观看：python tutorial.py trace 4.3（一步步看谁在跑、谁在等）
需要：Redis、MySQL（没有就先 docker compose up -d，或 python tutorial.py services）

用浏览器看
    python 04_case_studies/03_fastapi_demo.py --serve
    打开 http://127.0.0.1:8000/board（留言板）和 /docs（接口文档，不连外网），Ctrl-C 打烊。

怎样读
    这里是接口层；Redis、MySQL 的事在 fastapi_store.py，uvicorn 的事在 fastapi_server.py，客人的
    事（和第 7 节）在 fastapi_guests.py。读缓存用 4.1 的自动合批 (redis_batching.py)。
    第 7 节的每一级都先量过一次请求的 CPU 花在哪里：h11 是纯 Python，占了近一半；换掉它，剩下的大
    半是 FastAPI 的路由、注入和校验（cProfile 里光找路由就占三分之一，所以 create_app 把最热的放在
    最前）。--serve 用快的零件；和 granian、Starlette 等等比，见 python tutorial.py bench fastapi
    和 bench fastapi-redis。

先猜后跑
    第 2 节：四位客人同时点一壶要泡 0.2 秒的茶。接口写成 def + time.sleep，和写成
    async def + time.sleep，哪一个更慢？慢多少？别的客人呢？

预期输出
    ── 1. def 接口进线程池，async def 接口留在事件循环 ──
    GET /    → 200 {'message': '欢迎光临', 'thread': 'AnyIO worker thread'}
    GET /red → 200 {'龙井': 38, '普洱': 45, '茉莉': 28}
    ── 2. def 里阻塞只占一个线程，async def 里阻塞全店停摆 ──
    /brew/def：四壶 ≈0.2 秒，其间 /health/live 最久 ≈0.05 秒没人应
    /brew/async：四壶 ≈0.2 秒，其间 /health/live 最久 ≈0.05 秒没人应
    /brew/blocking：四壶 ≈0.8 秒，其间 /health/live 最久 ≈0.81 秒没人应
    ── 3. 校验在门口：不合格的请求进不了函数 ──
    没写留言 → 422 missing
    名字 21 个字 → 422 string_too_long
    只有空格 → 422 string_pattern_mismatch
    夹着 NUL → 422 string_pattern_mismatch
    像 SQL 的留言 → 201 '); DROP TABLE notes; --
    ── 4. 旁路缓存：先问 Redis，没有再问 MySQL，改了就删 ──
    第一次读 → 200 miss 山水上
    第二次读 → 200 hit 山水上
    改了再读 → 200 miss 山水上，江水中，井水下
    又读一次 → 200 hit 山水上，江水中，井水下
    删了再读 → 404 - 没有了
    ── 5. SSE：一条不结束的响应，有话就推 ──
    有人留言、又撕掉，听众依次收到 ['hello', 'added', 'removed']
    ── 6. 打烊：不接新客，做完手上的，再关连接池 ──
    泡到一半的茶 → (200, 'MainThread')
    听众收到 ['hello', 'bye', '（流结束）']，新来的客人 → 连不上
    ── 7. 同样的回答换零件：一次换一样，量一次 ──
    FastAPI 接口，h11 + asyncio: 每秒 ≈2541 次，≈1.0 倍
    HTTP 解析换成 httptools: 每秒 ≈4206 次，≈1.7 倍
    事件循环换成 uvloop: 每秒 ≈6583 次，≈2.6 倍
    接口换成 Starlette 的: 每秒 ≈10663 次，≈4.2 倍

视频勘误
    import aioredis（2.0.1）在 Python 3.11 上是 TypeError: duplicate base class TimeoutError，
    3.12 起是 ModuleNotFoundError: No module named 'distutils'；它已并入 redis：
    import redis.asyncio as redis（见 fastapi_store.py）。
    连接池不要在 import 时建，也不要用 @app.on_event("startup")：后者是
    DeprecationWarning: on_event is deprecated, use lifespan event handlers instead.
    今天写成 lifespan：yield 之前开门，之后打烊（create_app 里）。

动手试试
    1. --serve 打开 /board，三种泡法各点一次，看心跳；再把 brew_and_block_the_loop 里的
       time.sleep 换成 await asyncio.to_thread(time.sleep, seconds)，心跳还停吗？
    2. --serve 时停掉 Redis（docker compose stop redis），读留言、访问 /red 和 /health/ready，
       谁还好着，谁是 503？再 docker compose start redis，要重启服务吗？
    3. 在 fastapi_store.py 里删掉 change() 的那句 _forget，第 4 节哪一行会变？旧值最多错多久？
    4. 删掉 fastapi_server.py 里 TCP_NODELAY 那一行，第 7 节哪几级变成每秒 ≈360 次？为什么正好是
       16 位客人除以 ≈44 毫秒，uvloop 的那几级又为什么没事？
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path as File
from typing import Annotated, NoReturn

import aiohttp
import settings
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi_guests import call, climb_the_ladder, next_event
from fastapi_offline import FastAPIOffline
from fastapi_server import Inbox, SmallBody, allowed_methods, fast_loop, listen, serving
from fastapi_store import MAX_ID, Draft, Health, Note, Problem, TeaHouse, Unavailable, open_house


async def get_house(request: Request) -> TeaHouse:  # 写成 def，每个请求都要去线程池走一趟
    return request.app.state.house


# 依赖 (dependency) 写成类型，接口里只说“我要茶馆”，测试时也只换这一处
House = Annotated[TeaHouse, Depends(get_house)]
NoteId = Annotated[int, Path(ge=1, le=MAX_ID)]
Seconds = Annotated[float, Query(ge=0, le=1)]
GONE = {404: {"model": Problem, "description": "没有这条留言"}}
AWAY = {503: {"model": Problem, "description": "Redis 或 MySQL 连不上"}}
BAD_JSON = {400: {"model": Problem, "description": "请求体解析不了"}}
TOO_BIG = {413: {"model": Problem, "description": "请求体太大"}}
routes = APIRouter(route_class=SmallBody)


@routes.get("/")
def welcome() -> dict[str, str]:
    """def：FastAPI 把它交给线程池，里面可以阻塞。"""
    return {"message": "欢迎光临", "thread": threading.current_thread().name}


@routes.get("/red", responses=AWAY)
async def red(house: House) -> dict[str, int]:
    """async def：就在事件循环里跑，等 Redis 时循环去接待别人。"""
    return await house.tea_menu()


async def teas() -> dict[str, int]:
    return TeaHouse.MENU


async def teas_json(_: Request) -> Response:
    """和 /teas 一样的回答，走 FastAPI 下面的那层 (Starlette)：不注入、不校验，/docs 里也没有。"""
    return JSONResponse(TeaHouse.MENU)


@routes.get("/brew/def")
def brew_in_a_thread(seconds: Seconds = 0.2) -> str:
    time.sleep(seconds)
    return threading.current_thread().name


@routes.get("/brew/async")
async def brew_in_the_loop(seconds: Seconds = 0.2) -> str:
    await asyncio.sleep(seconds)
    return threading.current_thread().name


@routes.get("/brew/blocking")
async def brew_and_block_the_loop(seconds: Seconds = 0.2) -> str:
    time.sleep(seconds)  # noqa: ASYNC251 — 故意犯错：这段时间整个进程谁也不理
    return threading.current_thread().name


@routes.post("/notes", status_code=201, responses=BAD_JSON | TOO_BIG | AWAY)
async def add_note(draft: Draft, house: House) -> Note:
    return await house.add(draft)


@routes.get("/notes", responses=AWAY)
async def list_notes(
    house: House,
    before: Annotated[int, Query(ge=1, le=MAX_ID)] = MAX_ID,
    limit: Annotated[int, Query(ge=1, le=50)] = 20,
) -> list[Note]:
    return await house.newest(before, limit)


async def read_note(note_id: NoteId, house: House) -> Response:
    note, state = await house.read(note_id)  # 已经是 JSON：直接返回 Response，FastAPI 不再校验
    return Response(note or not_found(), media_type="application/json", headers={"X-Cache": state})


@routes.put("/notes/{note_id}", responses=BAD_JSON | TOO_BIG | GONE | AWAY)
async def change_note(note_id: NoteId, draft: Draft, house: House) -> Note:
    return await house.change(note_id, draft) or not_found()


@routes.delete("/notes/{note_id}", status_code=204, responses=GONE | AWAY)
async def remove_note(note_id: NoteId, house: House) -> None:
    await house.remove(note_id) or not_found()


def not_found() -> NoReturn:
    raise HTTPException(404, "没有这条留言")


@routes.get("/health/live")
async def live() -> str:
    """活着吗 (liveness)？不答就会被重启；所以不查依赖：Redis 倒了，重启我们也没用。"""
    return "alive"


@routes.get("/health/ready", responses={503: {"model": Health}})
async def ready(house: House, response: Response) -> Health:
    """能干活吗 (readiness)？答 503，负载均衡就先不送客人来。"""
    health = await house.health()
    response.status_code = 503 if "down" in (health.redis, health.mysql) else 200
    return health


@routes.get("/board", include_in_schema=False)
async def board() -> FileResponse:
    return FileResponse(File(__file__).with_name("fastapi_page.html"))


@routes.get("/events", response_class=EventSourceResponse, include_in_schema=False)
async def events(inbox: Inbox) -> AsyncIterable[ServerSentEvent]:
    """一条不结束的响应；它不进 /docs，在那里点“执行”会一直转。客人走了，信箱会被取下。"""
    event = ""
    while event != "bye":
        event, data = await inbox.get()
        yield ServerSentEvent(event=event, data=data, retry=1000)  # 断了 1 秒后重连


def create_app(database: str | None = None) -> FastAPI:
    """应用工厂 (app factory)：uvicorn 03_fastapi_demo:create_app --factory 也能用。"""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_house(database) as app.state.house:
            yield

    # 自带的 /docs 从 CDN 取文件，断网就是白页；FastAPIOffline 从包里取，别的都一样
    app = FastAPIOffline(title="茶馆留言板", lifespan=lifespan, redoc_url=None)
    app.router.redirect_slashes = False  # /notes/ 默认 307 到 Host 头写的主机，而它是客人写的
    # 路由从上往下一个个试，include_router 的还要试两遍：最热的直接挂在 app 上，放最前
    app.add_route("/teas.json", teas_json)
    app.get("/teas")(teas)
    app.get("/notes/{note_id}", response_model=Note, responses=GONE | AWAY)(read_note)
    app.include_router(routes)

    @app.exception_handler(Unavailable)
    async def unavailable(_: Request, error: Unavailable) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # 默认会把客人的输入抄回去；NaN、半个代理对 (surrogate) 编不成 JSON，422 就成了 500
        kept = [{key: item[key] for key in ("loc", "msg", "type")} for item in error.errors()]
        return JSONResponse({"detail": kept}, 422)

    app.add_exception_handler(405, allowed_methods)
    return app


async def def_or_async_def(http: aiohttp.ClientSession) -> list[object]:
    answers = [await call(http, "GET", path) for path in ("/", "/red")]
    print("GET /    →", *answers[0])
    print("GET /red →", *answers[1])
    return answers


async def block_a_thread_or_the_loop(http: aiohttp.ClientSession) -> dict[str, tuple]:
    """每次四壶茶一起泡；泡茶时不停地问 /health/live，记下两次应答之间最长隔了多久。"""
    measured = {}
    for path in ("/brew/def", "/brew/async", "/brew/blocking"):
        started = answered = time.perf_counter()
        silence = 0.0
        async with asyncio.TaskGroup() as group:
            pots = [group.create_task(call(http, "GET", path)) for _ in range(4)]
            while not all(pot.done() for pot in pots):
                await call(http, "GET", "/health/live")
                await asyncio.sleep(0.01)
                silence = max(silence, time.perf_counter() - answered)
                answered = time.perf_counter()
        elapsed = time.perf_counter() - started
        print(f"{path}：四壶 ≈{elapsed:.1f} 秒，其间 /health/live 最久 ≈{silence:.2f} 秒没人应")
        measured[path] = (elapsed, silence, [pot.result() for pot in pots])
    return measured


async def check_at_the_door(http: aiohttp.ClientSession) -> list[tuple[int, str]]:
    letters = {
        "没写留言": {"guest": "陆羽"},
        "名字 21 个字": {"guest": "茶" * 21, "text": "好茶"},
        "只有空格": {"guest": "陆羽", "text": "   "},
        "夹着 NUL": {"guest": "陆羽", "text": "好\0茶"},
        "像 SQL 的留言": {"guest": "卢仝", "text": "'); DROP TABLE notes; --"},
    }
    seen = []
    for what, letter in letters.items():
        status, body = await call(http, "POST", "/notes", json=letter)
        why = body["detail"][0]["type"] if status == 422 else body["text"]
        print(f"{what} → {status} {why}")
        seen.append((status, why))
    return seen


async def read_through_the_cache(http: aiohttp.ClientSession) -> list[tuple[int, str]]:
    _, note = await call(http, "POST", "/notes", json={"guest": "陆羽", "text": "山水上"})
    path, seen = f"/notes/{note['id']}", []

    async def read(when: str) -> None:
        async with http.get(path) as answer:
            text = (await answer.json()).get("text", "没有了")
            seen.append((answer.status, answer.headers.get("X-Cache", "-")))
            print(f"{when} → {seen[-1][0]} {seen[-1][1]} {text}")

    await read("第一次读")
    await read("第二次读")
    await call(http, "PUT", path, json={"guest": "陆羽", "text": "山水上，江水中，井水下"})
    await read("改了再读")
    await read("又读一次")
    await call(http, "DELETE", path)
    await read("删了再读")
    return seen


async def push_to_listeners(http: aiohttp.ClientSession) -> list[str]:
    async with http.get("/events") as stream:
        heard = [await next_event(stream)]  # hello：信箱已经挂好，后面的不会漏
        _, note = await call(http, "POST", "/notes", json={"guest": "皎然", "text": "一饮涤昏寐"})
        await call(http, "DELETE", f"/notes/{note['id']}")
        heard += [await next_event(stream), await next_event(stream)]
    print(f"有人留言、又撕掉，听众依次收到 {heard}")
    return heard


async def close_gracefully(_: aiohttp.ClientSession) -> list[object]:
    """另开一家店，茶还在泡就离开 async with serving(…)。"""
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        async with serving(create_app(), listen()) as url:
            tea = group.create_task(call(http, "GET", f"{url}/brew/async?seconds=0.3"))
            stream = await http.get(f"{url}/events")
            heard = [await next_event(stream)]
        heard += [await next_event(stream), await next_event(stream)]
        try:
            newcomer = await call(http, "GET", url)
        except aiohttp.ClientConnectorError:
            newcomer = "连不上"
    print(f"泡到一半的茶 → {tea.result()}")
    print(f"听众收到 {heard}，新来的客人 → {newcomer}")
    return [tea.result(), heard, newcomer]


SECTIONS = {
    "1. def 接口进线程池，async def 接口留在事件循环": def_or_async_def,
    "2. def 里阻塞只占一个线程，async def 里阻塞全店停摆": block_a_thread_or_the_loop,
    "3. 校验在门口：不合格的请求进不了函数": check_at_the_door,
    "4. 旁路缓存：先问 Redis，没有再问 MySQL，改了就删": read_through_the_cache,
    "5. SSE：一条不结束的响应，有话就推": push_to_listeners,
    "6. 打烊：不接新客，做完手上的，再关连接池": close_gracefully,
    "7. 同样的回答换零件：一次换一样，量一次": climb_the_ladder,
}


async def main() -> None:
    async with serving(create_app(), listen()) as url:
        async with aiohttp.ClientSession(url) as http:
            for title, section in SECTIONS.items():
                print(f"── {title} ──", flush=True)
                await section(http)


async def serve(door: socket.socket) -> None:
    loop, asked_to_stop = asyncio.get_running_loop(), asyncio.Event()
    # docker stop 发的是 SIGTERM，默认当场死掉，库和 SSE 都来不及收；Ctrl-C 由 asyncio.run 管
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(asked_to_stop.set))
    async with serving(create_app(), door) as url:
        print(f"留言板   {url}/board\n接口文档 {url}/docs\nCtrl-C 打烊", flush=True)
        await asked_to_stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="不带参数：自己演一遍就结束。")
    parser.error = lambda _: parser.exit(2, "只认得 --serve 和 --port 端口号；-h 看说明\n")
    parser.add_argument("--serve", action="store_true", help="一直开着，用浏览器看")
    parser.add_argument("--port", type=int, default=8000, help="--serve 的端口，0 是随便挑一个空的")
    options = parser.parse_args()
    try:
        door = listen(options.port) if options.serve else None
    except OSError:
        parser.exit(2, f"端口 {options.port} 用不了，多半已被占用：换一个，例如 --port 8001\n")
    settings.run((lambda: serve(door)) if door else main, fast_loop() if door else None)
