"""1.3 asyncio 装饰器：Python 3.4 的写法，以及今天还剩下什么

视频：§1.3 asyncio 装饰器
运行：python 01_coroutine_basics/03_asyncio_decorator_demo.py
观看：python tutorial.py trace 1.3（一步步看谁在跑、谁在等）

先猜后跑
    两个人都写了 yield from，却没有谁提到对方。1.2 里的 yield from 演成了 1 3 4 2，
    这一次会是什么次序？一共用时是 0.1 + 0.2 秒吗？

预期输出
    ── 1. @asyncio.coroutine：3.8 起警告，3.11 起没有了 ──
    [≤3.10] Python 说: DeprecationWarning: "@coroutine" decorator is deprecated since Python 3.8, use "async def" instead
    [≤3.10] 这次用的是 asyncio.coroutine
    [3.11+] Python 说: AttributeError: module 'asyncio' has no attribute 'coroutine'
    [3.11+] 这次用的是 types.coroutine
    ── 2. yield from asyncio.sleep：停住自己，由事件循环换人 ──
    1 罗密欧: 我凭月亮起誓。
    3 朱丽叶: 别凭月亮，它夜夜都在变。
    2 罗密欧: 那我凭什么起誓？
    4 朱丽叶: 不必起誓。
    用时 ≈0.2 秒
    ── 3. yield from 一个 Future：交给事件循环的，就是它自己 ──
    朱丽叶: 等石子敲窗
    send(None) 拿到的就是那个 Future: True
    朱丽叶: 听到两声，开窗
    换事件循环来推：
    朱丽叶: 等石子敲窗
    罗密欧: 扔石子
    罗密欧: 躲到树后
    朱丽叶: 听到三声，开窗
    ── 4. 装饰器盖的章：有了它，生成器才能 yield from 协程 ──
    没盖章: TypeError: cannot 'yield from' a coroutine object in a non-coroutine generator
    盖了章: 走进 sleep(0)，停在它里面的裸 yield，交出 None
    能 await 吗: 没盖章 False，盖了章 True

视频勘误
    @asyncio.coroutine 从 3.11 起是
    AttributeError: module 'asyncio' has no attribute 'coroutine'
    今天写 async def (1.4)；底下的机制还在，叫 types.coroutine（第 4 节）。
    在事件循环之外调用 asyncio.get_event_loop() 或 asyncio.ensure_future(协程)：
    3.11 及以前照常（3.10.0–3.10.8、3.11.0 也警告）；
    3.12、3.13 是 DeprecationWarning: There is no current event loop
    3.14 起是 RuntimeError: There is no current event loop in thread 'MainThread'.
    今天写 asyncio.run(main())，在 main() 里用 create_task 或 TaskGroup。

动手试试
    1. 用 3.10 和 3.11 各跑一遍，只有第 1 节的两行不同；再加上 -W error 呢？
    2. 在 romeo 的 yield from asyncio.sleep(0.1) 前面加一行 time.sleep(0.3)，次序、用时变成什么？
    3. 删掉 juliet_waits 上的 @coroutine：第 3 节用手推的那一遍照样能跑；交给事件循环的那一遍，
       在 3.12 以上会说什么？
"""  # noqa: E501 — 警告的原文就有这么长

from __future__ import annotations  # 这个文件在 3.8 上也要能跑

import asyncio
import contextlib
import inspect
import time
import types
import warnings
from typing import Any, Callable

COMPLAINTS: list[str] = []


