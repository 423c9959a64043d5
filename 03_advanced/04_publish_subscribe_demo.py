"""3.4 发布与订阅：谁订谁得；跟不上的人怎么办，要先说好

视频：视频之外
运行：python 03_advanced/04_publish_subscribe_demo.py
观看：python tutorial.py trace 3.4（一步步看谁在跑、谁在等）
需要：Redis（docker compose up -d，或 python tutorial.py services，或环境变量 REDIS_URL）

先猜后跑
    第 2 节里，渔船的信箱只放得下 2 份，船员吃饭去了，气象台一口气发 6 份。
    四种办法里，船员回来各读到哪几份？哪一种会连累一直在读的港口？

预期输出
    ── 1. 气象台只说主题，谁订谁得一份 ──
    渔船（coast/*）: ['东北风 7 级', '小雨']；农户（*/rain）: ['小雨', '大雨']
    风、海边的雨、山里的雨、雾，各有几人听: [1, 2, 1, 0]
    ── 2. 慢的人信箱满了：等他、丢、断开，总得选一种 ──
    等他: 港口当时读到 2 份，渔船读到 ['1', '2', '3', '4', '5', '6']，发布用了 ≈0.05 秒
    丢最旧: 港口当时读到 6 份，渔船读到 ['5', '6']，发布用了 ≈0.00 秒
    丢最新: 港口当时读到 6 份，渔船读到 ['1', '2']，发布用了 ≈0.00 秒
    断开: 港口当时读到 6 份，渔船读到 ['1', '2', '断了']，发布用了 ≈0.00 秒
    ── 3. 离开 async with 就退订，等他的人也松了手 ──
    渔船: 读了 1，不读了；气象台卡住了 True
    渔船: 退订，名单上还有 0 人
    气象台: 发完了，五份发出时各有几人订 [1, 1, 1, 0, 0]
    ── 4. 换成 Redis：同一段代码，听的人可以在别的进程 ──
    渔船（coast/*）: ['东北风 7 级', '小雨']；农户（*/rain）: ['小雨', '大雨']
    风、海边的雨、山里的雨、雾，各有几人听: [1, 2, 1, 0]
    ── 5. Redis 的广播不留底：发的时候没订，就永远没有了 ──
    1 号没人订: 0 人听；2 号订上了: 1 人听
    渔船退订，错过 3 号，再订；一共听到: ['2 号', '4 号']（要留底：Stream，见 4.5）

动手试试
    1. 第 2 节把 capacity 改成 6：四种办法还有区别吗？订的先后对调（港口在前）呢？
    2. 第 2 节如果渔船永远不回来，“等他”的气象台会怎样？给 put 套一个 asyncio.timeout 试试。
    3. 把 RedisBroker 里等确认的那一句删掉：第 4、5 节里，渔船听到的第一件是什么？（确认也是
       一条消息。）订和发走的是两条连接：发的若先到，会怎样？
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase

from redis.asyncio import Redis, RedisError

POLICIES = {"block": "等他", "drop_oldest": "丢最旧", "drop_newest": "丢最新", "disconnect": "断开"}
PREFIX = f"asyncio-tutorial:weather-{secrets.token_hex(4)}:"
ADDRESS = "redis://127.0.0.1:6379/0"
WAYS_OUT = f"""三条出路：docker compose up -d；或另开一个终端 python tutorial.py services；
或用环境变量 REDIS_URL 指到你自己的 Redis，例如 {ADDRESS}"""


class Broker:
    """进程内的代理 (broker)：都在一个线程里，名单和信箱不用锁。"""

    def __init__(self) -> None:
        self.boxes: dict[asyncio.Queue[str], tuple[str, str]] = {}

    async def publish(self, topic: str, report: str) -> int:
        fits = [box for box, (pattern, _) in self.boxes.items() if fnmatchcase(topic, pattern)]
        for box in fits:  # 挨个送：要等前面的人 (block)，后面的人就跟着等
            if box in self.boxes:
                await self._deliver(box, report)
        return len(fits)

    async def _deliver(self, box: asyncio.Queue[str], report: str) -> None:
        when_full = self.boxes[box][1]
        if box.full() and when_full == "drop_oldest":
            box.get_nowait()
        if when_full == "block":
            await box.put(report)  # 有空位就不让路，满了才等在这里
            if box not in self.boxes:  # 等的时候他退订了：拿回来，好叫醒下一个等他的人
                box.get_nowait()
        elif not box.full():
            box.put_nowait(report)
        elif when_full == "disconnect":
            del self.boxes[box]

    @asynccontextmanager
    async def subscribe(self, pattern: str, when_full: str = "block", capacity: int = 2):
        box: asyncio.Queue[str] = asyncio.Queue(capacity)  # 有界：他不读，也吃不光内存
        self.boxes[box] = pattern, when_full

        async def reports() -> AsyncIterator[str]:
            while box in self.boxes or not box.empty():
                yield await box.get()

        try:
            yield reports()
        finally:
            self.boxes.pop(box, None)
            while not box.empty():
                box.get_nowait()


class RedisBroker:
    """同样的 publish 和 subscribe，通配符 (glob) * 和 ? 的写法也一样。"""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def publish(self, topic: str, report: str) -> int:
        return await self._client.publish(PREFIX + topic, report)

    @asynccontextmanager
    async def subscribe(self, pattern: str):
        async with self._client.pubsub() as radio:  # 独占一条连接
            await radio.psubscribe(PREFIX + pattern)
            await radio.get_message(timeout=None)  # 上一句只是发出；收到确认，才算订上
            yield (message["data"] async for message in radio.listen())


async def topics_choose_who_hears(broker: Broker | RedisBroker) -> tuple[list[int], list]:
    async with broker.subscribe("coast/*") as boat, broker.subscribe("*/rain") as farm:
        reports = [("coast/wind", "东北风 7 级"), ("coast/rain", "小雨")]
        reports += [("hill/rain", "大雨"), ("hill/fog", "有雾")]
        hearers = [await broker.publish(topic, report) for topic, report in reports]
        heard = [[await anext(boat), await anext(boat)], [await anext(farm), await anext(farm)]]
    print(f"渔船（coast/*）: {heard[0]}；农户（*/rain）: {heard[1]}")
    print(f"风、海边的雨、山里的雨、雾，各有几人听: {hearers}")
    return hearers, heard


async def publish_numbers(broker: Broker, count: int) -> tuple[list[int], float]:
    started, hearers = time.perf_counter(), []
    for number in range(1, count + 1):
        hearers.append(await broker.publish("coast/wind", str(number)))
        await asyncio.sleep(0)  # 没有这一句，一直在读的人也没机会读
    return hearers, time.perf_counter() - started


async def read_into(heard: list[str], reports: AsyncIterator[str]) -> None:
    async for report in reports:
        heard.append(report)


async def settle() -> None:
    for _ in range(50):  # 等人人都把能做的做完。数轮数，不数秒：机器停一下，谁也不少轮到
        await asyncio.sleep(0)


async def choose_when_full(broker: Broker) -> dict[str, tuple[int, list[str]]]:
    outcome = {}
    for when_full, label in POLICIES.items():
        at_port, on_boat = [], []
        async with (
            broker.subscribe("coast/*", when_full) as boat,
            broker.subscribe("coast/*", when_full) as port,
            asyncio.TaskGroup() as group,
        ):
            publishing = group.create_task(publish_numbers(broker, 6))
            reading = group.create_task(read_into(at_port, port))
            await asyncio.gather(asyncio.sleep(0.05), settle())  # 船员在吃饭
            early = len(at_port)
            catching_up = group.create_task(read_into(on_boat, boat))
            await settle()
            on_boat += [] if catching_up.cancel() else ["断了"]  # 取消不着：async for 自己结束了
            reading.cancel()
        outcome[label], (_, spent) = (early, on_boat), publishing.result()
        print(f"{label}: 港口当时读到 {early} 份，渔船读到 {on_boat}，发布用了 ≈{spent:.2f} 秒")
    return outcome


async def leaving_unsubscribes(broker: Broker) -> list[int]:
    async with asyncio.TaskGroup() as group:
        async with broker.subscribe("coast/*", capacity=1) as reports:
            publishing = group.create_task(publish_numbers(broker, 5))
            read = await anext(reports)
            await settle()
            print(f"渔船: 读了 {read}，不读了；气象台卡住了 {not publishing.done()}")
        print(f"渔船: 退订，名单上还有 {len(broker.boxes)} 人")
    print(f"气象台: 发完了，五份发出时各有几人订 {publishing.result()[0]}")
    return publishing.result()[0]


async def redis_keeps_nothing(broker: RedisBroker) -> tuple[list[int], list[str]]:
    hearers, heard = [await broker.publish("coast/wind", "1 号")], []
    for report in ("2 号", "4 号"):
        async with broker.subscribe("coast/*") as reports:
            hearers.append(await broker.publish("coast/wind", report))
            heard.append(await anext(reports))
        await broker.publish("coast/wind", "3 号、5 号都在退订以后")
    print(f"1 号没人订: {hearers[0]} 人听；2 号订上了: {hearers[1]} 人听")
    print(f"渔船退订，错过 3 号，再订；一共听到: {heard}（要留底：Stream，见 4.5）")
    return hearers, heard


async def main() -> None:
    try:
        client = Redis.from_url(os.environ.get("REDIS_URL") or ADDRESS, decode_responses=True)
    except (ValueError, TypeError) as error:
        raise RedisError(f"REDIS_URL 不是能用的地址（{error}）") from error
    async with client:
        await client.ping()
        redis = RedisBroker(client)
        for title, section, broker in (
            ("1. 气象台只说主题，谁订谁得一份", topics_choose_who_hears, Broker()),
            ("2. 慢的人信箱满了：等他、丢、断开，总得选一种", choose_when_full, Broker()),
            ("3. 离开 async with 就退订，等他的人也松了手", leaving_unsubscribes, Broker()),
            ("4. 换成 Redis：同一段代码，听的人可以在别的进程", topics_choose_who_hears, redis),
            ("5. Redis 的广播不留底：发的时候没订，就永远没有了", redis_keeps_nothing, redis),
        ):
            print(f"── {title} ──")
            await section(broker)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except RedisError as error:  # 没开、中途断了、密码不对、地址写错
        print(f"连不上 Redis：{error}", WAYS_OUT, sep="\n", file=sys.stderr)
        sys.exit(2)
