"""4.2 异步 MySQL：连接、事务、连接池，和它们的陷阱

视频：§5.2 异步 MySQL（示例 1–2）
需要：MySQL（没有就 docker compose up -d，或另开一个终端 python tutorial.py services）
运行：python 04_case_studies/02_async_mysql_demo.py
观看：python tutorial.py trace 4.2（一步步看谁在跑、谁在等）

先猜后跑
    第 8 节里，两个任务共用一条连接，第二个任务得到 RuntimeError。接住异常，
    再用这条连接问一句“图书馆站”，回答是哪一站？

预期输出
    ── 1. 等网络的是 execute；fetch 只是从内存里取 ──
    execute 之后 rowcount = 3，行已经全在客户端
    东门站 10 辆
    西门站 10 辆
    图书馆站 4 辆
    ── 2. 值走参数，永远不拼进 SQL ──
    把 没这站' OR '1'='1 拼进 SQL: 查到 3 个站（条件被改写了）
    作为参数: 查到 0 个站，发出去的是 name = '没这站\\' OR \\'1\\'=\\'1'
    存进表里再读出来，一字不差: True
    ── 3. autocommit 默认是 False：写的会消失，读的会过时 ──
    忘了 commit: 改成 0 之后归还连接，别人看到的还是 4
    旧快照: 真实余数已从 4 变成 3，再借同一条连接，读到的还是 4
    ── 4. 事务：要么全做，要么全撤 ──
    没有事务，半路货车抛锚: 两站的 20 辆车丢了 5 辆
    有事务，半路货车抛锚: 两站的 20 辆车丢了 0 辆
    ── 5. 先读后写会丢更新：锁住那一行，或写成一句 UPDATE ──
    各读各的，再写回: 10 辆借出 2 辆，账上剩 9
    SELECT … FOR UPDATE: 10 辆借出 2 辆，账上剩 8
    SET bikes = bikes - 1: 10 辆借出 2 辆，账上剩 8
    ── 6. executemany 的快，少一个空格就没了 ──
    VALUES(%s, %s): 500 行用了 500 条 INSERT，≈60 毫秒
    VALUES (%s, %s): 500 行用了 1 条 INSERT，≈3 毫秒
    ── 7. SSCursor 边收边给：首行早到，内存不涨 ──
    Cursor 2187 行: 首行 ≈80 毫秒，内存峰值 ≈2,650 KiB
    SSCursor 2187 行: 首行 ≈1 毫秒，内存峰值 ≈530 KiB
    ── 8. 一条连接，同一刻只能有一个查询；要两个，就从池里借两条 ──
    东门站 → 东门站
    西门站 → readexactly() called while another coroutine is already waiting for incoming data
    图书馆站 → 西门站（上一个人的回答！只能扔掉它）
    各借一条: ['东门站', '西门站']，两个 0.2 秒的查询一共 ≈0.2 秒
    ── 9. 借连接也要限时 ──
    池满了: TimeoutError，而不是永远等下去
    占着连接的人出事归还，没人叫醒排队的人: TimeoutError；池里明明有空，后来的人: 借到了
    ── 10. 取消只是你不等了：服务器还在跑，锁还在手里 ──
    超时: 服务器还在跑 ['SELECT SLEEP(0.7)']，下一个写的人等锁 ≈0.59 秒
    超时，再 KILL QUERY: 服务器还在跑 ['SELECT SLEEP(0.7)']，下一个写的人等锁 ≈0.01 秒
    ── 11. 同一轮循环里的 50 个查询，合成一条 ──
    一个一个问: 50 条 SELECT，≈8.4 毫秒，本进程 CPU ≈4.6
    50 个任务各自 load: 1 条 SELECT，≈1.3 毫秒，本进程 CPU ≈1.1
    快 ≈6.5 倍

视频勘误
    示例 2 的 asyncio.wait([coro, coro]) 从 Python 3.11 起是
    TypeError: Passing coroutines is forbidden, use tasks explicitly.
    今天用 TaskGroup，连接从池里借（第 8 节）。示例 1 手动 close 的地方都换成 async with。

动手试试
    1. transaction() 里删掉 if not conn.closed，再看第 10 节那个在事务里超时的查询：
       调用者收到的还是 TimeoutError 吗？
    2. 第 5 节让一个人先锁东门站再锁西门站，另一个人反过来，各锁一把之后（用 Barrier）再锁第二把：
       服务器怎样收场？（错误号 1213）
    3. 第 7 节读 10 行就 break：离开 async with 时，SSCursor 会把剩下的行全读完才放手。
       给 SQL 加上 LIMIT 10，再比一次用时。
    4. 第 11 节里，有人在 load() 前先 await asyncio.sleep(0) 一次，发几条 SELECT？两次就是两批，挤在
       一条连接上，又是第 8 节的祸（RuntimeError 或 InternalError）：怎样让每一批从池里各借一条？
       loader.py 里去掉 asyncio.shield，让一个任务在 load() 时被取消，别的 49 个会怎样？
"""

