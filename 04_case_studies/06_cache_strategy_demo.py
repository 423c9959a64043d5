"""4.6 缓存策略：穿透、击穿、雪崩、脏数据，先闯祸，再治好

视频：视频之外
运行：python 04_case_studies/06_cache_strategy_demo.py
观看：python tutorial.py trace 4.6（一步步看谁在跑、谁在等）
需要：Redis、MySQL（没有就先 docker compose up -d，或 python tutorial.py services）
配套：cache_shop.py（水果铺：MySQL 的表、Redis 的键、数查库次数）

先猜后跑
    第 5 节，改价的人先改 MySQL、再删缓存，两步都成功。之后缓存里可能还是旧价吗？

预期输出
    ── 1. 谁负责填缓存：cache-aside 与 read-/write-through ──
    cache-aside 读 10 次: 查库 1 次
    cache-aside 改价、删缓存: 再读是 11，查库 1 次
    write-through 改价，库和缓存一起写: 再读是 9，查库 0 次
    ── 2. 穿透 (penetration)：没有的东西，也要记住它没有 ──
    100 种没有的水果，各问 3 遍: 查库 300 次
    缓存空值: 查库 100 次；可攻击者会一直换名字
    先过布隆过滤器 (Bloom filter): 误判 3 个，查库 3 次；真有的都放行: True
    ── 3. 击穿 (breakdown)：一个键到期，只许一个人去查 ──
    “桃”到期，100 位顾客同时来: 查库 100 次
    同一进程里共用一趟: 查库 1 次，第一位走了，99 位拿到价钱
    4 家分店（各有自己的 single-flight），各查各的: 查库 4 次
    4 家分店（各有自己的 single-flight），加一把 Redis 锁: 查库 1 次
    ── 4. 雪崩 (avalanche)：别让一批键同时到期 ──
    100 个果篮，都放 60 秒: 最挤的那一秒查库 100 次
    100 个果篮，60 秒 ± 30 秒: 最挤的那一秒查库 5 次
    ── 5. 失效 (invalidation)：删了缓存，旧价还会回来 ──
    改库、删缓存: 顾客看到 10，库里 12
    延迟双删，慢读者赶在第二次删之前: 顾客看到 12，库里 12
    延迟双删，慢读者比延迟还慢: 顾客看到 10，库里 12
    带版本: 顾客看到 14，库里 14
    带版本时旧价被挡下: True（墓碑 (tombstone) 要活得比最慢的读者久；TTL 最后兜底）
    ── 6. write-behind：先答应后写库，要有一本日志 (journal) ──
    卖出 100 笔，写完 40 笔时倒下，两个人同时来接手
    攒在内存里: 库里记了 40 笔
    日志在 Redis，不记进度: 库里记了 240 笔
    日志在 Redis，进度同一事务: 库里记了 100 笔
    最后一种: 100 笔合成 2 个事务

动手试试
    1. 第 2 节把 BloomFilter 的 bits 改成 128：误判多了几个？漏判会有吗？
    2. SingleFlight.get 最后两行改成 return await flight：第一位顾客走了，其余 99 位还拿得到价钱吗？
    3. 第 6 节去掉 FOR UPDATE：两个人同时接手，库里记的还是 100 吗？
       （MariaDB 11.8 起，数据库自己拦得住：错误号 1020。）
"""

import asyncio
import functools
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import settings
from cache_shop import FRUITS, TTL, Shop, shop_opened, sql, transaction

NOTHING = "没有"  # 缓存里的空值：查过了，库里没有


async def read(shop: Shop, fruit: str, together: asyncio.Barrier | None = None) -> int | None:
    """旁路缓存 (cache-aside)：先看缓存，没有就查库，再放进缓存。"""
    if price := await shop.redis.get(shop.key(fruit)):
        return int(price)
    if together:
        settings.stop_if_cancelled()
        await together.wait()  # 让每个人都在别人填好之前看过缓存：最坏的那种巧合
    price = await shop.look_up(fruit)
    if price is not None:
        await shop.keep(fruit, price)
    return price


class ThroughCache:
    """read-through / write-through：调用的人只认得缓存这一层，它替你读库、写库。"""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def get(self, fruit: str) -> int | None:
        return await read(self.shop, fruit)

    async def set(self, fruit: str, price: int) -> None:
        await self.shop.reprice(fruit, price)  # 先写真相：这一句失败，缓存不会领先
        await self.shop.keep(fruit, price)


