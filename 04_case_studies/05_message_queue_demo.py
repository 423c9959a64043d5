"""4.5 消息队列：Redis Streams，一单不丢，一碗不多

视频：视频之外
运行：python 04_case_studies/05_message_queue_demo.py
观看：python tutorial.py trace 4.5（一步步看谁在跑、谁在等）
需要：Redis（没有就先 docker compose up -d，或 python tutorial.py services）

先猜后跑
    第 3 节，厨师端出面就倒下，还没来得及划单 (XACK)。别人接手这一单之后，
    客人会收到几碗面？

预期输出
    ── 1. 消费组 (consumer group)：一单只发给一位厨师，划掉才算完 ──
    阿强、小美一共领到 6 单，重复的 0 单
    划掉 5 单，名下还欠 1 单；队伍里仍有 6 单：划掉不等于删除
    ── 2. 厨师被 kill -9，单子还在他名下，闲置够久就换人做 ──
    阿强（另一个进程）领走 3 单，然后被 SIGKILL
    他名下欠 3 单，新单子 0 单：光等新单子，这 3 单永远没人做
    要闲置满 1 分钟才接手: 接到 0 单（太短会抢走活人手里的，太长客人饿着）
    闲置满 0.2 秒就接手: 小美接到 3 单，做完，还欠 0 单
    ── 3. 至少一次 (at least once)，就可能两次：让多做一次也没关系 ──
    端面: 半路倒下一次，客人收到 2 碗
    端面和记账一步做完，记过账的不再端: 半路倒下一次，客人收到 1 碗
    ── 4. 做几次都不成的，移进死信 (dead letter)，别堵住后面的 ──
    第 1 次: 没有外星拉面
    第 2 次: 没有外星拉面
    第 3 次: 没有外星拉面
    死信: ['外星拉面']，还欠 0 单
    ── 5. 裁短队伍，别裁掉没做完的 ──
    XTRIM MAXLEN 2: 队伍从 6 单剩 2 单，欠着的 4 单里 2 单内容没了
    XTRIM MINID 最早的欠单: 队伍从 6 单剩 4 单，欠着的 4 单里 0 单内容没了
    ── 6. 合起来：三位厨师，一位中途被杀，单单有下落 ──
    200 单: 上菜 198，死信 2，丢失 0，多上 0，还欠 0
    阿强被杀时名下 5 单，别人做完 5 单

动手试试
    1. 把 IDLE 改成 0，第 6 节里两位厨师会同时做一单。客人会多收到面吗？cook_one 里再换成
       serve_carelessly 呢？
    2. 还是 IDLE = 0，cook_one 里改成先 sismember，没登记过才 hincrby、sadd，三句 Python，不用 Lua。
       还是一单一碗吗？
    3. 第 3 节在 serve(place, id) 前面就 cross_off(id)：小美还接得到这一单吗？（报的错就是答案）
"""

import argparse
import asyncio
import contextlib
import secrets
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from functools import partial

import settings
from redis.asyncio import Redis
from redis.exceptions import ResponseError

GROUP = "厨房"
IDLE = 200  # 毫秒；真的厨房里，它要比最慢的一碗面还长，否则会抢走活人手里的单子
MAX_TRIES = 3


