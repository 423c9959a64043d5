"""3.3 生产者与消费者：有界队列让快的等慢的

视频：视频之外
运行：python 03_advanced/03_producer_consumer_demo.py
观看：python tutorial.py trace 3.3（一步步看谁在跑、谁在等）

先猜后跑
    第 4 节里，唯一的洗衣工出错退出了。await basket.join() 会抛出他的异常、直接返回，还是一直等？

预期输出
    ── 1. 有界队列：篮子满了，put 就等 ──
    maxsize=0: 每洗完一件，篮子里还有 [8, 7, 6, 5, 4, 3, 2, 1, 0]
    maxsize=3: 每洗完一件，篮子里还有 [3, 3, 3, 3, 3, 3, 2, 1, 0]
    ── 2. join：等的是 task_done，不是篮子空 ──
    2 个前台收工。9 件都洗好了？False
    join 返回。9 件都洗好了？True
    ── 3. 收工：一人一个哨兵 (sentinel)，或者 shutdown ──
    哨兵: 洗好 3 件，2 人各拿到一个 None，下班
    [3.13+] shutdown: 洗好 3 件，所有人同时知道，下班
    ── 4. 消费者倒下，join 不知道 ──
    单独的任务: join 一直等；洗衣工早已 ValueError('漏墨，洗不得')
    TaskGroup: 马上知道 ValueError('漏墨，洗不得')
    ── 5. task_done 写进 finally，一件坏的不拖累全部 ──
    退回钢笔: 漏墨，洗不得
    join 返回，洗好 ['衬衫', '毛衣']
    ── 6. 优先队列 (priority queue)：急的先出，同级比序号 ──
    急件程度相同，就比下一项: '<' not supported between instances of 'dict' and 'dict'
    加上序号: ['婚纱', '衬衫', '毛衣', '围巾']
    ── 7. 缓冲能削峰，不能让洗衣工变快 ──
    容量 1: 每秒 ≈140 件
    容量 2: 每秒 ≈167 件
    容量 4: 每秒 ≈194 件
    容量 100: 每秒 ≈195 件

动手试试
    1. 第 3 节里少放一个 None，程序停在哪里？用 asyncio.timeout 把它找出来。
    2. 第 5 节里把 task_done() 从 finally 挪到 washed.append 的下一行，join() 还会返回吗？
    3. 把 wash 的 0.005 改成 0.01，第 7 节的四行还有差别吗？缓冲什么时候没有用？
"""

import asyncio
import itertools
import sys
import time
from contextlib import suppress

Basket = asyncio.Queue  # 前台是生产者 (producer)，往篮子里放；洗衣工是消费者 (consumer)，从里拿


async def receive(basket: Basket, garments: list) -> None:
    for garment in garments:
        await basket.put(garment)  # 篮子满了，就等在这里


async def wash(garment: str) -> str:
    await asyncio.sleep(0.005)
    if garment == "钢笔":
        raise ValueError("漏墨，洗不得")
    return garment


async def full_basket_makes_put_wait() -> list[list[int]]:
    """背压 (back-pressure)：慢的一头让快的一头停下。无界队列的 put 从不等，一直涨的是内存。"""
    history = []
    for maxsize in (0, 3):
        basket, lengths = Basket(maxsize), []
        async with asyncio.TaskGroup() as shop:
            shop.create_task(receive(basket, ["衬衫"] * 9))
            for _ in range(9):
                await wash(await basket.get())
                lengths.append(basket.qsize())
        print(f"maxsize={maxsize}: 每洗完一件，篮子里还有 {lengths}")
        history.append(lengths)
    return history


async def careful_washer(basket: Basket, washed: list[str]) -> None:
    while True:
        garment = await basket.get()
        try:
            washed.append(await wash(garment))
        except ValueError as error:  # 一件洗不成，洗衣工还在
            print(f"退回{garment}: {error}")
        finally:
            basket.task_done()  # 拿一件，报一次，不论洗成没有


async def join_waits_for_the_last_garment() -> list[str]:
    basket, washed = Basket(maxsize=2), []
    async with asyncio.TaskGroup() as shop:
        washers = [shop.create_task(careful_washer(basket, washed)) for _ in range(3)]
        async with asyncio.TaskGroup() as counters:
            counters.create_task(receive(basket, ["衬衫"] * 5))
            counters.create_task(receive(basket, ["毛衣"] * 4))
        print(f"2 个前台收工。9 件都洗好了？{len(washed) == 9}")
        await basket.join()  # 篮子空了还不算，每件都 task_done() 了才返回
        print(f"join 返回。9 件都洗好了？{len(washed) == 9}")
        for washer in washers:
            washer.cancel()  # 他们还在 while True 里等下一件，不取消就不会走
    return washed


async def wash_until_none(basket: Basket, washed: list[str]) -> None:
    while (garment := await basket.get()) is not None:
        washed.append(await wash(garment))