async def choose_who_fills(shop: Shop) -> dict[str, tuple[int | None, int]]:
    seen = {}
    cold = await shop.count(read(shop, "苹果"))
    warm = await shop.count(*(read(shop, "苹果") for _ in range(9)))
    print(f"cache-aside 读 10 次: 查库 {cold + warm} 次")
    await shop.reprice("苹果", 11)
    await shop.forget("苹果")  # 删，不是改：两个人同时改，先后可能和库里相反
    cache = ThroughCache(shop)
    for title, fruit, change in (
        ("cache-aside 改价、删缓存", "苹果", None),
        ("write-through 改价，库和缓存一起写", "梨", functools.partial(cache.set, "梨", 9)),
    ):
        if change:
            await change()
        queries = await shop.count(cache.get(fruit))
        seen[fruit] = (await cache.get(fruit), queries)
        print(f"{title}: 再读是 {seen[fruit][0]}，查库 {queries} 次")
    return {"读": (None, cold + warm)} | seen


class BloomFilter:
    """布隆过滤器：说没有就一定没有，说有可能是误判；生产里用 Redis 的 BF.ADD、BF.EXISTS。"""

    def __init__(self, names: list[str], bits: int = 640) -> None:
        self.bits, self.marked = bits, set()
        for name in names:
            self.marked.update(self.places(name))

    def places(self, name: str) -> list[int]:
        digest = hashlib.sha256(name.encode()).digest()
        return [int.from_bytes(digest[at : at + 4]) % self.bits for at in (0, 4, 8)]

    def __contains__(self, name: str) -> bool:
        return self.marked.issuperset(self.places(name))


async def read_with_nothing(shop: Shop, fruit: str) -> int | None:
    cached = await shop.redis.get(shop.key(fruit))
    if cached is None:
        price = await shop.look_up(fruit)
        # 空值只放一会儿：东西可能马上就上架了（上架时也要删它）
        await shop.keep(fruit, NOTHING if price is None else price, 5 if price is None else TTL)
        return price
    return None if cached == NOTHING else int(cached)


async def stop_penetration(shop: Shop) -> list[int]:
    """穿透：问的东西不存在，缓存永远帮不上。"""
    ghosts = [f"仙桃{number}" for number in range(100)]
    queries = [0, 0, 0]
    bloom = BloomFilter(list(FRUITS))
    passed = [ghost for ghost in ghosts if ghost in bloom]
    for _ in range(3):
        queries[0] += await shop.count(*(read(shop, ghost) for ghost in ghosts))
    for _ in range(3):
        queries[1] += await shop.count(*(read_with_nothing(shop, ghost) for ghost in ghosts))
    await shop.forget(*ghosts)
    for _ in range(3):
        queries[2] += await shop.count(*(read_with_nothing(shop, ghost) for ghost in passed))
    print(f"100 种没有的水果，各问 3 遍: 查库 {queries[0]} 次")
    print(f"缓存空值: 查库 {queries[1]} 次；可攻击者会一直换名字")
    print(f"先过布隆过滤器 (Bloom filter): 误判 {len(passed)} 个，查库 {queries[2]} 次；", end="")
    print(f"真有的都放行: {all(fruit in bloom for fruit in FRUITS)}")
    return queries


class SingleFlight:
    """同一个键同时只查一次，大家等同一个任务 (Task)；生产里有 aiocache、cashews。"""

    def __init__(self, load: Callable[[str], Awaitable[int | None]]) -> None:
        self.load = load
        self.flights: dict[str, asyncio.Task] = {}

    async def get(self, name: str) -> int | None:
        if name not in self.flights:
            self.flights[name] = flight = asyncio.create_task(self.load(name), name=name)
            flight.add_done_callback(self.land)
        flight = self.flights[name]
        await asyncio.wait([flight])  # 不是 await flight：等的人被取消，不该连累同一趟的别人
        return flight.result()

    def land(self, flight: asyncio.Task) -> None:
        del self.flights[flight.get_name()]
        if not flight.cancelled():
            flight.exception()  # 等的人都走了，失败也没人取：看一眼，循环就不抱怨


async def read_under_lock(shop: Shop, fruit: str, together: asyncio.Barrier) -> int | None:
    """跨进程的 single-flight：谁拿到 Redis 锁谁查库，其余的等着看缓存。"""
    if price := await shop.redis.get(shop.key(fruit)):
        return int(price)
    settings.stop_if_cancelled()
    await together.wait()
    # timeout：拿锁的人死了，锁自己会开；它只挡住大多数重复，不保证正确
    async with shop.redis.lock(shop.key(f"lock-{fruit}"), timeout=10, sleep=0.01):
        return await read(shop, fruit)  # 拿到锁再看一眼：前一个人多半已经填好