class Kitchen:
    """一家面馆：单子排在 stream 里，厨师们是一个消费组。

    生产里不必自己写这些：taskiq、FastStream 都建在同样的命令上（见 4.8）。
    """

    def __init__(self, redis: Redis, name: str) -> None:
        self.redis = redis
        self.name = name
        self.orders, self.dead = f"{name}:orders", f"{name}:dead"
        self.served, self.bowls = f"{name}:served", f"{name}:bowls"
        self.cursor = "0-0"  # 欠单看到了哪里：一次看不完，下一次接着看

    async def open(self) -> None:
        # id="0"：建组之前就排着的单子也要做；mkstream：还没有单子也能先开门
        await self.redis.xgroup_create(self.orders, GROUP, id="0", mkstream=True)

    async def take(self, cook: str, count: int = 1, wait: int | None = None) -> list:
        """领新单子，最多等 wait 毫秒；它要短于 socket_timeout，否则等单会被当成断线。"""
        reply = await self.redis.xreadgroup(GROUP, cook, {self.orders: ">"}, count, wait)
        return reply[0][1] if reply else []

    async def take_over(self, cook: str, count: int = 10, idle: int = IDLE) -> list:
        """接手 (XAUTOCLAIM) 闲置满 idle 毫秒的单子，不管原来是谁的。"""
        self.cursor, orders, *_ = await self.redis.xautoclaim(
            self.orders, GROUP, cook, min_idle_time=idle, start_id=self.cursor, count=count
        )
        return orders

    async def cross_off(self, *ids: str) -> None:
        """签收 (ack)。"""
        await self.redis.xack(self.orders, GROUP, *ids)

    async def owed(self) -> int:
        return (await self.redis.xpending(self.orders, GROUP))["pending"]

    async def trim(self) -> None:
        """裁掉做完的：比最早的欠单还早的；一单不欠，就是比最后发出去的还早的。"""
        [group] = await self.redis.xinfo_groups(self.orders)  # 先看它，不然刚领走的会当成做完的
        owed = await self.redis.xpending(self.orders, GROUP)
        oldest = owed["min"] or group["last-delivered-id"]
        await self.redis.xtrim(self.orders, minid=oldest, approximate=False)


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[Redis]:
    options = {"decode_responses": True, "socket_timeout": 5}
    async with Redis.from_url(settings.redis_url(), **options) as redis:
        yield redis


async def sweep(redis: Redis) -> None:
    """删掉被强杀的那几次留下的键：一分钟没人碰过的。"""
    with contextlib.suppress(ResponseError):  # 按 LFU 淘汰的 Redis 不记多久没人碰
        async for key in redis.scan_iter("asyncio-tutorial:noodles-*", count=1000):
            if (await redis.object("idletime", key) or 0) > 60:
                await redis.unlink(key)


@contextlib.asynccontextmanager
async def kitchen(redis: Redis, *dishes: str) -> AsyncIterator[Kitchen]:
    """开一家新面馆，单子已经排好；离开时键都删掉。"""
    place = Kitchen(redis, f"asyncio-tutorial:noodles-{secrets.token_hex(4)}")
    try:
        await place.open()
        async with redis.pipeline(transaction=False) as pipe:
            for dish in dishes:
                pipe.xadd(place.orders, {"dish": dish})
            await pipe.execute()
        yield place
    finally:
        await redis.unlink(place.orders, place.dead, place.served, place.bowls)


