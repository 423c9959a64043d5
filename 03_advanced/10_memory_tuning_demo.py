"""3.10 内存调优：协程便宜，但不是白送

视频：视频之外
运行：python 03_advanced/10_memory_tuning_demo.py
观看：python tutorial.py trace 3.10（一步步看谁在跑、谁在等；录像也占内存，第 2–5 节的数会偏大）
住客住在旁边的 guest_house.py 里：每量一次，造一栋新楼。

先猜后跑
    第 2 节要打扫 2,000 间房，一间房一个任务。加上 Semaphore(10)，同时打扫的只剩 10 间；
    内存的峰值会降到几分之一？

预期输出
    ── 1. 协程一张铺，线程一间房，进程一栋楼 ──
    协程: ≈100,000 个同时睡着，每个 ≈1.2 KiB，入住 ≈9 微秒
    线程: ≈1,000 个同时睡着，每个 ≈16.0 KiB，入住 ≈62 微秒
    进程: ≈10 个同时睡着，每个 ≈3,835.2 KiB，入住 ≈11,871 微秒
    按内存: 一个线程抵 ≈13 个协程，一个进程抵 ≈3,080 个协程
    ── 2. 信号量 (Semaphore) 限制谁能干活，限制不了多少任务在排队 ──
    一间房一个任务，钥匙管够: 峰值 ≈3,113 KiB，同时打扫的最多 ≈2,000 间
    一间房一个任务，Semaphore(10): 峰值 ≈3,157 KiB，同时打扫的最多 ≈10 间
    10 个任务，轮流领房间: 峰值 ≈16 KiB，同时打扫的最多 ≈10 间
    ── 3. 边收边算，不要收齐了再算 ──
    收齐再算: 峰值 ≈2,038 KiB，合计 200,000 元
    边收边算: 峰值 ≈20 KiB，合计 200,000 元
    ── 4. 没人收的任务，连同它手里的东西一直留着 ──
    150 位客人走了，多出来的任务: {'keep_warm': 150}
    涨了 ≈338 KiB 的一行: heater = asyncio.create_task(keep_warm(bytearray(2048)))
    ── 5. 谁开的谁关：客人一走，暖气就停 ──
    150 位客人走了，多出来的任务: {}

视频勘误
    课程没有这一节，改的是学员笔记里的一句：“一个线程最多 500 个协程”。第 1 节的一个线程里
    同时睡着十万个，限制只有内存。500 这样的数是套接字 (socket) 的：Windows 的
    SelectorEventLoop 用 select()，一次只能看 512 个；默认的 ProactorEventLoop（3.8 起）
    和 Linux、macOS 的循环不受它限制，那里要看的是文件描述符的上限（ulimit -n）。

动手试试
    1. 先把 100_000 改成 10_000（不然要 1 GB 内存），再把 guest_house.py 里的 asyncio.sleep(3600)
       换成你自己的协程（就写在那个函数里面，import asyncio 之后），先写 luggage = bytearray(10_000)
       再睡：一个协程值多少？值钱的是协程，还是它手里的东西？
    2. 把 ROOMS 改成 20_000：第 2 节的三行峰值各变成几倍？
    3. 第 5 节删去 heater.cancel()：程序会停在哪里？为什么这比第 4 节的漏好找？
"""

import asyncio
import os
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from functools import partial

import guest_house
from guest_house import memory_in_use as memory_in_use  # tutorial.py bench 也用它

DEBUG = "PYTHONASYNCIODEBUG" in os.environ  # 调试模式给每个任务记下来历：又慢又大
COROUTINES, ROOMS = (2_000, 200) if DEBUG else (100_000, 2_000)
UNITS = {"协程": (COROUTINES, 1), "线程": (1_000, 1), "进程": (1, 10)}  # 每个进程几个 × 几个进程
HEATERS: set[asyncio.Task] = set()


def measure(unit: str, guests: int, processes: int) -> tuple[int, float, float]:
    """在新进程里量：Python 不把用过的内存都还给系统，在一个进程里先后量，后一个就显得便宜。"""
    asked = {"协程": (guests, 0), "线程": (0, guests), "进程": (0, 0)}[unit]
    command = [sys.executable, guest_house.__file__, *map(str, asked)]
    houses, started = [], time.perf_counter()
    with ExitStack() as street:  # 中途失败也一栋不留：先拆，Popen 再收尸、关管道
        for _ in range(processes):
            house = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            houses.append(street.enter_context(house))
            street.callback(house.kill)
        bills = [read_bill(house.stdout.readline()) for house in houses]
        built = time.perf_counter() - started
    seconds, count, size = map(sum, zip(*bills, strict=True))
    seconds = built if unit == "进程" else seconds  # 一栋楼花的时间，多半在它报账之前
    return int(count), size / count / 1024, seconds / count * 1e6  # 几个，每个几 KiB、几微秒


def read_bill(line: bytes) -> list[float]:
    if not line:  # 各有各的管道：一栋倒了，它那一头就关了，不会等到永远
        raise EOFError("有一栋楼没报账就倒了")
    return [float(number) for number in line.split()]