def coroutine(function: Callable) -> Callable:
    """装饰器 (decorator) 收下一个函数，还回改过的那个：@x 之下写 def f，就是 f = x(f)。

    这里先试 @asyncio.coroutine；没有了，就用它底下的 types.coroutine。
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # -W error 之下也只是记录，留给第 1 节打印
        try:
            decorated = asyncio.coroutine(function)
        except AttributeError as error:
            decorated = types.coroutine(function)
            COMPLAINTS.append(f"AttributeError: {error}")
    COMPLAINTS.extend(f"{seen.category.__name__}: {seen.message}" for seen in caught)
    return decorated


@coroutine
def romeo():
    print("1 罗密欧: 我凭月亮起誓。")
    yield from asyncio.sleep(0.1)
    print("2 罗密欧: 那我凭什么起誓？")


@coroutine
def juliet():
    print("3 朱丽叶: 别凭月亮，它夜夜都在变。")
    yield from asyncio.sleep(0.2)
    print("4 朱丽叶: 不必起誓。")


def run(scene: Any) -> Any:
    """asyncio.run 的前身。3.12、3.13 的 asyncio.run 只收 async def 的协程，不收生成器。"""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(scene)


def ask_for_the_decorator() -> str:
    print(f"Python 说: {COMPLAINTS[0]}")
    print(f"这次用的是 {'asyncio' if hasattr(asyncio, 'coroutine') else 'types'}.coroutine")
    return COMPLAINTS[0]


@coroutine
def balcony():
    # 不用 create_task：从 3.12 起它也只收 async def 的协程；gather 收一切可等待对象 (awaitable)
    yield from asyncio.gather(romeo(), juliet())


def let_the_loop_direct() -> float:
    started = time.perf_counter()
    run(balcony())
    elapsed = time.perf_counter() - started
    print(f"用时 ≈{elapsed:.1f} 秒")
    return elapsed


@coroutine
def juliet_waits(pebble):
    """pebble 是一个 Future：一个以后才有的结果 (2.4)。"""
    print("朱丽叶: 等石子敲窗")
    knocks = yield from pebble  # Future 把自己 yield 出去，意思是“它好了再叫我”
    print(f"朱丽叶: 听到{knocks}，开窗")
    return knocks


@coroutine
def romeo_throws(pebble):
    print("罗密欧: 扔石子")
    # 只是把朱丽叶排进就绪队列 (ready queue)；他还没让路，她动不了
    pebble.set_result("三声")
    print("罗密欧: 躲到树后")
    yield  # 裸 yield：“让一让，马上再叫我”


@coroutine
def window():
    pebble = asyncio.get_running_loop().create_future()
    knocks, _ = yield from asyncio.gather(juliet_waits(pebble), romeo_throws(pebble))
    return knocks


def hand_a_future_to_the_loop() -> tuple[bool, str, str]:
    """先用手推一遍：任务 (Task) 做的也是这几步：send，记下交出来的 Future，等它好了再 send。"""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        pebble = loop.create_future()
        part = juliet_waits(pebble)
        handed = part.send(None)
        print(f"send(None) 拿到的就是那个 Future: {handed is pebble}")
        pebble.set_result("两声")
        try:
            part.send(None)
        except StopIteration as stop:
            by_hand = stop.value
    print("换事件循环来推：")
    return handed is pebble, by_hand, run(window())


def stamp_a_generator() -> tuple[str, Any, list[bool]]:
    def whisper(pause):
        yield from pause

    pause = asyncio.sleep(0)
    part = whisper(pause)
    awaitable = [inspect.isawaitable(part)]
    try:
        next(part)
    except TypeError as error:
        refused = str(error)
    print(f"没盖章: TypeError: {refused}")
    part = coroutine(whisper)(pause)
    handed = part.send(None)
    print(f"盖了章: 走进 sleep(0)，停在它里面的裸 yield，交出 {handed}")
    awaitable.append(inspect.isawaitable(part))
    print(f"能 await 吗: 没盖章 {awaitable[0]}，盖了章 {awaitable[1]}")
    part.close()  # 演到一半就不演了：关上，别留给垃圾回收
    return refused, handed, awaitable


SECTIONS = {
    "1. @asyncio.coroutine：3.8 起警告，3.11 起没有了": ask_for_the_decorator,
    "2. yield from asyncio.sleep：停住自己，由事件循环换人": let_the_loop_direct,
    "3. yield from 一个 Future：交给事件循环的，就是它自己": hand_a_future_to_the_loop,
    "4. 装饰器盖的章：有了它，生成器才能 yield from 协程": stamp_a_generator,
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        section()


if __name__ == "__main__":
    main()
