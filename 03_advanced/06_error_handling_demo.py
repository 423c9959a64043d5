"""3.6 错误处理：异常去了哪里，取消怎么传，信号来了怎么收摊

视频：视频之外
运行：python 03_advanced/06_error_handling_demo.py
观看：python tutorial.py trace 3.6（一步步看谁在跑、谁在等）

先猜后跑
    第 5 节里，限 0.01 秒到点了，而船长“装作没听见”（except CancelledError 里没有 raise）。
    timeout 外面看见的是 TimeoutError、CancelledError，还是一切正常？

预期输出
    ── 1. 没人取的异常，等任务被回收才出声 ──
    main: 船已搁浅，我一点不知道
    循环说: Task exception was never retrieved
    ── 2. gather 抛了就走，别人还在跑 ──
    gather 抛 RuntimeError('搁浅'): 慢船还在水上 True，它再出事也没人知道
    return_exceptions=True，等齐再分拣: ['慢船到了', OSError('触礁')]
    ── 3. TaskGroup 收了场才抛，except* 按类型认领，剩下的接着抛 ──
    TaskGroup 抛出时: 慢船已叫回 True
    修船工认领: (OSError('触礁'),)
    调度员认领: (ValueError('航线写错'),)
    没人认领: (KeyError('七号船'),)
    ── 4. timeout 可以套，可以改：问 expired()，才知道是谁到点 ──
    外层 9 秒到点 False，内层 0.02 秒到点 True
    外层 0.02 秒到点 True，内层 9 秒到点 False
    限 0.02 秒，改成不限，等了 0.03 秒: 到点 False
    ── 5. 取消要传到底：清理可以等，shield 只护货，吞掉就没人知道 ──
    船长到点就走: 外面 TimeoutError，货装好了 False
    船长装完才走: 外面 TimeoutError，货装好了 True
    船长装作没听见: 外面 没有异常，货装好了 False
    ── 6. 重试交给库：只试会好的错，有限次，取消不算错 ──
    雾散得快: 呼叫 3 次，可以靠岸
    雾不散: 呼叫 4 次，ConnectionError
    呼号写错: 呼叫 1 次，TypeError
    对方不吭声: 呼叫 1 次，TimeoutError
    不吭声，连取消也重试: 呼叫 2 次，可以靠岸
    ── 7. 信号来了：不再接客，送完船上的，限时关门 ──
    渡口: 收到 SIGTERM，不再接客
    渡口: 船上三位，送到了吗？{'甲': True, '乙': True, '丙': False}

动手试试
    1. 第 3 节删掉 except* ValueError 那一支，“没人认领”里多了什么？
    2. 第 5 节不用 shield，直接 await cargo：货会怎样？最后那句 await cargo 抛什么？
    3. 第 7 节的 timeout=0.3 改成 timeout=9，删去 call_soon 那一行，在终端里按两次 Ctrl-C：
       第二次为什么不一样？
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import tenacity


async def wreck(trouble: Exception) -> None:
    raise trouble


async def fail_silently() -> list[str]:
    heard, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context["message"]))
    boat = asyncio.create_task(wreck(RuntimeError("搁浅")))
    await asyncio.wait([boat])  # await boat 会当场抛出；wait 只等，不取
    print("main: 船已搁浅，我一点不知道")
    del boat  # 最后一个引用。要是存进了 self.boats，就连这一声也听不到
    print("循环说:", *heard)
    return heard


async def gather_leaves_the_rest() -> list[str | Exception]:
    slow = asyncio.get_running_loop().create_future()  # 慢船在等风
    try:
        await asyncio.gather(slow, wreck(RuntimeError("搁浅")))
    except RuntimeError as error:
        print(f"gather 抛 {error!r}: 慢船还在水上 {not slow.done()}，它再出事也没人知道")
    slow.set_result("慢船到了")
    both = await asyncio.gather(slow, wreck(OSError("触礁")), return_exceptions=True)
    print(f"return_exceptions=True，等齐再分拣: {both}")
    return both


async def group_cleans_up_and_sorts() -> tuple[bool, dict[str, tuple[Exception, ...]]]:
    claims = {}
    try:
        try:
            async with asyncio.TaskGroup() as fleet:
                slow = fleet.create_task(asyncio.sleep(9))
                for trouble in (OSError("触礁"), ValueError("航线写错"), KeyError("七号船")):
                    fleet.create_task(wreck(trouble))
        except* OSError as group:  # 异常组 (ExceptionGroup)：每一支各拿自己那一份
            claims["修船工"] = group.exceptions
        except* ValueError as group:
            claims["调度员"] = group.exceptions
    except ExceptionGroup as leftover:  # 剩下的仍是一个组，哪怕只剩一个
        claims["没人"] = leftover.exceptions
    print(f"TaskGroup 抛出时: 慢船已叫回 {slow.cancelled()}")
    for who, errors in claims.items():
        print(f"{who}认领: {errors}")
    return slow.cancelled(), claims


async def nest_deadlines() -> list[bool]:
    fired = []
    for outside, inside in ((9, 0.02), (0.02, 9)):
        with suppress(TimeoutError):  # 哪一层到点，抛到这里都是 TimeoutError
            async with asyncio.timeout(outside) as outer, asyncio.timeout(inside) as inner:
                await asyncio.sleep(99)
        fired += [outer.expired(), inner.expired()]
        print(f"外层 {outside} 秒到点 {fired[-2]}，内层 {inside} 秒到点 {fired[-1]}")
    async with asyncio.timeout(0.02) as deadline:
        deadline.reschedule(None)  # 不限；要延期就给绝对时刻：loop.time() + 秒数
        await asyncio.sleep(0.03)
    print(f"限 0.02 秒，改成不限，等了 0.03 秒: 到点 {deadline.expired()}")
    return [*fired, deadline.expired()]


async def cancel_three_captains() -> dict[str, tuple[str, bool]]:
    left = {}
    for manner in ("到点就走", "装完才走", "装作没听见"):
        cargo = asyncio.create_task(asyncio.sleep(0.08))  # 自己拿着引用：shield 不替你拿
        outcome = "TimeoutError"
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                try:
                    await asyncio.shield(cargo)  # 陷阱：货不受取消，等货的人照样在这里收到
                except asyncio.CancelledError:
                    if manner == "装完才走":
                        await cargo  # 清理时可以 await；再来一次取消，就连货一起取消
                    if manner != "装作没听见":
                        raise  # 真要吞，得有理由，并调 task.uncancel() 把这次请求销掉
            outcome = "没有异常"
        left[manner] = outcome, cargo.done() and not cargo.cancelled()
        print(f"船长{manner}: 外面 {outcome}，货装好了 {left[manner][1]}")
        await cargo
    return left


async def hail(replies: Iterator[Exception | float]) -> str:
    if isinstance(reply := next(replies), Exception):
        raise reply
    return await asyncio.sleep(reply, "可以靠岸")


async def retry_with_a_library() -> dict[str, tuple[int, str]]:
    fog, outcomes = ConnectionError("雾里没有回音"), {}
    careful = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(ConnectionError),
        stop=tenacity.stop_after_attempt(4),
        # 退避 (backoff)：上限每次翻倍；抖动 (jitter)：在 0 和上限之间随机，大家不会同时再来
        wait=tenacity.wait_random_exponential(multiplier=0.002, max=0.01),
        reraise=True,  # 抛最后那次的异常，而不是 tenacity.RetryError
    )
    greedy = careful.copy(retry=tenacity.retry_if_exception_type(BaseException))
    for weather, replies, retrying in (
        ("雾散得快", [fog, fog, 0], careful),
        ("雾不散", [fog] * 9, careful),
        ("呼号写错", [TypeError("呼号")] * 9, careful),
        ("对方不吭声", [99] * 9, careful),
        ("不吭声，连取消也重试", [99, 0], greedy),
    ):
        try:
            async with asyncio.timeout(0.5):  # 限时套在重试外面，管总共等多久
                outcome = await retrying(hail, iter(replies))
        except (ConnectionError, TypeError, TimeoutError) as error:
            outcome = type(error).__name__
        outcomes[weather] = retrying.statistics["attempt_number"], outcome
        print(f"{weather}: 呼叫 {outcomes[weather][0]} 次，{outcome}")
    return outcomes


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """SIGINT 是 Ctrl-C，SIGTERM 是 kill 和 docker stop（宽限 10 秒）。出门就还原：再按是硬停。"""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def close_the_gate(number: int, _: object = None) -> None:
        print(f"渡口: 收到 {signal.Signals(number).name}，不再接客")
        loop.call_soon_threadsafe(stop.set)  # signal.signal 那一支要靠它叫醒睡着的循环

    with ExitStack() as on_leaving:
        for number in (signal.SIGINT, signal.SIGTERM):
            on_leaving.callback(signal.signal, number, signal.getsignal(number))
            try:
                loop.add_signal_handler(number, close_the_gate, number)
                on_leaving.callback(loop.remove_signal_handler, number)
            except NotImplementedError:  # Windows
                signal.signal(number, close_the_gate)
        yield stop


async def close_gracefully(number: int = signal.SIGTERM) -> dict[str, bool]:
    minutes = {"甲": 0.01, "乙": 0.02, "丙": 9}
    with stop_signals() as stop:
        trips = {guest: asyncio.create_task(asyncio.sleep(minutes[guest])) for guest in minutes}
        asyncio.get_running_loop().call_soon(signal.raise_signal, number)  # 代替按 Ctrl-C 的你
        await stop.wait()
    _, late = await asyncio.wait(trips.values(), timeout=0.3)  # 要比宽限 (grace period) 短
    for trip in late:
        trip.cancel()  # wait 到点不取消谁：刚好靠岸的，不会被误伤
    await asyncio.gather(*late, return_exceptions=True)  # 等他们收拾完
    landed = {guest: trip not in late for guest, trip in trips.items()}
    print(f"渡口: 船上三位，送到了吗？{landed}")
    return landed


SECTIONS = {
    "1. 没人取的异常，等任务被回收才出声": fail_silently,
    "2. gather 抛了就走，别人还在跑": gather_leaves_the_rest,
    "3. TaskGroup 收了场才抛，except* 按类型认领，剩下的接着抛": group_cleans_up_and_sorts,
    "4. timeout 可以套，可以改：问 expired()，才知道是谁到点": nest_deadlines,
    "5. 取消要传到底：清理可以等，shield 只护货，吞掉就没人知道": cancel_three_captains,
    "6. 重试交给库：只试会好的错，有限次，取消不算错": retry_with_a_library,
    "7. 信号来了：不再接客，送完船上的，限时关门": close_gracefully,
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        asyncio.run(section())  # 各跑各的：3.12 及以前，失败的 TaskGroup 不归还 cancelling()


if __name__ == "__main__":
    main()
