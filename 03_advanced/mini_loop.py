"""从零写的事件循环，3.8 一节一节地看它。从上往下读：Future、Task、Timer、Loop 是循环，不过
120 行；Side、Stream、serve 是它的适配器 (adapter)，管套接字 (socket) 怎么等、怎么读写。

全部的主意：协程 yield 它在等的东西；那个东西知道该把任务记在哪里 (block)，也知道何时叫醒
(task.wake)。循环只做一件事：谁醒了，就推谁一步。

为了短，有两件事没有防：一个 Loop 只能 run 一次；任务等自己就永远等下去。asyncio 两样都会说。
"""

import asyncio
import selectors
import socket
import sys
import time
import traceback
import types
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

# 一次最多睡多久：epoll 的超时有上限；Windows 的 select 睡着时不理 Ctrl-C
LONGEST_NAP = 0.5 if sys.platform == "win32" else 3600


class Future:
    """将来才有的结果。能等的东西都会 block(task)：记下谁在等；该醒时由它调 task.wake(自己)。"""

    done, value, error, waiters = False, None, None, ()

    def block(self, task: "Task") -> None:
        self.waiters = self.waiters or []  # 多数任务没人等：百万个任务，省百万个空列表
        self.waiters.append(task)

    def finish(self, value: Any = None, error: BaseException | None = None) -> None:
        self.done, self.value, self.error = True, value, error
        for task in self.waiters:
            task.wake(self)

    def __await__(self):
        while not self.done:  # 醒来再看一眼条件：叫醒的意思是“去看看”，不是“有了”
            yield self  # 一路穿过所有 await，交到 Task.step 的 send 手里
        if self.error is not None:
            raise self.error
        return self.value


class Task(Future):
    """推着协程走。协程 yield 出来的是它在等的东西，记在 waits_on；在就绪队列里时是 None。"""

    # trouble 是等着抛给它的异常：有人取消它，或者它要等的东西等不成
    waits_on, trouble = None, None

    def __init__(self, loop: "Loop", coro: Coroutine) -> None:
        self.loop, self.coro, self.started = loop, coro, False
        loop.tasks.add(self)  # 强引用：没人拿着的任务也不会被回收（asyncio 只弱引用，见 2.3）
        loop.ready.append(self)

    def step(self) -> None:
        self.loop.running = self
        try:
            if self.trouble is not None and self.started:
                error, self.trouble = self.trouble, None
                waits_on = self.coro.throw(error)  # 就在它停着的那个 await 处抛出来
            else:  # 还没迈步就取消的，也先走到第一个 await：给它的套接字，只有它自己会关
                waits_on = self.coro.send(None)
            self.started, self.loop.running = True, None
            if waits_on is None or self.trouble is not None:  # 空 yield 就是让路：排到队尾
                self.waits_on = None
                self.loop.ready.append(self)
            elif waits_on is not self.waits_on:  # 还等上次那个？登记都在，什么也不用做
                self.waits_on = waits_on
                try:
                    waits_on.block(self)
                except Exception as error:  # 等不成：也在那个 await 处抛给它
                    self.trouble = error
                    self.wake(waits_on)
        except StopIteration as stop:  # 协程的 return
            self.finish(stop.value)
        except BaseException as error:
            awaited = self is self.loop.main or any(task.waits_on is self for task in self.waiters)
            if isinstance(error, Exception) and not awaited:
                self.loop.report(error)  # 此刻没人等它的结果：不当场说，也许就没人知道了
            # 去掉 step 这一层栈帧 (frame)：它拿着任务，任务拿着异常，异常拿着它，成了环
            # （3.12 起，协程的栈帧还记着 step 的那一层，环要等垃圾回收来拆）
            self.finish(error=error.with_traceback(error.__traceback__.tb_next))
            if not isinstance(error, (Exception, asyncio.CancelledError)):
                raise  # Ctrl-C、sys.exit()：不只是这个任务的事，让循环停下

    def finish(self, value: Any = None, error: BaseException | None = None) -> None:
        self.waits_on = None
        self.loop.tasks.discard(self)
        super().finish(value, error)

    def wake(self, waitable: object) -> None:
        # 取消之后它等的已是别的东西：旧登记不必去找，认不出就作废
        if self.waits_on is waitable:
            self.waits_on = None
            if self.loop.running is not self:  # 正在跑的不用叫
                self.loop.ready.append(self)

    def cancel(self) -> None:
        """请它收场：只打断它的等待；它在等的任务照旧（asyncio 会连那个一起取消）。"""
        self.trouble = None if self.done else asyncio.CancelledError()
        if self.waits_on is not None:
            self.wake(self.waits_on)


class Timer(float):
    """闹钟：数值就是到点的时刻，可以直接在堆 (heap) 里比大小。"""

    __slots__ = ()

    def block(self, task: Task) -> None:
        loop, timers = task.loop, task.loop.timers
        if len(timers) > loop.crowded:  # 作废的闹钟从堆中间抽不出来，攒多了一次扫掉
            timers[:] = [entry for entry in timers if entry[2].waits_on is entry[0]]
            heapify(timers)
            loop.crowded = 2 * len(timers) + 1000
        heappush(timers, (self, next(loop.tickets), task))  # 同时到点的按号：先来先响


