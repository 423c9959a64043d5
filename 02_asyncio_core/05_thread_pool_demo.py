"""2.5 线程池与进程池：把不懂 asyncio 的活交给里屋

视频：§3.5 concurrent.futures.Future（线程池、进程池、案例）
运行：python 02_asyncio_core/05_thread_pool_demo.py
      （只有一个核，或别的程序正占着 CPU 时，第 4 节看不出进程快）
观看：python tutorial.py trace 2.5（一步步看谁在跑、谁在等）

先猜后跑
    第 5 节里，管理员在线程里搬书，要 0.3 秒；前台等了 0.05 秒就超时，取消了这件事。
    书还会搬完吗？

预期输出
    ── 1. 阻塞的调用占住事件循环，交给线程就不会 ──
    前台自己去书库: 其间招呼了 0 位读者
    to_thread 派人去: 其间招呼了 ≈7 位读者
    ── 2. run_in_executor 就是 submit 加 wrap_future ──
    submit 给的: concurrent.futures.Future，能 await 吗 False
    run_in_executor 给的: asyncio.Future，能 await 吗 True
    都换到了书: ['史记', '汉书']
    ── 3. 案例：阻塞的 HTTP 库，一个请求占一个线程 ──
    1 个管理员 ≈0.25 秒
    2 个管理员 ≈0.12 秒
    4 个管理员 ≈0.06 秒
    查到 ['史记在 2 架', '汉书在 2 架', '通鉴在 2 架', '后汉书在 3 架']
    ── 4. 计算要换进程：有全局解释器锁 (GIL) 时，线程只是轮流算 ──
    1 个线程: 开门 ≈0.02 秒，盘点两遍 ≈0.06 秒
    2 个线程: 开门 ≈0.01 秒，盘点两遍 ≈0.06 秒
    2 个进程: 开门 ≈0.15 秒，盘点两遍 ≈0.03 秒
    ── 5. 取消只让前台不再等，线程要自己看牌子 ──
    前台: 等不及，走了
    书库: 没人举牌，15 摞全搬完
    前台: 等不及，走了；举牌
    书库: 看见牌子，放下书
    ── 6. to_thread 带着上下文变量去，run_in_executor 不带 ──
    to_thread 里的读者: 小林
    run_in_executor 里的读者: 不知道是谁
    copy_context().run 里的读者: 小林

视频勘误
    案例最后的 asyncio.wait([coro, coro]) 从 Python 3.11 起是
    TypeError: Passing coroutines is forbidden, use tasks explicitly.
    用 TaskGroup，或 share_out 里的 gather：协程和 Future 都收，按次序交回结果。

动手试试
    1. 第 3 节再加一个 8 个管理员的池子，还会更快吗？限制快慢的换成了谁？
    2. 把第 4 节的 take_inventory 换成 lambda books: 0，哪个池子不肯收？它说什么？
       有自由线程版 (free-threaded，3.13t 起) 的话，用它运行第 4 节：哪一行变快了？
    3. 第 5 节把 piles 改成 500，运行到那里按 Ctrl-C：几秒才停？是谁在等谁？
"""

import asyncio
import contextvars
import functools
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

reader = contextvars.ContextVar("reader", default="不知道是谁")


def fetch(book: str) -> str:
    time.sleep(0.08)  # 代表一切不懂 asyncio 的库：requests、老数据库驱动、读写磁盘
    return book


async def greetings_until(errand: Coroutine) -> int:
    arrival, greeted = asyncio.create_task(errand), 0
    while not (await asyncio.wait([arrival], timeout=0.01))[0]:
        greeted += 1  # 每 0.01 秒招呼一位，直到书来
    return greeted


async def keep_the_desk_open() -> tuple[int, int]:
    async def fetch_myself() -> str:
        return fetch("史记")  # async def 不会让里面的阻塞调用变成异步

    alone = await greetings_until(fetch_myself())
    print(f"前台自己去书库: 其间招呼了 {alone} 位读者")
    helped = await greetings_until(asyncio.to_thread(fetch, "史记"))
    print(f"to_thread 派人去: 其间招呼了 ≈{helped} 位读者")
    return alone, helped


async def two_kinds_of_future() -> list[str]:
    """线程池 (thread pool) 的 Future 只有 result()，会堵住叫它的线程；asyncio 的能 await。"""
    with ThreadPoolExecutor(max_workers=2) as clerks:
        slip = clerks.submit(fetch, "史记")
        order = asyncio.get_running_loop().run_in_executor(clerks, fetch, "汉书")
        for call, future in (("submit", slip), ("run_in_executor", order)):
            kind = "concurrent.futures" if isinstance(future, Future) else "asyncio"
            print(f"{call} 给的: {kind}.Future，能 await 吗 {hasattr(future, '__await__')}")
        books = [await asyncio.wrap_future(slip), await order]
    print(f"都换到了书: {books}")
    return books


