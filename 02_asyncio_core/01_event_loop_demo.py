"""2.1 事件循环：一个柜员、一条叫号队列、一架闹钟

视频：§3.1 事件循环、§3.2 快速上手
运行：python 02_asyncio_core/01_event_loop_demo.py
观看：python tutorial.py trace 2.1（一步步看谁在跑、谁在等）

先猜后跑
    第 3 节里，乙在办理途中又取了一个号。它排在丙前面，还是后面？闹钟定的是 0 秒，
    又是最先登记的，它第一个响吗？

预期输出
    ── 1. 调用得到协程，asyncio.run 才执行它 ──
    sell_stamp() 得到 coroutine，函数体还没执行
    柜员: 卖出一枚邮票
    asyncio.run 返回 '邮票'
    循环里再 run: RuntimeError: asyncio.run() cannot be called from a running event loop
    ── 2. Runner：一个循环，跑好几次 ──
    上午: 开窗
    包裹: 上路，0.02 秒后到
    午休 0.05 秒: 循环停着，包裹.done() = False
    下午: 开窗，和上午是同一个循环 True
    包裹: 送到
    两次 asyncio.run 是同一个循环 False
    ── 3. 一轮只办开轮时在队里的，中途来的下一轮 ──
    main: 都取了号，一个也没办
    第 1 轮
      甲
      乙
      丙
      main（从 sleep(0) 回来）
      闹钟（0 秒）
    第 2 轮
      乙的第二件事
      main（从 sleep(0) 回来）
    ── 4. 闹钟按到点的先后响，没事时循环在睡 ──
    登记: 0.15 秒、0.05 秒、0.12 秒、0.1 秒；取消 0.12 秒
    响铃: ['0.05 秒', '0.1 秒', '0.15 秒']
    等了 ≈0.15 秒，CPU 只忙了 ≈0.00 秒
    ── 5. 一个人不让路，全体都停 ──
    邻座 await asyncio.sleep(0.15): 0.05 秒的闹钟在 ≈0.05 秒响
    邻座 time.sleep(0.15): 0.05 秒的闹钟在 ≈0.15 秒响
    ── 6. 循环不会自己认出 I/O，要用它的 I/O ──
    socket.recv:    等了 ≈0.1 秒，没有信（0.02 秒后投信的闹钟也在等柜员）
    loop.sock_recv: 收到 'letter'

视频勘误
    1. “asyncio 会自动识别 I/O，遇到就切换”：不会。只有 await 真的挂起 (suspend) 时才切换；
       time.sleep、socket.recv、requests.get 都会让所有人停下（第 5、6 节）。
    2. “循环不停地检查任务列表”：是形象的说法。真的循环不空转：没人就绪时，它睡在
       select/epoll 里，直到有 I/O 就绪或最近的闹钟到点（第 4 节）。
    3. 老写法 loop = asyncio.get_event_loop(); loop.run_until_complete(…)：没有循环在跑时，
       3.12 起警告 DeprecationWarning: There is no current event loop，
       3.14 起是 RuntimeError: There is no current event loop in thread 'MainThread'.
       换成 asyncio.run(…)（第 1 节），要多次运行就用 asyncio.Runner（第 2 节）。
    4. 不用 pip install asyncio：包索引上那个今天是空壳，从前是旧移植；asyncio 就在标准库里。

动手试试
    1. 第 3 节里把闹钟改成 call_later(0.01, …)，return 前加一行 await asyncio.sleep(0.05)，
       再让乙的第二件事变成 again()：def again(): loop.call_soon(again)，永不停止。
       闹钟还会响吗？为什么？
    2. 把第 5 节的 time.sleep(0.15) 换成 sum(range(10_000_000))：计算和 sleep 有区别吗？
    3. 第 2 节把 0.02 改成 10，再删去 await parcel：离开 with 时包裹会怎样？
       （在 with 之后打印 parcel.cancelled()）
"""

import asyncio
import socket
import time


async def sell_stamp() -> str:
    print("柜员: 卖出一枚邮票")
    return "邮票"


async def run_inside_a_running_loop() -> str:
    stamp = sell_stamp()
    try:
        asyncio.run(stamp)  # 一个线程同时只跑一个循环；这里（和 Jupyter 里）直接 await 就好
    except RuntimeError as error:
        return str(error)
    finally:
        stamp.close()  # 从未执行的协程要关掉，否则 Python 警告 was never awaited


def call_then_run() -> tuple[str, str]:
    stamp = sell_stamp()
    print(f"sell_stamp() 得到 {type(stamp).__name__}，函数体还没执行")
    bought = asyncio.run(stamp)  # 开一个循环，跑完这个协程，取消剩下的任务，关掉循环
    print(f"asyncio.run 返回 {bought!r}")
    refused = asyncio.run(run_inside_a_running_loop())
    print(f"循环里再 run: RuntimeError: {refused}")
    return bought, refused


