"""3.8 的循环爬过的三级台阶：先量，再看 profile 说慢在哪里，再改。

三级只差一个 fire：套接字就绪了，接下来怎么办。每一级都是能用的循环，跑同一个 echo。第一步快了
将近一倍；第二步只省百分之几，可是代码也没有变长，就留下了。第三级就是 mini_loop.py 里的 Side。
"""

import cProfile
import time
from collections.abc import Callable

from mini_loop import Side, Stream


class Naive(Side):
    """第一级，最先想到的：要等了才登记，等到了就撤；被叫醒的去就绪队列排队。"""

    def fire(self) -> None:
        self.stream.watch(self.stream.interest & ~self.event)
        self.task.wake(self)


class Queued(Side):
    """第二级：profile 说时间多半花在登记和撤销上，那就留着不撤。排队照旧。"""

    def fire(self) -> None:
        if self.task.waits_on is self:
            self.task.wake(self)
        else:
            super().fire()


RUNGS = {"等一次登记一次": Naive, "登记留着": Queued, "登记留着，当场接着跑": Side}


def read_profile(profile: cProfile.Profile) -> tuple[int, float]:
    """登记和撤销共几次 (每次都是一次系统调用)，连同它们底下的，占全部时间的几成。"""
    profile.create_stats()
    calls, spent = {"register": 0, "unregister": 0}, 0.0
    for (_, line, name), (_, called, _, cumulative, _) in profile.stats.items():
        if name in calls:  # selectors 里同名的两层，一层叫一层：算一次
            calls[name] = max(calls[name], called)
        if (line, name) == (Stream.watch.__code__.co_firstlineno, "watch"):
            spent = cumulative
    own = [seconds for _, _, seconds, _, _ in profile.stats.values()]
    return sum(calls.values()), spent / sum(own)


def climb(compete: Callable[[int, int, type[Side]], tuple[int, float]]) -> dict[str, float]:
    """compete(几条连接, 各喊几声, 哪一级) 返回听回几声、用了几秒。"""
    looked, best = {}, dict.fromkeys(RUNGS, float("inf"))
    for name, side in RUNGS.items():
        with cProfile.Profile() as profile:
            heard, _ = compete(64, 30, side)
        calls, share = read_profile(profile)
        looked[name] = calls / heard, share
    for _ in range(3):  # profile 拖慢一切，只看比例；计时另跑，轮流三次取最快的
        for name, side in RUNGS.items():
            started = time.process_time()  # CPU 时间：第三级只省百分之几，别让旁人的忙碌盖过去
            heard, _ = compete(64, 30, side)
            best[name] = min(best[name], (time.process_time() - started) / heard)
    for name, (calls, share) in looked.items():
        cost = f"每声 ≈{calls:.1f} 次登记或撤销，占 ≈{share:.0%} 的时间"
        print(f"{name}: {cost}；用 CPU ≈{best[name] * 1e6:.1f} 微秒")
    return {name: calls for name, (calls, _) in looked.items()}
