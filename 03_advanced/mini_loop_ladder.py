"""3.8 的循环爬过的三级台阶：先量，再看 profile 说慢在哪里，再改。

三级只差一个 fire：套接字就绪了，接下来怎么办。每一级都是能用的循环，跑同一个 echo。第一步快了
将近一倍；第二步每声少排两次队，时间只省百分之几，机器一忙就量不出来，可是代码也没有变长，就留下
了。第三级就是 mini_loop.py 里的 Side。
"""

import cProfile
from collections.abc import Callable

from mini_loop import Side, Stream, Task


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


def read_profile(profile: cProfile.Profile) -> tuple[int, float, int]:
    """登记和撤销共几次 (每次都是一次系统调用)，占全部时间的几成；去就绪队列排了几次队。"""
    profile.create_stats()
    calls, total = {"register": 0, "unregister": 0}, 0.0
    watched, woken = 0.0, 0
    for (file, line, name), (_, called, own, cumulative, _) in profile.stats.items():
        total += own
        if name in calls:  # selectors 里同名的两层，一层叫一层：算一次
            calls[name] = max(calls[name], called)
        elif (file, line) == whereabouts(Stream.watch):
            watched = cumulative  # 连同它底下的
        elif (file, line) == whereabouts(Task.wake):
            woken = called
    return sum(calls.values()), watched / total, woken


def whereabouts(function: Callable) -> tuple[str, int]:
    return function.__code__.co_filename, function.__code__.co_firstlineno


def climb(
    compete: Callable[[int, int, type[Side]], tuple[int, float]],
) -> dict[str, tuple[float, float]]:
    """compete(几条连接, 各喊几声, 哪一级) 返回听回几声、用了几秒 CPU。"""
    looked, best = {}, dict.fromkeys(RUNGS, float("inf"))
    for name, side in RUNGS.items():
        with cProfile.Profile() as profile:
            heard, _ = compete(64, 30, side)
        calls, share, woken = read_profile(profile)
        looked[name] = calls / heard, share, woken / heard
    for _ in range(6):  # profile 拖慢一切，只看次数和比例；计时另跑，轮流六次取最省的
        for name, side in RUNGS.items():
            heard, seconds = compete(64, 30, side)
            best[name] = min(best[name], seconds / heard)
    for name, (calls, share, woken) in looked.items():
        cost = f"登记或撤销 ≈{calls:.1f} 次（占时 ≈{share:.0%}），排队 ≈{woken:.1f} 次"
        print(f"{name}: 每声{cost}；用 CPU ≈{best[name] * 1e6:.1f} 微秒")
    return {name: (calls, woken) for name, (calls, _, woken) in looked.items()}
