"""3.2 异步上下文管理器：进门等，出门也等，出了事照样收拾

视频：§3.8 异步上下文管理器
运行：python 03_advanced/02_async_context_manager_demo.py
观看：python tutorial.py trace 3.2（一步步看谁在跑、谁在等）

先猜后跑
    第 5 节里，__aexit__ 返回 True，吞掉了 CancelledError。外面的 timeout 还会抛 TimeoutError 吗？

预期输出
    ── 1. async with 两头各等一次：__aenter__ 和 __aexit__ ──
    小舟: 解缆
    小舟: 划一圈
    小舟: 系缆，__aexit__ 收到 None
    进出共等 ≈0.03 秒，等的时候别的任务照常跑
    ── 2. __aexit__ 看得见异常；返回 True 就吞掉它 ──
    小舟: 解缆
    小舟: 系缆，__aexit__ 收到 RuntimeError
    外面: 风平浪静
    ── 3. asynccontextmanager：yield 外面没有 finally，就会有借无还 ──
    rent_carelessly: 出事以后，岸上有 []
    rent_safely: 出事以后，岸上有 ['小舟']
    ── 4. 取消也从 __aexit__ 出门，清理照样能 await ──
    小舟: 解缆
    小舟: 系缆，__aexit__ 收到 CancelledError
    TimeoutError，≈0.08 秒，含系缆的 0.02 秒
    ── 5. 吞掉 CancelledError，超时就失灵 ──
    小舟: 解缆
    小舟: 系缆，__aexit__ 收到 CancelledError
    早已超时，这一行却还在跑
    limit.expired() = True，却没有 TimeoutError
    ── 6. AsyncExitStack：倒着退，进门失败也退 ──
    小舟: 解缆
    竹筏: 解缆
    竹筏: 系缆，__aexit__ 收到 ConnectionError
    小舟: 系缆，__aexit__ 收到 ConnectionError
    码头: 没走成，漏船下不了水
    ── 7. 连接池：客人再多，连接最多 size 条 ──
    6 位客人划完: 共造船 2 条；散场以后，水上 0 条
    ── 8. 等不到就放手，坏了的不还 ──
    拿着 1 号船再借一条: TimeoutError
    1 号船漏水报废，下一位借到 2 号船

视频勘误
    课程的 __init__(self) 里写 self.conn = conn，而 conn 从没定义过，一创建对象就是
    NameError: name 'conn' is not defined
    要用的东西从参数来：def __init__(self, conn)（第 1 节的 Rental 就这样写）。

动手试试
    1. 把第 1 节的 async with 改成 with，报什么错？__aenter__ 里忘了 return，boat 是什么？
    2. 第 4 节里再开一个任务，在系缆的 0.02 秒里第二次取消它，系缆那行还会打印吗？
    3. 第 8 节里两个 ConnectionError 都改成 ValueError，下一位拿到的是几号船？什么错才该换船？
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress


class Rental:
    """课程的异步上下文管理器 (async context manager)，改对了一处：要用的东西从参数来。"""

    def __init__(self, boat: str, swallows: tuple[type[BaseException], ...] = ()) -> None:
        self.boat, self.swallows = boat, swallows

    async def __aenter__(self) -> str:
        await asyncio.sleep(0.01)
        if self.boat == "漏船":
            raise ConnectionError("漏船下不了水")
        print(f"{self.boat}: 解缆")
        return self.boat  # as 后面的名字得到的是它，不是 Rental 本身

    async def __aexit__(self, kind, error, traceback) -> bool:
        await asyncio.sleep(0.02)
        print(f"{self.boat}: 系缆，__aexit__ 收到 {kind.__name__ if kind else None}")
        return isinstance(error, self.swallows)  # True：异常到此为止；False 或 None：继续往外抛


async def wait_on_both_sides() -> None:
    started = time.perf_counter()
    async with Rental("小舟") as boat:
        print(f"{boat}: 划一圈")
    print(f"进出共等 ≈{time.perf_counter() - started:.2f} 秒，等的时候别的任务照常跑")


async def true_swallows_the_exception() -> None:
    async with Rental("小舟", swallows=(RuntimeError,)):
        raise RuntimeError("撞上浮标")
    print("外面: 风平浪静")  # 返回 False 就走不到这一行


@asynccontextmanager
async def rent_carelessly(ashore: list[str]) -> AsyncIterator[str]:
    boat = ashore.pop()
    yield boat  # async with 里的异常，从这里抛出来
    ashore.append(boat)


@asynccontextmanager
async def rent_safely(ashore: list[str]) -> AsyncIterator[str]:
    boat = ashore.pop()
    try:
        yield boat
    finally:
        ashore.append(boat)


async def finally_brings_it_back() -> list[list[str]]:
    shores = {rent_carelessly: ["小舟"], rent_safely: ["小舟"]}
    for rent, ashore in shores.items():
        with suppress(RuntimeError):
            async with rent(ashore):
                raise RuntimeError("撞上浮标")
        print(f"{rent.__name__}: 出事以后，岸上有 {ashore}")
    return list(shores.values())


async def cancellation_walks_out_through_aexit() -> None:
    """取消只打断当时的那个 await；__aexit__ 里新的 await 照样能等完，除非再来一次取消。"""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(None) as limit, Rental("小舟"):
            limit.reschedule(asyncio.get_running_loop().time() + 0.05)  # 划起来才计时
            await asyncio.sleep(60)
    except TimeoutError:
        print(f"TimeoutError，≈{time.perf_counter() - started:.2f} 秒，含系缆的 0.02 秒")


async def swallowed_cancellation_disarms_the_timeout() -> bool:
    """timeout 靠 CancelledError 走到它面前，才换成 TimeoutError。TaskGroup 和 Ctrl-C 也靠它。"""
    async with asyncio.timeout(None) as limit:
        async with Rental("小舟", swallows=(asyncio.CancelledError,)):
            limit.reschedule(asyncio.get_running_loop().time() + 0.05)
            await asyncio.sleep(60)
        print("早已超时，这一行却还在跑")
    print(f"limit.expired() = {limit.expired()}，却没有 TimeoutError")
    return limit.expired()


async def stack_unwinds_in_reverse(fleet: tuple[str, ...] = ("小舟", "竹筏", "漏船")) -> None:
    """要进几道门，运行时才知道，就用 AsyncExitStack：一道一道进，倒着一道一道出。"""
    try:
        async with AsyncExitStack() as stack:
            boats = [await stack.enter_async_context(Rental(boat)) for boat in fleet]
            print(f"码头: 船队出发 {boats}")
    except ConnectionError as error:  # 没进成的那道门不叫 __aexit__，进成的一道不少
        print(f"码头: 没走成，{error}")


class BoatPool:
    """连接池 (connection pool)：排队等的是泊位，船再怎么坏、再怎么换，也不会多于 size 条。
    生产中用现成的：redis.asyncio.BlockingConnectionPool、aiomysql.create_pool、asyncpg.create_pool。
    """

    def __init__(self, size: int, patience: float) -> None:
        self.patience, self.launched, self.afloat = patience, 0, 0
        self._berths: asyncio.LifoQueue[str | None] = asyncio.LifoQueue(size)  # 先借刚还的
        for _ in range(size):
            self._berths.put_nowait(None)  # 空泊位：有人要，才造船

    @asynccontextmanager
    async def rent(self) -> AsyncIterator[str]:
        async with asyncio.timeout(self.patience):  # 只限等泊位，不限借走以后用多久
            boat = await self._berths.get()
        try:
            if boat is None:
                await asyncio.sleep(0.01)  # 连接要花时间
                self.launched, self.afloat = self.launched + 1, self.afloat + 1
                boat = f"{self.launched} 号船"
            yield boat
        except (ConnectionError, TimeoutError, asyncio.CancelledError):  # 也许停在半句话上
            self.afloat -= boat is not None  # 真连接在这里 close()：不 await，取消打断不了它
            boat = None
            raise
        finally:
            self._berths.put_nowait(boat)

    async def aclose(self) -> None:
        for _ in range(self._berths.maxsize):
            boat = await self._berths.get()  # 借出去的也等它回来，一条不落
            self.afloat -= boat is not None


async def pool_is_bounded() -> BoatPool:
    async def row(pool: BoatPool) -> None:
        async with pool.rent():
            await asyncio.sleep(0.02)

    async with aclosing(BoatPool(size=2, patience=9)) as pool, asyncio.TaskGroup() as guests:
        for _ in range(6):
            guests.create_task(row(pool))
    print(f"6 位客人划完: 共造船 {pool.launched} 条；散场以后，水上 {pool.afloat} 条")
    return pool


async def pool_gives_up_and_heals() -> tuple[str, str]:
    async with aclosing(BoatPool(size=1, patience=0.03)) as pool:
        async with pool.rent() as boat:
            try:
                async with pool.rent():  # 拿着唯一的一条再等一条：自己等自己
                    print("两条都借到了")
            except TimeoutError:  # 在里面接住：它说的是等不到，不是手里这条坏了
                print(f"拿着 {boat}再借一条: TimeoutError")
        with suppress(ConnectionError):
            async with pool.rent() as broken:
                raise ConnectionError(f"{broken}漏水")
        async with pool.rent() as spare:
            print(f"{broken}漏水报废，下一位借到 {spare}")
    return broken, spare


SECTIONS = {
    "1. async with 两头各等一次：__aenter__ 和 __aexit__": wait_on_both_sides,
    "2. __aexit__ 看得见异常；返回 True 就吞掉它": true_swallows_the_exception,
    "3. asynccontextmanager：yield 外面没有 finally，就会有借无还": finally_brings_it_back,
    "4. 取消也从 __aexit__ 出门，清理照样能 await": cancellation_walks_out_through_aexit,
    "5. 吞掉 CancelledError，超时就失灵": swallowed_cancellation_disarms_the_timeout,
    "6. AsyncExitStack：倒着退，进门失败也退": stack_unwinds_in_reverse,
    "7. 连接池：客人再多，连接最多 size 条": pool_is_bounded,
    "8. 等不到就放手，坏了的不还": pool_gives_up_and_heals,
}


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    asyncio.run(main())
