"""1.4 async / await：同一场戏，写成关键字

视频：§1.4 async / await
运行：python 01_coroutine_basics/04_async_await_demo.py
观看：python tutorial.py trace 1.4（一步步看谁在跑、谁在等）

先猜后跑
    第 4 节不靠事件循环，只有一个 deque 和一遍遍的 send(None)。
    两个 async def 的函数还演得下去吗？

预期输出
    ── 1. 关键字换了，戏没有变：1 3 2 4 ──
    1 罗密欧: 我凭月亮起誓。
    3 朱丽叶: 别凭月亮，它夜夜都在变。
    2 罗密欧: 那我凭什么起誓？
    4 朱丽叶: 不必起誓。
    用时 ≈0.2 秒
    ── 2. 协程函数不是协程对象：调用它，一行也不执行 ──
    romeo 是 function，iscoroutinefunction = True
    romeo() 是 coroutine，状态 CORO_CREATED
    await 之后：
    1 罗密欧: 我凭月亮起誓。
    2 罗密欧: 那我凭什么起誓？
    状态 CORO_CLOSED
    ── 3. 忘了 await：没有台词，只有一句警告 ──
    Python 说: RuntimeWarning: coroutine 'romeo' was never awaited
    ── 4. await 底下还是 yield：send(None) 就能推着协程走 ──
    1 罗密欧: 我凭月亮起誓。
    3 朱丽叶: 别凭月亮，它夜夜都在变。
    2 罗密欧: 那我凭什么起誓？
    4 朱丽叶: 不必起誓。
    导演: 罗密欧返回 '掌声'，朱丽叶返回 '鲜花'
    ── 5. 三种写法，三种身份 ──
    生成器: 是协程函数 False，能 await False，能 for True
    盖章的生成器: 是协程函数 False，能 await True，能 for True
    async def: 是协程函数 True，能 await True，能 for False

视频勘误
    在事件循环之外调用 asyncio.get_event_loop() 或 asyncio.ensure_future(协程)：
    3.11 及以前照常（3.10.0–3.10.8、3.11.0 也警告）；
    3.12、3.13 是 DeprecationWarning: There is no current event loop
    3.14 起是 RuntimeError: There is no current event loop in thread 'MainThread'.
    今天写 asyncio.run(main())，在 main() 里用 create_task 或 TaskGroup（第 1 节）。

动手试试
    1. 把第 1 节的 TaskGroup 换成 await romeo() 和 await juliet() 两行：次序、用时各变成什么？
    2. 第 4 节里把 romeo_by_hand 的一句换成 await asyncio.sleep(0.1)，谁会抱怨？缺的是什么？
    3. 第 3 节里把 romeo() 改成 part = romeo()，警告什么时候才来？
"""

import asyncio
import inspect
import time
import types
import warnings
from collections import deque
from collections.abc import Generator, Iterable


async def romeo() -> None:
    print("1 罗密欧: 我凭月亮起誓。")
    await asyncio.sleep(0.1)
    print("2 罗密欧: 那我凭什么起誓？")


async def juliet() -> None:
    print("3 朱丽叶: 别凭月亮，它夜夜都在变。")
    await asyncio.sleep(0.2)
    print("4 朱丽叶: 不必起誓。")


async def play_together() -> float:
    """与 1.3 对照：@asyncio.coroutine → async def，yield from → await，gather → TaskGroup。"""
    started = time.perf_counter()
    async with asyncio.TaskGroup() as scene:
        scene.create_task(romeo())
        scene.create_task(juliet())
    elapsed = time.perf_counter() - started
    print(f"用时 ≈{elapsed:.1f} 秒")
    return elapsed


