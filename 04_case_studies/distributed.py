"""4.8 的工人：每台机器上跑的就是它。一页怎样爬在 crawler.py，这里只管怎样分。

    Redis   任务队列（taskiq 的 Redis Streams）、见过的网址、全体共用的节奏、谁在岗、这次爬取的计划
    MySQL   结果，一页一行

任务至少送达一次 (at least once)：工人 (worker) 死了，它手里的任务会再送给别人。所以每一步都做成
多做一遍也没关系，也就是幂等 (idempotent)：存页面靠主键，入队靠“没见过才入”。
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import aiomysql
import crawler
import settings
from own_database import in_time
from redis.asyncio import Redis
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, Context, TaskiqDepends
from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker

PREFIX = "asyncio-tutorial:crawl"
QUEUE, SEEN, TURN, PLAN, CREW = (f"{PREFIX}:{name}" for name in "queue seen turn plan crew".split())
GROUP = "工人"
PLAN_LIFE = 15  # 秒；主人没了，没人续，计划到期就撤了，工人也就下班
REDIS_TIMEOUT = 5  # 秒；一条命令等这么久还没有回答，就当 Redis 断了
MYSQL_TIMEOUT = 8  # 秒；MySQL 也一样，只是要比 clean_stores 等锁的 5 秒长
DATABASE = "asyncio_tutorial_crawl"
Stores = tuple[Redis, aiomysql.Pool]
PAGE_TABLE = """CREATE TABLE IF NOT EXISTS page (
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
    id: str = ""  # 一次一个；下一次爬取的计划别的都可能一样

    def options(self) -> crawler.Options:
        return crawler.Options(
            depth=self.depth, workers=self.at_once, delay=self.delay, timeout=self.timeout,
            attempts=self.attempts, backoff=0.05,
        )  # fmt: skip

    def text(self) -> str:
        return json.dumps(asdict(self))


# 没见过才登记，登记了就入队：写成一步，死在中间也不会丢掉网址，两个工人同时发现也只入一次
KICK_ONCE = """
if redis.call('scard', KEYS[1]) >= tonumber(ARGV[3]) then return end
if redis.call('sadd', KEYS[1], ARGV[1]) == 1 then
    redis.call('xadd', KEYS[2], '*', 'data', ARGV[2])
end
"""

# 占下一个出发的时刻，至少在 ARGV[2] 毫秒以后，返回还要等几毫秒；再下一个比它晚 ARGV[1] 毫秒。
# Site._wait_for_turn 的那两行，放到大家共用的地方；钟也用 Redis 的，各台机器的钟对不齐。
# 时刻一过，记着它也没用了：键到那时就过期
TAKE_TURN = """
local clock = redis.call('time')
local now = clock[1] * 1000 + clock[2] / 1000
local turn = math.max(now + ARGV[2], tonumber(redis.call('get', KEYS[1]) or '0'))
local next = turn + ARGV[1]
redis.call('set', KEYS[1], string.format('%.3f', next), 'PX', math.ceil(next - now) + 1)
return math.ceil(turn - now)
"""


class OnceBroker(RedisStreamBroker):
    """taskiq 的经纪人 (broker)，改两处：怎样入队，怎样接手别人没做完的。"""

    limit = 0

    async def kick(self, message: BrokerMessage) -> None:
        """带 once 标签的任务，同一个标签只入队一次。"""
        if (once := message.labels.get("once")) is None:
            return await super().kick(message)
        async with Redis(connection_pool=self.connection_pool) as redis:
            await redis.eval(KICK_ONCE, 2, SEEN, QUEUE, once, message.message, self.limit)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """先接手 (XAUTOCLAIM) 别人领走太久的，没有才要新的；都只要一个，活才不会堆在一个人手里。

        父类收到新任务之后才去接手，还先用脚本上一把锁：没有新任务，剩下的就没人做；正在装脚本时被
        取消，会丢下一条连接。XAUTOCLAIM 本来就是一步，接手过的重新计时，两个工人抢不到同一个。
        """
        async with Redis(connection_pool=self.connection_pool) as redis:
            while True:
                settings.stop_if_cancelled()  # taskiq 收工时取消它；redis 可能把取消吞了
                _, messages, *_ = await redis.xautoclaim(
                    QUEUE, GROUP, self.consumer_name, self.idle_timeout, count=1
                )
                if not messages:
                    streams = await redis.xreadgroup(
                        GROUP, self.consumer_name, {QUEUE: ">"}, count=1, block=self.block
                    )
                    messages = streams[0][1] if streams else []
                for id, fields in messages:
                    yield AckableMessage(data=fields[b"data"], ack=self._ack_generator(id, QUEUE))

    async def keep_the_plan(self) -> None:
        async with Redis(connection_pool=self.connection_pool) as redis:
            await redis.expire(PLAN, PLAN_LIFE)


def open_broker(plan: Plan, worker: str | None = None) -> OnceBroker:
    broker = OnceBroker(
        settings.redis_url(),
        queue_name=QUEUE,
        consumer_group_name=GROUP,
        consumer_name=worker,
        consumer_id="0",  # 默认 "$"：建消费组 (consumer group) 之前入队的任务，谁也收不到
        xread_block=200,  # 毫秒；要短于 socket_timeout
        idle_timeout=plan.idle,
        socket_timeout=REDIS_TIMEOUT,
    )
    broker.limit = plan.pages
    # 默认做完就签收，抛了异常也算做完，那一页就丢了；manual：我们说做完了才算
    broker.register_task(crawl_page, task_name="crawl_page", ack_type="manual")
    return broker


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


class SharedSite(crawler.Site):
    """节奏归 Redis 管的站点：谁的请求、第几次重试，都排同一个队；一个被请走，之后占号的都等。"""

    def __init__(self, site: crawler.Site, redis: Redis) -> None:
        super().__init__(site.session, site.home, site.options)
        self.redis, self.asked_to_pause = redis, 0.0

    async def _wait_for_turn(self) -> None:
        wait = await self.redis.eval(TAKE_TURN, 1, TURN, self.delay * 1000, 0)
        await asyncio.sleep(wait / 1000)

    def pause(self, seconds: float) -> None:
        self.asked_to_pause = max(self.asked_to_pause, seconds)

    async def _ask(self, *request: Any) -> crawler.Answer:
        answer = await super()._ask(*request)
        if seconds := self.asked_to_pause:  # 对方说了“过 N 秒再来”(Retry-After)
            self.asked_to_pause = 0.0
            await self.redis.eval(TAKE_TURN, 1, TURN, 0, seconds * 1000)
        return answer


@contextlib.asynccontextmanager
async def visit(plan: Plan, redis: Redis) -> AsyncIterator[SharedSite]:
    async with crawler.connect(plan.start, plan.options()) as plain:
        site = SharedSite(plain, redis)
        await site.read_robots()
        yield site


class Worker:
    def __init__(
        self, name: str, plan: Plan, redis: Redis, pool: aiomysql.Pool, site: crawler.Site
    ) -> None:
        self.name, self.plan, self.redis, self.pool, self.site = name, plan, redis, pool, site
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
        receiver = Receiver(self.broker, max_async_tasks=self.plan.at_once, run_startup=False)
        try:
            await self.broker.startup()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat_until_the_plan_is_gone())
                group.create_task(receiver.listen(self.finished)).add_done_callback(
                    lambda _: self.stop()
                )
        finally:
            for task in self.under_way:
                task.cancel()
            await asyncio.gather(*self.under_way, return_exceptions=True)
            await self.broker.shutdown()
            await self.redis.hdel(CREW, self.name)
        if self.error:
            raise self.error

    async def _beat_until_the_plan_is_gone(self) -> None:
        while not self.finished.is_set() and await is_on(self.redis, self.plan):
            await self.redis.hincrby(CREW, self.name, 1)  # 心跳 (heartbeat)，头一下就是到岗
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self.finished.wait()
        self.stop()

    async def crawl_page(self, url: str, depth: int) -> None:
        """爬、存、发出链接。死在任何一步，再来一遍都一样。"""
        key = hashlib.sha256(url.encode()).hexdigest()
        rows = await ask(self.pool, "SELECT links, expanded FROM page WHERE id = %s", key)
        if not rows:
            page = await self.site.fetch(url, depth)
            links = json.dumps(page.links)
            values = (key, url, depth, page.status, page.title, page.error, links, self.name)
            stored, _ = await execute(self.pool, STORE, *values)
            self.stored += stored  # 0：别人抢先存了
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


