"""2.4 Future 对象：先拿取相单，照片洗好再兑现

视频：§3.5 asyncio.Future（示例 1–2）
运行：python 02_asyncio_core/04_future_demo.py
观看：python tutorial.py trace 2.4（一步步看谁在跑、谁在等）

先猜后跑
    顾客正在 await slip。暗房执行 slip.set_result("全家福")，紧接着 print("暗房: 挂起来晾")。
    顾客的“拿到”和暗房的“挂起来晾”，哪一行先出现？（第 1 节）

预期输出
    ── 1. set_result 只是叫号：等的人下一轮才醒 ──
    洗好之前: slip.done() = False
    暗房: 挂起来晾，slip.done() = True，result() = '全家福'
    顾客: 拿到 '全家福'
    ── 2. 没人完成它，就永远等 ──
    等了 0.05 秒: TimeoutError，slip.cancelled() = True
    ── 3. 一个任务等，另一个任务填 ──
    顾客: 等着
    暗房: 洗好了
    顾客: 拿到 '毕业照'
    ── 4. 一张单子只兑现一次 ──
    没洗好就 result(): InvalidStateError: Result is not set.
    三种结局: ['str', 'ValueError', 'CancelledError']
    再 set_result 一次: ['InvalidStateError', 'InvalidStateError', 'InvalidStateError']
    洗好了再 cancel(): False
    ── 5. 有了 Future，回调变成 await ──
    await develop('婚礼'): '婚礼的照片'
    顾客走了，先看 slip.done(): 循环抱怨 []
    顾客走了，不看 slip.done(): 循环抱怨 ['InvalidStateError']
    ── 6. 别的线程来填，要走 call_soon_threadsafe ──
    线程里直接 set_result: 0.02 秒洗好，≈0.15 秒才拿到
    调试模式当场报错: Non-thread-safe operation invoked on an event loop other than the current one
    call_soon_threadsafe: 0.02 秒洗好，≈0.02 秒就拿到
    ── 7. 同名不同物：concurrent.futures.Future ──
    receipt 是 asyncio.Future 吗: False
    await receipt: TypeError
    await wrap_future(receipt): '海报（放大）'
    ── 8. Task 就是自己填自己的 Future ──
    Task 是 asyncio.Future 吗: True
    替它填: RuntimeError: Task does not support set_result operation

视频勘误
    示例 1 的 await loop.create_future() 没有人去完成它：程序永远停在那里，今天也一样。
    等别人完成的东西都要有期限，第 2 节把它放进 asyncio.timeout。

动手试试
    1. 第 1 节在 set_result 之后加一行 await asyncio.sleep(0)，两行的先后变了吗？为什么？
    2. 第 3 节里让暗房 raise ValueError，顾客会一直等吗？
       把 TaskGroup 换成 create_task 呢？（按 Ctrl-C 结束）
    3. 第 6 节把 call_soon_threadsafe 换成 call_soon，程序停在哪里？（按 Ctrl-C 结束；
       多出的那段 InvalidStateError，是单子作废以后 set_result 才轮到）
       设了 PYTHONASYNCIODEBUG=1 再运行，多了哪一句？
"""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor


async def complete_by_hand() -> tuple[str, bool]:
    """Future 是一个空位：set_result 填上它，把等它的人排进就绪队列，然后接着执行下一行。"""
    slip = asyncio.get_running_loop().create_future()

    async def customer() -> str:
        photo = await slip
        print(f"顾客: 拿到 {photo!r}")
        return photo

    waiting = asyncio.create_task(customer())
    await asyncio.sleep(0)  # 让顾客跑到 await slip
    print(f"洗好之前: slip.done() = {slip.done()}")
    slip.set_result("全家福")
    print(f"暗房: 挂起来晾，slip.done() = {slip.done()}，result() = {slip.result()!r}")
    woken_at_once = waiting.done()
    return await waiting, woken_at_once


async def wait_for_nobody() -> asyncio.Future:
    """示例 1：没有人会完成它。到点时 timeout 取消等的人，连带取消他正等着的单子。"""
    slip = asyncio.get_running_loop().create_future()
    try:
        async with asyncio.timeout(0.05):
            await slip
    except TimeoutError:
        print(f"等了 0.05 秒: TimeoutError，slip.cancelled() = {slip.cancelled()}")
    return slip


async def let_another_task_complete_it() -> str:
    """示例 2：一个任务等，另一个任务填。"""
    slip = asyncio.get_running_loop().create_future()

    async def darkroom() -> None:
        await asyncio.sleep(0.05)
        print("暗房: 洗好了")
        slip.set_result("毕业照")

    async with asyncio.TaskGroup() as group:
        group.create_task(darkroom())
        print("顾客: 等着")
        photo = await slip
    print(f"顾客: 拿到 {photo!r}")
    return photo


