"""3.11 网络 I/O 调优：少等几个来回，少做几次系统调用

视频：视频之外
运行：python 03_advanced/11_network_io_tuning_demo.py
观看：python tutorial.py trace 3.11（一步步看谁在跑、谁在等）

先猜后跑
    第 4 节里，对方走开 0.05 秒，我方一口气 write 了 16 MiB，没有 await drain()。
    write 会等吗？这些字节在哪里？加上 drain()，我方的缓冲最多占多少？

预期输出
    ── 1. 不挂断省下一个来回；多开线路，来回重叠 ──
    每句重拨: 每秒 ≈327 句
    1 条线路不挂断: 每秒 ≈746 句
    4 条线路不挂断: 每秒 ≈2,611 句
    16 条线路不挂断: 每秒 ≈9,903 句
    64 条线路不挂断: 每秒 ≈20,608 句
    ── 2. 流水线 (pipelining)：一口气问 100 句，只等一个来回 ──
    4 条线路，100 次 write: 每秒 ≈120,835 句
    4 条线路，攒成 1 次 write: 每秒 ≈196,993 句
    ── 3. streams 方便，Protocol 省 CPU ──
    4 条线路，1 次 write，Protocol: 每秒 ≈269,060 句
    ── 4. 不 drain，对方没收的都堆在自己的内存里 ──
    不 drain: 缓冲最多 ≈12,565 KiB，对方收到 16384 KiB
    await drain(): 缓冲最多 ≈85 KiB，对方收到 16384 KiB
    ── 5. 一句话分两次 write，关掉 TCP_NODELAY 就可能白等 ──
    asyncio 打开了 TCP_NODELAY: True
    TCP_NODELAY，两次 write: 一问一答 ≈1.2 毫秒
    Nagle，两次 write: 一问一答 ≈44.8 毫秒
    Nagle，一次 write: 一问一答 ≈1.2 毫秒
    ── 6. 梯子：从最慢到最快 ──
    每句重拨: ≈327 句，是第一级的 ≈1.0 倍
    1 条线路不挂断: ≈746 句，是第一级的 ≈2.3 倍
    4 条线路不挂断: ≈2,611 句，是第一级的 ≈8.0 倍
    16 条线路不挂断: ≈9,903 句，是第一级的 ≈30.3 倍
    64 条线路不挂断: ≈20,608 句，是第一级的 ≈63.1 倍
    4 条线路，100 次 write: ≈120,835 句，是第一级的 ≈370.0 倍
    4 条线路，攒成 1 次 write: ≈196,993 句，是第一级的 ≈603.2 倍
    4 条线路，1 次 write，Protocol: ≈269,060 句，是第一级的 ≈823.9 倍

动手试试
    1. 把 DISTANCE 改成 0.02（隔着一个省），再改成 0（同一台机器）：梯子的哪几级拉开了，
       哪几级靠拢了？远的时候省来回，近的时候省什么？
    2. 第 2 节把 100 改成 10、1000：每秒的句数还按比例涨吗？涨到哪里为止？
    3. 第 4 节连接之后加一句 writer.transport.set_write_buffer_limits(high=1 << 20)，
       缓冲最多占多少？drain() 等的次数变多还是变少？
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial

DISTANCE = 0.001  # 秒，一个来回。本机的网络太近，显不出“等”，鱼市就晚这么久才答
SECONDS = 0.12  # 每一级量多久。按时间量，不按次数量：慢机器上也准时结束
FISH = b"bass\n"
LADDER: dict[str, float] = {}  # 每一级：每秒问几句


class Market(asyncio.Protocol):
    """鱼市：接通时先打招呼（许多数据库也这样），然后一行鱼名答一行价钱，今天样样 23 元。"""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.answer = partial(asyncio.get_running_loop().call_later, DISTANCE, transport.write)
        self.answer(b"fish market\n")

    def data_received(self, data: bytes) -> None:
        self.answer(b"23\n" * data.count(b"\n"))  # TCP 没有“句”：可能到半句，也可能到一百句


@asynccontextmanager
async def dial(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.readline()  # 等对方“喂”一声
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def measure(label: str, *asks: Callable[[], Awaitable[int]]) -> None:
    """每条线路一个任务，不停地问；ask() 返回这一趟问了几句。"""

    async def keep_asking(ask: Callable[[], Awaitable[int]]) -> int:
        answered = await ask()  # 先问一句再看表：机器停一下，也不会一句没问
        while time.perf_counter() - started < SECONDS:
            answered += await ask()
        return answered

    started = time.perf_counter()
    answered = sum(await asyncio.gather(*[keep_asking(ask) for ask in asks]))
    LADDER[label] = answered / (time.perf_counter() - started)
    print(f"{label}: 每秒 ≈{LADDER[label]:,.0f} 句")


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *words: bytes) -> int:
    for word in words:
        writer.write(word)  # 缓冲是空的就当场 send：一次 write，一次系统调用 (system call)
    return len([await reader.readline() for _ in range(b"".join(words).count(b"\n"))])


async def hold_the_lines(port: int) -> None:
    """连接池 (connection pool) 的大小，就是同时有几个来回在路上；每条线路，对方也要付一份。"""

    async def redial() -> int:
        async with dial(port) as line:
            return await ask(*line, FISH)

    await measure("每句重拨", redial)
    async with AsyncExitStack() as pool:
        asks = [partial(ask, *await pool.enter_async_context(dial(port)), FISH) for _ in range(64)]
        for size in (1, 4, 16, 64):
            await measure(f"{size} 条线路不挂断", *asks[:size])


async def pipeline_the_questions(port: int) -> None:
    """不等上一句的答案就问下一句。TCP 只管字节不乱，先问先答要协议约定：Redis、HTTP/1.1 都是。"""
    async with AsyncExitStack() as pool:
        lines = [await pool.enter_async_context(dial(port)) for _ in range(4)]
        for way, words in (("100 次 write", [FISH] * 100), ("攒成 1 次 write", [FISH * 100])):
            await measure(f"4 条线路，{way}", *[partial(ask, *line, *words) for line in lines])


class Caller(asyncio.Protocol):
    """字节一到，循环就调用 data_received：没有 StreamReader，也不必每一行 await 一次。"""

    def __init__(self) -> None:
        self.missing, self.complete = 1, asyncio.get_running_loop().create_future()  # 等招呼

    def data_received(self, data: bytes) -> None:
        self.missing -= data.count(b"\n")
        if not self.missing and not self.complete.done():  # 问的人也许已被取消，不等了
            self.complete.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.complete.done():  # streams 替你做的，这里要自己做：否则问的人永远等下去
            self.complete.set_exception(error or ConnectionResetError("鱼市挂断了"))

    async def ask(self, transport: asyncio.Transport, questions: int) -> int:
        if transport.is_closing():
            raise ConnectionResetError("没问之前，鱼市就挂断了")
        self.missing += questions  # 取消的人欠下的答案先到，也要数完
        self.complete = asyncio.get_running_loop().create_future()
        transport.write(FISH * questions)
        await self.complete
        return questions


async def swap_streams_for_a_protocol(port: int) -> None:
    loop, asks = asyncio.get_running_loop(), []
    async with AsyncExitStack() as pool:
        for _ in range(4):
            transport, caller = await loop.create_connection(Caller, "127.0.0.1", port)
            pool.callback(transport.close)
            await caller.complete
            asks.append(partial(caller.ask, transport, 100))
        await measure("4 条线路，1 次 write，Protocol", *asks)


async def drain_or_pile_up(_: int) -> dict[str, tuple[int, int]]:
    """write 从不等待，发不出去的先存着；drain 才是快的一头停下来的地方：背压 (back-pressure)。"""

    async def copy_down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await asyncio.sleep(0.05)  # 抄写的人走开了，先填满的是两边内核 (kernel) 的缓冲
            writer.write(b"%d\n" % len(await reader.read()))

    piled: dict[str, tuple[int, int]] = {}
    async with await asyncio.start_server(copy_down, "127.0.0.1", 0) as server:
        for label in ("不 drain", "await drain()"):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            most = 0
            with closing(writer):  # 被打断也挂断，否则 server 出门时要一直等它
                for _ in range(256):
                    writer.write(bytes(65536))
                    most = max(most, writer.transport.get_write_buffer_size())
                    if label == "await drain()":
                        await writer.drain()  # 缓冲没过高水位 (high water, 64 KiB) 就立即返回
                writer.write_eof()
                piled[label] = most, int(await reader.readline())
            print(f"{label}: 缓冲最多 ≈{most >> 10:,} KiB，对方收到 {piled[label][1] >> 10} KiB")
    return piled


async def beware_of_nagle(port: int) -> None:
    """Nagle 算法：前一小包没有 ACK，后一小包先不发；对方等后半句，ACK 也拖着（Linux 40 毫秒）。"""
    halves, option = (FISH[:2], FISH[2:]), (socket.IPPROTO_TCP, socket.TCP_NODELAY)
    async with dial(port) as line:
        wire = line[1].get_extra_info("socket")
        print(f"asyncio 打开了 TCP_NODELAY: {bool(wire.getsockopt(*option))}")
        for label, no_delay, words in (
            ("TCP_NODELAY，两次 write", 1, halves),
            ("Nagle，两次 write", 0, halves),
            ("Nagle，一次 write", 0, (FISH,)),
        ):
            wire.setsockopt(*option, no_delay)
            started = time.perf_counter()
            for _ in range(6):
                await ask(*line, *words)
            print(f"{label}: 一问一答 ≈{(time.perf_counter() - started) / 6e-3:.1f} 毫秒")


SECTIONS = {
    "1. 不挂断省下一个来回；多开线路，来回重叠": hold_the_lines,
    "2. 流水线 (pipelining)：一口气问 100 句，只等一个来回": pipeline_the_questions,
    "3. streams 方便，Protocol 省 CPU": swap_streams_for_a_protocol,
    "4. 不 drain，对方没收的都堆在自己的内存里": drain_or_pile_up,
    "5. 一句话分两次 write，关掉 TCP_NODELAY 就可能白等": beware_of_nagle,
}


async def main() -> None:
    async with await asyncio.get_running_loop().create_server(Market, "127.0.0.1", 0) as market:
        for title, section in SECTIONS.items():
            print(f"── {title} ──")
            await section(market.sockets[0].getsockname()[1])
    print("── 6. 梯子：从最慢到最快 ──")
    for label, rate in LADDER.items():
        print(f"{label}: ≈{rate:,.0f} 句，是第一级的 ≈{rate / LADDER['每句重拨']:,.1f} 倍")


if __name__ == "__main__":
    asyncio.run(main())