async def kick_page(broker: AsyncBroker, url: str, depth: int) -> None:
    task = broker.find_task("crawl_page")
    await task.kicker().with_labels(once=url).kiq(url, depth)


async def execute(pool: aiomysql.Pool, sql: str, *values: object) -> tuple[int, list[tuple]]:
    """改了几行、查到哪几行。断了线就再问一次：这里的每一句做两遍也一样。"""
    async with in_time(MYSQL_TIMEOUT):
        for last_try in (False, True):
            try:
                async with pool.acquire() as connection, connection.cursor() as cursor:
                    await cursor.execute(sql, values)
                    return cursor.rowcount, list(await cursor.fetchall())
            except aiomysql.OperationalError:
                if last_try:
                    raise


async def ask(pool: aiomysql.Pool, sql: str, *values: object) -> list[tuple]:
    return (await execute(pool, sql, *values))[1]


def open_redis() -> Redis:
    return Redis.from_url(settings.redis_url(), decode_responses=True, socket_timeout=REDIS_TIMEOUT)


@contextlib.asynccontextmanager
async def open_stores(connections: int, database: str | None = DATABASE) -> AsyncIterator[Stores]:
    """Redis 和 MySQL；离开时都关好。"""
    options = settings.mysql_options() | ({"db": database} if database else {})
    async with open_redis() as redis:
        async with in_time(MYSQL_TIMEOUT):
            pool = await aiomysql.create_pool(**options, maxsize=connections)
        async with pool:
            yield redis, pool