async def complete_only_once() -> list[str]:
    """结果、异常、取消，三种结局选一种，选定就不能改。"""
    loop = asyncio.get_running_loop()
    printed, ruined, refunded = (loop.create_future() for _ in range(3))
    try:
        printed.result()
    except asyncio.InvalidStateError as error:
        print(f"没洗好就 result(): InvalidStateError: {error}")
    printed.set_result("证件照")
    ruined.set_exception(ValueError("底片曝光"))  # 等它的人会在 await 处收到这个异常
    refunded.cancel()
    outcomes = await asyncio.gather(printed, ruined, refunded, return_exceptions=True)
    endings = [type(outcome).__name__ for outcome in outcomes]
    print(f"三种结局: {endings}")
    for slip in (printed, ruined, refunded):
        try:
            slip.set_result("另一张")
        except asyncio.InvalidStateError:
            endings.append("InvalidStateError")
    print(f"再 set_result 一次: {endings[3:]}")
    print(f"洗好了再 cancel(): {printed.cancel()}")
    return endings


async def turn_callbacks_into_await() -> tuple[str, list[str]]:
    """只会回调 (callback) 的老机器，配一张单子，就能 await。"""
    loop = asyncio.get_running_loop()

    def old_machine(film: str, on_ready) -> None:
        loop.call_later(0.03, on_ready, f"{film}的照片")

    async def develop(film: str, careful: bool = True) -> str:
        slip = loop.create_future()

        def deliver(photo: str) -> None:
            if not careful or not slip.done():  # 顾客走了（超时、取消），单子就作废了
                slip.set_result(photo)

        old_machine(film, deliver)
        return await slip

    photo = await develop("婚礼")
    print(f"await develop('婚礼'): {photo!r}")
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, said: complaints.append(type(said["exception"]).__name__))
    for careful in (True, False):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await develop("春游", careful)
        await asyncio.sleep(0.05)  # 顾客走了，机器不知道，照样来交照片
        print(f"顾客走了，{'先看' if careful else '不看'} slip.done(): 循环抱怨 {complaints}")
    loop.set_exception_handler(None)
    return photo, complaints


async def complete_from_a_thread() -> str:
    """Future 不是线程安全 (thread-safe) 的：别的线程只能托循环去填。"""
    loop = asyncio.get_running_loop()
    debug = loop.get_debug()
    loop.set_debug(False)  # 先看平时：不报错，只是没人叫醒睡在 select 里的循环
    slip, started = loop.create_future(), time.perf_counter()
    threading.Timer(0.02, slip.set_result, ["全家福"]).start()
    while not slip.done():
        await asyncio.wait([slip], timeout=0.15)  # 0.15 秒的闹钟碰巧叫醒了循环；没有它就一直睡
    print(f"线程里直接 set_result: 0.02 秒洗好，≈{time.perf_counter() - started:.2f} 秒才拿到")

    loop.set_debug(True)
    slip = loop.create_future()
    slip.add_done_callback(lambda _: None)  # 有人等着通知，set_result 才会去碰循环
    with ThreadPoolExecutor(1) as other_thread:
        error = str(other_thread.submit(slip.set_result, "全家福").exception())
    loop.set_debug(debug)
    print(f"调试模式当场报错: {error}")

    slip, started = loop.create_future(), time.perf_counter()
    threading.Timer(0.02, loop.call_soon_threadsafe, [slip.set_result, "全家福"]).start()
    await slip
    print(f"call_soon_threadsafe: 0.02 秒洗好，≈{time.perf_counter() - started:.2f} 秒就拿到")
    return error


async def wrap_the_other_future() -> str:
    """线程池 (thread pool) 给的是 concurrent.futures.Future：靠阻塞线程来等，await 不认识它。"""
    with ThreadPoolExecutor(1) as pool:
        receipt = pool.submit("{}（放大）".format, "海报")
        print(f"receipt 是 asyncio.Future 吗: {isinstance(receipt, asyncio.Future)}")
        try:
            await receipt
        except TypeError:
            print("await receipt: TypeError")
        poster = await asyncio.wrap_future(receipt)  # receipt.result() 会让整个循环停下来等
    print(f"await wrap_future(receipt): {poster!r}")
    return poster


async def let_a_task_fill_itself() -> str:
    task = asyncio.create_task(asyncio.sleep(0, "精修照"))  # 第二个参数就是它的 return
    print(f"Task 是 asyncio.Future 吗: {isinstance(task, asyncio.Future)}")
    try:
        task.set_result("原片")
    except RuntimeError as error:
        print(f"替它填: RuntimeError: {error}")
    return await task  # 协程 return 什么，任务就把自己填成什么


SECTIONS = {
    "1. set_result 只是叫号：等的人下一轮才醒": complete_by_hand,
    "2. 没人完成它，就永远等": wait_for_nobody,
    "3. 一个任务等，另一个任务填": let_another_task_complete_it,
    "4. 一张单子只兑现一次": complete_only_once,
    "5. 有了 Future，回调变成 await": turn_callbacks_into_await,
    "6. 别的线程来填，要走 call_soon_threadsafe": complete_from_a_thread,
    "7. 同名不同物：concurrent.futures.Future": wrap_the_other_future,
    "8. Task 就是自己填自己的 Future": let_a_task_fill_itself,
}


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    asyncio.run(main())