@contextlib.asynccontextmanager
async def another_process(place: Kitchen, cook: str, count: int) -> AsyncIterator[Process]:
    """在另一个进程里领 count 单，领到手就不动了；离开时 SIGKILL：没有 finally，没有遗言。"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--hold", place.name, cook, str(count)),
        stdin=asyncio.subprocess.PIPE,  # 我们若先死，它读到结尾，也就走了
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # Redis 断了我们自己会说，不必说两遍
        start_new_session=True,  # Ctrl-C 只给我们，由我们杀它
    )
    try:
        if not await process.stdout.readline():
            await process.wait()
            await place.redis.ping()  # 多半是 Redis 没了，那就让这一句去说
            raise RuntimeError("另一个进程没有领到单子")
        yield process
    finally:
        if process.returncode is None:  # 没领到单子的那个，自己已经走了
            process.kill()
        await process.wait()


async def hold_orders(name: str, cook: str, count: str) -> None:
    """另一个进程里的厨师。"""
    async with connect() as redis:
        await Kitchen(redis, name).take(cook, int(count))
        print("领到了", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def give_each_order_to_one_cook(redis: Redis) -> tuple[int, int, int, int]:
    dishes = ["牛肉面", "素面", "炸酱面", "刀削面", "担担面", "阳春面"]
    async with kitchen(redis, *dishes) as place:
        both = await asyncio.gather(place.take("阿强", count=3), place.take("小美", count=3))
        ids = [id for taken in both for id, _ in taken]
        print(f"阿强、小美一共领到 {len(ids)} 单，重复的 {len(ids) - len(set(ids))} 单")
        await place.cross_off(*ids[:5])
        owed, length = await place.owed(), await redis.xlen(place.orders)
        print(f"划掉 5 单，名下还欠 {owed} 单；队伍里仍有 {length} 单：划掉不等于删除")
    return len(ids), len(set(ids)), owed, length


async def take_over_from_the_dead(redis: Redis) -> tuple[int, int, int, int, int]:
    async with kitchen(redis, "牛肉面", "素面", "炸酱面") as place:
        async with another_process(place, "阿强", 3):
            pass  # 他领到 3 单；离开 async with，他就被杀了
        print("阿强（另一个进程）领走 3 单，然后被 SIGKILL")
        owed, fresh = await place.owed(), len(await place.take("小美", count=10))
        print(f"他名下欠 {owed} 单，新单子 {fresh} 单：光等新单子，这 3 单永远没人做")
        early = await place.take_over("小美", idle=60_000)
        print(f"要闲置满 1 分钟才接手: 接到 {len(early)} 单（太短会抢走活人手里的，太长客人饿着）")
        await asyncio.sleep(IDLE / 1000)
        later = await place.take_over("小美")
        await place.cross_off(*(id for id, _ in later))
        left = await place.owed()
        print(f"闲置满 0.2 秒就接手: 小美接到 {len(later)} 单，做完，还欠 {left} 单")
    return owed, fresh, len(early), len(later), left


async def serve_carelessly(place: Kitchen, id: str) -> None:
    await place.redis.hincrby(place.bowls, id, 1)


# 端面（计数）和记账（登记单号）写在一个 Lua 脚本里：要么都做了，要么都没做
SERVE_ONCE = """
if redis.call('sadd', KEYS[1], ARGV[1]) == 1 then redis.call('hincrby', KEYS[2], ARGV[1], 1) end
"""


async def serve_once(place: Kitchen, id: str) -> None:
    """幂等 (idempotent)：做几次，都和做一次一样。"""
    await place.redis.eval(SERVE_ONCE, 2, place.served, place.bowls, id)


async def do_it_twice(redis: Redis) -> list[int]:
    """划单在端面之前，倒下就丢一碗；在端面之后，倒下就多一碗。选后者，再让多做不要紧。"""
    bowls = []
    for title, serve in {
        "端面": serve_carelessly,
        "端面和记账一步做完，记过账的不再端": serve_once,
    }.items():
        async with kitchen(redis, "牛肉面") as place:
            [(id, _)] = await place.take("阿强")
            await serve(place, id)  # 阿强在这一行之后倒下，没有划单
            [(id, _)] = await place.take_over("小美", idle=0)
            await serve(place, id)
            await place.cross_off(id)
            bowls.append(int(await redis.hget(place.bowls, id)))
        print(f"{title}: 半路倒下一次，客人收到 {bowls[-1]} 碗")
    return bowls


# 谁划掉的谁才移进死信：两位厨师同时放弃同一单，也只移一次
BURY = """
if redis.call('xack', KEYS[1], ARGV[1], ARGV[2]) == 1 then
    redis.call('xadd', KEYS[2], '*', 'id', ARGV[2], 'dish', ARGV[3])