import asyncio
import contextlib
import functools
import time
import tracemalloc
from collections.abc import AsyncIterator

import aiomysql
import settings
from bike_city import DATABASE, EAST, LIBRARY, WEST, ask, ask_pool, bike_city, options, reading
from loader import Loader  # 第 11 节的主角，30 行
from own_database import administer

READ = "SELECT bikes FROM dock WHERE name = %s"
WRITE = "UPDATE dock SET bikes = %s WHERE name = %s"
TAKE = "UPDATE dock SET bikes = bikes - %s WHERE name = %s"


async def bikes_at(pool: aiomysql.Pool, *docks: str) -> list[int]:
    return [(await ask_pool(pool, READ, dock))[0][0] for dock in docks]


async def sent(conn: aiomysql.Connection, kind: str) -> int:
    """服务器替这条连接记的账：它执行过几条 INSERT 或 SELECT。"""
    [(_, count)] = await ask(conn, f"SHOW SESSION STATUS LIKE 'Com_{kind}'")
    return int(count)


@contextlib.asynccontextmanager
async def transaction(conn: aiomysql.Connection) -> AsyncIterator[None]:
    await conn.begin()
    try:
        yield
    except BaseException:  # 取消也要撤销
        # 等回答时被取消，aiomysql 已经关了连接，服务器会撤销；再 rollback 只会用新异常盖住取消
        if not conn.closed:
            await conn.rollback()
        raise
    await conn.commit()


async def connect_and_fetch(pool: aiomysql.Pool) -> list[dict]:
    """课程的示例 1。普通游标在 execute 里就收完全部结果，所以大结果要用第 7 节的游标。"""
    async with aiomysql.connect(**options()) as conn, conn.cursor(aiomysql.DictCursor) as cursor:
        await cursor.execute("SELECT name, bikes FROM dock ORDER BY id")
        print(f"execute 之后 rowcount = {cursor.rowcount}，行已经全在客户端")
        rows = await cursor.fetchall()
    print(*(f"{row['name']} {row['bikes']} 辆" for row in rows), sep="\n")
    return rows


async def pass_values_as_parameters(pool: aiomysql.Pool) -> tuple[int, int, str]:
    """转义在客户端做。aiomysql 总是打开多语句 (multi statements)，拼接的漏洞连 DROP 都能带进来。"""
    typed = "没这站' OR '1'='1"
    async with pool.acquire() as conn, conn.cursor() as cursor:
        pasted = await cursor.execute(f"SELECT * FROM dock WHERE name = '{typed}'")
        print(f"把 {typed} 拼进 SQL: 查到 {pasted} 个站（条件被改写了）")
        passed = await cursor.execute("SELECT * FROM dock WHERE name = %s", (typed,))
        print(f"作为参数: 查到 {passed} 个站，发出去的是 {cursor.mogrify('name = %s', (typed,))}")
        rider = "小明', 1); DROP TABLE dock; -- "
        await cursor.execute("INSERT INTO ride (rider, minutes) VALUES (%s, %s)", (rider, 5))
        [(stored,)] = await ask(conn, "SELECT rider FROM ride WHERE id = %s", cursor.lastrowid)
    print(f"存进表里再读出来，一字不差: {stored == rider}")
    return pasted, passed, stored