async def call_is_not_await() -> list[str]:
    """协程函数 (coroutine function) 是剧本，协程对象 (coroutine object) 是排好的一场，只演一次。"""
    # 用 inspect 的：asyncio.iscoroutinefunction 从 3.14 起弃用
    is_coroutine_function = inspect.iscoroutinefunction(romeo)
    print(f"romeo 是 {type(romeo).__name__}，iscoroutinefunction = {is_coroutine_function}")
    part = romeo()
    states = [inspect.getcoroutinestate(part)]
    print(f"romeo() 是 {type(part).__name__}，状态 {states[-1]}")
    print("await 之后：")
    await part
    states.append(inspect.getcoroutinestate(part))
    print(f"状态 {states[-1]}")
    return states


async def forget_to_await() -> list[str]:
    """警告在协程对象被回收时才发出：这里没有人拿着它，所以立刻就来。"""
    with warnings.catch_warnings(record=True) as caught:
        # 平时它只打印在 stderr 上，程序照常往下走；这里先收着，再打印到 stdout
        warnings.simplefilter("always")
        romeo()
    # asyncio 的调试模式 (PYTHONASYNCIODEBUG=1) 会在后面几行说出协程是在哪里建的
    heard = [f"{seen.category.__name__}: {str(seen.message).splitlines()[0]}" for seen in caught]
    print("Python 说:", *heard)
    return heard


@types.coroutine
def say(line: str) -> Generator[str, None, None]:
    """一串 await 若真停下，总是停在最底下的一个 yield，asyncio.sleep 和 Future 也不例外。"""
    yield line


async def romeo_by_hand() -> str:
    await say("1 罗密欧: 我凭月亮起誓。")
    await say("2 罗密欧: 那我凭什么起誓？")
    return "掌声"


async def juliet_by_hand() -> str:
    await say("3 朱丽叶: 别凭月亮，它夜夜都在变。")
    await say("4 朱丽叶: 不必起誓。")
    return "鲜花"


def direct_by_hand() -> dict[str, str]:
    """1.2 的导演又来了：协程没有 next，但有同样的 send；return 的值同样装在 StopIteration 里。

    这是普通函数，main() 直接调用它，没有 asyncio.run：推着协程走的，就是这里的 send。
    """
    waiting = deque({"罗密欧": romeo_by_hand(), "朱丽叶": juliet_by_hand()}.items())
    returned = {}
    while waiting:
        name, part = waiting.popleft()
        try:
            print(part.send(None))
        except StopIteration as stop:
            returned[name] = stop.value
        else:
            waiting.append((name, part))
    print(f"导演: {'，'.join(f'{name}返回 {value!r}' for name, value in returned.items())}")
    return returned


def compare_identities() -> list[tuple[bool, bool, bool]]:
    """async def 得到原生协程 (native coroutine)：特意不能 for，与生成器再也不会弄混。"""

    def plain() -> Generator[str, None, None]:
        yield "我凭月亮起誓"

    @types.coroutine
    def stamped() -> Generator[str, None, None]:
        yield "我凭月亮起誓"

    identities = []
    for name, function in {
        "生成器": plain,
        "盖章的生成器": stamped,
        "async def": romeo_by_hand,
    }.items():
        part = function()
        identity = (
            inspect.iscoroutinefunction(function),
            inspect.isawaitable(part),
            isinstance(part, Iterable),
        )
        identities.append(identity)
        print(f"{name}: 是协程函数 {identity[0]}，能 await {identity[1]}，能 for {identity[2]}")
        part.close()  # 没打算演：关上，免得再来一次第 3 节
    return identities


SECTIONS = {
    "1. 关键字换了，戏没有变：1 3 2 4": play_together,
    "2. 协程函数不是协程对象：调用它，一行也不执行": call_is_not_await,
    "3. 忘了 await：没有台词，只有一句警告": forget_to_await,
    "4. await 底下还是 yield：send(None) 就能推着协程走": direct_by_hand,
    "5. 三种写法，三种身份": compare_identities,
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        if inspect.iscoroutinefunction(section):  # 第 1–3 节要事件循环来推
            asyncio.run(section())
        else:
            section()


if __name__ == "__main__":
    main()
