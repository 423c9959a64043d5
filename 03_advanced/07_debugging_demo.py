"""3.7 调试：让事件循环说出谁慢、谁丢、谁卡在哪里

视频：视频之外
运行：python 03_advanced/07_debugging_demo.py
观看：python tutorial.py trace 3.7（一步步看谁在跑、谁在等）

先猜后跑
    第 1 节犯了四个错：忘写 await、没人取异常、在回调里睡大觉、从别的线程调 call_soon。
    不开调试模式，四个里会有几个被发现？其中几个说得出，惹事的协程和任务是在哪一行造的？

预期输出
    ── 1. 调试模式 (debug mode)：多看见两样错，多说一句是在哪里造的 ──
    debug=False
      coroutine 'couple_cars' was never awaited
        出在: del late
      Task exception was never retrieved
        出在: raise RuntimeError("道岔卡住了")
    debug=True
      Executing 扳道 switch_points() took ≈0.05 seconds
      coroutine 'couple_cars' was never awaited
        出在: del late
        造在: late = couple_cars()
      Task exception was never retrieved
        出在: raise RuntimeError("道岔卡住了")
        造在: stuck = asyncio.create_task(switch_points(), name="扳道")
      RuntimeError: Non-thread-safe operation invoked on an event loop other than the current one
    ── 2. 日志带上任务名和上下文，交错的车才分得开 ──
    [K51 进站] 进了站
    [T9 进站] 进了站
    [K51 挂车] 挂上 12 节
    [T9 挂车] 挂上 18 节
    ── 3. 看门狗 (watchdog)：循环不应声，当场看是谁占着 ──
    循环停了 ≈0.3 秒: count_cars_by_hand
    ── 4. 死锁 (deadlock)：顺着 await 链看到底，谁在等谁是一个环 ──
    print_stack 只看得到最外一层: pass_points
    快车: pass_points → __aenter__ → acquire → acquire
    货车: pass_points → __aenter__ → acquire → acquire
    [3.14+] 谁在等快车: ['站长']
    谁在等谁: {'快车': '货车', '货车': '快车'}
    都先拿北、再拿南: 都过去了

动手试试
    1. PYTHONASYNCIODEBUG=1 再跑一遍：stderr 多了什么？第 1 节的 debug=False 为什么没有变？
    2. 第 4 节让两趟车先各睡 0.02 秒、0.04 秒，再进道岔，并把下面的 sleep(0.01) 改成 0.1：还会
       卡住吗？测试为什么常常抓不到死锁？
    3. 有 3.14 的话：把第 4 节的 sleep(0.01) 改成 60 秒，另开一个终端（Linux 上可能要 sudo）：
       python -m asyncio ps 进程号，一个任务一行；python -m asyncio pstree 进程号，画成一棵树。
       不改程序，也看得见两趟车都停在 acquire。
"""

import asyncio
import logging
import re
import sys
import threading
import time
import warnings
from contextvars import ContextVar

TRAIN: ContextVar[str] = ContextVar("TRAIN")


async def couple_cars() -> None: ...


async def switch_points() -> None:
    time.sleep(0.05)  # noqa: ASYNC251 — 这正是要看的错误
    raise RuntimeError("道岔卡住了")


async def make_four_mistakes(complaints: list[str]) -> None:
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 0.03  # 默认 0.1 秒
    stuck = asyncio.create_task(switch_points(), name="扳道")
    late = couple_cars()
    await asyncio.sleep(0.01)
    del late
    del stuck
    try:
        await asyncio.to_thread(loop.call_soon, int)  # 该用 call_soon_threadsafe
    except RuntimeError as error:
        complaints.append(f"RuntimeError: {error}")


def shorten(complaint: str) -> str:
    """去掉路径和内存地址，只留下是谁、是哪一行代码。"""
    if slow := re.search(r"name='(\w+)' coro=<(\w+).* took ([\d.]+) ", complaint):
        return f"Executing {slow[1]} {slow[2]}() took ≈{float(slow[3]):.2f} seconds"
    *_, what = complaint.splitlines()[0].split("Warning: ")
    lines = [f"出在: {line}" for line in re.findall(r"^ +(.+)", complaint, re.MULTILINE)[-1:]]
    lines += [f"造在: {line}" for line in re.findall(r"in make_four_mistakes\n +(.+)", complaint)]
    return "\n    ".join([what, *lines])


def debug_mode_says_where() -> dict[bool, list[str]]:
    """打开它：asyncio.run(…, debug=True)、PYTHONASYNCIODEBUG=1，或者 python -X dev。"""
    found = {}
    for debug in (False, True):
        said, ears = [], logging.Handler()
        ears.emit = lambda record, say=said.append, ears=ears: say(ears.format(record))
        logging.getLogger("asyncio").addHandler(ears)
        with warnings.catch_warnings(action="always"):
            warnings.showwarning = lambda *it, say=said.append: say(warnings.formatwarning(*it[:4]))
            asyncio.run(make_four_mistakes(said), debug=debug)
        logging.getLogger("asyncio").removeHandler(ears)
        found[debug] = [shorten(line) for line in said if "扳道" in line or " took " not in line]
        print(f"debug={debug}", *found[debug], sep="\n  ")
    return found


