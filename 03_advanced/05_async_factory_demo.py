"""3.5 异步工厂：造好了再交出来，大家共用的只造一次，倒着拆

视频：视频之外
运行：python 03_advanced/05_async_factory_demo.py
观看：python tutorial.py trace 3.5（一步步看谁在跑、谁在等）

先猜后跑
    第 5 节里，三位观测员等同一个校准任务。第一位等不及，超时走了，另外两位拿到什么？

预期输出
    ── 1. __init__ 不能 await，classmethod 工厂可以 ──
    async def __init__ → TypeError: __init__() should return None, not 'coroutine'
    await Barometer.create(…) → 偏差 0.5
    ── 2. __await__：对象自己就能 await ──
    await 之前: 有 offset 吗？False
    await 之后: 偏差 0.5（aiomysql.create_pool() 也这样等）
    ── 3. 先检查、再 await、后赋值：来几个造几台 ──
    naive: 校准 3 次，同时来的 ['气压计', '气压计', '气压计']，后到的 气压计
    locked: 校准 1 次，同时来的 ['气压计', '气压计', '气压计']，后到的 气压计
    shared: 校准 1 次，同时来的 ['气压计', '气压计', '气压计']，后到的 气压计
    ── 4. 失败不能存下来：下一位要能重来 ──
    locked: 校准 2 次，同时来的 ['OSError', '气压计', '气压计']，后到的 气压计
    shared: 校准 2 次，同时来的 ['OSError', 'OSError', 'OSError']，后到的 气压计
    ── 5. 一位走了，不能害了别人：shield ──
    fragile: 校准 2 次，同时来的 ['TimeoutError', 'CancelledError', 'CancelledError']，后到的 气压计
    locked: 校准 2 次，同时来的 ['TimeoutError', '气压计', '气压计']，后到的 气压计
    shared: 校准 1 次，同时来的 ['TimeoutError', '气压计', '气压计']，后到的 气压计
    ── 6. 倒着拆；半途失败，拆已经造好的 ──
    气压计: 通电
    雷达: 通电
    开始观测: ['气压计', '雷达']
    雷达: 断电
    气压计: 断电
    气压计: 通电
    气压计: 断电
    没开成: 坏雷达通不了电

动手试试
    1. locked 里把 naive() 移到锁外、锁里只写 pass，第 3 节校准几次？锁该包住什么？
    2. 删掉 add_done_callback 那一行，第 4 节里 shared 后到的一位拿到什么？
    3. 第 6 节里在 yield 的下一行打印一句，再让 async with 里抛异常：这句和断电的几行，谁会打印？
"""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager


class Lab:
    """实验室。校准 (calibrate) 要等；tries 记下次数，前 broken 次会失败。"""

    def __init__(self, broken: int = 0) -> None:
        self.tries, self.broken = 0, broken

    async def calibrate(self) -> float:
        self.tries += 1
        turn = self.tries
        await asyncio.sleep(0.04)
        if turn <= self.broken:
            raise OSError("校准失败")
        return 0.5


class HastyBarometer:
    async def __init__(self, lab: Lab) -> None:
        self.offset = await lab.calibrate()


class Barometer:
    """气压计。__init__ 不等，只收备好的东西；要等的都在工厂 (factory) create 里。"""

    def __init__(self, offset: float) -> None:
        self.offset = offset

    @classmethod
    async def create(cls, lab: Lab) -> "Barometer":
        return cls(await lab.calibrate())  # 校准失败就没有对象，不会有半成品


async def init_cannot_await() -> None:
    """HastyBarometer(…) 不等任何人，要 __init__ 当场返回 None；async def 返回的却是协程。"""
    with warnings.catch_warnings(action="ignore"):  # 那个协程没人 await，Python 另有一句抱怨
        try:
            HastyBarometer(Lab())
        except TypeError as error:
            print(f"async def __init__ → TypeError: {error}")
    barometer = await Barometer.create(Lab())
    print(f"await Barometer.create(…) → 偏差 {barometer.offset}")


class Anemometer:
    """风速计。有 __await__ 就能 await；它返回的是迭代器，借协程的就行。"""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __await__(self) -> Generator[None, None, "Anemometer"]:
        self.offset = yield from self.lab.calibrate().__await__()
        return self