async def forget_autocommit(pool: aiomysql.Pool) -> tuple[int, int, int]:
    """settings.mysql_options() 里的 autocommit=True 就是解药；要事务，自己 begin（第 4 节）。"""
    async with aiomysql.create_pool(**options(autocommit=False), maxsize=1) as forgetful:
        await ask_pool(forgetful, WRITE, 0, LIBRARY)  # 归还时池子关掉没提交的连接，不说一声
        [kept] = await bikes_at(pool, LIBRARY)
        print(f"忘了 commit: 改成 0 之后归还连接，别人看到的还是 {kept}")
        await bikes_at(forgetful, LIBRARY)  # 第一次 SELECT 拍下快照 (snapshot)，归还时快照还在
        await ask_pool(pool, TAKE, 1, LIBRARY)
        [fresh], [stale] = await bikes_at(pool, LIBRARY), await bikes_at(forgetful, LIBRARY)
    print(f"旧快照: 真实余数已从 {kept} 变成 {fresh}，再借同一条连接，读到的还是 {stale}")
    return kept, fresh, stale


async def move_all_or_nothing(pool: aiomysql.Pool) -> list[int]:
    lost = []
    for how, guard in {"没有事务": contextlib.nullcontext, "有事务": transaction}.items():
        await ask_pool(pool, WRITE, 10, EAST)
        try:
            async with pool.acquire() as conn, guard(conn):
                await ask(conn, TAKE, 5, EAST)
                raise RuntimeError("货车抛锚")  # 还没来得及给西门站加上
        except RuntimeError as error:
            lost.append(20 - sum(await bikes_at(pool, EAST, WEST)))
            print(f"{how}，半路{error}: 两站的 20 辆车丢了 {lost[-1]} 辆")
    return lost


async def take_two_at_once(pool: aiomysql.Pool) -> list[int]:
    both_have_read = asyncio.Barrier(2)

    async def read_then_write() -> None:
        async with pool.acquire() as conn:
            [(bikes,)] = await ask(conn, READ, EAST)
            await both_have_read.wait()
            await ask(conn, WRITE, bikes - 1, EAST)

    async def lock_the_row() -> None:
        # 光有事务不够：普通 SELECT 不锁行。按索引 (UNIQUE) 找，才只锁一行，不锁全表
        async with pool.acquire() as conn, transaction(conn):
            [(bikes,)] = await ask(conn, f"{READ} FOR UPDATE", EAST)
            await ask(conn, WRITE, bikes - 1, EAST)

    async def one_statement() -> None:
        await ask_pool(pool, f"{TAKE} AND bikes >= 1", 1, EAST)

    left = []
    for title, rent in {
        "各读各的，再写回": read_then_write,
        "SELECT … FOR UPDATE": lock_the_row,
        "SET bikes = bikes - 1": one_statement,
    }.items():
        await ask_pool(pool, WRITE, 10, EAST)
        async with asyncio.TaskGroup() as riders:
            riders.create_task(rent())
            riders.create_task(rent())
        left += await bikes_at(pool, EAST)
        print(f"{title}: 10 辆借出 2 辆，账上剩 {left[-1]}")
    return left


async def insert_many(pool: aiomysql.Pool) -> list[int]:
    """aiomysql 用正则表达式找 VALUES，两边都要有空白才合成一条；找不到就悄悄逐行执行。"""
    rides = [(f"骑手 {number}", number % 60) for number in range(500)]
    used = []
    for values in ("VALUES(%s, %s)", "VALUES (%s, %s)"):
        # 在一个事务里比，逐行的那边才不用每行等一次磁盘
        async with pool.acquire() as conn, conn.cursor() as cursor, transaction(conn):
            before, started = await sent(conn, "insert"), time.perf_counter()
            await cursor.executemany(f"INSERT INTO ride (rider, minutes) {values}", rides)
            spent = (time.perf_counter() - started) * 1000
            used.append(await sent(conn, "insert") - before)
        print(f"{values}: {len(rides)} 行用了 {used[-1]} 条 INSERT，≈{spent:.0f} 毫秒")
    return used


