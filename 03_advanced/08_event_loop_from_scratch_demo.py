"""3.8 从零写一个事件循环：一百来行，跑的还是 async/await

视频：视频之外
运行：python 03_advanced/08_event_loop_from_scratch_demo.py
观看：python tutorial.py trace 3.8（录像认得 asyncio 的任务，认不得我们的：只看得到那一半）
循环写在旁边的 mini_loop.py 里，先从上到下读一遍；这里一节一节地看它。第 6 节走过的弯路，在
mini_loop_ladder.py 里。

先猜后跑
    第 5 节里，同一个 echo 跑在两个循环上：asyncio 自己的 streams，和下面这一百来行纯
    Python。同样用 1 秒 CPU，哪个听得到更多回声，差几倍？

预期输出
    ── 1. asyncio 的循环里，也是一个 selector ──
    Linux: EpollSelector，macOS: KqueueSelector，Windows: SelectSelector；本机相符 True
    asyncio 的循环和我们的循环，用的是同一种 True
    ── 2. 就绪队列 (ready queue) 先来后到，闹钟按到点先后，取消落在 await 上 ──
    main 让路 → 甲出发 → 乙出发 → 丙出发 → 丁出发 → 乙回来 → 甲回来 → 丙被叫回
    没人等的丁: TypeError（循环当场报告，不吞掉）
    丙的结局: CancelledError()
    ── 3. 写不完就等可写：听的人慢，喊的人就得慢 ──
    喊 4,000,000 字节，没人听: 0.05 秒后喊完了 False
    开始听: 听到 4,000,000 字节，喊完了 True
    ── 4. 协程交出的东西，只有它自己的循环认得 ──
    asyncio 跑 read(): RuntimeError: Task got bad yield
    我们跑 asyncio.sleep(1): RuntimeError: no running event loop
    我们跑 asyncio.sleep(0): 行
    ── 5. 只见 read 和 write 的协程，换循环不用改 ──
    asyncio streams: 听回 1920 声，1 秒 CPU 够听 ≈55,000 声
    我们的循环: 听回 1920 声，1 秒 CPU 够听 ≈100,000 声
    是 asyncio streams 的 ≈1.8 倍
    ── 6. 快是一级一级改出来的，每级先看 profile ──
    等一次登记一次: 每声登记或撤销 ≈4.1 次（占时 ≈42%），排队 ≈2.1 次；用 CPU ≈15.4 微秒
    登记留着: 每声登记或撤销 ≈0.1 次（占时 ≈2%），排队 ≈2.1 次；用 CPU ≈8.6 微秒
    登记留着，当场接着跑: 每声登记或撤销 ≈0.1 次（占时 ≈2%），排队 ≈0.1 次；用 CPU ≈8.1 微秒

动手试试
    1. 在第 3 节的 await shouting 后面加一行 await loop.sleep(0.5)，在 Loop.turn 里数轮数。再让
       Side.fire 的 else 什么也不做：结果一样，轮数呢？循环在忙什么？
    2. 把 Stream.read 里的先等再读，改成先读、BlockingIOError 了再等。第 6 节每声的 CPU
       多了多少？为什么？
    3. 给 Loop 加一个 timeout(task, seconds)：到点就 task.cancel()，先完成就作罢。
"""

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable
from contextlib import closing, suppress

from mini_loop import Loop, Side, Stream, Task, serve
from mini_loop_ladder import climb


async def echo(valley) -> None:
    """山谷：听到什么，还什么。两个循环上跑的是同一个函数，一个字也不改。"""
    with closing(valley), suppress(ConnectionError):  # 喊的人半路走了，是常事
        while heard := await valley.read():
            await valley.write(heard)


async def shout(hiker, times: int) -> int:
    with closing(hiker):
        for _ in range(times):
            await hiker.write(b"hello valley" * 5)
            await hiker.read()
    return times


class AsyncioStream:
    """asyncio 那边的适配器：它自己的 streams，换上同样的三个名字。"""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def read(self) -> Awaitable[bytes]:
        return self.reader.read(65536)

    def write(self, data: bytes) -> Awaitable[None]:
        self.writer.write(data)
        return self.writer.drain()

    def close(self) -> None:
        self.writer.close()


def find_the_selector() -> tuple[str, str]:
    # Windows 上 asyncio.run 默认用 IOCP 的 ProactorEventLoop，所以这里指名要 SelectorEventLoop
    with closing(asyncio.SelectorEventLoop()) as theirs, Loop().selector as ours:
        names = type(theirs._selector).__name__, type(ours).__name__
    here = {"linux": "EpollSelector", "win32": "SelectSelector"}.get(sys.platform, "KqueueSelector")
    table = "Linux: EpollSelector，macOS: KqueueSelector，Windows: SelectSelector"
    print(f"{table}；本机相符 {names[0] == here}")
    print(f"asyncio 的循环和我们的循环，用的是同一种 {names[0] == names[1]}")
    return names