async def stop_breakdown(shop: Shop) -> list[int]:
    """击穿：一个热门的键到期，所有人同时去查库。"""
    await shop.forget("桃")
    together = asyncio.Barrier(100)
    queries = [await shop.count(*(read(shop, "桃", together) for _ in range(100)))]
    print(f"“桃”到期，100 位顾客同时来: 查库 {queries[0]} 次")
    await shop.forget("桃")
    flight = SingleFlight(lambda fruit: read(shop, fruit))
    before = shop.queries
    guests = [asyncio.create_task(flight.get("桃")) for _ in range(100)]
    await asyncio.sleep(0)
    guests[0].cancel()  # 发起查询的那位不等了
    prices = await asyncio.gather(*guests, return_exceptions=True)
    queries.append(shop.queries - before)
    print(f"同一进程里共用一趟: 查库 {queries[1]} 次，", end="")
    print(f"第一位走了，{prices.count(15)} 位拿到价钱")
    for title, reader in (("各查各的", read), ("加一把 Redis 锁", read_under_lock)):
        await shop.forget("桃")
        together = asyncio.Barrier(4)
        load = functools.partial(reader, shop, together=together)
        shops = [SingleFlight(load) for _ in range(4)]
        queries.append(await shop.count(*(each.get("桃") for each in shops for _ in range(25))))
        print(f"4 家分店（各有自己的 single-flight），{title}: 查库 {queries[-1]} 次")
    return queries


async def stop_avalanche(shop: Shop) -> dict[str, int]:
    """雪崩：一批键同时放进去，也就同时到期。"""
    baskets = [name for name in FRUITS if name.startswith("果篮")]
    chance = random.Random(6)
    queries = {}
    for title, spread in (("都放 60 秒", 0), ("60 秒 ± 30 秒", 30)):
        ttls = {name: TTL + chance.randint(-spread, spread) for name in baskets}
        await asyncio.gather(*(shop.keep(name, FRUITS[name], ttls[name]) for name in baskets))
        [(second, _)] = Counter(ttls.values()).most_common(1)
        # 不真等一分钟：把最挤的那一秒到期的键，替 Redis 删掉
        await shop.forget(*(name for name in baskets if ttls[name] == second))
        queries[title] = await shop.count(*(read(shop, name) for name in baskets))
        print(f"100 个果篮，{title}: 最挤的那一秒查库 {queries[title]} 次")
    return queries


# 版本不比缓存里的旧，才放进去；墓碑（没有价钱，只有版本）也拦得住
KEEP_IF_NEWER = """
if tonumber(redis.call('hget', KEYS[1], 'version') or 0) > tonumber(ARGV[1]) then return 0 end
redis.call('del', KEYS[1])
redis.call('hset', KEYS[1], 'version', ARGV[1])
if ARGV[2] ~= '' then redis.call('hset', KEYS[1], 'price', ARGV[2]) end
return redis.call('expire', KEYS[1], 60)
"""
READ_VERSION = "SELECT price, version FROM fruit WHERE name = %s"


async def stop_stale_price(shop: Shop) -> dict[str, tuple[int | None, int]]:
    """慢读者 (stale read)：查到旧价，还没放进缓存；这时改价的人改了库，删了缓存；然后旧价才到。"""
    seen = {}
    for title, second_delete in (
        ("改库、删缓存", None),
        ("延迟双删，慢读者赶在第二次删之前", "后"),
        ("延迟双删，慢读者比延迟还慢", "前"),
    ):
        await shop.reprice("苹果", 10)
        await shop.forget("苹果")
        stale = await shop.look_up("苹果")  # 慢读者，停在这里
        await shop.reprice("苹果", 12)
        await shop.forget("苹果")
        if second_delete == "前":
            await shop.forget("苹果")
        await shop.keep("苹果", stale)  # 慢读者醒来
        if second_delete == "后":
            await shop.forget("苹果")
        seen[title] = (await read(shop, "苹果"), await shop.look_up("苹果"))
    key = shop.key("versioned-苹果")
    [(stale, version)] = await sql(shop.pool, (READ_VERSION, "苹果"))
    await shop.reprice("苹果", 14)
    [(price, newer)] = await sql(shop.pool, (READ_VERSION, "苹果"))
    await shop.redis.eval(KEEP_IF_NEWER, 1, key, newer, "")  # 不删，立一块带版本的墓碑
    await shop.redis.eval(KEEP_IF_NEWER, 1, key, version, stale)  # 慢读者被挡下
    refused = await shop.redis.hget(key, "price") is None
    await shop.redis.eval(KEEP_IF_NEWER, 1, key, newer, price)  # 下一位读者填上
    seen["带版本"] = (int(await shop.redis.hget(key, "price")), await shop.look_up("苹果"))
    for title, (cached, truth) in seen.items():
        print(f"{title}: 顾客看到 {cached}，库里 {truth}")
    print(f"带版本时旧价被挡下: {refused}（墓碑 (tombstone) 要活得比最慢的读者久；TTL 最后兜底）")
    return seen


