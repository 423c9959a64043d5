"""4.2 的共享单车：库怎么来、怎么走，怎么向它问一句。课在 02_async_mysql_demo.py。"""

import contextlib
import secrets
from collections.abc import AsyncIterator

import aiomysql
import settings
from own_database import own_database

FAMILY = "asyncio_tutorial_mysql_"
DATABASE = FAMILY + secrets.token_hex(4)  # 每次一个新库
EAST, WEST, LIBRARY = "东门站", "西门站", "图书馆站"


def options(**changes: object) -> dict[str, object]:
    # 要加密就再给 ssl=…，并用 SHOW STATUS LIKE 'Ssl_cipher' 核对：服务器没开 TLS 时，它默默走明文
    return {**settings.mysql_options(), "db": DATABASE, **changes}


async def ask(conn: aiomysql.Connection, sql: str, *args: object) -> tuple[tuple, ...]:
    async with conn.cursor() as cursor:
        await cursor.execute(sql, args)
        return await cursor.fetchall()


async def ask_pool(pool: aiomysql.Pool, sql: str, *args: object) -> tuple[tuple, ...]:
    async with pool.acquire() as conn:
        return await ask(conn, sql, *args)


@contextlib.asynccontextmanager
async def reading(
    conn: aiomysql.Connection, kind: type[aiomysql.Cursor]
) -> AsyncIterator[aiomysql.Cursor]:
    """async with conn.cursor(kind)，但取消得了：等回答时被取消，aiomysql 已经关了连接，SSCursor 却
    还要从它那里读完剩下的行，抛出的 AttributeError 会盖住取消。"""
    cursor = await conn.cursor(kind)
    try:
        yield cursor
    finally:
        if not conn.closed:
            await cursor.close()


@contextlib.asynccontextmanager
async def bike_city() -> AsyncIterator[aiomysql.Pool]:
    """共享单车的库，只在 async with 里存在；Ctrl-C 和出错也会删掉。"""
    async with own_database(DATABASE, FAMILY):
        # 池子忘了关，连接会在循环关闭之后才被回收：Event loop is closed
        # pool_recycle：闲得太久的连接，服务器会单方面挂断 (wait_timeout)，借出前先换新
        async with aiomysql.create_pool(**options(), maxsize=5, pool_recycle=300) as pool:
            key = "id INT AUTO_INCREMENT PRIMARY KEY"
            await ask_pool(pool, f"CREATE TABLE dock ({key}, name VARCHAR(20) UNIQUE, bikes INT)")
            await ask_pool(pool, f"CREATE TABLE ride ({key}, rider VARCHAR(60), minutes INT)")
            for dock, bikes in ((EAST, 10), (WEST, 10), (LIBRARY, 4)):
                await ask_pool(pool, "INSERT INTO dock (name, bikes) VALUES (%s, %s)", dock, bikes)
            yield pool
