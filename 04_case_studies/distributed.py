"""4.8 的工人：每台机器上跑的就是它。一页怎样爬在 crawler.py，这里只管怎样分。

    Redis   任务队列（taskiq 的 Redis Streams）、见过的网址、全体共用的节奏、这次爬取的计划
    MySQL   结果，一页一行

任务至少送达一次 (at least once)：工人死了，它手里的任务会再送给别人。所以每一步都做成多做一遍也
没关系：存页面靠主键，入队靠“没见过才入”。
"""

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Annotated

import aiomysql
import crawler
import settings
from redis.asyncio import Redis
from taskiq import AsyncBroker, BrokerMessage, Context, TaskiqDepends
from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker

PREFIX = "asyncio-tutorial:crawl"
QUEUE, SEEN, TURN, PLAN, CREW = (f"{PREFIX}:{name}" for name in "queue seen turn plan crew".split())
GROUP = "工人"
DATABASE = "asyncio_tutorial_crawl"
Stores = tuple[Redis, aiomysql.Pool]
PAGE_TABLE = """CREATE TABLE page (
    id CHAR(64) PRIMARY KEY, url TEXT, depth INT, status INT, title TEXT, error TEXT,
    links MEDIUMTEXT, worker VARCHAR(40), expanded BOOL NOT NULL DEFAULT FALSE
)"""  # id 是网址的 SHA-256：网址太长，当不了主键
STORE = (
    "INSERT INTO page (id, url, depth, status, title, error, links, worker) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON DUPLICATE KEY UPDATE id = id"
)


@dataclass(frozen=True)
class Plan:
    """一次爬取；写在 Redis 里，后来的工人不用别的参数。"""

    start: str
    depth: int = 5
    pages: int = 500
    delay: float = 0.2  # 全体合起来，两次请求的开头至少隔多少秒
    timeout: float = 10.0
    attempts: int = 3
    at_once: int = 4  # 每个工人同时几页
    idle: int = 30_000  # 毫秒；任务领走这么久还没做完，就再送给别人。要比最慢的一页长

    def options(self) -> crawler.Options:
        """给 crawler.visit：节奏归 Redis 管，它自己不用再等。"""
        return crawler.Options(
            depth=self.depth, workers=self.at_once, delay=0, timeout=self.timeout,
            attempts=self.attempts, backoff=0.05,
        )  # fmt: skip


# 没见过才登记，登记了就入队：写成一步，死在中间也不会丢掉网址，两个工人同时发现也只入一次
KICK_ONCE = """
if redis.call('scard', KEYS[1]) >= tonumber(ARGV[3]) then return end
if redis.call('sadd', KEYS[1], ARGV[1]) == 1 then
    redis.call('xadd', KEYS[2], '*', 'data', ARGV[2])
end
"""

# 占下一个出发的时刻，返回还要等几毫秒：Site._wait_for_turn 的那两行，放到大家共用的地方
TAKE_TURN = """
local clock = redis.call('time')
local now = clock[1] * 1000 + clock[2] / 1000
local turn = math.max(now, tonumber(redis.call('get', KEYS[1]) or '0'))
redis.call('set', KEYS[1], string.format('%.3f', turn + ARGV[1]), 'PX', 600000)
return math.ceil(turn - now)
"""


class OnceBroker(RedisStreamBroker):
    """taskiq 的经纪人 (broker)，只改一处：带 once 标签的任务，同一个标签只入队一次。"""

    limit = 0

    async def kick(self, message: BrokerMessage) -> None:
        if (once := message.labels.get("once")) is None:
            return await super().kick(message)
        async with Redis(connection_pool=self.connection_pool) as redis:
            await redis.eval(KICK_ONCE, 2, SEEN, QUEUE, once, message.message, self.limit)


def open_broker(plan: Plan, worker: str | None = None) -> OnceBroker:
    broker = OnceBroker(
        settings.redis_url(),
        queue_name=QUEUE,
        consumer_group_name=GROUP,
        consumer_name=worker,
        consumer_id="0",  # 默认 "$"：第一个工人来之前入队的任务，谁也收不到
        xread_block=200,  # 毫秒；要短于 socket_timeout
        xread_count=1,  # 默认一次领 100 个：活会堆在一个工人手里，他死了就都得等
        idle_timeout=plan.idle,
        socket_timeout=2,
    )
    broker.limit = plan.pages
    # 默认做完就签收，抛了异常也算做完，那一页就丢了；manual：我们说做完了才算
    broker.register_task(crawl_page, task_name="crawl_page", ack_type="manual")
    broker.register_task(knock, task_name="knock")
    return broker


async def knock() -> None:
    """什么也不做：taskiq-redis 收到新任务之后才去接手别人没做完的，所以要常有人敲门。"""


async def crawl_page(url: str, depth: int, context: Annotated[Context, TaskiqDepends()]) -> None:
    worker: Worker = context.state.worker
    worker.under_way.add(task := asyncio.current_task())
    try:
        await worker.crawl_page(url, depth)
        await context.ack()
    except Exception as error:  # taskiq 会把它记进日志就算了；交给工人，没签收的任务留给别人
        worker.stop(error)
    finally:
        worker.under_way.discard(task)


