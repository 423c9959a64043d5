"""4.3 的数据层：茶馆的 Redis、MySQL 和听众。它不懂 HTTP，接口层（03_fastapi_demo.py）不懂 SQL。

连接池的参数为什么这样选，见 4.1 和 4.2；这里只说服务里才会遇到的取舍。
读缓存走自动合批的那条线（4.1 第 3 节）：一圈里来的请求合成一次写出，不用各占一条连接。
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import aiomysql
import redis.asyncio as redis
import settings
from own_database import administer, own_database
from pydantic import BaseModel, Field
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis_batching import BatchingRedis

FAMILY = "asyncio_tutorial_fastapi_"  # 库名的开头
MAX_ID = 2**31 - 1  # MySQL 的 INT
CACHE_TTL = 60
MYSQL_PATIENCE = 3
HEARTBEAT = 0.1
VISIBLE = r"^[^\x00]*[^\s\x00-\x20][^\x00]*$"  # 没有 NUL，而且不全是空白和控制符


class Draft(BaseModel):
    """客人递进来的留言；长度和下面建表的 VARCHAR 一致，超长的走不到数据库。"""

    guest: Annotated[str, Field(max_length=20, pattern=VISIBLE, examples=["陆羽"])]
    text: Annotated[str, Field(max_length=200, pattern=VISIBLE, examples=["水初沸，香已到门口"])]


class Note(Draft):
    """挂上墙、有了编号的留言。"""

    id: int


class Problem(BaseModel):
    """做不到时的回答：400、404、503。"""

    detail: str


class Health(BaseModel):
    """茶馆离不开的两样。"""

    redis: Literal["up", "down"]
    mysql: Literal["up", "down"]


class Unavailable(Exception):
    """Redis 或 MySQL 现在用不了。"""

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} 现在用不了，请稍后再试")


@contextlib.contextmanager
def needing(service: str) -> Iterator[None]:
    """断线、超时、Redis 的错误回答都变成 Unavailable；写错的 SQL 不算，那是程序自己的错。

    错误回答：内存满了 (OOM)、存不了盘 (MISCONF)、只读 (READONLY)……PING 它也许照答。
    """
    try:
        yield
    except (redis.RedisError, aiomysql.InterfaceError, OSError) as error:
        raise Unavailable(service) from error  # OSError 里有 asyncio.timeout 的 TimeoutError
    except aiomysql.OperationalError as error:
        if error.args[0] not in settings.MYSQL_IS_AWAY:
            raise
        raise Unavailable(service) from error


@dataclass
class TeaHouse:
    """一个进程一份：连接池、听众、计数。"""

    MENU: ClassVar = {"龙井": 38, "普洱": 45, "茉莉": 28}
    redis: redis.Redis
    cache: BatchingRedis  # 只用来读
    mysql: aiomysql.Pool
    prefix: str
    listeners: set[asyncio.Queue] = field(default_factory=set)
    reads: dict[str, int] = field(default_factory=lambda: {"hit": 0, "miss": 0, "down": 0})
    closing: bool = False

    # ── 留言：MySQL 为准，Redis 是旁路缓存 (cache-aside) ──

    async def add(self, draft: Draft) -> Note:
        async with self._cursor() as cursor:
            await cursor.execute(
                "INSERT INTO notes (guest, text) VALUES (%s, %s)", (draft.guest, draft.text)
            )
            note = Note(id=cursor.lastrowid, guest=draft.guest, text=draft.text)
        self.tell("added", note.model_dump())
        return note

    async def newest(self, before: int, limit: int) -> list[Note]:
        """按编号往前翻：比 OFFSET 稳，翻页时来了新留言也不会重复。"""
        async with self._cursor() as cursor:
            await cursor.execute(
                "SELECT id, guest, text FROM notes WHERE id < %s ORDER BY id DESC LIMIT %s",
                (before, limit),
            )
            return [Note(**row) for row in await cursor.fetchall()]

    async def read(self, note_id: int) -> tuple[str | None, str]:
        """先问 Redis，没有再问 MySQL 并放进 Redis；返回 (留言的 JSON, hit | miss | down)。

        缓存里放的就是要发出去的 JSON：命中时原样发出，不用拆开再拼一遍。

        Redis 倒了，读只是慢一点（down），不跟着倒。
        """
        key, cached, state = f"{self.prefix}note:{note_id}", None, "down"
        with contextlib.suppress(Unavailable), needing("Redis"):
            cached = await self.cache.get(key)
            state = "hit" if cached else "miss"
        self.reads[state] += 1
        if cached:
            return cached, state
        async with self._cursor() as cursor:
            note = await self._select(cursor, note_id)
        body = note and note.model_dump_json()
        if body and state == "miss":
            # 一定要有期限：放进去的可能是别人刚改掉的旧值，删缓存时 Redis 也可能正好不在
            with contextlib.suppress(Unavailable), needing("Redis"):
                await self.redis.set(key, body, ex=CACHE_TTL)
        return body, state

    async def change(self, note_id: int, draft: Draft) -> Note | None:
        async with self._cursor() as cursor:
            await cursor.execute(
                "UPDATE notes SET guest = %s, text = %s WHERE id = %s",
                (draft.guest, draft.text, note_id),
            )
            # 不看 rowcount：它数的是“变了几行”，改成原样也是 0
            note = await self._select(cursor, note_id)
        if note:
            await self._forget(note_id)
            self.tell("changed", note.model_dump())
        return note

    async def remove(self, note_id: int) -> bool:
        async with self._cursor() as cursor:
            removed = await cursor.execute("DELETE FROM notes WHERE id = %s", (note_id,)) > 0
        if removed:
            await self._forget(note_id)
            self.tell("removed", {"id": note_id})
        return removed

    async def _select(self, cursor: aiomysql.DictCursor, note_id: int) -> Note | None:
        await cursor.execute("SELECT id, guest, text FROM notes WHERE id = %s", (note_id,))
        row = await cursor.fetchone()
        return Note(**row) if row else None

    async def _forget(self, note_id: int) -> None:
        """改了就删缓存，不去更新它：两个写同时来，更新缓存的先后可能和 MySQL 相反。"""
        with contextlib.suppress(Unavailable), needing("Redis"):
            await self.redis.delete(f"{self.prefix}note:{note_id}")

    @contextlib.asynccontextmanager
    async def _cursor(self) -> AsyncIterator[aiomysql.DictCursor]:
        # aiomysql 没有读超时，等空闲连接也没有：两样都归这一个 timeout 管
        with needing("MySQL"):
            async with asyncio.timeout(MYSQL_PATIENCE), self.mysql.acquire() as connection:
                async with connection.cursor(aiomysql.DictCursor) as cursor:
                    yield cursor

    # ── 茶单：课程里的 /red，没有 Redis 就没有它 ──

    async def tea_menu(self) -> dict[str, str]:
        key = f"{self.prefix}menu"
        with needing("Redis"):
            async with self.redis.pipeline() as pipe:  # 三条命令，一次往返
                pipe.hset(key, mapping=self.MENU).expire(key, CACHE_TTL).hgetall(key)
                *_, menu = await pipe.execute()
        return menu

    # ── 健康 ──

    async def health(self) -> Health:
        async def ask_redis() -> None:
            with needing("Redis"):
                await self.redis.ping()

        async def ask_mysql() -> None:
            async with self._cursor() as cursor:
                await cursor.execute("SELECT 1")

        async def answer(ask: Callable[[], Awaitable[None]]) -> Literal["up", "down"]:
            try:
                await ask()
            except Unavailable:
                return "down"
            return "up"

        # 一起问，总共只等慢的那个；answer 不抛异常，所以 gather 也不会留下没做完的
        redis_is, mysql_is = await asyncio.gather(answer(ask_redis), answer(ask_mysql))
        return Health(redis=redis_is, mysql=mysql_is)

    # ── 听众：每人一个信箱 ──

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Queue]:
        inbox: asyncio.Queue[tuple[str, dict]] = asyncio.Queue(maxsize=100)
        inbox.put_nowait(("hello", {}))
        if self.closing:  # 打烊铃之后才挤进来的
            inbox.put_nowait(("bye", {}))
        self.listeners.add(inbox)
        try:
            yield inbox
        finally:
            self.listeners.discard(inbox)

    def tell(self, event: str, data: dict) -> None:
        for inbox in self.listeners:
            if inbox.full():  # 读得慢的听众丢掉最旧的：不拖住别人，也不让内存一直涨
                inbox.get_nowait()
            inbox.put_nowait((event, data))

    def say_goodbye(self) -> None:
        self.closing = True
        self.tell("bye", {})

    async def beat(self) -> None:
        """每 0.1 秒一次心跳；晚到多少，事件循环就被人占住了多久。"""
        clock = asyncio.get_running_loop().time
        while True:
            slept_at = clock()
            await asyncio.sleep(HEARTBEAT)
            late = max(clock() - slept_at - HEARTBEAT, 0)
            pulse = {"late_ms": round(late * 1000), "listeners": len(self.listeners)}
            self.tell("beat", pulse | self.reads)


@contextlib.asynccontextmanager
async def open_house(database: str | None) -> AsyncIterator[TeaHouse]:
    """开门：连上 Redis 和 MySQL，生起心跳；打烊：倒着拆。"""
    database = database or FAMILY + secrets.token_hex(4)  # 开着 --serve 再跑一遍，也不相干
    prefix = f"asyncio-tutorial:{database}:"
    async with (
        _redis(prefix) as client,
        BatchingRedis(settings.redis_url(), patience=1) as cache,
        _mysql(database) as pool,
        asyncio.TaskGroup() as group,
    ):
        house = TeaHouse(client, cache, pool, prefix)
        heart = group.create_task(house.beat(), name="心跳")  # 有主人的后台任务：组结束它一定结束
        try:
            yield house
        finally:
            heart.cancel()


@contextlib.asynccontextmanager
async def _redis(prefix: str) -> AsyncIterator[redis.Redis]:
    pool = redis.BlockingConnectionPool.from_url(  # 满了就排队等 timeout 秒，而不是立刻报错
        settings.redis_url(),
        max_connections=20,
        timeout=1,
        decode_responses=True,
        socket_timeout=1,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),  # 默认重试 10 次：Redis 倒下时每个请求都要陪着等几秒
    )
    async with redis.Redis.from_pool(pool) as client:
        await client.ping()  # 缺了它就别开门：地址写错，现在知道比第一个请求才知道好
        try:
            yield client
        finally:
            with contextlib.suppress(redis.RedisError):  # 它先倒了就算了：留下的键都有期限
                async for key in client.scan_iter(f"{prefix}*"):
                    await client.delete(key)


@contextlib.asynccontextmanager
async def _mysql(database: str) -> AsyncIterator[aiomysql.Pool]:
    """教程自带一个库；生产里建库建表归迁移工具（如 alembic），不归 lifespan。"""
    options = settings.mysql_options()
    async with own_database(database, FAMILY):
        await administer(
            f"CREATE TABLE {database}.notes (id INT PRIMARY KEY AUTO_INCREMENT,"
            " guest VARCHAR(20) NOT NULL, text VARCHAR(200) NOT NULL)"
        )
        async with aiomysql.create_pool(**options, db=database, pool_recycle=3600) as pool:
            yield pool
