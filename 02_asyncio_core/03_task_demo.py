"""2.3 Task 对象：把协程交给事件循环，让它们并发

视频：§3.4 Task 对象（示例 1–3）
运行：python 02_asyncio_core/03_task_demo.py
观看：python tutorial.py trace 2.3（一步步看谁在跑、谁在等）

先猜后跑
    第 1 节里，“main: 两个任务都登记了”和“烧水: 开始”，哪一行先出现？

预期输出
    ── 1. create_task 只登记，await 才让路 ──
    main: 两个任务都登记了
    烧水: 开始
    磨豆: 开始
    磨豆: 完成
    烧水: 完成
    结果 ['水', '粉']，用时 ≈0.25 秒（最慢的那个，而不是两个相加）
    ── 2. 任务替你保管结果和异常 ──
    磨豆: 开始
    糊锅: 开始
    磨豆: 完成
    回调: 磨豆结束了
    磨豆.result() = '粉'
    糊锅.exception() = RuntimeError('糊了')
    ── 3. cancel 是请求：任务在 await 处收到 CancelledError ──
    烧水: 开始
    烧水: 收到取消，先关火
    烧水.cancelled() = True
    ── 4. wait 只等，不取结果，也不收拾剩下的 ──
    烧水: 开始
    磨豆: 开始
    磨豆: 完成
    FIRST_COMPLETED: 好了 ['磨豆']
    糊锅: 开始
    FIRST_EXCEPTION: 好了 ['磨豆', '糊锅']
    烧水: 收到取消，先关火
    ALL_COMPLETED: 好了 ['烧水', '磨豆', '糊锅']
    ── 5. TaskGroup：一个失败，全组收场 ──
    烧水: 开始
    糊锅: 开始
    烧水: 收到取消，先关火
    组里的异常: ['糊了']
    ── 6. 没人引用的任务会被回收 ──
    事件循环说: ['Task was destroyed but it is pending!']
    ── 7. 任务要在循环里建 ──
    循环外 create_task: RuntimeError: no running event loop
    wait 协程: TypeError: Passing coroutines is forbidden, use tasks explicitly.
    挪进循环，先建任务再 wait: ['温水', '温水']
    [3.12+] ── 8. 急切任务 (eager task) 当场开跑 ──
    [3.12+] 磨豆: 开始
    [3.12+] main: 磨豆登记了，done() = False
    [3.12+] main: 倒水登记了，done() = True，结果 '温水'
    [3.12+] 磨豆: 完成

视频勘误
    示例 3 在循环外面备好 [func(), func()]，再 asyncio.run(asyncio.wait(…))。3.11 起是
    TypeError: Passing coroutines is forbidden, use tasks explicitly.
    循环外面又建不了任务，所以整段挪进 async def main()：先用 create_task 建好再 wait
    （第 7 节），多数时候直接用 TaskGroup（第 5 节）。

动手试试
    1. 把第 1 节的两个 create_task 换成 water = await boil() 和 powder = await grind()，
       results 改成 [water, powder]，用时变成多少？为什么？
    2. 把 boil 里的 raise 删掉：第 3 节还打印 cancelled() = True 吗？
       第 5 节里水还是烧“完成”了，为什么？
    3. 第 6 节里把 create_task 的返回值存进一个变量，那句话还会出现吗？
"""

import asyncio
import contextlib
import gc
import sys
import time


async def boil(seconds: float = 0.25) -> str:
    print("烧水: 开始")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print("烧水: 收到取消，先关火")
        raise  # 吞掉它，取消你的人（timeout、TaskGroup、Ctrl-C）就会失灵
    print("烧水: 完成")
    return "水"


async def grind() -> str:
    print("磨豆: 开始")
    await asyncio.sleep(0.08)
    print("磨豆: 完成")
    return "粉"


async def burn(seconds: float) -> None:
    print("糊锅: 开始")
    await asyncio.sleep(seconds)
    raise RuntimeError("糊了")


async def pour() -> str:
    return "温水"  # 保温壶里就有：从头到尾不用等


async def schedule_first_run_later() -> tuple[list[str], float]:
    """create_task 把协程放进就绪队列 (ready queue) 就返回；当前协程到下一个 await 才让路。"""
    started = time.perf_counter()
    water = asyncio.create_task(boil(), name="烧水")
    powder = asyncio.create_task(grind(), name="磨豆")
    print("main: 两个任务都登记了")
    results = [await water, await powder]
    elapsed = time.perf_counter() - started
    print(f"结果 {results}，用时 ≈{elapsed:.2f} 秒（最慢的那个，而不是两个相加）")
    return results, elapsed


