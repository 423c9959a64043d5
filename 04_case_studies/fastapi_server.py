"""4.3 的服务器：把 uvicorn 放进自己的事件循环，从开门到打烊都有主人。

命令行的 uvicorn 03_fastapi_demo:create_app --factory 也行；那时请加
--timeout-graceful-shutdown 5，它不认识我们的 SSE，只会等到超时。

python fastapi_server.py h11 asyncio 用指定的零件另开一家：不连 Redis 和 MySQL，只为量速度
（第 7 节）。
"""

import asyncio
import contextlib
import importlib
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

LARGEST_BODY = 64 * 1024


def listen(port: int = 0) -> socket.socket:
    """占住端口；0 是让系统挑一个空的。从这一刻起客人就可以排队，不必轮询“好了没有”。"""
    if port not in range(65536):  # 不然 create_server 抛 OverflowError，还留下一个没关的 socket
        raise OSError("端口是 0–65535")
    door = socket.create_server(("127.0.0.1", port))
    # uvicorn 把响应头和正文分两次写；不关 Nagle 算法，正文要等客人确认了头才发，而客人的系统会把
    # 确认拖 40 毫秒。asyncio 只替写明了 IPPROTO_TCP 的 socket 关，create_server 造的没有写明
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # 接进来的连接跟着它
    return door


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop 是 C 写的事件循环；Windows 没有，那里用 asyncio 自己的。"""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def configure(app: FastAPI, http: str = "auto", loop: str = "auto") -> uvicorn.Config:
    """auto：装了 httptools（C 写的 HTTP 解析，uvicorn[standard] 里有）就用它，否则 h11。"""
    return uvicorn.Config(
        app,
        http=http,
        loop=loop,  # 只管 Server.run()；我们自己的循环由 settings.run 选
        lifespan="off",  # 我们自己进出：MySQL 没开时得到的是原来的异常，而不是 sys.exit(3)
        ws="none",
        proxy_headers=False,  # 前面没有反向代理：不认 X-Forwarded-For，也少过一层中间件
        log_config=None,  # 日志归程序管；警告和错误仍然到 stderr
        timeout_graceful_shutdown=5,
    )


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # uvicorn 会接管 Ctrl-C；这里留给 asyncio.run：取消 main，一层层收场


@contextlib.asynccontextmanager
async def serving(app: FastAPI, door: socket.socket) -> AsyncIterator[str]:
    """给出服务的 URL；正常走完、出错、Ctrl-C 都一样：做完手上的请求，才关连接池。"""
    server = Server(configure(app))
    with door:
        async with app.router.lifespan_context(app), asyncio.TaskGroup() as group:
            running = group.create_task(server.serve(sockets=[door]), name="uvicorn")
            try:
                yield f"http://127.0.0.1:{door.getsockname()[1]}"
            finally:
                app.state.house.say_goodbye()  # 先告诉 SSE：uvicorn 会等所有连接断开
                server.should_exit = True
                await running


# ── FastAPI 和 Starlette 没做全的三处 ──


class _SmallRequest(Request):
    async def stream(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in super().stream():
            size += len(chunk)
            if size > LARGEST_BODY:
                raise HTTPException(413, f"请求体太大，最多 {LARGEST_BODY} 字节")
            yield chunk


class SmallBody(APIRoute):
    """请求体有上限的接口。FastAPI 先把它全读进内存才校验：300 MB 的留言要占 600 MB，才换来 422。

    生产里反向代理也管这件事，例如 nginx 的 client_max_body_size。
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handle(_SmallRequest(request.scope, request.receive))

        return bounded


async def _open_inbox(request: Request) -> AsyncIterator[asyncio.Queue]:
    """SSE 接口的信箱，写成带 yield 的依赖：不管客人什么时候走，yield 后面的收尾都会做。

    写在接口里面就不一定：客人若走在“已经 yield、正在发送”的那一刻，FastAPI 取消的是发送，生成器停在
    yield 上没人关，要等垃圾回收 (GC) 才轮到它的 with 收尾，其间信箱一直挂着。
    """
    with request.app.state.house.listening() as inbox:
        yield inbox


Inbox = Annotated[asyncio.Queue, Depends(_open_inbox)]


async def allowed_methods(request: Request, error: HTTPException) -> JSONResponse:
    """405 要在 Allow 里列出这个网址的全部方法 (RFC 9110)；Starlette 只列第一个接口的。"""
    path = getattr(request.scope.get("route"), "path", "")  # 匹配上的写法，如 /notes/{note_id}
    documented = request.app.openapi()["paths"].get(path, {})
    methods = {method.upper() for method in documented} | set(error.headers["Allow"].split(", "))
    return JSONResponse({"detail": error.detail}, 405, {"Allow": ", ".join(sorted(methods))})


if __name__ == "__main__":
    http, loop = sys.argv[1:]
    # 开它的进程没了（哪怕是 kill -9），stdin 就到头：跟着走
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    app = importlib.import_module("03_fastapi_demo").create_app()
    with listen() as door:
        print(door.getsockname()[1], flush=True)
        uvicorn.Server(configure(app, http, loop)).run(sockets=[door])
