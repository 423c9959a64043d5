"""4.2 的共享单车：库怎么来、怎么走，怎么向它问一句。课在 02_async_mysql_demo.py。"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiomysql
import settings

DATABASE = "asyncio_tutorial_mysql"
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


async def administer(statement: str) -> None:
    """在一条不选库、不占池子的连接上执行一句管理语句。"""
    try:  # connect_timeout 只管 TCP 接通；接通后不说话的服务器，没有这个时限就等到永远
        async with asyncio.timeout(5), aiomysql.connect(**settings.mysql_options()) as conn:
            # IF EXISTS 的提示 (note) 会被 aiomysql 变成 Python 警告，先让服务器别提
            await ask(conn, "SET sql_notes = 0")
            await ask(conn, statement)
    except TimeoutError as error:
        raise aiomysql.OperationalError(2013, "5 秒没有回音") from error


@contextlib.asynccontextmanager
async def bike_city() -> AsyncIterator[aiomysql.Pool]:
    """共享单车的库，只在 async with 里存在；Ctrl-C 和出错也会删掉。"""
    drop = f"DROP DATABASE IF EXISTS {DATABASE}"  # 库名不能当参数，只拼自己的常量
    await administer(drop)  # 上一次被强杀，可能留下了它
    try:
        await administer(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        # 池子忘了关，连接会在循环关闭之后才被回收：Event loop is closed
        # pool_recycle：闲得太久的连接，服务器会单方面挂断 (wait_timeout)，借出前先换新
        async with aiomysql.create_pool(**options(), maxsize=5, pool_recycle=300) as pool:
            key = "id INT AUTO_INCREMENT PRIMARY KEY"
            await ask_pool(pool, f"CREATE TABLE dock ({key}, name VARCHAR(20) UNIQUE, bikes INT)")
            await ask_pool(pool, f"CREATE TABLE ride ({key}, rider VARCHAR(60), minutes INT)")
            for dock, bikes in ((EAST, 10), (WEST, 10), (LIBRARY, 4)):
                await ask_pool(pool, "INSERT INTO dock (name, bikes) VALUES (%s, %s)", dock, bikes)
            yield pool
    finally:
        await administer(drop)