class Catalogue(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        book = unquote(self.path[1:])
        time.sleep(0.06)
        self.wfile.write(f"HTTP/1.0 200 OK\r\n\r\n{book}在 {len(book)} 架".encode())


def look_up(port: int, book: str) -> str:
    """课程用 requests；标准库的 http.client 同样阻塞，只是不理会 http_proxy：本机不用代理。"""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/" + quote(book))
        return connection.getresponse().read().decode()


async def share_out(pool: Executor, job: Callable, arguments: list) -> tuple[list, float]:
    """gather 按次序交回结果；池子有几个工人，就同时做几件，其余的排队。"""
    started, loop = time.perf_counter(), asyncio.get_running_loop()
    results = await asyncio.gather(*(loop.run_in_executor(pool, job, each) for each in arguments))
    return results, time.perf_counter() - started


async def blocking_http_client() -> list[list[str]]:
    """to_thread 用的是默认的池子：CPU 个数 + 4 个线程，最多 32 个。"""
    with ThreadingHTTPServer(("127.0.0.1", 0), Catalogue) as server, ExitStack() as stack:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        stack.callback(server.shutdown)
        ask, answers = functools.partial(look_up, server.server_port), []
        for size in (1, 2, 4):
            with ThreadPoolExecutor(max_workers=size) as clerks:
                found, seconds = await share_out(clerks, ask, ["史记", "汉书", "通鉴", "后汉书"])
            print(f"{size} 个管理员 ≈{seconds:.2f} 秒")
            answers.append(found)
    print(f"查到 {answers[-1]}")
    return answers


def take_inventory(books: int) -> int:
    return sum(n * n % 7 for n in range(books))  # 纯 Python 的计算：算的时候占着 GIL


async def compute_in_processes() -> list[list[int]]:
    """进程池 (process pool)：spawn 从头启动 Python，再导入本文件，所以要有 __main__ 那道门。"""
    spawn = multiprocessing.get_context("spawn")  # fork 会连别的线程正拿着的锁一起复制
    ignore = (signal.SIGINT, signal.SIG_IGN)
    pools = {f"{size} 个线程": ThreadPoolExecutor(size) for size in (1, 2)}
    pools["2 个进程"] = ProcessPoolExecutor(2, spawn, initializer=signal.signal, initargs=ignore)
    opening, best, counts = {}, {}, {}
    with ExitStack() as stack:
        for name, pool in pools.items():
            stack.enter_context(pool)
            with ExitStack() as later:  # 子进程继承信号掩码 (signal mask)：Ctrl-C 留给父进程收场
                if hasattr(signal, "pthread_sigmask"):  # Windows 没有，靠 initializer
                    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                    later.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
                _, opening[name] = await share_out(pool, time.sleep, [0.01, 0.01])
        for name, pool in list(pools.items()) * 5:  # 轮流来，各取最快的一回：受别的程序打扰最少
            counts[name], seconds = await share_out(pool, take_inventory, [400_000] * 2)
            best[name] = min(seconds, best.get(name, seconds))
    for name in pools:
        print(f"{name}: 开门 ≈{opening[name]:.2f} 秒，盘点两遍 ≈{best[name]:.2f} 秒")
    return list(counts.values())


def carry(sign: threading.Event, piles: int = 15) -> int:
    for pile in range(piles):
        if sign.wait(0.02):  # 一边搬，一边看有没有举牌
            print("书库: 看见牌子，放下书")
            return pile
    print(f"书库: 没人举牌，{piles} 摞全搬完")
    return piles


async def cancel_only_stops_waiting() -> list[int]:
    carried = []
    with ThreadPoolExecutor(max_workers=1) as clerk:
        for raises_the_sign in (False, True):
            slip = clerk.submit(carry, sign := threading.Event())
            while not (slip.running() or slip.done()):  # 他动身以前取消，他就真的不去了
                await asyncio.sleep(0.001)
            try:
                async with asyncio.timeout(0.05):
                    await asyncio.wrap_future(slip)
            except TimeoutError:
                print("前台: 等不及，走了" + "；举牌" * raises_the_sign)
                if raises_the_sign:
                    sign.set()
            carried.append(await asyncio.to_thread(slip.result))
    return carried


async def who_is_reading() -> dict[str, str]:
    """当前用户、请求编号常放在上下文变量 (context variable) 里；换线程时要自己带上。"""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=1) as clerk:
        await loop.run_in_executor(clerk, reader.get)  # 管理员上班时，读者还没来
        token, copy = reader.set("小林"), contextvars.copy_context()
        names = {
            "to_thread": await asyncio.to_thread(reader.get),
            "run_in_executor": await loop.run_in_executor(clerk, reader.get),
            "copy_context().run": await loop.run_in_executor(clerk, copy.run, reader.get),
        }
        reader.reset(token)
    for call, name in names.items():
        print(f"{call} 里的读者: {name}")
    return names


SECTIONS = {
    "1. 阻塞的调用占住事件循环，交给线程就不会": keep_the_desk_open,
    "2. run_in_executor 就是 submit 加 wrap_future": two_kinds_of_future,
    "3. 案例：阻塞的 HTTP 库，一个请求占一个线程": blocking_http_client,
    "4. 计算要换进程：有全局解释器锁 (GIL) 时，线程只是轮流算": compute_in_processes,
    "5. 取消只让前台不再等，线程要自己看牌子": cancel_only_stops_waiting,
    "6. to_thread 带着上下文变量去，run_in_executor 不带": who_is_reading,
}


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    asyncio.run(main())
