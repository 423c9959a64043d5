"""4.1 异步 Redis：连接池、pipeline、缓存、锁、广播和队列

视频：§5.1 异步 Redis（示例 1–2）
运行：python 04_case_studies/01_async_redis_demo.py
观看：python tutorial.py trace 4.1（一步步看谁在跑、谁在等）
需要：Redis（docker compose up -d，或 python tutorial.py services，或环境变量 REDIS_URL）

怎样读
    第 3 节慢的不是网络，是每个来回的 CPU：写一次、读一次、醒一次；50 个任务也要这么多来回，所以
    只快一点。自动合批的客户端在 redis_batching.py，任务照常写 await client.get(…)；先读其中的
    Line：send、_write、data_received。1000 个任务时快多少，见 python tutorial.py bench redis。
    settings.all_at_once(…) 像 asyncio.gather，但出错、被取消时，等别的都停下了才离开。

先猜后跑
    第 9 节里 incr() 只调用了一次，服务器做完了，回答还没到，线就断了。计数会是多少？

预期输出
    ── 1. 存一个哈希再读回来：Redis 只还给你字符串 ──
    hgetall: {'drink': '珍珠奶茶', 'price': '18'}
    不写 decode_responses=True: b'18'
    ── 2. 一个命令占一条连接：池满了，默认抛异常，也可以排队 ──
    默认的池: 200 个任务一起读，100 个读到，100 个 MaxConnectionsError
    BlockingConnectionPool(max_connections=10): 200 个读到
    Redis(connection_pool=pool) 关了，池里还有 10 条连接：传进来的池归你关
    ── 3. 省的是来回：pipeline 一次发走，自动合批连 pipeline 都不用写 ──
    逐个 await: 服务器每次收到 ≈1 个命令，每个用 ≈76 微秒 CPU，≈1.0 倍
    50 个任务: 服务器每次收到 ≈1 个命令，每个用 ≈62 微秒 CPU，≈1.4 倍
    pipeline: 服务器每次收到 ≈250 个命令，每个用 ≈14 微秒 CPU，≈6.5 倍
    100 个任务，自动合批: 服务器每次收到 ≈91 个命令，每个用 ≈4 微秒 CPU，≈18.0 倍
    ── 4. 先读再写之间会有别人：用 WATCH，或者一条命令做完 ──
    GET 再 SET: 库存 2 杯，两人各卖一杯，还剩 1 杯
    WATCH: 还剩 0 杯，店员乙重来了 1 次
    ── 5. 缓存要有 TTL：过期之后才会看到新的 ──
    第 1 次: 现煮 ≈100 毫秒
    第 2 次: 缓存 ≈0.3 毫秒
    过期以后: 又煮了一锅，一共 2 锅
    ── 6. 锁会自己过期：还锁之前先比令牌 ──
    甲煮得太久，锁到期了；乙拿到锁: True
    甲用 DEL 还锁；丙拿到锁: True（乙还在锅前）
    甲用令牌还锁: 删掉 0 把；丙拿到锁: False；乙还锁: 删掉 1 把
    redis.asyncio 自带的锁，到期后再还: LockNotOwnedError
    ── 7. 缓存过期那一刻别一起煮：拿到锁以后再查一次 ──
    没有锁: 20 个客人，煮了 20 锅
    有锁: 20 个客人，煮了 1 锅
    ── 8. 广播 (pub/sub) 不等人：没人听就丢了 ──
    喊“1 号好了”: 0 个人听到
    喊“2 号好了”: 1 个人听到，他听到的是“2 号好了”
    ── 9. 回答丢了不等于没做：自动重试会再做一次 ──
    重试 1 次: incr() 调用一次，计数 2
    不重试: ConnectionError，计数 1
    ── 10. 可靠队列：先挪到“正在做”，做完再划掉 ──
    BLPOP: 店员甲端着 1 号晕倒了，队列里 ['2 号', '3 号']：1 号丢了
    BLMOVE: 店员甲端着 1 号晕倒了，正在做 ['1 号']
    甲醒来接着做: ['1 号', '2 号', '3 号']，还剩 0 单
    socket_timeout 比 BLPOP 等得短: TimeoutError，其实只是没有订单

视频勘误
    1. import aioredis（2.0.1 是最后一版）在 Python 3.11 上是
       TypeError: duplicate base class TimeoutError
       在 3.12 起是 ModuleNotFoundError: No module named 'distutils'
       它已并入 redis：from redis.asyncio import Redis。
    2. hmset_dict(…)、hgetall(…, encoding=…)、wait_closed() 只有 aioredis 1.x 才有；今天写
       hset(key, mapping=…)、decode_responses=True、await client.aclose()（或 async with）。
    3. 示例 2（同时连两台；这里换成一台、许多任务）的 asyncio.wait([coro, coro]) 从 3.11 起是
       TypeError: Passing coroutines is forbidden, use tasks explicitly.
       用 TaskGroup（第 2 节）。

动手试试
    1. 第 3 节加一级：一条 await shop.mget([menu] * rounds)，又快多少倍？把 redis_batching.py 里的
       call_soon(self._write) 换成当场 self._write()，服务器每次收到几个命令？还剩几倍？
    2. 第 7 节的锁改成 timeout=0.05（比煮一锅还短），会抛什么异常？谁的锁没了？
    3. 关掉 Redis 再运行，多久才知道没人在？open_shop() 里换成 Redis(host=…, port=…, **…)，再去掉
       common 里的 retry，又要多久？（默认重试 10 次，每次等得更久。）
    4. 给 open_shop() 加上 protocol=3，zrange(…, withscores=True) 还给你的还是元组吗？
       （写不写 protocol，回答的形状不一样：一个项目里选定一种。）
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import settings
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis_batching import BatchingRedis

SHOP = f"asyncio-tutorial:teashop-{secrets.token_hex(4)}"  # 每次一家新店：同时跑两次也不相干
ONCE = Retry(NoBackoff(), 0)  # 不重试：没人在就马上知道，也不会把命令做两遍（第 9 节）


def open_shop(**options) -> Redis:
    """一个客户端 (client) 带一个连接池 (pool)，所有任务共用；第一个命令才真正去连。"""
    common = {"client_name": SHOP, "decode_responses": True, "retry": ONCE, "socket_timeout": 5}
    return Redis.from_url(settings.redis_url(), **(common | options))


async def save_and_read_back(shop: Redis) -> tuple[dict[str, str], bytes]:
    order = f"{SHOP}:order:1"
    await shop.hset(order, mapping={"drink": "珍珠奶茶", "price": 18})
    saved = await shop.hgetall(order)
    print(f"hgetall: {saved}")
    async with open_shop(decode_responses=False) as plain:  # 离开 async with 就是 aclose()
        raw = await plain.hget(order, "price")
    print(f"不写 decode_responses=True: {raw}")
    return saved, raw


async def wait_for_a_free_connection(shop: Redis) -> tuple[int, int, int]:
    menu = f"{SHOP}:menu"
    await shop.set(menu, "珍珠奶茶 18 元")
    async with open_shop(socket_timeout=30, socket_connect_timeout=30) as crowded:  # 默认 100 条
        reads = [crowded.get(menu) for _ in range(200)]
        answers = await asyncio.gather(*reads, return_exceptions=True)
    refused = sum(isinstance(answer, exceptions.MaxConnectionsError) for answer in answers)
    read = sum(isinstance(answer, str) for answer in answers)
    print(f"默认的池: 200 个任务一起读，{read} 个读到，{refused} 个 MaxConnectionsError")
    name = f"{SHOP}-queue"
    limits = {"max_connections": 10, "timeout": 30}  # 30 秒还轮不到，才抛 ConnectionError
    pool = BlockingConnectionPool.from_url(settings.redis_url(), client_name=name, **limits)
    async with aclosing(pool):
        async with Redis(connection_pool=pool) as patient, asyncio.TaskGroup() as group:
            tasks = [group.create_task(patient.get(menu)) for _ in range(200)]
        served = sum(task.result() is not None for task in tasks)
        print(f"BlockingConnectionPool(max_connections=10): {served} 个读到")
        still_open = sum(client["name"] == name for client in await shop.client_list())
        print(f"Redis(connection_pool=pool) 关了，池里还有 {still_open} 条连接：传进来的池归你关")
    return refused, served, still_open


async def save_round_trips(shop: Redis, rounds: int = 1000) -> dict[str, tuple[list, float, float]]:
    menu, ladder = f"{SHOP}:menu", {}
    await shop.set(menu, "珍珠奶茶 18 元")

    async def tasks(number: int, client: Redis | BatchingRedis = shop) -> list[list[str]]:
        async def one_by_one() -> list[str]:
            return [await client.get(menu) for _ in range(rounds // number)]

        return await settings.all_at_once(*(one_by_one() for _ in range(number)))

    async def pipeline() -> list[list[str]]:
        async with shop.pipeline(transaction=False) as pipe:  # 默认 True：外面再包 MULTI/EXEC
            for _ in range(rounds):
                pipe.get(menu)  # 没有 await：只记下来
            return [await pipe.execute()]  # 一次写出，一次读回

    rungs = {"逐个 await": lambda: tasks(1), "50 个任务": lambda: tasks(50), "pipeline": pipeline}
    async with BatchingRedis(settings.redis_url(), patience=5) as batching:
        rungs["100 个任务，自动合批"] = lambda: tasks(100, batching)
        await settings.all_at_once(batching.get(menu), *(shop.ping() for _ in range(50)))  # 先连好
        for name, work in rungs.items():
            reads = (await shop.info("stats"))["total_reads_processed"]
            started, cpu = time.perf_counter(), time.process_time()
            answers = await work()
            cpu, took = time.process_time() - cpu, time.perf_counter() - started
            reads = (await shop.info("stats"))["total_reads_processed"] - reads
            ladder[name] = answers, rounds / reads, took
            cost = f"每个用 ≈{cpu / rounds * 1e6:.0f} 微秒 CPU"
            faster = f"≈{ladder['逐个 await'][2] / took:.1f} 倍"
            print(f"{name}: 服务器每次收到 ≈{rounds / reads:.0f} 个命令，{cost}，{faster}")
    return ladder


async def change_what_you_have_read(shop: Redis) -> tuple[int, int, int]:
    stock, tries = f"{SHOP}:stock", 0

    async def sell_one(pipe: Redis, watched: bool) -> None:
        nonlocal tries
        tries += 1
        cups = int(await pipe.get(stock))
        if tries == 1:
            await shop.decr(stock)  # 就在这时，店员甲也卖掉一杯
        if watched:
            pipe.multi()  # 从这里起只排队；stock 被人动过的话，EXEC 作废，transaction() 再来一遍
        await pipe.set(stock, cups - 1)

    await shop.set(stock, 2)
    await sell_one(shop, watched=False)
    lost = int(await shop.getdel(stock))
    print(f"GET 再 SET: 库存 2 杯，两人各卖一杯，还剩 {lost} 杯")
    tries = 0
    await shop.set(stock, 2)  # 只是减 1 的话，一条 DECR 就够，用不着 WATCH
    await shop.transaction(lambda pipe: sell_one(pipe, watched=True), stock)
    left = int(await shop.get(stock))
    print(f"WATCH: 还剩 {left} 杯，店员乙重来了 {tries - 1} 次")
    return lost, left, tries


async def tea_from_cache(shop: Redis, cache: str, pots: list[str]) -> str:
    tea = await shop.get(cache)
    if tea is None:
        pots.append(tea := f"第 {len(pots) + 1} 锅")
        await asyncio.sleep(0.1)  # 慢的那一步：在真的店里是查数据库、调别人的接口
        await shop.set(cache, tea, ex=60)  # SET 和 TTL 一条命令：分两条，中间断了就永不过期
    return tea


async def expire(shop: Redis, key: str) -> None:
    await shop.pexpire(key, 1)  # 把剩下的 TTL 快进到 1 毫秒，再等它过去
    await asyncio.sleep(0.01)


async def forget_after_a_while(shop: Redis) -> list[str]:
    cache, pots, teas = f"{SHOP}:cache", [], []
    for visit, source in ((1, "现煮"), (2, "缓存")):
        started = time.perf_counter()
        teas.append(await tea_from_cache(shop, cache, pots))
        print(f"第 {visit} 次: {source} ≈{(time.perf_counter() - started) * 1000:.1f} 毫秒")
    await expire(shop, cache)
    teas.append(await tea_from_cache(shop, cache, pots))
    print(f"过期以后: 又煮了一锅，一共 {len(pots)} 锅")
    return teas


# 比较和删除要在一起：在客户端先 GET 再 DEL，中间锁又可能换了人。Lua 脚本在服务器上一口气做完
RELEASE = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"


async def take_lock(shop: Redis, lock: str) -> str | None:
    """NX：没人拿着才写；PX：拿锁的人死了，锁会自己消失；值是只有自己知道的令牌 (token)。"""
    token = secrets.token_hex(8)
    return token if await shop.set(lock, token, nx=True, px=30_000) else None


async def release_only_your_own_lock(shop: Redis) -> tuple[bool, int, bool, int]:
    lock = f"{SHOP}:lock"
    ada = await take_lock(shop, lock)
    await expire(shop, lock)
    bob = await take_lock(shop, lock)
    print(f"甲煮得太久，锁到期了；乙拿到锁: {bool(bob)}")
    await shop.delete(lock)  # 错：删掉的是乙的锁
    both = await take_lock(shop, lock) is not None
    print(f"甲用 DEL 还锁；丙拿到锁: {both}（乙还在锅前）")
    await shop.set(lock, bob, px=30_000)  # 回到甲还锁之前
    stolen = await shop.eval(RELEASE, 1, lock, ada)
    alone = await take_lock(shop, lock) is None
    returned = await shop.eval(RELEASE, 1, lock, bob)
    print(f"甲用令牌还锁: 删掉 {stolen} 把；丙拿到锁: {not alone}；乙还锁: 删掉 {returned} 把")
    try:
        async with shop.lock(lock, timeout=30):  # 平时就用它：令牌、Lua、排队都在里面
            await expire(shop, lock)  # 锁半路没了，你做的事可能已和别人重叠：它不替你瞒着
    except exceptions.LockNotOwnedError as error:
        print(f"redis.asyncio 自带的锁，到期后再还: {type(error).__name__}")
    return both, stolen, alone, returned


async def brew_once_for_everyone(shop: Redis) -> tuple[int, int]:
    async def tea_behind_lock(cache: str) -> str:
        async with shop.lock(f"{cache}:lock", timeout=30, sleep=0.01):
            return await tea_from_cache(shop, cache, queue)  # 这里会再查一次：可能已有人煮好

    crowd, queue = [], []
    await settings.all_at_once(*(tea_from_cache(shop, f"{SHOP}:green", crowd) for _ in range(20)))
    print(f"没有锁: 20 个客人，煮了 {len(crowd)} 锅")
    await settings.all_at_once(*(tea_behind_lock(f"{SHOP}:black") for _ in range(20)))
    print(f"有锁: 20 个客人，煮了 {len(queue)} 锅")
    return len(crowd), len(queue)


async def call_out(shop: Redis) -> tuple[int, int, str]:
    channel = f"{SHOP}:counter"
    nobody = await shop.publish(channel, "1 号好了")
    print(f"喊“1 号好了”: {nobody} 个人听到")
    async with shop.pubsub() as customer:  # 占住一条连接，直到离开
        await customer.subscribe(channel)  # 只是发出去了
        await customer.get_message(timeout=10)  # 等到服务器确认，才算订上
        somebody = await shop.publish(channel, "2 号好了")
        heard = await customer.get_message(timeout=10)
    print(f"喊“2 号好了”: {somebody} 个人听到，他听到的是“{heard['data']}”")
    return nobody, somebody, heard["data"]


async def repeat_what_was_done(shop: Redis) -> tuple[int, int]:
    sold = f"{SHOP}:sold"

    async def cut_the_line(till: int) -> None:
        while not await shop.exists(sold):  # 等服务器做完 incr，线才断
            settings.stop_if_cancelled()
        await shop.client_kill_filter(_id=till)

    async def sell_one(retry: Retry) -> None:
        async with open_shop(single_connection_client=True, retry=retry) as till:
            number = await till.client_id()
            await till.connection.send_command("CLIENT", "REPLY", "SKIP")  # 下一个命令照做，不回答
            await settings.all_at_once(till.incr(sold), cut_the_line(number))

    await sell_one(Retry(NoBackoff(), 1))  # Redis(host=…) 默认 10 次，from_url(…) 默认 0 次
    twice = int(await shop.getdel(sold))
    print(f"重试 1 次: incr() 调用一次，计数 {twice}")
    try:
        await sell_one(ONCE)
    except* exceptions.ConnectionError as lost:  # 做没做？要能重试，就让命令做几次都一样
        once = int(await shop.get(sold))
        print(f"不重试: {type(lost.exceptions[0]).__name__}，计数 {once}")
    return twice, once


async def serve_orders(shop: Redis, make: Callable[[str], Awaitable[None]]) -> None:
    """订单先挪到“正在做”，做完再划掉；死在半路的，醒来先把它放回队头。"""
    making = f"{SHOP}:making:甲"  # 每个店员一张：别人正在做的不能动
    while await shop.lmove(making, f"{SHOP}:orders", "RIGHT", "LEFT"):
        pass
    while order := await shop.blmove(f"{SHOP}:orders", making, 0.1, "LEFT", "RIGHT"):
        await make(order)
        await shop.lrem(making, 1, order)  # 死在这一行之前，会再做一遍：至少一次 (at least once)


async def lose_no_order(shop: Redis) -> tuple[list[str], list[str], list[str], int]:
    orders, making, served = f"{SHOP}:orders", f"{SHOP}:making:甲", []

    async def faint(order: str) -> None:
        raise RuntimeError(f"店员甲端着 {order}晕倒了")

    async def make(order: str) -> None:
        served.append(order)

    await shop.rpush(orders, "1 号", "2 号", "3 号")
    await shop.blpop([orders], timeout=1)  # 拿到手里，人就晕倒了
    left = await shop.lrange(orders, 0, -1)
    print(f"BLPOP: 店员甲端着 1 号晕倒了，队列里 {left}：1 号丢了")
    await shop.lpush(orders, "1 号")
    try:
        await serve_orders(shop, faint)
    except RuntimeError as accident:
        half_done = await shop.lrange(making, 0, -1)
        print(f"BLMOVE: {accident}，正在做 {half_done}")
    await serve_orders(shop, make)
    rest = await shop.llen(orders) + await shop.llen(making)
    print(f"甲醒来接着做: {served}，还剩 {rest} 单")
    try:
        async with open_shop(socket_timeout=0.1) as hasty:  # 默认 5 秒：BLPOP 要等得比它短
            await hasty.blpop([orders], timeout=1)
    except exceptions.TimeoutError as error:
        print(f"socket_timeout 比 BLPOP 等得短: {type(error).__name__}，其实只是没有订单")
    return left, half_done, served, rest


async def clean_up(shop: Redis) -> None:
    """删掉自己的键，和被 kill -9 的那几次留下的：店名已不在 CLIENT LIST 里的都算。"""
    keys = [key async for key in shop.scan_iter("asyncio-tutorial:teashop-*", count=1000)]
    others = {client["name"] for client in await shop.client_list()} - {SHOP}
    if closed := [key for key in keys if ":".join(key.split(":")[:2]) not in others]:
        await shop.unlink(*closed)


SECTIONS = {
    "1. 存一个哈希再读回来：Redis 只还给你字符串": save_and_read_back,
    "2. 一个命令占一条连接：池满了，默认抛异常，也可以排队": wait_for_a_free_connection,
    "3. 省的是来回：pipeline 一次发走，自动合批连 pipeline 都不用写": save_round_trips,
    "4. 先读再写之间会有别人：用 WATCH，或者一条命令做完": change_what_you_have_read,
    "5. 缓存要有 TTL：过期之后才会看到新的": forget_after_a_while,
    "6. 锁会自己过期：还锁之前先比令牌": release_only_your_own_lock,
    "7. 缓存过期那一刻别一起煮：拿到锁以后再查一次": brew_once_for_everyone,
    "8. 广播 (pub/sub) 不等人：没人听就丢了": call_out,
    "9. 回答丢了不等于没做：自动重试会再做一次": repeat_what_was_done,
    "10. 可靠队列：先挪到“正在做”，做完再划掉": lose_no_order,
}


async def main() -> None:
    async with open_shop() as shop:
        try:
            for title, section in SECTIONS.items():
                print(f"── {title} ──")
                await section(shop)
                settings.stop_if_cancelled()  # 3.11 上，redis 可能吞掉一次取消
        finally:  # Ctrl-C 也走这里：取消只打断一次 await，后面的 await 照常
            await clean_up(shop)


if __name__ == "__main__":
    settings.run(main)