def take_turns() -> tuple[list[str], list[Exception], list[Task]]:
    loop, log, reported = Loop(), [], []
    loop.report = reported.append

    async def hike(name: str, seconds: float | None) -> None:
        log.append(f"{name}出发")
        try:
            await loop.sleep(seconds)
            log.append(f"{name}回来")
        except asyncio.CancelledError:
            log.append(f"{name}被叫回")
            raise

    async def main() -> list[Task]:
        plans = [("甲", 0.03), ("乙", 0.01), ("丙", 9), ("丁", None)]
        tasks = [loop.spawn(hike(*plan)) for plan in plans]
        log.append("main 让路")
        await tasks[0]
        return tasks  # main 一完，循环取消还在山上的丙

    tasks = loop.run(main())
    print(" → ".join(log))
    print(f"没人等的丁: {type(reported[0]).__name__}（循环当场报告，不吞掉）")
    print(f"丙的结局: {tasks[2].error!r}")
    return log, reported, tasks


def wait_for_a_slow_listener() -> tuple[list[bool], int]:
    loop, mountain = Loop(), bytes(4_000_000)

    async def main() -> tuple[list[bool], int]:
        hill, cliff = (Stream(loop, sock) for sock in socket.socketpair())
        with closing(hill), closing(cliff):
            shouting, heard = loop.spawn(hill.write(mountain)), 0
            await loop.sleep(0.05)
            early = shouting.done
            print(f"喊 {len(mountain):,} 字节，没人听: 0.05 秒后喊完了 {early}")
            while heard < len(mountain):
                heard += len(await cliff.read())
            await shouting
            print(f"开始听: 听到 {heard:,} 字节，喊完了 {shouting.done}")
            return [early, shouting.done], heard

    return loop.run(main())


def refuse_each_others_awaitables() -> dict[str, str]:
    loop, (hill, cliff), outcomes = Loop(), socket.socketpair(), {}
    attempts = {
        "asyncio 跑 read()": lambda: asyncio.run(echo(Stream(loop, hill))),
        "我们跑 asyncio.sleep(1)": lambda: Loop().run(asyncio.sleep(1)),  # 它去找 asyncio 的循环
        "我们跑 asyncio.sleep(0)": lambda: Loop().run(asyncio.sleep(0, "行")),  # 空 yield，谁都认得
    }
    with cliff, loop.selector:
        for label, attempt in attempts.items():
            try:
                outcomes[label] = attempt()
            except RuntimeError as error:
                outcomes[label] = f"RuntimeError: {str(error).partition(': <')[0]}"
            print(f"{label}: {outcomes[label]}")
    return outcomes


def shout_on_our_loop(hikers: int, times: int, side: type[Side] = Side) -> tuple[int, float]:
    loop, sock = Loop(), socket.create_server(("127.0.0.1", 0), backlog=hikers)

    async def main() -> tuple[int, float]:
        with closing(Stream(loop, sock, side)) as door:
            loop.spawn(serve(loop, door, echo))
            # 连接用阻塞的 create_connection：本机、有 backlog，当场就成；远处的要等 writable
            address = sock.getsockname()
            crowd = [Stream(loop, socket.create_connection(address), side) for _ in range(hikers)]
            started = time.process_time()
            tasks = [loop.spawn(shout(hiker, times)) for hiker in crowd]
            return sum([await task for task in tasks]), time.process_time() - started

    return loop.run(main())


def shout_on_asyncio(hikers: int, times: int) -> tuple[int, float]:
    async def main() -> tuple[int, float]:
        answer = lambda *pair: echo(AsyncioStream(*pair))  # noqa: E731
        # 只关门，不等里面的人：async with 从 3.12 起要等每条连接都断，Ctrl-C 就没人听了
        with closing(await asyncio.start_server(answer, "127.0.0.1", 0, backlog=hikers)) as valley:
            address = valley.sockets[0].getsockname()
            crowd = [AsyncioStream(*await asyncio.open_connection(*address)) for _ in range(hikers)]
            started = time.process_time()
            heard = await asyncio.gather(*(shout(hiker, times) for hiker in crowd))
            return sum(heard), time.process_time() - started

    return asyncio.run(main())


def change_loops() -> dict[str, tuple[int, float]]:
    """喊的和还的同在一个循环里，所以量 CPU 就够了，旁人再忙也不算；轮流各跑三次，取最省的。"""
    contest = {"asyncio streams": shout_on_asyncio, "我们的循环": shout_on_our_loop}
    heard, best = {}, dict.fromkeys(contest, 0.0)
    for loop, compete in [*contest.items()] * 3:
        heard[loop], seconds = compete(64, 30)
        best[loop] = max(best[loop], heard[loop] / seconds)
    for loop, rate in best.items():
        print(f"{loop}: 听回 {heard[loop]} 声，1 秒 CPU 够听 ≈{rate:,.0f} 声")
    print(f"是 asyncio streams 的 ≈{best['我们的循环'] / best['asyncio streams']:.1f} 倍")
    return {loop: (heard[loop], best[loop]) for loop in contest}


SECTIONS = {
    "1. asyncio 的循环里，也是一个 selector": find_the_selector,
    "2. 就绪队列 (ready queue) 先来后到，闹钟按到点先后，取消落在 await 上": take_turns,
    "3. 写不完就等可写：听的人慢，喊的人就得慢": wait_for_a_slow_listener,
    "4. 协程交出的东西，只有它自己的循环认得": refuse_each_others_awaitables,
    "5. 只见 read 和 write 的协程，换循环不用改": change_loops,
    "6. 快是一级一级改出来的，每级先看 profile": lambda: climb(shout_on_our_loop),
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        section()  # 每节自己开循环：一个线程里，同时只能有一个在跑


if __name__ == "__main__":
    main()