async def log_with_context() -> None:
    def who_is_talking(record: logging.LogRecord) -> bool:
        record.train = TRAIN.get("—")
        record.task = asyncio.current_task().get_name()  # 线程里问会抛；3.12 起自带 %(taskName)s
        return True

    async def couple(cars: int) -> None:
        log.info("挂上 %d 节", cars)  # 没有谁把车次传给它

    async def enter(train: str, cars: int) -> None:
        TRAIN.set(train)  # 只对这个任务和它建的任务：建任务时复制一份上下文 (context)
        log.info("进了站")
        await asyncio.create_task(couple(cars), name="挂车")

    log, handler = logging.getLogger("yard"), logging.StreamHandler(sys.stdout)
    handler.addFilter(who_is_talking)  # yard 之下的都经过；别人的库的，要挂到根 logger
    handler.setFormatter(logging.Formatter("[%(train)s %(task)s] %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    async with asyncio.TaskGroup() as group:
        group.create_task(enter("K51", 12), name="进站")
        group.create_task(enter("T9", 18), name="进站")
    log.removeHandler(handler)


def await_chain(task: asyncio.Task) -> list:
    """停着的协程，cr_await 是它在等的下一个；走到头是 Future 的迭代器，它没有 cr_await。"""
    chain = [task.get_coro()]
    while hasattr(chain[-1], "cr_await"):
        chain.append(chain[-1].cr_await)
    return chain[:-1]


def count_cars_by_hand() -> None:
    for _ in range(30):
        time.sleep(0.01)


async def catch_the_blocker() -> list[str]:
    loop, loop_thread = asyncio.get_running_loop(), threading.get_ident()
    caught, off_duty = [], threading.Event()

    def watch() -> None:
        while not off_duty.wait(0.01):
            beat, asked = threading.Event(), time.perf_counter()
            loop.call_soon_threadsafe(beat.set)
            if not beat.wait(0.05):  # 循环没按时应声：趁占着它的人还没走，看一眼
                code = sys._current_frames()[loop_thread].f_code
                beat.wait()
                if code.co_filename == __file__:  # 不是我们的代码，就只是机器忙
                    caught.append(code.co_name)
                    print(f"循环停了 ≈{time.perf_counter() - asked:.1f} 秒: {code.co_name}")

    watchdog = asyncio.create_task(asyncio.to_thread(watch))
    try:
        await asyncio.sleep(0.03)
        count_cars_by_hand()
    finally:
        off_duty.set()  # 取消 to_thread 停不了线程，要它自己下班
        await watchdog
    return caught


class Track(asyncio.Lock):
    async def acquire(self) -> bool:
        await super().acquire()
        self.holder = asyncio.current_task().get_name()  # Lock 自己不记谁拿着它
        return True


async def pass_points(first: Track, second: Track) -> None:
    async with first:
        await asyncio.sleep(0)
        async with second:
            pass


async def find_the_cycle() -> dict[str, str]:
    north, south, waits_for = Track(), Track(), {}
    asyncio.current_task().set_name("站长")
    async with asyncio.TaskGroup() as group:
        express = group.create_task(pass_points(north, south), name="快车")
        group.create_task(pass_points(south, north), name="货车")
        await asyncio.sleep(0.01)
        print("print_stack 只看得到最外一层:", *(f.f_code.co_name for f in express.get_stack()))
        trains = asyncio.all_tasks() - {asyncio.current_task()}
        for train in sorted(trains, key=asyncio.Task.get_name):
            chain = await_chain(train)  # 最里面停在 Lock.acquire，它的 self 就是那把锁
            lock = chain[-1].cr_frame.f_locals.get("self")
            waits_for[train.get_name()] = getattr(lock, "holder", "没在等锁")
            print(f"{train.get_name()}: {' → '.join(each.cr_code.co_name for each in chain)}")
            train.cancel()
        if sys.version_info >= (3, 14):
            awaited_by = asyncio.capture_call_graph(express).awaited_by
            print(f"谁在等快车: {[waiter.future.get_name() for waiter in awaited_by]}")
    print(f"谁在等谁: {waits_for}")
    await asyncio.gather(pass_points(north, south), pass_points(north, south))
    print("都先拿北、再拿南: 都过去了")
    return waits_for


SECTIONS = {
    "1. 调试模式 (debug mode)：多看见两样错，多说一句是在哪里造的": debug_mode_says_where,
    "2. 日志带上任务名和上下文，交错的车才分得开": log_with_context,
    "3. 看门狗 (watchdog)：循环不应声，当场看是谁占着": catch_the_blocker,
    "4. 死锁 (deadlock)：顺着 await 链看到底，谁在等谁是一个环": find_the_cycle,
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        if asyncio.iscoroutine(outcome := section()):  # 第 1 节自己开循环，其余各节是协程
            asyncio.run(outcome)


if __name__ == "__main__":
    main()
