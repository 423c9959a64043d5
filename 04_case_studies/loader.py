"""4.2 第 11 节的装载器：同一轮循环里的许多 load(键)，合成一次查询。

这个模式叫 DataLoader（GraphQL 用它治“N + 1 个查询”）。成品：aiodataloader，Strawberry 也自带一个；
它们还会缓存、限制一批的大小。
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType


class Loader:
    def __init__(self, group: asyncio.TaskGroup, fetch: Callable[[list], Awaitable[dict]]):
        """fetch(键的列表) 给出 {键: 值}；group 是查询的主人：它结束之前，查询一定已经结束。"""
        self._group, self._fetch, self._batch = group, fetch, None

    async def load(self, key: object) -> object | None:
        """这个键的值，没有就是 None；fetch 抛出的异常，由这一批里的每个人收到。"""
        if self._batch is None:  # 这一批的第一个人；keys 当有序集合用，重复的键只问一次
            self._keys = {}
            self._batch = self._group.create_task(self._run(self._keys))
        self._keys[key] = None
        found = await asyncio.shield(self._batch)  # 一个人被取消，不能带走大家的查询
        if isinstance(found, tuple):
            error, where = found
            raise error.with_traceback(where)  # 不然一人抛一次，traceback 就接长一截：50 人 4000 行
        return found.get(key)

    async def _run(self, keys: dict) -> dict | tuple[Exception, TracebackType]:
        await asyncio.sleep(0)  # 排到队尾：本轮就绪的任务都报完键，才轮到这里
        self._batch = None  # 再来的人，开下一批
        try:
            return await self._fetch(list(keys))
        except Exception as error:  # 抛出去会取消整个 group；改由 load() 抛给每个等的人
            return error, error.__traceback__