async def only_one(admin: aiomysql.Pool, lock: str) -> None:
    """这把锁跟着 admin 的连接走：连接断了就开，kill -9 也留不下它；等 5 秒，是等死者断线。"""
    if await ask(admin, "SELECT GET_LOCK(%s, 5)", lock) != [(1,)]:
        raise crawler.CannotCrawl("另一个终端正在跑 4.8：等它跑完再来（想去帮忙，用 --join）")


@contextlib.asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """从头到尾只许一份：不然两次爬取之间，后来的会插进来，先来的跑到一半被请走。"""
    async with open_stores(1, database=None) as (_, admin):
        await only_one(admin, f"{DATABASE}_lesson")
        yield


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """taskiq 把被取消的任务也当作出错来记；按 Ctrl-C 的人知道。"""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


async def join(name: str) -> int | None:
    """当一名工人，直到这次爬取结束；返回存了几页，没有在爬的就是 None。"""
    logging.getLogger("taskiq").setLevel(logging.ERROR)
    logging.getLogger("taskiq.receiver.receiver").addFilter(_is_no_cancellation)
    worker = None
    async with open_redis() as redis:
        if (written := await redis.get(PLAN)) is None:
            return None
        plan = Plan(**json.loads(written))
        try:
            async with open_stores(plan.at_once) as stores, visit(plan, redis) as site:
                worker = Worker(name, plan, *stores, site)
                await worker.run()
        except Exception:
            # 计划一撤，队列、库、站点也跟着没了；那时读不到、存不进，都不算出错
            if await is_on(redis, plan):
                raise
    return worker.stored if worker else 0


async def publish(redis: Redis, plan: Plan) -> None:
    """写下计划：从这时起工人可以来，撤掉它工人就走。头一次长些：工人起床要时间。"""
    await redis.set(PLAN, plan.text(), ex=4 * PLAN_LIFE)


async def is_on(redis: Redis, plan: Plan) -> bool:
    return await redis.get(PLAN) == plan.text()


async def anybody_at_work(redis: Redis) -> bool:
    """还有人的心跳数在变吗？看变没变，不看几点几分：各台机器的钟对不齐。"""
    before = await redis.hgetall(CREW)
    await asyncio.sleep(3)
    return await redis.hgetall(CREW) != before


async def or_say_why_not(work: Callable[[], Awaitable[None]]) -> None:
    """做 work；爬不成 (CannotCrawl) 就只说一句为什么，退出码 2。"""
    problem = None
    try:
        await work()
    except* crawler.CannotCrawl as group:
        problem = next(settings.leaves(group))
    if problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