async def compare_units() -> dict[str, tuple[int, float, float]]:
    measured = {unit: await asyncio.to_thread(measure, unit, *UNITS[unit]) for unit in UNITS}
    for unit, (count, kib, us) in measured.items():
        print(f"{unit}: ≈{count:,} 个同时睡着，每个 ≈{kib:,.1f} KiB，入住 ≈{us:,.0f} 微秒")
    thread, process = (measured[unit][1] / measured["协程"][1] for unit in ("线程", "进程"))
    print(f"按内存: 一个线程抵 ≈{thread:,.0f} 个协程，一个进程抵 ≈{process:,.0f} 个协程")
    return measured


async def print_peaks(detail: str, ways: dict[str, Callable]) -> dict[str, tuple[int, float]]:
    """tracemalloc 记下每次申请内存的代码行，所以很慢：拿它比大小，不要拿它计时。"""
    peaks = {}
    for label, work in ways.items():
        tracemalloc.start()
        peaks[label] = await work(), tracemalloc.get_traced_memory()[1] / 1024
        tracemalloc.stop()
        print(f"{label}: 峰值 ≈{peaks[label][1]:,.0f} KiB，{detail.format(peaks[label][0])}")
    return peaks


async def bound_the_tasks() -> dict[str, tuple[int, float]]:
    async def clean_rooms(cleaners: int, keys: int) -> int:
        async def clean() -> None:
            nonlocal busy, busiest
            for _ in rooms:  # 共用一个迭代器：next() 里没有 await，一间房不会被领两次
                async with desk:  # 任务已经建好，才来这里排队领钥匙
                    busy += 1
                    busiest = max(busiest, busy)
                    await asyncio.sleep(0)
                    busy -= 1

        rooms, desk, busy, busiest = iter(range(ROOMS)), asyncio.Semaphore(keys), 0, 0
        async with asyncio.TaskGroup() as group:
            for _ in range(cleaners):
                group.create_task(clean())
        return busiest

    ways = {
        "一间房一个任务，钥匙管够": partial(clean_rooms, cleaners=ROOMS, keys=ROOMS),
        "一间房一个任务，Semaphore(10)": partial(clean_rooms, cleaners=ROOMS, keys=10),
        "10 个任务，轮流领房间": partial(clean_rooms, cleaners=10, keys=10),
    }
    return await print_peaks("同时打扫的最多 ≈{:,} 间", ways)


async def stream_instead_of_collecting() -> dict[str, tuple[int, float]]:
    async def receipts() -> AsyncIterator[bytes]:
        for _ in range(2000):
            await asyncio.sleep(0)
            yield bytes([100]) + bytes(1000)  # 第一个字节是房费，后面是签名的照片

    async def add_up(keep: bool) -> int:
        if keep:
            return sum(receipt[0] for receipt in [receipt async for receipt in receipts()])
        return sum([receipt[0] async for receipt in receipts()])  # 留下房费，照片随手就扔

    ways = {"收齐再算": partial(add_up, keep=True), "边收边算": partial(add_up, keep=False)}
    return await print_peaks("合计 {:,} 元", ways)


async def keep_warm(air: bytearray) -> None:
    await asyncio.sleep(3600)


async def stay_and_forget() -> None:
    """集合拿着引用，回调负责移出：都照文档做了。可是任务不结束，回调就永远不来。"""
    heater = asyncio.create_task(keep_warm(bytearray(2048)))
    HEATERS.add(heater)
    heater.add_done_callback(HEATERS.discard)
    await asyncio.sleep(0)


async def stay_and_switch_off() -> None:
    async with asyncio.TaskGroup() as room:
        heater = room.create_task(keep_warm(bytearray(2048)))
        await asyncio.sleep(0)
        heater.cancel()  # 住宿中出错，组会替你取消；正常走到这里，要自己关


async def look_for_growth(stay: Callable[[], Awaitable]) -> dict[str, int]:
    """两张快照 (snapshot) 相减：同一件事做上许多遍，一直在涨的那一行就是线索。"""
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for _ in range(150):
        await stay()
    growth = tracemalloc.take_snapshot().compare_to(before, "lineno")  # 变化大的在前
    tracemalloc.stop()
    forgotten = asyncio.all_tasks() - {asyncio.current_task()}
    stuck_in = dict(Counter(task.get_coro().__name__ for task in forgotten))
    print(f"150 位客人走了，多出来的任务: {stuck_in}")
    if forgotten:
        mine = stay.__code__.co_filename  # 标准库里的行也在涨，先看自己写的
        worst = next(item for item in growth if item.traceback[0].filename == mine)
        print(f"涨了 ≈{worst.size_diff >> 10} KiB 的一行: {worst.traceback.format()[-1].strip()}")
    return stuck_in


SECTIONS = {
    "1. 协程一张铺，线程一间房，进程一栋楼": compare_units,
    "2. 信号量 (Semaphore) 限制谁能干活，限制不了多少任务在排队": bound_the_tasks,
    "3. 边收边算，不要收齐了再算": stream_instead_of_collecting,
    "4. 没人收的任务，连同它手里的东西一直留着": lambda: look_for_growth(stay_and_forget),
    "5. 谁开的谁关：客人一走，暖气就停": lambda: look_for_growth(stay_and_switch_off),
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        asyncio.run(section())  # 收场时取消忘下的任务；服务一直不收场，它们就一直在


if __name__ == "__main__":
    main()
