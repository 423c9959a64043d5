"""3.9 uvloop：车厢不动，换个车头

视频：§4 uvloop
运行：python 03_advanced/09_uvloop_demo.py
观看：python tutorial.py trace 3.9（一步步看谁在跑、谁在等）

先猜后跑
    uvloop 常说“快 2–4 倍”。第 4 节里，每份电报要先用纯 Python 算上零点几毫秒，才回得出去：
    换成 uvloop，快到几倍？不用算、只管收发的呢？

预期输出
    ── 1. 换的是事件循环，程序一个字不改 ──
    asyncio 车头: 循环来自 asyncio，到站 ['快车', '慢车']
    uvloop 车头: 循环来自 uvloop，到站 ['快车', '慢车']
    uvloop.run(): 循环来自 uvloop，到站 ['快车', '慢车']
    ── 2. 急切任务 (eager task) 换的是任务，不是循环 ──
    asyncio: ['发车', '上车', '开走']
    uvloop: ['发车', '上车', '开走']
    [3.12+] asyncio + 急切任务: ['上车', '开走', '发车']
    [3.12+] uvloop + 急切任务: ['上车', '开走', '发车']
    ── 3. 量一量：sleep(0)、建任务并等它、回一份电报 ──
    asyncio: ≈6.0 微秒、≈17.0 微秒、≈48.0 微秒
    uvloop: ≈2.5 微秒、≈8.0 微秒、≈33.0 微秒
    [3.12+] asyncio + 急切任务: ≈6.0 微秒、≈3.0 微秒、≈48.0 微秒
    [3.12+] uvloop + 急切任务: ≈2.5 微秒、≈3.0 微秒、≈33.0 微秒
    ── 4. 换车头只省循环的那一份，时间花在别处就省不到 ──
    只收发的电报，每份: ≈48 → ≈33 微秒，快到 ≈1.45 倍
    每份先算一阵的: ≈430 → ≈410 微秒，快到 ≈1.04 倍
    20 班车各等 0.05 秒: ≈50,600 → ≈50,400 微秒，快到 ≈1.00 倍

视频勘误
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy()) 到 3.13 都能用；3.14 起是
    DeprecationWarning: 'asyncio.set_event_loop_policy' is deprecated and slated for removal in
    Python 3.16。换成 with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())，或者 uvloop.run(main())（第 1 节）。

动手试试
    1. 把 compute 里的 4_000 改成 0、400、40_000：uvloop 的倍数怎么变？
    2. 把 TELEGRAM 从 64 字节改成 64 * 1024 字节：倍数又怎么变？时间花到哪里去了？
    3. 第 2 节里把 passenger 拆成三行：记下“上车”、await asyncio.sleep(0)、记下“开走”。
       急切任务那两行变成什么顺序？
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack, closing, suppress
from typing import Any

try:
    import uvloop
except ImportError:  # 它用的 libuv 支持 Windows，但 uvloop 没有 Windows 的包
    uvloop = None

TELEGRAM = bytes(64)
# 课程的 set_event_loop_policy 改的是整个进程；loop_factory 只管这一次运行
ENGINES = {"asyncio": asyncio.new_event_loop}
if uvloop is not None:
    ENGINES["uvloop"] = uvloop.new_event_loop
SETUPS = {name: (factory, False) for name, factory in ENGINES.items()}
if sys.version_info >= (3, 12):
    SETUPS |= {f"{name} + 急切任务": (factory, True) for name, factory in ENGINES.items()}


def start_eagerly(loop, coro, *, eager_start: bool | None = None, **options) -> asyncio.Task:
    # 现成的那个不认 uvloop 0.23 起多传的 eager_start=None：3.13.0 抛 TypeError，3.14 默默地不急
    return asyncio.Task(coro, loop=loop, eager_start=True, **options)


def drive(setup: str, journey: Callable[..., Coroutine], *args: Any) -> Any:
    factory, eager = SETUPS[setup]
    with asyncio.Runner(loop_factory=factory) as runner:
        if eager:
            runner.get_loop().set_task_factory(start_eagerly)
        return runner.run(journey(*args))


async def arrive() -> tuple[str, list[str]]:
    arrived: list[str] = []

    async def ride(train: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        arrived.append(train)

    async with asyncio.TaskGroup() as group:
        group.create_task(ride("慢车", 0.02))
        group.create_task(ride("快车", 0.005))
    return type(asyncio.get_running_loop()).__module__.partition(".")[0], arrived


def change_engines() -> dict[str, tuple[str, list[str]]]:
    runs = {f"{name} 车头": drive(name, arrive) for name in ENGINES}
    if uvloop is not None:
        runs["uvloop.run()"] = uvloop.run(arrive())  # 就是上面的 Runner，写短了
    for name, (module, arrived) in runs.items():
        print(f"{name}: 循环来自 {module}，到站 {arrived}")
    return runs


async def board() -> list[str]:
    log: list[str] = []

    async def passenger() -> None:
        log.extend(["上车", "开走"])

    task = asyncio.create_task(passenger())
    log.append("发车")
    await task
    return log


def board_eagerly() -> dict[str, list[str]]:
    """急切任务在 create_task 里就开跑，一次也不挂起的当场做完，循环根本没见过它。"""
    logs = {setup: drive(setup, board) for setup in SETUPS}
    print(*(f"{setup}: {log}" for setup, log in logs.items()), sep="\n")
    return logs


async def give_way(times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        await asyncio.sleep(0)
    return (time.perf_counter() - started) / times * 1e6


async def create_tasks(times: int) -> float:
    async def pass_by() -> None: ...

    started = time.perf_counter()
    for _ in range(times):
        await asyncio.create_task(pass_by())
    return (time.perf_counter() - started) / times * 1e6


def compute() -> None:
    sum(number * number for number in range(4_000))


async def answer_telegrams(lines: int, times: int, work: Callable[[], None] | None = None) -> float:
    """收发两头都在这个循环里，走 TCP 和 streams。"""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError):  # 对方挂断了
            while telegram := await reader.readexactly(len(TELEGRAM)):
                if work is not None:
                    work()
                writer.write(telegram)
                await writer.drain()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            writer.write(TELEGRAM)
            await reader.readexactly(len(TELEGRAM))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as office:
        address, pairs = office.sockets[0].getsockname(), []
        with ExitStack() as hang_up:  # 中途按 Ctrl-C 也挂断：3.12 起，关门要等每条线路都断
            for _ in range(lines):
                pairs.append(await asyncio.open_connection(*address))
                hang_up.callback(pairs[-1][1].close)
            started = time.perf_counter()
            await asyncio.gather(*(ask(*pair) for pair in pairs))
            return (time.perf_counter() - started) / (lines * times) * 1e6


async def wait_at_the_platform() -> float:
    started = time.perf_counter()
    await asyncio.gather(*(asyncio.sleep(0.05) for _ in range(20)))
    return (time.perf_counter() - started) * 1e6


def race(setups: Iterable[str], *job: Any) -> dict[str, float]:
    """每种循环轮流跑五次，取最快的：别把旁人的忙碌算到谁的头上。单位是微秒。"""
    laps = [{setup: drive(setup, *job) for setup in setups} for _ in range(5)]
    return {setup: min(lap[setup] for lap in laps) for setup in setups}


def measure_overhead() -> dict[str, tuple[float, ...]]:
    jobs = (give_way, 1_000), (create_tasks, 1_000), (answer_telegrams, 16, 30)
    best = [race(SETUPS, *job) for job in jobs]
    table = {setup: tuple(column[setup] for column in best) for setup in SETUPS}
    for setup, (switch, task, telegram) in table.items():
        print(f"{setup}: ≈{switch:.1f} 微秒、≈{task:.1f} 微秒、≈{telegram:.1f} 微秒")
    return table


def look_where_the_time_goes() -> dict[str, dict[str, float]]:
    jobs = {
        "只收发的电报，每份": (answer_telegrams, 16, 30),
        "每份先算一阵的": (answer_telegrams, 16, 6, compute),
        "20 班车各等 0.05 秒": (wait_at_the_platform,),
    }
    results = {label: race(ENGINES, *job) for label, job in jobs.items()}
    for label, times in results.items():
        shown = " → ".join(f"≈{microseconds:,.0f}" for microseconds in times.values())
        gain = f"，快到 ≈{times['asyncio'] / times['uvloop']:.2f} 倍" if uvloop else ""
        print(f"{label}: {shown} 微秒{gain}")
    return results


SECTIONS = {
    "1. 换的是事件循环，程序一个字不改": change_engines,
    "2. 急切任务 (eager task) 换的是任务，不是循环": board_eagerly,
    "3. 量一量：sleep(0)、建任务并等它、回一份电报": measure_overhead,
    "4. 换车头只省循环的那一份，时间花在别处就省不到": look_where_the_time_goes,
}


def main() -> None:
    if uvloop is None:
        print("这里没有 uvloop（它没有 Windows 的包）：下面只有 asyncio 的数字")
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        section()


if __name__ == "__main__":
    main()