def run_twice_on_one_loop() -> tuple[bool, bool]:
    """asyncio.run 就是只用一次的 Runner；Runner 在两次 run 之间不关循环，任务停在原处。"""

    async def deliver() -> None:
        print("包裹: 上路，0.02 秒后到")
        await asyncio.sleep(0.02)
        print("包裹: 送到")

    async def morning() -> tuple[asyncio.AbstractEventLoop, asyncio.Task]:
        print("上午: 开窗")
        return asyncio.get_running_loop(), asyncio.create_task(deliver())

    async def afternoon(before: asyncio.AbstractEventLoop, parcel: asyncio.Task) -> bool:
        same = asyncio.get_running_loop() is before
        print(f"下午: 开窗，和上午是同一个循环 {same}")
        await parcel
        return same

    with asyncio.Runner() as runner:
        loop, parcel = runner.run(morning())
        time.sleep(0.05)
        print(f"午休 0.05 秒: 循环停着，包裹.done() = {parcel.done()}")
        same_runner = runner.run(afternoon(loop, parcel))

    async def this_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    same_run = asyncio.run(this_loop()) is asyncio.run(this_loop())
    print(f"两次 asyncio.run 是同一个循环 {same_run}")
    return same_runner, same_run


async def serve_one_round_at_a_time() -> list[str]:
    """一轮 (iteration)：取出就绪的 I/O，把到点的闹钟接到队尾，再办完此刻队里的这些人。"""
    loop = asyncio.get_running_loop()
    served: list[str] = []

    def serve(who: str) -> None:
        served.append(who)
        print(f"  {who}")

    def serve_someone_with_two_errands() -> None:
        serve("乙")
        loop.call_soon(serve, "乙的第二件事")  # 本轮的名单已经定了，它排进下一轮

    def open_round(number: int) -> None:
        print(f"第 {number} 轮")
        if number < 2:
            loop.call_soon(open_round, number + 1)

    loop.call_later(0, serve, "闹钟（0 秒）")  # 进闹钟架，不进队列：开轮时才接到队尾
    loop.call_soon(open_round, 1)
    loop.call_soon(serve, "甲")
    loop.call_soon(serve_someone_with_two_errands)
    loop.call_soon(serve, "丙")
    print("main: 都取了号，一个也没办")
    for _ in range(2):
        await asyncio.sleep(0)  # 不等任何东西，只是让路：把自己排到队尾
        serve("main（从 sleep(0) 回来）")
    return served


async def ring_in_order_of_deadline() -> tuple[list[str], float]:
    loop = asyncio.get_running_loop()
    rung: list[str] = []
    # loop.time() 只进不退 (monotonic)，与墙上的钟无关：改系统时间不会让闹钟提前或推迟
    started, busy = loop.time(), time.process_time()
    loop.call_later(0.15, rung.append, "0.15 秒")  # call_later(d, …) 就是 call_at(time() + d, …)
    loop.call_at(started + 0.05, rung.append, "0.05 秒")
    unwanted = loop.call_at(started + 0.12, rung.append, "0.12 秒")
    loop.call_at(started + 0.1, rung.append, "0.1 秒")
    unwanted.cancel()
    print("登记: 0.15 秒、0.05 秒、0.12 秒、0.1 秒；取消 0.12 秒")
    await asyncio.sleep(0.15)  # sleep 自己也是一个闹钟，在 0.15 秒那个之后登记
    waited, busy = loop.time() - started, time.process_time() - busy
    print(f"响铃: {rung}")
    print(f"等了 ≈{waited:.2f} 秒，CPU 只忙了 ≈{busy:.2f} 秒")
    return rung, waited


async def block_everyone() -> dict[str, float]:
    """await 让柜员去照看别人；time.sleep 让柜员自己睡着，闹钟响了也没人按。"""

    async def alarm() -> float:
        started = time.perf_counter()
        await asyncio.sleep(0.05)
        return time.perf_counter() - started

    async def polite() -> None:
        await asyncio.sleep(0.15)

    async def rude() -> None:
        time.sleep(0.15)  # noqa: ASYNC251 — 这正是要看的错误

    rang_after: dict[str, float] = {}
    for label, neighbour in {"await asyncio.sleep": polite, "time.sleep": rude}.items():
        rang_after[label], _ = await asyncio.gather(alarm(), neighbour())
        print(f"邻座 {label}(0.15): 0.05 秒的闹钟在 ≈{rang_after[label]:.2f} 秒响")
    return rang_after


async def use_the_loops_own_io() -> tuple[float, str]:
    loop = asyncio.get_running_loop()
    window, street = socket.socketpair()
    with window, street:
        loop.call_later(0.02, street.send, b"letter")
        window.settimeout(0.1)
        started = time.perf_counter()
        try:
            window.recv(16)  # 对循环来说只是一行普通的 Python：看不见，也就无从切换
        except TimeoutError:
            waited = time.perf_counter() - started
            print(f"socket.recv:    等了 ≈{waited:.1f} 秒，没有信（0.02 秒后投信的闹钟也在等柜员）")
        window.setblocking(False)
        letter = await loop.sock_recv(window, 16)  # 向 select/epoll 登记，读得到了再回来
    print(f"loop.sock_recv: 收到 {letter.decode()!r}")
    return waited, letter.decode()


SECTIONS = {
    "1. 调用得到协程，asyncio.run 才执行它": call_then_run,
    "2. Runner：一个循环，跑好几次": run_twice_on_one_loop,
    "3. 一轮只办开轮时在队里的，中途来的下一轮": serve_one_round_at_a_time,
    "4. 闹钟按到点的先后响，没事时循环在睡": ring_in_order_of_deadline,
    "5. 一个人不让路，全体都停": block_everyone,
    "6. 循环不会自己认出 I/O，要用它的 I/O": use_the_loops_own_io,
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        outcome = section()
        if asyncio.iscoroutine(outcome):  # 前两节自己开循环，其余各节是协程
            asyncio.run(outcome)


if __name__ == "__main__":
    main()
