"""4.7 的主角：怎样问一个会慢、会坏、会死的下游 —— 舱壁、断路器、重试预算、截止时间、降级。"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import microservices_platform as platform
import tenacity
from microservices_platform import DEADLINE

T = TypeVar("T")


class Unavailable(Exception):
    """下游这一次没有给出答案。"""


class Failed(Unavailable):
    """它坏了：再问一次，也许就好。"""


class Refused(Unavailable):
    """我们自己没去问：断路器开着，或者舱满了；马上再问也一样。"""


class TooLate(Unavailable):
    """没赶上我们给的时间：是我们急，不能算它坏，再问也来不及。"""


class Rejected(Unavailable):
    """它好好的，说我们问得不对 (4xx)：再问也一样，也不能算它坏。"""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Breaker:
    """断路器 (circuit breaker)：连坏 threshold 次就断开，冷却后放一个请求去试探。

    一个进程一份，够用；生产里有 purgatory、aiobreaker，或者交给 Envoy。
    """

    def __init__(self, threshold: int = 5, cooldown: float = 0.3) -> None:
        self.threshold, self.cooldown = threshold, cooldown
        self.state, self.failures, self.opened = "closed", 0, 0.0

    def move(self, state: str) -> None:
        platform.log(f"断路器 {self.state} → {state}")
        self.state, self.failures = state, 0

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        now = asyncio.get_running_loop().time
        if self.state == "open" and now() - self.opened >= self.cooldown:
            self.move("half-open")  # 从检查到这里没有 await，只会有一个请求去试探
        elif self.state != "closed":
            raise Refused("断路器开着")
        sent = self.opened  # 断开以前出发的，回来时不算试探，也不再算坏一次，哪怕又合上了
        try:
            yield
        except BaseException as error:
            # 只有 Failed 算它坏；问的人没耐心，走了 (TooLate、CancelledError)，不算。
            # 可试探的人走了，也不能永远停在 half-open
            if sent == self.opened:
                self.failures += isinstance(error, Failed)
                if self.state == "half-open" or self.failures == self.threshold:
                    self.opened = now()
                    self.move("open")
            raise
        if sent == self.opened:
            if self.state == "half-open":
                self.move("closed")
            self.failures = 0


class RetryBudget:
    """重试预算：每个请求存 1 分，每次重试花 10 分；全坏的时候，重试最多多出约一成。"""

    def __init__(self, points: int = 100) -> None:
        self.points = self.limit = points

    def save(self) -> None:
        self.points = min(self.points + 1, self.limit)

    def spend(self) -> bool:
        affordable = self.points >= 10
        self.points -= 10 * affordable
        return affordable


async def retry(ask: Callable[[], Awaitable[T]], budget: RetryBudget, backoff: float = 0.02) -> T:
    """最多问三次，只有 Failed 才再问；间隔随机，免得大家约好了一起再来。"""
    budget.save()
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Failed),
        stop=lambda state: state.attempt_number == 3 or not budget.spend(),
        wait=tenacity.wait_random_exponential(multiplier=backoff, max=0.2),
        reraise=True,
    ):
        with attempt:
            return await ask()


class Downstream:
    """网关眼里的一个下游：自己的舱、自己的断路器、自己的重试预算，谁也不拖累谁。"""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, limit: int = 4, patience: float = 5
    ) -> None:
        self.session, self.url = session, url
        self.patience = patience  # 秒；它这么久还不答，就是它坏了，不管问的人还剩多少时间
        self.cabin = asyncio.Semaphore(limit)  # 舱壁 (bulkhead)：它慢下来，最多占住 limit 个请求
        self.breaker, self.budget = Breaker(), RetryBudget()

    async def get(self, *path: str) -> object:
        # 留两成时间给自己：下游超时了，还来得及降级。
        # 这里是 TaskGroup 的子任务，改的是它自己的 context，兄弟们看不见
        left = platform.time_left() * 0.8
        DEADLINE.set(asyncio.get_running_loop().time() + left)
        if self.cabin.locked():
            raise Refused("舱满了")  # 不排队：排队的人也在花自己的时间
        async with self.cabin:
            try:
                async with asyncio.timeout(left):
                    return await retry(lambda: self.once("GET", *path), self.budget)
            except TimeoutError:
                raise TooLate("超时") from None

    async def once(self, method: str, *path: str) -> object:
        # 旅客给的字里可能有 / ? #：每一段都转义 (quote)，才不会问到别的地方去
        url = "/".join([self.url, *(quote(part, safe="") for part in path)])
        with self.breaker.guard():
            try:
                async with (
                    asyncio.timeout(self.patience),
                    self.session.request(method, url, headers=platform.headers()) as response,
                ):
                    if response.status == 504:  # 它看着我们传的钟，到点停了手
                        raise TooLate("HTTP 504")
                    if response.status >= 500:
                        raise Failed(f"HTTP {response.status}")
                    answer = await response.json() if response.status < 400 else None
            except TimeoutError:
                raise Failed("不答") from None
            except (aiohttp.ClientError, ValueError) as error:  # ValueError：答的不是 JSON
                raise Failed(str(error)) from error
        if response.status >= 400:
            raise Rejected(response.status)
        return answer


async def or_nothing(answer: Awaitable[T]) -> T | None:
    """降级 (degrade)：这一块可以没有，别的照常给旅客。"""
    try:
        return await answer
    except Unavailable as error:
        platform.log(f"降级: {error}")
        return None