async def keep_result_or_exception() -> tuple[asyncio.Task, asyncio.Task]:
    """任务结束后，结果或异常留在任务里；不去取的异常，回收时事件循环会替你抱怨。

    回调 (callback)：交给任务，任务一结束，循环就替你调用它。
    """
    good = asyncio.create_task(grind(), name="磨豆")
    bad = asyncio.create_task(burn(0.12), name="糊锅")  # 最后才糊：一糊，下面就取走异常
    good.add_done_callback(lambda task: print(f"回调: {task.get_name()}结束了"))
    await asyncio.wait([good, bad])
    print(f"磨豆.result() = {good.result()!r}")
    print(f"糊锅.exception() = {bad.exception()!r}")
    return good, bad


async def cancel_is_a_request() -> asyncio.Task:
    water = asyncio.create_task(boil(), name="烧水")
    await asyncio.sleep(0.05)  # 先让它跑到 await；没开始就取消的任务，一行也不会执行
    water.cancel()
    with contextlib.suppress(asyncio.CancelledError):  # 任务被取消，等它的人也收到这个异常
        await water
    print(f"烧水.cancelled() = {water.cancelled()}")
    return water


async def wait_until() -> dict[str, list[str]]:
    """wait 从不抛异常：失败、取消也算“好了”；没好的还在跑，要等、要取消，都归你管。"""
    ready: dict[str, list[str]] = {}

    async def wait(until: str) -> None:
        done, _ = await asyncio.wait(tasks, return_when=until)
        ready[until] = [task.get_name() for task in tasks if task in done]
        print(f"{until}: 好了 {ready[until]}")

    water = asyncio.create_task(boil(60), name="烧水")
    tasks = [water, asyncio.create_task(grind(), name="磨豆")]
    await wait(asyncio.FIRST_COMPLETED)
    tasks.append(asyncio.create_task(burn(0.08), name="糊锅"))
    await wait(asyncio.FIRST_EXCEPTION)  # 磨豆早就好了，但没出错：不算，接着等
    water.cancel()  # 还要烧很久，不等了
    await wait(asyncio.ALL_COMPLETED)
    return ready


async def fail_together() -> list[str]:
    """结构化并发 (structured concurrency)：离开 async with 时，组里一个任务也不剩。"""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(boil(), name="烧水")
            group.create_task(burn(0), name="糊锅")
    except* RuntimeError as caught:
        messages = [str(error) for error in caught.exceptions]
        print(f"组里的异常: {messages}")
    return messages


async def lose_the_reference() -> list[str]:
    """事件循环只弱引用 (weak reference) 任务：create_task 的返回值要有人拿着。"""
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))

    async def wait_for_nobody() -> None:
        await loop.create_future()

    asyncio.create_task(wait_for_nobody())  # noqa: RUF006 — 这正是要看的错误
    await asyncio.sleep(0)  # 让它跑到 await，从此只有它自己的 Future 认识它
    gc.collect()
    loop.set_exception_handler(None)
    print(f"事件循环说: {complaints}")
    return complaints


async def build_tasks_inside_the_loop() -> tuple[list[str], list[str]]:
    """示例 3 的改法：协程对象在哪里都能建；任务属于一个循环，要在它运行的时候建。"""
    recipes = [pour(), pour()]
    refusals: list[str] = []
    try:
        await asyncio.to_thread(asyncio.create_task, recipes[0])  # 那个线程里没有循环在跑
    except RuntimeError as error:
        refusals.append(str(error))
        print(f"循环外 create_task: RuntimeError: {error}")
    try:
        await asyncio.wait(recipes)
    except TypeError as error:
        refusals.append(str(error))
        print(f"wait 协程: TypeError: {error}")
    done, _ = await asyncio.wait([asyncio.create_task(recipe) for recipe in recipes])
    cups = [task.result() for task in done]
    print(f"挪进循环，先建任务再 wait: {cups}")
    return refusals, cups


async def start_at_once() -> tuple[asyncio.Task, asyncio.Task]:
    """急切任务在 create_task 里就跑到第一次挂起；一次也不挂起的，当场做完，不进就绪队列。"""
    # 省掉一趟排队，但顺序变了；3.12.0–3.12.4 对已完成的急切任务调 get_coro() 会让解释器崩溃
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    powder = asyncio.create_task(grind(), name="磨豆")
    print(f"main: 磨豆登记了，done() = {powder.done()}")
    water = asyncio.create_task(pour(), name="倒水")
    print(f"main: 倒水登记了，done() = {water.done()}，结果 {water.result()!r}")
    loop.set_task_factory(None)
    await powder
    return powder, water


SECTIONS = {
    "1. create_task 只登记，await 才让路": schedule_first_run_later,
    "2. 任务替你保管结果和异常": keep_result_or_exception,
    "3. cancel 是请求：任务在 await 处收到 CancelledError": cancel_is_a_request,
    "4. wait 只等，不取结果，也不收拾剩下的": wait_until,
    "5. TaskGroup：一个失败，全组收场": fail_together,
    "6. 没人引用的任务会被回收": lose_the_reference,
    "7. 任务要在循环里建": build_tasks_inside_the_loop,
}
if sys.version_info >= (3, 12):
    SECTIONS["8. 急切任务 (eager task) 当场开跑"] = start_at_once


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    asyncio.run(main())