async def stream_rows(pool: aiomysql.Pool) -> list[tuple[int, int]]:
    """没读完之前，这条连接不能做别的，服务器一侧的结果也一直开着。

    不写 async with conn.cursor(SSCursor)：半路被取消，它收不了场（见 bike_city.py 的 reading）。
    """
    three_to_the_seventh = "dock a, dock b, dock c, dock d, dock e, dock f, dock g"
    seen = []
    for kind in (aiomysql.Cursor, aiomysql.SSCursor):
        tracemalloc.start()
        async with pool.acquire() as conn, reading(conn, kind) as cursor:
            started = time.perf_counter()
            await cursor.execute(f"SELECT REPEAT('骑', 500) FROM {three_to_the_seventh}")
            await cursor.fetchone()
            first = (time.perf_counter() - started) * 1000
            rows = 1 + sum([1 async for _ in cursor])
        peak = tracemalloc.get_traced_memory()[1] // 1024
        tracemalloc.stop()
        seen.append((rows, peak))
        print(f"{kind.__name__} {rows} 行: 首行 ≈{first:.0f} 毫秒，内存峰值 ≈{peak:,} KiB")
    return seen


async def query_two_at_once(pool: aiomysql.Pool) -> list[str]:
    """课程的示例 2。共用连接时，第二个问题已经发出，只是没人收它的回答：从此答非所问，错位一格。"""
    async with pool.acquire() as conn:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask(conn, "SELECT %s", EAST))
            await asyncio.sleep(0)  # 第一个任务已发问，在等回答
            try:
                await ask(conn, "SELECT %s", WEST)
            except RuntimeError as error:
                clash = str(error)
        [(shifted,)] = await ask(conn, "SELECT %s", LIBRARY)
        conn.close()  # 不关就归还，下一个借到它的人会读到别人的数据
    print(f"{EAST} → {first.result()[0][0]}")
    print(f"{WEST} → {clash}")
    print(f"{LIBRARY} → {shifted}（上一个人的回答！只能扔掉它）")
    started = time.perf_counter()
    slow = "SELECT name, SLEEP(0.2) FROM dock WHERE name = %s"
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask_pool(pool, slow, dock)) for dock in (EAST, WEST)]
    names = [task.result()[0][0] for task in tasks]
    print(f"各借一条: {names}，两个 0.2 秒的查询一共 ≈{time.perf_counter() - started:.1f} 秒")
    return [clash, shifted, *names]


async def borrow_with_a_deadline(pool: aiomysql.Pool) -> list[str]:
    """acquire() 自己没有时限；坏了的连接归还时，aiomysql 0.3.2 不叫醒排队的人。"""
    async with aiomysql.create_pool(**options(), maxsize=1) as narrow:

        async def borrow(seconds: float) -> str:
            try:
                async with asyncio.timeout(seconds), narrow.acquire():
                    return "借到了"
            except TimeoutError:
                return "TimeoutError"

        async with asyncio.TaskGroup() as queue, narrow.acquire() as conn:
            full = await borrow(0.05)
            waiting = queue.create_task(borrow(0.3))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await ask(conn, "SELECT SLEEP(0.2)")
        told = [full, waiting.result(), await borrow(5)]
    print(f"池满了: {told[0]}，而不是永远等下去")
    print(f"占着连接的人出事归还，没人叫醒排队的人: {told[1]}；池里明明有空，后来的人: {told[2]}")
    return told