async def dunder_await_keeps_the_call_short() -> Anemometer:
    anemometer = Anemometer(Lab())
    print(f"await 之前: 有 offset 吗？{hasattr(anemometer, 'offset')}")
    print(f"await 之后: 偏差 {(await anemometer).offset}（aiomysql.create_pool() 也这样等）")
    return anemometer


class Station:
    """气象站。气压计全站共用一台，第一次有人要才造：四种写法。"""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.lock, self._barometer = lab, asyncio.Lock(), None
        self._making: asyncio.Task[Barometer] | None = None

    async def naive(self) -> Barometer:
        if self._barometer is None:  # 从这里到赋值，隔着一个 await：别人也看见 None
            self._barometer = await Barometer.create(self.lab)
        return self._barometer

    async def locked(self) -> Barometer:
        async with self.lock:  # 后来的在锁外等，进来时已经有了
            return await self.naive()

    async def fragile(self) -> Barometer:
        return await self._make_once()  # 取消等的人，会连他等的任务一起取消

    async def shared(self) -> Barometer:
        return await asyncio.shield(self._make_once())  # 只取消等的人；任务归气象站

    def _make_once(self) -> asyncio.Task[Barometer]:
        if self._making is None:  # 从这里到赋值没有 await，没人插得进来
            self._making = asyncio.create_task(Barometer.create(self.lab))
            self._making.add_done_callback(self._forget_failure)
        return self._making

    def _forget_failure(self, making: asyncio.Task[Barometer]) -> None:
        if making.cancelled() or making.exception():
            self._making = None  # 下一位来要，重新造；不忘掉，失败就永远留在这里

    async def aclose(self) -> None:
        if self._making is not None:  # 等的人也许都走了，任务还在：谁建的谁收
            self._making.cancel()
            await asyncio.wait([self._making])


async def observe(way: Callable, lab: Lab, patience: float = 60) -> tuple[list[str], int]:
    """三位观测员同时来要，第一位也许等不及；最后再来一位。返回每人拿到什么、校准了几次。"""

    async def ask(patience: float) -> Barometer:
        async with asyncio.timeout(patience):
            return await way(station)

    async with aclosing(Station(lab)) as station:
        three = ask(patience), ask(60), ask(60)
        results = [*await asyncio.gather(*three, return_exceptions=True), await ask(60)]
    got = ["气压计" if isinstance(it, Barometer) else type(it).__name__ for it in results]
    print(f"{way.__name__}: 校准 {lab.tries} 次，同时来的 {got[:-1]}，后到的 {got[-1]}")
    return got, lab.tries


async def check_then_await_is_a_race() -> list[tuple[list[str], int]]:
    ways = (Station.naive, Station.locked, Station.shared)
    return [await observe(way, Lab()) for way in ways]


async def failure_must_not_stick() -> list[tuple[list[str], int]]:
    return [await observe(way, Lab(broken=1)) for way in (Station.locked, Station.shared)]


async def one_impatient_waiter() -> list[tuple[list[str], int]]:
    ways = (Station.fragile, Station.locked, Station.shared)
    return [await observe(way, Lab(), 0.02) for way in ways]


@asynccontextmanager
async def power(instrument: str) -> AsyncIterator[str]:
    if instrument == "坏雷达":
        raise OSError("坏雷达通不了电")
    print(f"{instrument}: 通电")
    try:
        yield instrument
    finally:
        print(f"{instrument}: 断电")


@asynccontextmanager
async def open_station(*instruments: str) -> AsyncIterator[list[str]]:
    async with AsyncExitStack() as stack:  # 工厂也可以是上下文管理器：造、交出、拆，都在一处
        yield [await stack.enter_async_context(power(name)) for name in instruments]


async def teardown_runs_backwards() -> None:
    async with open_station("气压计", "雷达") as instruments:
        print(f"开始观测: {instruments}")
    try:
        async with open_station("气压计", "坏雷达"):
            print("走不到这里")
    except OSError as error:
        print(f"没开成: {error}")


SECTIONS = {
    "1. __init__ 不能 await，classmethod 工厂可以": init_cannot_await,
    "2. __await__：对象自己就能 await": dunder_await_keeps_the_call_short,
    "3. 先检查、再 await、后赋值：来几个造几台": check_then_await_is_a_race,
    "4. 失败不能存下来：下一位要能重来": failure_must_not_stick,
    "5. 一位走了，不能害了别人：shield": one_impatient_waiter,
    "6. 倒着拆；半途失败，拆已经造好的": teardown_runs_backwards,
}


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    asyncio.run(main())
