"""4.6 的水果铺：MySQL 里的价格表，Redis 里的一片键，数查库次数的 Shop；离开时都收拾干净。"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Coroutine

import aiomysql
import settings
from redis.asyncio import BlockingConnectionPool, Redis

DATABASE = "asyncio_tutorial_cache"
FRUITS = {"苹果": 10, "梨": 8, "桃": 15} | {f"果篮{number}": number for number in range(100)}
TTL = 60  # 秒


async def sql(pool: aiomysql.Pool, *statements: tuple) -> tuple[tuple, ...]:
    """一个事务里依次执行；5 秒没有回音就当 MySQL 断了，不会等到永远。"""
    try:
        async with asyncio.timeout(5), pool.acquire() as conn, conn.cursor() as cursor:
            await conn.begin()
            for statement, *args in statements:
                await cursor.execute(statement, args)
            rows = await cursor.fetchall()
            await conn.commit()  # 半路出错，连接还给池子时会被关掉，服务器就撤销
            return rows
    except TimeoutError as error:
        raise aiomysql.OperationalError(2013, "5 秒没有回音") from error


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


async def administer(statement: str) -> None:
    try:
        async with asyncio.timeout(5), aiomysql.connect(**settings.mysql_options()) as conn:
            async with conn.cursor() as cursor:
                await cursor.execute("SET sql_notes = 0")  # IF EXISTS 的提示会变成 Python 警告
                await cursor.execute(statement)
    except TimeoutError as error:
        raise aiomysql.OperationalError(2013, "5 秒没有回音") from error


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[aiomysql.Pool]:
    await administer(f"DROP DATABASE IF EXISTS {DATABASE}")  # 上一次被强杀，可能留下了它
    try:
        await administer(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        options = {**settings.mysql_options(), "db": DATABASE}
        async with aiomysql.create_pool(**options, maxsize=5) as pool:
            name = "name VARCHAR(20) PRIMARY KEY"
            columns = f"{name}, price INT, version INT DEFAULT 1, sold INT DEFAULT 0"
            await sql(pool, (f"CREATE TABLE fruit ({columns})",))
            await sql(pool, ("CREATE TABLE progress (id INT PRIMARY KEY, last VARCHAR(40))",))
            insert = "INSERT INTO fruit (name, price) VALUES (%s, %s)"
            await sql(pool, *((insert, *fruit) for fruit in FRUITS.items()))
            yield pool
    finally:
        await administer(f"DROP DATABASE IF EXISTS {DATABASE}")


async def sweep(redis: Redis, pattern: str, idle: int = 0) -> None:
    async for key in redis.scan_iter(pattern, count=1000):
        if (await redis.object("idletime", key) or 0) >= idle:
            await redis.unlink(key)


@contextlib.asynccontextmanager
async def shop_opened() -> AsyncIterator[Shop]:
    # 一百位顾客同时来，也只用 20 条连接，其余的排队
    connections = BlockingConnectionPool.from_url(
        settings.redis_url(), max_connections=20, decode_responses=True, socket_timeout=5
    )
    async with Redis.from_pool(connections) as redis, database() as pool:
        await sweep(redis, "asyncio-tutorial:cache-*", idle=60)  # 被强杀的那几次留下的
        prefix = f"asyncio-tutorial:cache-{secrets.token_hex(4)}"
        try:
            yield Shop(redis, pool, prefix)
        finally:
            await sweep(redis, f"{prefix}:*")