class Worker:
    def __init__(
        self, name: str, plan: Plan, redis: Redis, pool: aiomysql.Pool, site: crawler.Site
    ) -> None:
        self.name, self.plan, self.redis, self.pool, self.site = name, plan, redis, pool, site
        self.interval = max(plan.delay, site.delay) * 1000
        self.stored = 0
        self.finished = asyncio.Event()
        self.under_way: set[asyncio.Task] = set()  # taskiq 不取消自己开的任务：被取消时由我们来
        self.error: Exception | None = None
        self.broker = open_broker(plan, name)

    def stop(self, error: Exception | None = None) -> None:
        self.error = self.error or error
        self.finished.set()

    async def run(self) -> None:
        """接活，直到计划撤了；Redis 或 MySQL 断了就抛出它们的异常。"""
        self.broker.is_worker_process = True
        self.broker.state.worker = self
        await self.broker.startup()
        receiver = Receiver(self.broker, max_async_tasks=self.plan.at_once, run_startup=False)
        try:
            await self.redis.sadd(CREW, self.name)  # 到岗
            async with asyncio.TaskGroup() as group:
                group.create_task(self._leave_when_the_plan_is_gone())
                group.create_task(receiver.listen(self.finished)).add_done_callback(
                    lambda _: self.stop()
                )
        except Exception as error:
            self.stop(error)
        finally:
            for task in self.under_way:
                task.cancel()
            await asyncio.gather(*self.under_way, return_exceptions=True)
            await self.broker.shutdown()
        # 计划一撤，队列和库也跟着删了；那时读不到队列、存不进库，都不算出错
        if self.error and await self.redis.exists(PLAN):
            raise self.error
        await self.redis.srem(CREW, self.name)

    async def _leave_when_the_plan_is_gone(self) -> None:
        while not self.finished.is_set() and await self.redis.exists(PLAN):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self.finished.wait()
        self.stop()

    async def crawl_page(self, url: str, depth: int) -> None:
        """爬、存、发出链接。死在任何一步，再来一遍都一样。"""
        key = hashlib.sha256(url.encode()).hexdigest()
        rows = await ask(self.pool, "SELECT links, expanded FROM page WHERE id = %s", key)
        if not rows:
            await self._wait_for_turn()
            page = await self.site.fetch(url, depth)
            links = json.dumps(page.links)
            values = (key, url, depth, page.status, page.title, page.error, links, self.name)
            async with self.pool.acquire() as connection, connection.cursor() as cursor:
                await cursor.execute(STORE, values)
                self.stored += cursor.rowcount  # 0：别人抢先存了
            rows = [(links, False)]
        [(links, expanded)] = rows
        if not expanded:
            if depth < self.plan.depth:
                await self._kick(json.loads(links), depth + 1)
            await ask(self.pool, "UPDATE page SET expanded = TRUE WHERE id = %s", key)

    async def _kick(self, links: list[str], depth: int) -> None:
        links = [link for link in links if self.site.allows(link)]
        seen = await self.redis.smismember(SEEN, links) if links else []  # 多数早就见过：一问全知
        for link, known in zip(links, seen, strict=True):
            if not known:
                await kick_page(self.broker, link, depth)

    async def _wait_for_turn(self) -> None:
        if self.interval:
            await asyncio.sleep(await self.redis.eval(TAKE_TURN, 1, TURN, self.interval) / 1000)


async def kick_page(broker: AsyncBroker, url: str, depth: int) -> None:
    task = broker.find_task("crawl_page")
    await task.kicker().with_labels(once=url).kiq(url, depth)


async def ask(pool: aiomysql.Pool, sql: str, *values: object) -> list[tuple]:
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(sql, values)
        return list(await cursor.fetchall())


@contextlib.asynccontextmanager
async def open_stores(connections: int, database: str | None = DATABASE) -> AsyncIterator[Stores]:
    """Redis 和 MySQL；离开时都关好。"""
    redis = Redis.from_url(settings.redis_url(), decode_responses=True, socket_timeout=2)
    options = settings.mysql_options() | ({"db": database} if database else {})
    async with redis, aiomysql.create_pool(**options, maxsize=connections) as pool:
        yield redis, pool


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """taskiq 把被取消的任务也当作出错来记；按 Ctrl-C 的人知道。"""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


async def join(name: str) -> int | None:
    """当一名工人，直到这次爬取结束；返回存了几页，没有在爬的就是 None。"""
    logging.getLogger("taskiq").setLevel(logging.ERROR)
    logging.getLogger("taskiq.receiver.receiver").addFilter(_is_no_cancellation)
    redis = Redis.from_url(settings.redis_url(), decode_responses=True, socket_timeout=2)
    async with redis:
        written = await redis.get(PLAN)
    if written is None:
        return None
    plan = Plan(**json.loads(written))
    async with (
        open_stores(plan.at_once) as (redis, pool),
        crawler.visit(plan.start, plan.options()) as site,
    ):
        worker = Worker(name, plan, redis, pool, site)
        await worker.run()
    return worker.stored


async def publish(redis: Redis, plan: Plan) -> None:
    """写下计划：从这时起工人可以来，撤掉它工人就走。"""
    await redis.set(PLAN, json.dumps(asdict(plan)))