class Loop:
    def __init__(self) -> None:
        self.ready, self.timers, self.tickets, self.crowded = deque(), [], count(), 1000
        self.tasks, self.main, self.running = set(), None, None
        self.report = traceback.print_exception
        self.selector = selectors.DefaultSelector()  # Linux 上就是 epoll

    def spawn(self, coro: Coroutine) -> Task:
        return Task(self, coro)

    @types.coroutine
    def sleep(self, seconds: float):
        timer = Timer(time.monotonic() + seconds)
        yield timer if seconds > 0 else None
        while time.monotonic() < timer:
            yield timer

    def turn(self) -> None:
        """一轮 (iteration)：等 I/O，跑等到的；到点的进队；队里此刻有几个，就跑几个。"""
        ready, timers = self.ready, self.timers
        nap = timers[0][0] - time.monotonic() if timers else LONGEST_NAP
        nap = 0 if ready else min(max(nap, 0), LONGEST_NAP)
        if self.selector.get_map():
            for key, mask in self.selector.select(nap):  # 空闲时，线程就睡在这一行
                if mask & selectors.EVENT_READ:
                    key.data.readable.fire()
                if mask & selectors.EVENT_WRITE:
                    key.data.writable.fire()
        elif nap:  # 一个套接字也没有：Windows 的 select 不收空名单
            time.sleep(nap)
        now = time.monotonic()
        while timers and timers[0][0] <= now:
            timer, _, task = heappop(timers)
            task.wake(timer)
        for _ in range(len(ready)):  # 这一轮里新排进来的，下一轮再说：谁也饿不死
            if not (task := ready.popleft()).done:
                task.step()

    def run(self, coro: Coroutine) -> Any:
        self.main = self.spawn(coro)
        with self.selector:
            try:
                while not self.main.done:
                    self.turn()
            finally:  # main 完了、失败了、Ctrl-C：剩下的任务都取消，等它们收拾完
                while batch := {*self.tasks}:  # 收拾时又开的任务，是下一批
                    for task in batch:
                        task.cancel()
                    self.ready.extend(batch)  # Ctrl-C 若正好落在出队和推进之间，有人两头都不在
                    while batch & self.tasks:
                        self.turn()
        if self.main.error is not None:
            raise self.main.error
        return self.main.value


class Side:
    """连接的一头：可读，或可写。在 epoll 里的登记一直留着，换人等、接着等都不用再登记。"""

    def __init__(self, stream: "Stream", event: int) -> None:
        self.stream, self.event, self.task = stream, event, None

    def block(self, task: Task) -> None:
        if self.task not in (None, task) and self.task.waits_on is self:
            raise RuntimeError("这一头已经有任务在等")  # 不说，前一个就再也醒不来
        self.task = task
        if self.stream.sock.fileno() < 0:
            task.wake(self)  # 已经关了，等不来什么
        else:
            self.stream.watch(self.stream.interest | self.event)

    def fire(self) -> None:
        if self.task.waits_on is self:
            self.task.step()  # 从事件直接接着跑：不建 Future，不去就绪队列绕一圈
        else:  # 没人等了才撤：epoll 是水平触发 (level-triggered)，不撤会每轮都报，循环空转
            self.stream.watch(self.stream.interest & ~self.event)


class Stream:
    """我们这边的适配器 (adapter)：处理函数只看得见 read、write、close。"""

    def __init__(self, loop: Loop, sock: socket.socket, side: type[Side] = Side) -> None:
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):  # 关掉 Nagle 算法：小包立刻发，不等凑满
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.loop, self.sock, self.side, self.interest, self.writing = loop, sock, side, 0, False
        self.readable = side(self, selectors.EVENT_READ)
        self.writable = side(self, selectors.EVENT_WRITE)

    def watch(self, interest: int) -> None:
        if interest != self.interest:
            if self.interest:
                self.loop.selector.unregister(self.sock)
            if interest:
                self.loop.selector.register(self.sock, interest, self)
            self.interest = interest

    @types.coroutine
    def read(self):
        while True:
            yield self.readable  # 先等再读：多数时候要等，先试着读是白叫一次系统
            try:
                return self.sock.recv(65536)
            except BlockingIOError:
                pass  # 白醒了一次：接着等

    @types.coroutine
    def write(self, data: bytes):
        if self.writing:  # 别人的还剩半截没发：插进去，对面就看不懂了
            raise RuntimeError("这一头已经有任务在等")
        while True:
            try:
                sent = self.sock.send(data)
                if sent == len(data):
                    return
                data = memoryview(data)[sent:]  # 部分写 (partial write)：剩下的不复制，只挪起点
            except BlockingIOError:
                pass
            self.writing = True
            try:
                yield self.writable  # 对方读得慢，缓冲区满了：停在这里就是背压 (back-pressure)
            finally:
                self.writing = False

    def close(self) -> None:
        self.watch(0)
        self.sock.close()
        for side in (self.readable, self.writable):
            if side.task is not None:
                side.task.wake(side)  # 还在等的，去撞关了的套接字，得到 OSError


@types.coroutine
def serve(loop: Loop, door: Stream, handler: Callable):
    while door.sock.fileno() >= 0:
        try:
            loop.spawn(handler(Stream(loop, door.sock.accept()[0], door.side)))
        except BlockingIOError:
            yield door.readable
        except OSError:  # 文件描述符 (file descriptor) 用完了，或人家没等到就走了：歇一下再开门
            yield from loop.sleep(0.05)
