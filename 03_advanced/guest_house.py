"""3.10 的一栋楼：一个新进程，住进几个协程或几个线程，报出几秒、几个、几字节，然后等人来拆。

运行：python 03_advanced/guest_house.py 几个协程 几个线程（3.10 会替你运行；按回车拆楼）
一个进程有多大，要看它 import 了什么，所以单写一个文件，只 import 用得着的；都是 0，量到的就是
进程自己。
"""

import os
import signal
import sys
import time


def memory_in_use() -> int:
    """这个进程占着的物理内存，字节。线程的内核栈和预留的地址空间不在内，是按便宜的算。"""
    if sys.platform == "linux":
        with open("/proc/self/statm") as counters:
            _, resident, shared, *_ = map(int, counters.read().split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")  # 共用的库不必每个进程都算一遍
    import subprocess

    ask = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    if sys.platform == "win32":
        ask = ["tasklist", "/FI", f"PID eq {os.getpid()}", "/FO", "CSV", "/NH"]
    size = subprocess.check_output(ask).rpartition(b',"')[2]  # "12,345 K"，分节号随系统语言变
    return int(bytes(digit for digit in size if chr(digit) in "0123456789")) * 1024


def coroutines_check_in(guests: int) -> tuple[float, int, int]:
    import asyncio

    before, started = memory_in_use(), time.perf_counter()
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(asyncio.sleep(3600)) for _ in range(guests)]
    loop.run_until_complete(asyncio.sleep(0))  # 它排在最后：它跑完，人人都已睡下
    seconds, asleep = time.perf_counter() - started, sum(not task.done() for task in tasks)
    if not asleep:  # 换上的协程一个也没睡下：说一声为什么，就塌
        import traceback

        traceback.print_exception(tasks[0].exception() or RuntimeError("它马上就做完了，没有睡"))
        os._exit(1)
    return seconds, asleep, memory_in_use() - before


def threads_check_in(guests: int) -> tuple[float, int, int]:
    import threading

    before, started = memory_in_use(), time.perf_counter()
    for _ in range(guests):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    seconds, asleep = time.perf_counter() - started, threading.active_count() - 1
    return seconds, asleep, memory_in_use() - before


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C 时当场结束，不为十万个任务各抱怨一句
    coroutines, threads = map(int, sys.argv[1:])
    if coroutines:
        bill = coroutines_check_in(coroutines)
    elif threads:
        bill = threads_check_in(threads)
    else:
        bill = 0.0, 1, memory_in_use()
    try:
        print(*bill, flush=True)
        sys.stdin.readline()  # 等在这里；造楼的人没了，管道一断也会醒
    finally:  # 直接拆，报不了账也一样：不必把十万人一个个叫醒
        os._exit(0)


if __name__ == "__main__":
    main()
