"""4.6 的水果铺：MySQL 里的价格表，Redis 里的一片键，数查库次数的 Shop；离开时都收拾干净。"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Coroutine

import aiomysql
import settings
from own_database import in_time, own_database
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ResponseError

DATABASES = "asyncio_tutorial_cache"  # 每次运行一个库，名字以它开头
FRUITS = {"苹果": 10, "梨": 8, "桃": 15} | {f"果篮{number}": number for number in range(100)}
TTL = 60  # 秒
PATIENCE = 8  # 秒；比 Redis 的 socket_timeout 长：事务里也问 Redis，谁断了，就让谁先说


@contextlib.asynccontextmanager
async def transaction(pool: aiomysql.Pool) -> AsyncIterator[aiomysql.Cursor]:
    async with in_time(PATIENCE), pool.acquire() as conn, conn.cursor() as cursor:
        await conn.begin()
        yield cursor
        await conn.commit()  # 半路出错，连接还给池子时会被关掉，服务器就撤销


async def sql(pool: aiomysql.Pool, *statements: tuple) -> tuple[tuple, ...]:
    """一个事务里依次执行，返回最后一句的结果。"""
    async with transaction(pool) as cursor:
        for statement, *args in statements:
            await cursor.execute(statement, args)
        return await cursor.fetchall()


class Shop:
    """一家水果铺：真相在 MySQL，缓存在 Redis；查了几次库，它数着。"""

    def __init__(self, redis: Redis, pool: aiomysql.Pool, prefix: str) -> None:
        self.redis, self.pool, self.prefix = redis, pool, prefix
        self.queries = 0

    def key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    async def look_up(self, fruit: str) -> int | None:
        self.queries += 1
        rows = await sql(self.pool, ("SELECT price FROM fruit WHERE name = %s", fruit))
        return rows[0][0] if rows else None

    async def reprice(self, fruit: str, price: int) -> None:
        change = "UPDATE fruit SET price = %s, version = version + 1 WHERE name = %s"
        await sql(self.pool, (change, price, fruit))

    async def keep(self, fruit: str, price: int | str, ttl: int = TTL) -> None:
        await self.redis.set(self.key(fruit), price, ex=ttl)

    async def forget(self, *fruits: str) -> None:
        await self.redis.unlink(*map(self.key, fruits))

    async def count(self, *work: Coroutine) -> int:
        """这些一起做完，查了几次库？"""
        before = self.queries
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
        return self.queries - before


@contextlib.asynccontextmanager
async def database(name: str) -> AsyncIterator[aiomysql.Pool]:
    """一个库，只在 async with 里存在。"""
    async with own_database(name, DATABASES):
        options = {**settings.mysql_options(), "db": name}
        async with aiomysql.create_pool(**options, maxsize=5) as pool:
            columns = "name VARCHAR(20) PRIMARY KEY, price INT, version INT DEFAULT 1"
            await sql(pool, (f"CREATE TABLE fruit ({columns}, sold INT DEFAULT 0)",))
            await sql(pool, ("CREATE TABLE progress (last VARCHAR(40))",))
            insert = "INSERT INTO fruit (name, price) VALUES (%s, %s)"
            await sql(pool, *((insert, *fruit) for fruit in FRUITS.items()))
            await sql(pool, ("INSERT INTO progress VALUES ('0-0')",))
            yield pool


async def sweep(redis: Redis, pattern: str, idle: int = 0) -> None:
    with contextlib.suppress(ResponseError):  # 按 LFU 淘汰的 Redis 不记多久没人碰
        async for key in redis.scan_iter(pattern, count=1000):
            if not idle or (await redis.object("idletime", key) or 0) >= idle:
                await redis.unlink(key)


@contextlib.asynccontextmanager
async def shop_opened() -> AsyncIterator[Shop]:
    # 一百位顾客同时来，也只用 20 条连接，其余的排队
    connections = BlockingConnectionPool.from_url(
        settings.redis_url(), max_connections=20, decode_responses=True, socket_timeout=5
    )
    token = secrets.token_hex(4)  # 每次运行自己的库、自己的键：两次同时运行，互不相干
    prefix, name = f"asyncio-tutorial:cache-{token}", f"{DATABASES}_{token}"
    async with Redis.from_pool(connections) as redis, database(name) as pool:
        await sweep(redis, "asyncio-tutorial:cache-*", idle=60)  # 被强杀的那几次留下的
        try:
            yield Shop(redis, pool, prefix)
        finally:
            await sweep(redis, f"{prefix}:*")