end
"""


async def cook_one(place: Kitchen, id: str, dish: str) -> None:
    if "外星" in dish:
        raise LookupError(f"没有{dish}")
    await serve_once(place, id)
    await place.cross_off(id)


async def try_one(place: Kitchen, id: str, dish: str) -> str | None:
    """做一单；做不成就返回原因，第 MAX_TRIES 次做不成就移进死信。"""
    # 发过几次由 Redis 记着：厨师换人、重启，都不会从头数
    owed = await place.redis.xpending_range(place.orders, GROUP, id, id, 1)
    tries = owed[0]["times_delivered"] if owed else 0
    try:
        if tries > 2 * MAX_TRIES:  # 谁做谁倒下，没有一个来得及说做不成：那就别再做
            raise LookupError(f"做{dish}的都倒下了")
        await cook_one(place, id, dish)
    except LookupError as error:
        if tries >= MAX_TRIES:
            await place.redis.eval(BURY, 2, place.orders, place.dead, GROUP, id, dish)
        return str(error)


async def bury_what_never_works(redis: Redis) -> tuple[list[str], list[str], int]:
    reasons = []
    async with kitchen(redis, "外星拉面") as place:
        taken = await place.take("阿强")
        while taken:
            [(id, order)] = taken
            reasons.append(await try_one(place, id, order["dish"]))
            print(f"第 {len(reasons)} 次: {reasons[-1]}")
            taken = await place.take_over("小美", idle=0)
        dead = [order["dish"] for _, order in await redis.xrange(place.dead)]
        owed = await place.owed()
    print(f"死信: {dead}，还欠 {owed} 单")
    return reasons, dead, owed


async def trim_what_is_done(redis: Redis) -> list[tuple[int, int]]:
    seen = []
    for title, trim in {
        "XTRIM MAXLEN 2": lambda place: redis.xtrim(place.orders, 2, approximate=False),
        "XTRIM MINID 最早的欠单": Kitchen.trim,
    }.items():
        async with kitchen(redis, *["牛肉面"] * 6) as place:
            ids = [id for id, _ in await place.take("阿强", count=6)]
            await place.cross_off(*ids[:2])
            await trim(place)
            left = {id for id, _ in await redis.xrange(place.orders)}
        seen.append((len(left), len(set(ids[2:]) - left)))
        print(f"{title}: 队伍从 6 单剩 {len(left)} 单，欠着的 4 单里 {seen[-1][1]} 单内容没了")
    return seen


async def work(place: Kitchen, cook: str, orders: int) -> None:
    """厨师的一天：接手闲置的，领新的，直到单单有下落。"""
    redis = place.redis
    while await redis.hlen(place.bowls) + await redis.xlen(place.dead) < orders:
        settings.stop_if_cancelled()
        # 一次一单：领在手里排队的也在闲置，会被当成没人做的抢走
        for id, order in await place.take_over(cook, 1) or await place.take(cook, wait=20):
            await try_one(place, id, order["dish"])


async def account_for_every_order(redis: Redis) -> dict[str, int]:
    dishes = ["外星拉面" if number in (50, 150) else "牛肉面" for number in range(200)]
    async with kitchen(redis, *dishes) as place:
        async with another_process(place, "阿强", 5):
            held = await redis.xpending_range(place.orders, GROUP, "-", "+", 99, "阿强")
        async with asyncio.TaskGroup() as group:
            for cook in ("小美", "老李"):
                group.create_task(work(place, cook, len(dishes)))
        bowls = {id: int(count) for id, count in (await redis.hgetall(place.bowls)).items()}
        dead, owed = await redis.xlen(place.dead), await place.owed()
    lost, extra = len(dishes) - len(bowls) - dead, sum(bowls.values()) - len(bowls)
    ended = {"上菜": len(bowls), "死信": dead, "丢失": lost, "多上": extra, "还欠": owed}
    print(f"{len(dishes)} 单:", "，".join(f"{what} {count}" for what, count in ended.items()))
    inherited = sum(detail["message_id"] in bowls for detail in held)
    print(f"阿强被杀时名下 {len(held)} 单，别人做完 {inherited} 单")
    return ended | {"接手": inherited}


SECTIONS = {
    "1. 消费组 (consumer group)：一单只发给一位厨师，划掉才算完": give_each_order_to_one_cook,
    "2. 厨师被 kill -9，单子还在他名下，闲置够久就换人做": take_over_from_the_dead,
    "3. 至少一次 (at least once)，就可能两次：让多做一次也没关系": do_it_twice,
    "4. 做几次都不成的，移进死信 (dead letter)，别堵住后面的": bury_what_never_works,
    "5. 裁短队伍，别裁掉没做完的": trim_what_is_done,
    "6. 合起来：三位厨师，一位中途被杀，单单有下落": account_for_every_order,
}


async def main() -> None:
    async with connect() as redis:
        await sweep(redis)
        for title, section in SECTIONS.items():
            print(f"── {title} ──")
            await section(redis)
            settings.stop_if_cancelled()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    # 第 2、6 节的另一个进程：领几单，然后不动
    parser.add_argument("--hold", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings.run(partial(hold_orders, *arguments.hold) if arguments.hold else main)
