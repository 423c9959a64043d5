"""python -m toolbox.bench.peers.web_servers KIND: a web server; prints its port, then serves.

It serves until it is killed; those that need Redis and MySQL serve until their stdin is closed, and
then clear up. All answer GET /teas (or GET /notes/1) with what lesson 4.3 answers.
"""

import asyncio
import importlib
import os
import sys
from collections.abc import Callable

from toolbox import services
from toolbox.bench.model import lesson

TEAS = {"龙井": 38, "普洱": 45, "茉莉": 28}


def tea_house():
    lesson("04_case_studies/fastapi_server.py")
    return importlib.import_module("03_fastapi_demo").create_app()


def starlette_alone():
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def teas(_) -> JSONResponse:
        return JSONResponse(TEAS)

    return Starlette(routes=[Route("/teas", teas)])


def raw_asgi():
    import json

    headers = [(b"content-type", b"application/json"), (b"content-length", b"")]

    async def app(scope, receive, send) -> None:
        body = json.dumps(TEAS, ensure_ascii=False, separators=(",", ":")).encode()
        headers[1] = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def on_uvicorn(make: Callable) -> None:
    """As 4.3 configures it."""
    import uvicorn

    server = lesson("04_case_studies/fastapi_server.py")
    with server.listen() as door:
        print(door.getsockname()[1], flush=True)
        uvicorn.Server(server.configure(make(), "httptools", "uvloop")).run(sockets=[door])


def on_h11_and_asyncio() -> None:
    """What uvicorn is without its extra packages; only its log is off, as in all the others."""
    import uvicorn

    door = lesson("04_case_studies/fastapi_server.py").listen()
    print(door.getsockname()[1], flush=True)
    with door:
        options = {"http": "h11", "loop": "asyncio", "lifespan": "off", "log_config": None}
        uvicorn.Server(uvicorn.Config(tea_house(), **options)).run(sockets=[door])


def on_two_uvicorns() -> None:
    import uvicorn

    server = lesson("04_case_studies/fastapi_server.py")
    with server.listen() as door:
        print(door.getsockname()[1], flush=True)
        os.fork()  # both accept from the same door
        uvicorn.Server(server.configure(tea_house(), "httptools", "uvloop")).run(sockets=[door])


def on_granian() -> None:
    from granian import Granian
    from granian.constants import Interfaces

    port = services.free_port()
    print(port, flush=True)
    target = "toolbox.bench.peers.web_servers:tea_house"
    options = {"factory": True, "interface": Interfaces.ASGINL, "websockets": False}
    Granian(target, "127.0.0.1", port, log_enabled=False, **options).serve()


def on_hypercorn() -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"127.0.0.1:{services.free_port()}"]
    config.loglevel = "ERROR"
    print(config.bind[0].rpartition(":")[2], flush=True)
    app = tea_house()

    async def without_lifespan(scope, receive, send) -> None:  # that would connect to Redis
        if scope["type"] == "http":
            await app(scope, receive, send)

    asyncio.run(serve(without_lifespan, config))


def on_aiohttp() -> None:
    import json

    import uvloop
    from aiohttp import web

    dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    async def teas(_: web.Request) -> web.Response:
        return web.json_response(TEAS, dumps=dumps)

    door = lesson("04_case_studies/fastapi_server.py").listen()
    print(door.getsockname()[1], flush=True)
    app = web.Application()
    app.router.add_get("/teas", teas)
    web.run_app(app, sock=door, loop=uvloop.new_event_loop(), print=None, access_log=None)


def with_redis(batching: bool) -> None:
    """4.3 as shipped, note 1 in its cache; or with the plain client in the batching one's place."""
    server = lesson("04_case_studies/fastapi_server.py")
    app = importlib.import_module("03_fastapi_demo").create_app("asyncio_tutorial_fastapi_bench")

    async def serve() -> None:
        store = importlib.import_module("fastapi_store")
        async with server.serving(app, door) as url:
            house = app.state.house
            await house.add(store.Draft(guest="陆羽", text="水初沸，香已到门口"))
            await house.read(1)  # a miss: now it is in Redis
            if not batching:
                house.cache = house.redis
            print(url.rpartition(":")[2], flush=True)
            await asyncio.to_thread(sys.stdin.read)

    door = server.listen()
    with asyncio.Runner(loop_factory=server.fast_loop()) as runner:
        runner.run(serve())


KINDS = {
    "h11": on_h11_and_asyncio,
    "shipped": lambda: on_uvicorn(tea_house),
    "two": on_two_uvicorns,
    "granian": on_granian,
    "hypercorn": on_hypercorn,
    "starlette": lambda: on_uvicorn(starlette_alone),
    "asgi": lambda: on_uvicorn(raw_asgi),
    "aiohttp": on_aiohttp,
    "redis plain": lambda: with_redis(batching=False),
    "redis batching": lambda: with_redis(batching=True),
}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