async def stop_the_server_too(pool: aiomysql.Pool) -> list[list[str]]:
    slow, seen = "SELECT SLEEP(0.7)", []

    async def audit(kill: bool) -> None:
        async with pool.acquire() as conn, transaction(conn):
            await ask(conn, TAKE, 1, EAST)  # 行锁到手，事务结束才放
            try:
                async with asyncio.timeout(0.1):
                    await ask(conn, slow)
            except (TimeoutError, asyncio.CancelledError):
                processes = await ask_pool(pool, "SHOW PROCESSLIST")
                seen.append([row[7] for row in processes if (row[3], row[7]) == (DATABASE, slow)])
                if kill:  # 另开一条连接：池子可能正满着
                    with contextlib.suppress(aiomysql.OperationalError):  # 1094：它恰好自己跑完了
                        await administer(f"KILL QUERY {conn.thread_id()}")
                raise

    for title, kill in {"超时": False, "超时，再 KILL QUERY": True}.items():
        with contextlib.suppress(TimeoutError):
            await audit(kill)
        started = time.perf_counter()
        await ask_pool(pool, TAKE, 1, EAST)
        waited = time.perf_counter() - started
        print(f"{title}: 服务器还在跑 {seen[-1]}，下一个写的人等锁 ≈{waited:.2f} 秒")
    return seen


async def minutes_of(conn: aiomysql.Connection, rides: list[int]) -> dict[int, int]:
    marks = ", ".join(["%s"] * len(rides))  # 一个值一个 %s：列表不能当一个参数
    return dict(await ask(conn, f"SELECT id, minutes FROM ride WHERE id IN ({marks})", *rides))


async def load_in_one_query(pool: aiomysql.Pool) -> list[tuple[int, list[int]]]:
    """慢在每条查询的固定开销（拼、发、逐个拆包），不在找行；服务器在远处，每条还要加一个来回。"""
    async with pool.acquire() as conn, conn.cursor() as cursor:
        rides = [(f"骑手 {number}", number) for number in range(50)]
        await cursor.executemany("INSERT INTO ride (rider, minutes) VALUES (%s, %s)", rides)
        ids = range(cursor.lastrowid, cursor.lastrowid + len(rides))

        async def one_by_one() -> list[int]:
            return [(await minutes_of(conn, [ride]))[ride] for ride in ids]

        async def load_at_once() -> list[int]:
            async with asyncio.TaskGroup() as group:
                loader = Loader(group, functools.partial(minutes_of, conn))
                tasks = [group.create_task(loader.load(ride)) for ride in ids]
            return [task.result() for task in tasks]

        seen, spent = [], []
        for title, way in {"一个一个问": one_by_one, "50 个任务各自 load": load_at_once}.items():
            before = await sent(conn, "select")
            cpu, started = time.process_time(), time.perf_counter()
            minutes = await way()
            spent.append((time.perf_counter() - started) * 1000)
            cpu = (time.process_time() - cpu) * 1000
            seen.append((await sent(conn, "select") - before, minutes))
            print(f"{title}: {seen[-1][0]} 条 SELECT，≈{spent[-1]:.1f} 毫秒，本进程 CPU ≈{cpu:.1f}")
    print(f"快 ≈{spent[0] / spent[1]:.1f} 倍")
    return seen


SECTIONS = {
    "1. 等网络的是 execute；fetch 只是从内存里取": connect_and_fetch,
    "2. 值走参数，永远不拼进 SQL": pass_values_as_parameters,
    "3. autocommit 默认是 False：写的会消失，读的会过时": forget_autocommit,
    "4. 事务：要么全做，要么全撤": move_all_or_nothing,
    "5. 先读后写会丢更新：锁住那一行，或写成一句 UPDATE": take_two_at_once,
    "6. executemany 的快，少一个空格就没了": insert_many,
    "7. SSCursor 边收边给：首行早到，内存不涨": stream_rows,
    "8. 一条连接，同一刻只能有一个查询；要两个，就从池里借两条": query_two_at_once,
    "9. 借连接也要限时": borrow_with_a_deadline,
    "10. 取消只是你不等了：服务器还在跑，锁还在手里": stop_the_server_too,
    "11. 同一轮循环里的 50 个查询，合成一条": load_in_one_query,
}


async def main() -> None:
    async with bike_city() as pool:
        for title, section in SECTIONS.items():
            print(f"── {title} ──")
            await section(pool)


if __name__ == "__main__":
    settings.run(main)