async def wash_until_shutdown(basket: Basket, washed: list[str]) -> None:
    with suppress(asyncio.QueueShutDown):  # 关门以后，篮子空了 get 才抛它；put 则当场抛
        while True:
            washed.append(await wash(await basket.get()))


async def two_ways_to_say_no_more() -> list[list[str]]:
    basket, by_sentinel, by_shutdown = Basket(), [], []
    async with asyncio.TaskGroup() as shop:
        for _ in range(2):
            shop.create_task(wash_until_none(basket, by_sentinel))
        await receive(basket, ["衬衫", "毛衣", "围巾", None, None])
    print(f"哨兵: 洗好 {len(by_sentinel)} 件，2 人各拿到一个 None，下班")
    if sys.version_info >= (3, 13):
        async with asyncio.TaskGroup() as shop:
            for _ in range(2):
                shop.create_task(wash_until_shutdown(basket, by_shutdown))
            await receive(basket, ["衬衫", "毛衣", "围巾"])
            basket.shutdown()
        print(f"shutdown: 洗好 {len(by_shutdown)} 件，所有人同时知道，下班")
    return [by_sentinel, by_shutdown]


async def careless_washer(basket: Basket) -> None:
    while True:
        await wash(await basket.get())
        basket.task_done()  # 上一行抛了异常，就走不到这里


async def dead_washer_hangs_join() -> list[int]:
    """join 只数 task_done，不认识洗衣工。TaskGroup 认识：他一倒，正在等的 join 也被取消。"""
    alone, grouped = Basket(), Basket()
    for basket in (alone, grouped):
        await receive(basket, ["衬衫", "钢笔", "毛衣"])
    washer = asyncio.create_task(careless_washer(alone))
    await asyncio.wait([washer])  # 洗到钢笔，他就倒下了；异常留在任务里，没有别人知道
    try:
        async with asyncio.timeout(0.05):
            await alone.join()
    except TimeoutError:
        print(f"单独的任务: join 一直等；洗衣工早已 {washer.exception()!r}")
    try:
        async with asyncio.TaskGroup() as shop:
            shop.create_task(careless_washer(grouped))
            await grouped.join()
    except* ValueError as caught:
        print(f"TaskGroup: 马上知道 {caught.exceptions[0]!r}")
    return [alone.qsize(), grouped.qsize()]


async def careful_washer_survives() -> list[str]:
    basket, washed = Basket(), []
    await receive(basket, ["衬衫", "钢笔", "毛衣"])
    async with asyncio.TaskGroup() as shop:
        washer = shop.create_task(careful_washer(basket, washed))
        await basket.join()
        washer.cancel()
    print(f"join 返回，洗好 {washed}")
    return washed


async def urgent_garments_first() -> list[str]:
    shelf: asyncio.PriorityQueue = asyncio.PriorityQueue()
    try:
        await receive(shelf, [(2, {"name": "衬衫"}), (2, {"name": "毛衣"})])
    except TypeError as error:
        print(f"急件程度相同，就比下一项: {error}")
    shelf, arrival = asyncio.PriorityQueue(), itertools.count()
    for urgency, name in [(2, "衬衫"), (2, "毛衣"), (1, "婚纱"), (2, "围巾")]:
        shelf.put_nowait((urgency, next(arrival), {"name": name}))  # 序号各不相同，比不到字典
    order = [shelf.get_nowait()[-1]["name"] for _ in range(shelf.qsize())]
    print(f"加上序号: {order}")
    return order


async def rush_hours(basket: Basket) -> None:
    for _ in range(3):
        await receive(basket, ["衬衫"] * 4)
        await asyncio.sleep(0.02)


async def buffer_smooths_bursts(capacities: tuple[int, ...] = (1, 2, 4, 100)) -> None:
    """一次来 4 件、歇一阵：容量 4 就让前台不必等洗衣工，再大也快不过洗衣工自己。"""
    for maxsize in capacities:
        basket, started = Basket(maxsize), time.perf_counter()
        async with asyncio.TaskGroup() as shop:
            shop.create_task(rush_hours(basket))
            for _ in range(12):
                await wash(await basket.get())
            print(f"容量 {maxsize}: 每秒 ≈{12 / (time.perf_counter() - started):.0f} 件")


SECTIONS = {
    "1. 有界队列：篮子满了，put 就等": full_basket_makes_put_wait,
    "2. join：等的是 task_done，不是篮子空": join_waits_for_the_last_garment,
    "3. 收工：一人一个哨兵 (sentinel)，或者 shutdown": two_ways_to_say_no_more,
    "4. 消费者倒下，join 不知道": dead_washer_hangs_join,
    "5. task_done 写进 finally，一件坏的不拖累全部": careful_washer_survives,
    "6. 优先队列 (priority queue)：急的先出，同级比序号": urgent_garments_first,
    "7. 缓冲能削峰，不能让洗衣工变快": buffer_smooths_bursts,
}


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    asyncio.run(main())
