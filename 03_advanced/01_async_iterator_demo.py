"""3.1 异步迭代器：一条一条地等，来一条处理一条

视频：§3.7 异步迭代器
运行：python 03_advanced/01_async_iterator_demo.py
观看：python tutorial.py trace 3.1（一步步看谁在跑、谁在等）

先猜后跑
    第 4 节里，break 跳出 async for 之后，生成器的 finally 在“main: 已在循环外”之前还是之后执行？

预期输出
    ── 1. async for 每转一圈，await 一次 __anext__ ──
    守塔人: 等电报
    灯: 有人让路，我转一圈
    守塔人: 抄下 点灯
    守塔人: 抄下 起雾
    守塔人: 抄下 鸣号
    再读一遍: []（__aiter__ 返回 self，只能走一遍）
    ── 2. 普通 for 等不了：它只认 __iter__ 和 __next__ ──
    TypeError: 'LogReader' object is not iterable
    ── 3. 异步生成器：同一个 Reader，短成一个函数 ──
    每次调用都是新的一遍: ['点灯', '起雾', '鸣号'] ['点灯', '起雾', '鸣号']
    手动取四次: ['点灯', '起雾', '鸣号', '没有了']
    ── 4. break 只离开循环，不关异步生成器 ──
    望远镜: 打开
    main: 看见灯船，break
    main: 已在循环外
    望远镜: 盖上。是打开它的任务盖的吗？False
    望远镜: 打开
    main: 看见灯船，不看了
    main: 变量 lookout 还拿着它，等多久也不盖
    望远镜: 盖上。是打开它的任务盖的吗？True
    main: aclose() 之后
    ── 5. aclosing：离开 async with，finally 就已执行 ──
    望远镜: 打开
    main: 看见灯船，break
    望远镜: 盖上。是打开它的任务盖的吗？True
    main: 已在 async with 外
    ── 6. 异步推导式 (async comprehension) 按顺序等，要并发请交给任务 ──
    [await … async for …]: ≈0.18 秒，['灯船应答', '渡轮应答', '渔船应答']
    TaskGroup: ≈0.08 秒，['灯船应答', '渡轮应答', '渔船应答']
    ── 7. 生成器链：下游要一条，源头才走一步 ──
    抄下 灯船经过，源头走到第 1 条
    抄下 渡轮经过，源头走到第 2 条
    抄下 渔船经过，源头走到第 3 条
    抄下 货轮经过，源头走到第 4 条
    抄下 帆船经过，源头走到第 5 条
    抄下 拖船经过，源头走到第 6 条
    ── 8. 有界队列：源头可以先走，但走不远 ──
    抄下 灯船经过，源头走到第 4 条
    抄下 渡轮经过，源头走到第 5 条
    抄下 渔船经过，源头走到第 6 条
    抄下 货轮经过，源头走到第 6 条
    抄下 帆船经过，源头走到第 6 条
    抄下 拖船经过，源头走到第 6 条
    抄第 1 条时，源头已领先 3 条: 队列里 2 条，手里等着放的 1 条

视频勘误
    课程的 Reader 今天仍能原样运行。只是 val == None 应写成 val is None；
    这样的类多数时候可以短成一个异步生成器（第 3 节）。

动手试试
    1. 把 __aiter__ 改成 async def，第 1 节报什么错？__aiter__ 和 __anext__ 谁该是协程？
    2. 在 watch 的 finally 里先 await asyncio.sleep(0)，再另写一个 main：break 以后立刻结束。
       “盖上”还会打印吗？换个 Python 版本（3.12、3.13）再试，再用 aclosing 试。
    3. 在 telegraph 里写 word = yield line，用 await log.asend("重发") 取下一条，word 是什么？
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

LOG = ["点灯", "起雾", "鸣号"]
SHIPS = ["灯船", "渡轮", "渔船", "货轮", "帆船", "拖船"]


class LogReader:
    """课程里的 Reader，异步迭代器 (asynchronous iterator)：__anext__ 是协程，读完抛异常。"""

    def __init__(self, lines: list[str]) -> None:
        self._lines = iter(lines)

    async def readline(self) -> str | None:
        await asyncio.sleep(0.01)  # 电报还在路上；这里让路，别的任务才转得动
        return next(self._lines, None)

    def __aiter__(self) -> "LogReader":
        return self

    async def __anext__(self) -> str:
        if (line := await self.readline()) is None:
            raise StopAsyncIteration  # 给 async for 的暗号，它接住后结束循环
        return line


async def await_every_lap() -> tuple[list[str], list[str]]:
    reader, copied = LogReader(LOG), []
    asyncio.get_running_loop().call_soon(print, "灯: 有人让路，我转一圈")
    print("守塔人: 等电报")
    async for line in reader:
        print(f"守塔人: 抄下 {line}")
        copied.append(line)
    again = [line async for line in reader]
    print(f"再读一遍: {again}（__aiter__ 返回 self，只能走一遍）")
    return copied, again


async def plain_for_cannot_wait() -> str:
    """for 要的 __iter__ 和 __next__ 都是普通函数，里面没有 await，也就无处让路。"""
    try:
        for _ in LogReader(LOG):
            pass
    except TypeError as error:
        print(f"TypeError: {error}")
        return str(error)


async def telegraph(lines: list[str]) -> AsyncIterator[str]:
    """异步生成器 (async generator)：async def 里有 yield。走到底，StopAsyncIteration 自己会来。"""
    for line in lines:
        await asyncio.sleep(0.01)
        yield line


async def generator_is_the_short_form() -> tuple[list[list[str]], list[str]]:
    twice = [[line async for line in telegraph(LOG)] for _ in range(2)]
    print("每次调用都是新的一遍:", *twice)
    log = telegraph(LOG)
    by_hand = [await anext(log, "没有了") for _ in range(4)]  # 与 next 一样，可给默认值
    print(f"手动取四次: {by_hand}")
    return twice, by_hand


async def watch(covered_by_opener: list[bool]) -> AsyncIterator[str]:
    opener = asyncio.current_task()
    try:
        print("望远镜: 打开")
        for ship in SHIPS:
            yield ship
    finally:
        covered_by_opener.append(asyncio.current_task() is opener)
        print(f"望远镜: 盖上。是打开它的任务盖的吗？{covered_by_opener[-1]}")


async def break_does_not_close() -> list[bool]:
    """垃圾回收 (garbage collection) 不能 await，于是交给事件循环：另开一个任务去 aclose()。"""
    covered_by_opener: list[bool] = []
    async for ship in watch(covered_by_opener):
        print(f"main: 看见{ship}，break")
        break
    print("main: 已在循环外")
    await asyncio.sleep(0.01)  # 让路，收尾的任务才轮得到；它不是 main，抛的异常 main 接不到
    lookout = watch(covered_by_opener)
    print(f"main: 看见{await anext(lookout)}，不看了")
    await asyncio.sleep(0.01)
    print("main: 变量 lookout 还拿着它，等多久也不盖")
    await lookout.aclose()  # 在 yield 处抛出 GeneratorExit，finally 因此执行
    print("main: aclose() 之后")
    return covered_by_opener


async def aclosing_closes_in_time() -> list[bool]:
    covered_by_opener: list[bool] = []
    async with aclosing(watch(covered_by_opener)) as lookout:
        async for ship in lookout:
            print(f"main: 看见{ship}，break")
            break
    print("main: 已在 async with 外")
    return covered_by_opener


async def hail(ship: str) -> str:
    await asyncio.sleep(0.05)
    return f"{ship}应答"


async def comprehension_is_sequential() -> tuple[list[str], list[str]]:
    started = time.perf_counter()
    in_turn = [await hail(ship) async for ship in telegraph(SHIPS[:3])]
    print(f"[await … async for …]: ≈{time.perf_counter() - started:.2f} 秒，{in_turn}")
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(hail(ship)) async for ship in telegraph(SHIPS[:3])]
    at_once = [call.result() for call in calls]
    print(f"TaskGroup: ≈{time.perf_counter() - started:.2f} 秒，{at_once}")
    return in_turn, at_once


async def sweep(sighted: list[str]) -> AsyncIterator[str]:
    for ship in SHIPS:
        sighted.append(ship)
        yield ship  # 源头自己不等任何东西，能走多快全看下游


async def chain_pulls_one_at_a_time() -> list[int]:
    sighted, progress = [], []
    entries = (f"{ship}经过" async for ship in sweep(sighted))  # 异步生成器表达式
    async for entry in entries:
        await asyncio.sleep(0.01)  # 抄得慢，源头就停在它的 yield 处
        progress.append(len(sighted))
        print(f"抄下 {entry}，源头走到第 {progress[-1]} 条")
    return progress


async def queue_runs_a_little_ahead() -> list[int]:
    """背压 (back-pressure)：慢的一头让快的一头停下。链条没有余地，有界队列的余地是 maxsize。"""
    sighted, progress = [], []
    desk: asyncio.Queue[str | None] = asyncio.Queue(maxsize=2)

    async def look_out() -> None:
        async for ship in sweep(sighted):
            await desk.put(f"{ship}经过")  # 满了就等在这里，源头也跟着停
        await desk.put(None)  # 没有船了

    async with asyncio.TaskGroup() as group:
        group.create_task(look_out())
        while (entry := await desk.get()) is not None:
            await asyncio.sleep(0.01)
            progress.append(len(sighted))
            print(f"抄下 {entry}，源头走到第 {progress[-1]} 条")
    print(f"抄第 1 条时，源头已领先 {progress[0] - 1} 条: 队列里 2 条，手里等着放的 1 条")
    return progress


SECTIONS = {
    "1. async for 每转一圈，await 一次 __anext__": await_every_lap,
    "2. 普通 for 等不了：它只认 __iter__ 和 __next__": plain_for_cannot_wait,
    "3. 异步生成器：同一个 Reader，短成一个函数": generator_is_the_short_form,
    "4. break 只离开循环，不关异步生成器": break_does_not_close,
    "5. aclosing：离开 async with，finally 就已执行": aclosing_closes_in_time,
    "6. 异步推导式 (async comprehension) 按顺序等，要并发请交给任务": comprehension_is_sequential,
    "7. 生成器链：下游要一条，源头才走一步": chain_pulls_one_at_a_time,
    "8. 有界队列：源头可以先走，但走不远": queue_runs_a_little_ahead,
}


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    asyncio.run(main())