ADD = "UPDATE fruit SET sold = sold + %s WHERE name = %s"
READ_PROGRESS = "SELECT last FROM progress FOR UPDATE"
WRITE_PROGRESS = "UPDATE progress SET last = %s"


async def flush(shop: Shop, journal: str, count: int, remember: bool = True) -> int:
    """从日志取一批，一种水果合成一句写进库；记到哪一条，和账写在同一个事务里。"""
    async with transaction(shop.pool) as cursor:
        # FOR UPDATE：别人也正在写，就等他提交，读到的便是新进度
        await cursor.execute(READ_PROGRESS)
        (last,) = await cursor.fetchone()
        # 上一次提交过的，现在才裁；提交了没来得及裁，也不会再记一遍
        await shop.redis.xtrim(journal, minid=last, approximate=False)
        entries = await shop.redis.xrange(journal, f"({last}", count=count)  # ( 是不含这一条
        for fruit, sold in Counter(sale["fruit"] for _, sale in entries).items():
            await cursor.execute(ADD, (sold, fruit))
        if entries and remember:
            await cursor.execute(WRITE_PROGRESS, (entries[-1][0],))
    return len(entries)


async def write_behind(shop: Shop) -> dict[str, int]:
    """write-behind：先答应顾客，攒一批再写库。"""
    sales, count_sold = ["苹果", "梨"] * 50, ("SELECT SUM(sold) FROM fruit",)
    print(f"卖出 {len(sales)} 笔，写完 40 笔时倒下，两个人同时来接手")
    for fruit, count in Counter(sales[:40]).items():
        await sql(shop.pool, (ADD, count, fruit))
    totals = {"攒在内存里": await sql(shop.pool, count_sold)}  # 其余的随内存没了，没什么可接手
    journals = {"日志在 Redis，不记进度": False, "日志在 Redis，进度同一事务": True}
    for title, remember in journals.items():
        await sql(shop.pool, ("UPDATE fruit SET sold = 0",))
        journal = shop.key(f"journal-{remember}")
        async with shop.redis.pipeline(transaction=False) as pipe:
            for fruit in sales:
                pipe.xadd(journal, {"fruit": fruit})
            await pipe.execute()
        writes = [await flush(shop, journal, 40, remember)]
        async with asyncio.TaskGroup() as group:
            heirs = [group.create_task(flush(shop, journal, 100, remember)) for _ in range(2)]
        writes += [heir.result() for heir in heirs]
        totals[title] = await sql(shop.pool, count_sold)
    totals = {title: int(total) for title, ((total,),) in totals.items()}
    for title, total in totals.items():
        print(f"{title}: 库里记了 {total} 笔")
    # 日志也要看 Redis 怎样落盘：appendfsync everysec 断电会丢约一秒，always 才不丢
    print(f"最后一种: {sum(writes)} 笔合成 {sum(map(bool, writes))} 个事务")
    return totals


SECTIONS = {
    "1. 谁负责填缓存：cache-aside 与 read-/write-through": choose_who_fills,
    "2. 穿透 (penetration)：没有的东西，也要记住它没有": stop_penetration,
    "3. 击穿 (breakdown)：一个键到期，只许一个人去查": stop_breakdown,
    "4. 雪崩 (avalanche)：别让一批键同时到期": stop_avalanche,
    "5. 失效 (invalidation)：删了缓存，旧价还会回来": stop_stale_price,
    "6. write-behind：先答应后写库，要有一本日志 (journal)": write_behind,
}


async def main() -> None:
    async with shop_opened() as shop:
        for title, section in SECTIONS.items():
            print(f"── {title} ──")
            await section(shop)
            settings.stop_if_cancelled()


if __name__ == "__main__":
    settings.run(main)
