"""4.2、4.3、4.6 共用：只属于这一次运行的 MySQL 库，用完就删。

名字里有随机数，同时跑两次也不相干。库在，就有一条连接握着和库同名的锁 (GET_LOCK)；握锁的连接断了，
哪怕是 kill -9，锁就没了：没有锁的库没有主人，下一次运行顺手删掉。
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiomysql
import settings

# 不关 sql_notes，IF EXISTS 落空的提示 (note) 会被 aiomysql 变成 Python 警告；
# wait_timeout：默认闲 8 小时就被服务器挂断，握着锁的连接不能断
START = "SET sql_notes = 0, wait_timeout = 604800"
STRAYS = """SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE %s
AND COALESCE(IS_USED_LOCK(schema_name), CONNECTION_ID()) = CONNECTION_ID()"""


async def administer(statement: str) -> None:
    """在一条不选库、不占池子的连接上执行一句管理语句。"""
    async with in_time():
        conn = await _connect()
        with contextlib.closing(conn):
            await _ask(conn, statement)


@contextlib.asynccontextmanager
async def own_database(name: str, family: str) -> AsyncIterator[None]:
    """库 name 只在 async with 里存在，Ctrl-C 和出错也会删掉；同族的名字都以 family 开头。"""
    async with in_time():
        owner = await _connect()
    with contextlib.closing(owner):
        async with in_time():
            await _ask(owner, "SELECT GET_LOCK(%s, 0)", name)
            strays = await _ask(owner, STRAYS, f"{family}%")
        for (stray,) in strays:  # 库名不能当参数，只拼自己的常量和服务器给的名字
            await administer(f"DROP DATABASE IF EXISTS {stray}")
        try:
            await administer(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            yield
        finally:  # 换一条连接：握锁的那条可能早断了
            await administer(f"DROP DATABASE IF EXISTS {name}")


async def _connect() -> aiomysql.Connection:
    return await aiomysql.connect(**settings.mysql_options(), init_command=START)


async def _ask(conn: aiomysql.Connection, sql: str, *args: object) -> tuple[tuple, ...]:
    async with conn.cursor() as cursor:
        await cursor.execute(sql, args)
        return await cursor.fetchall()


@contextlib.asynccontextmanager
async def in_time(seconds: float = 5) -> AsyncIterator[None]:
    """connect_timeout 只管 TCP 接通；接通后不说话的服务器，没有这个时限就等到永远。"""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise aiomysql.OperationalError(2013, f"{seconds} 秒没有回音") from error
