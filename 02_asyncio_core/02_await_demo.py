"""2.2 await：等的时候，把线程让给别人

视频：§3.3 await（示例 1–3）
运行：python 02_asyncio_core/02_await_demo.py
观看：python tutorial.py trace 2.2（一步步看谁在跑、谁在等）

先猜后跑
    迎客的任务先登记。await do("叠衣") 和 await asyncio.create_task(do("叠衣"))，
    哪一种写法下先迎客，哪一种先叠衣？（第 4 节）

预期输出
    ── 1. await 等到结果，才往下走 ──
    洗好了，拿到 '湿的衬衫'，送去烘干
    烘好了，得到 '干的衬衫'
    ── 2. 两个 await 排着写，就是先后做 ──
    先后 await: ['湿的床单', '湿的毛巾']，用时 ≈0.10 秒
    先建任务再 await: ['湿的床单', '湿的毛巾']，用时 ≈0.05 秒
    ── 3. 能 await 的，是有 __await__ 的对象 ──
    await coroutine: '湿的袜子'
    await Task: '湿的毛巾'
    await Future: '洗好了'
    await Detergent: '倒好了'
    ── 4. await 协程不换人，await 没做完的任务才换人 ──
    await do('叠衣'): ['叠衣', '迎客']
    await create_task(do('叠衣')): ['迎客', '叠衣']
    ── 5. 伪并发：同一时刻只执行一段代码，到 await 才换人 ──
    读和写之间没有 await，三个人各投一枚:
      读到 0 枚，写回 1 枚
      读到 1 枚，写回 2 枚
      读到 2 枚，写回 3 枚
      箱里 3 枚，线程 1 个
    读和写之间有 await，三个人各投一枚:
      读到 0 枚，写回 1 枚
      读到 0 枚，写回 1 枚
      读到 0 枚，写回 1 枚
      箱里 1 枚，线程 1 个
    ── 6. Semaphore(2)：机器只有两台 ──
    6 筐衣服，同时最多洗 2 筐，用时 ≈0.15 秒
    ── 7. gather 按传入的顺序，as_completed 按完成的顺序 ──
    gather: ['湿的大衣', '湿的袜子']
    as_completed: ['湿的袜子', '湿的大衣']
    ── 8. 一个失败，另一个还在跑 ──
    gather: 抛出 RuntimeError('掉色了')，大衣还在洗
    gather(return_exceptions): 得到 ['湿的大衣', RuntimeError('掉色了')]，大衣也洗完了
    as_completed: 抛出 RuntimeError('掉色了')，大衣还在洗
    wait(FIRST_EXCEPTION): 得到 [RuntimeError('掉色了')]，大衣还在洗

视频勘误
    常听说“遇到 await 就切换”，只说对一半：被等的东西真的挂起 (suspend) 才切换。
    await do("叠衣") 一路执行到底，谁也没换上来（第 4 节）。
    所以示例 3 的两个 await 是先后做；要同时做，先把它们建成任务（第 2 节）。

动手试试
    1. 第 4 节在第一个 await do("叠衣") 前加一行 await asyncio.sleep(0)，谁先做？为什么？
    2. 把第 5 节的 await asyncio.sleep(0) 移到写回之后，箱里有几枚？为什么？
    3. 第 6 节改成 Semaphore(3)、Semaphore(6)：先算用时，再运行。
"""

import asyncio
import threading
import time


async def wash(load: str, seconds: float = 0.05) -> str:
    await asyncio.sleep(seconds)  # 洗衣机自己转：这段时间线程空着，别的任务可以用
    if load == "红裙":
        raise RuntimeError("掉色了")
    return f"湿的{load}"


async def pass_the_result_on() -> str:
    """示例 1、2：await 一个协程，拿到它 return 的值，再交给下一个协程。"""

    async def dry(wet: str) -> str:
        await asyncio.sleep(0.02)
        return wet.replace("湿", "干")

    wet = await wash("衬衫")
    print(f"洗好了，拿到 {wet!r}，送去烘干")
    dried = await dry(wet)
    print(f"烘好了，得到 {dried!r}")
    return dried


async def await_in_a_row() -> tuple[float, float]:
    """示例 3：第一个 await 结束之后，第二个协程才开始执行。"""
    started = time.perf_counter()
    washed = [await wash("床单"), await wash("毛巾")]
    one_by_one = time.perf_counter() - started
    print(f"先后 await: {washed}，用时 ≈{one_by_one:.2f} 秒")
    started = time.perf_counter()
    sheets, towels = asyncio.create_task(wash("床单")), asyncio.create_task(wash("毛巾"))
    washed = [await sheets, await towels]  # 等床单时，毛巾也在洗
    together = time.perf_counter() - started
    print(f"先建任务再 await: {washed}，用时 ≈{together:.2f} 秒")
    return one_by_one, together


class Detergent:
    """__await__ 返回迭代器，yield 就是挂起，return 就是结果（1.4 盖章的生成器没有它，是例外）。"""

    def __await__(self):
        yield  # 空 yield 让路一轮；asyncio.sleep(0) 里面也是它
        return "倒好了"


async def await_anything_awaitable() -> list[str]:
    future = asyncio.get_running_loop().create_future()
    future.set_result("洗好了")
    task = asyncio.create_task(wash("毛巾", 0))
    results = []
    for awaitable in (wash("袜子", 0), task, future, Detergent()):
        results.append(await awaitable)
        print(f"await {type(awaitable).__name__}: {results[-1]!r}")
    return results


async def await_without_switching() -> list[str]:
    """await 协程像调用函数：一路执行进去，直到里面有人真的挂起；任务 (Task) 要先排队。"""
    order: list[str] = []

    async def do(chore: str) -> None:
        order.append(chore)

    customer = asyncio.create_task(do("迎客"))
    await do("叠衣")
    await customer
    print(f"await do('叠衣'): {order}")
    customer = asyncio.create_task(do("迎客"))
    await asyncio.create_task(do("叠衣"))  # 它排在迎客后面，轮到它时迎客已经做完
    print(f"await create_task(do('叠衣')): {order[2:]}")
    return order


async def run_one_piece_at_a_time() -> list[int]:
    """协作式 (cooperative)：两个 await 之间没人插得进来；到了 await，谁都可能插进来。"""
    coins, totals, threads = 0, [], set()

    async def insert_coin(pause: bool) -> None:
        nonlocal coins
        seen = coins
        if pause:
            await asyncio.sleep(0)  # 线程在这里交给下一个人，他读到的还是旧数
        coins = wrote = seen + 1
        threads.add(threading.get_ident())
        print(f"  读到 {seen} 枚，写回 {wrote} 枚")

    for pause in (False, True):
        print(f"读和写之间{'有' if pause else '没有'} await，三个人各投一枚:")
        coins = 0
        await asyncio.gather(*(insert_coin(pause) for _ in range(3)))
        print(f"  箱里 {coins} 枚，线程 {len(threads)} 个")
        totals.append(coins)
    return totals


async def limit_how_many_are_in_flight() -> int:
    """信号量 (Semaphore)：任务照样全建好，同时进得了 async with 的只有这么多。"""
    free_machine = asyncio.Semaphore(2)
    washing = most = 0

    async def wash_one() -> None:
        nonlocal washing, most
        async with free_machine:
            washing += 1
            most = max(most, washing)
            await wash("衣服")
            washing -= 1

    started = time.perf_counter()
    await asyncio.gather(*(wash_one() for _ in range(6)))
    print(f"6 筐衣服，同时最多洗 {most} 筐，用时 ≈{time.perf_counter() - started:.2f} 秒")
    return most


async def collect_as_completed(awaitables: list) -> list:
    return [await next_done for next_done in asyncio.as_completed(awaitables)]


async def compare_order() -> tuple[list[str], list[str]]:
    as_passed = await asyncio.gather(wash("大衣"), wash("袜子", 0.01))
    print(f"gather: {as_passed}")
    as_finished = await collect_as_completed([wash("大衣"), wash("袜子", 0.01)])
    print(f"as_completed: {as_finished}")
    return as_passed, as_finished


async def compare_failure() -> dict[str, bool]:
    """这几样都不替你收拾剩下的任务；要一个失败、全组收场，用 TaskGroup（见 2.3）。"""

    async def wait_for_failure(tasks: list[asyncio.Task]) -> list[BaseException | None]:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        return [task.exception() for task in done]  # wait 自己从不抛异常，要你去看

    collectors = {
        "gather": lambda tasks: asyncio.gather(*tasks),
        "gather(return_exceptions)": lambda tasks: asyncio.gather(*tasks, return_exceptions=True),
        "as_completed": collect_as_completed,
        "wait(FIRST_EXCEPTION)": wait_for_failure,
    }
    left_running = {}
    for name, collect in collectors.items():
        coat = asyncio.create_task(wash("大衣", 0.2))
        dress = asyncio.create_task(wash("红裙", 0))  # 一下水就掉色：大衣还早着
        try:
            outcome = f"得到 {await collect([coat, dress])}"
        except RuntimeError as error:
            outcome = f"抛出 {error!r}"
        left_running[name] = not coat.done()
        print(f"{name}: {outcome}，大衣{'还在洗' if left_running[name] else '也洗完了'}")
        coat.cancel()  # 谁建的任务谁收拾；已经结束的，cancel 不起作用
        await asyncio.wait([coat])
    return left_running


SECTIONS = {
    "1. await 等到结果，才往下走": pass_the_result_on,
    "2. 两个 await 排着写，就是先后做": await_in_a_row,
    "3. 能 await 的，是有 __await__ 的对象": await_anything_awaitable,
    "4. await 协程不换人，await 没做完的任务才换人": await_without_switching,
    "5. 伪并发：同一时刻只执行一段代码，到 await 才换人": run_one_piece_at_a_time,
    "6. Semaphore(2)：机器只有两台": limit_how_many_are_in_flight,
    "7. gather 按传入的顺序，as_completed 按完成的顺序": compare_order,
    "8. 一个失败，另一个还在跑": compare_failure,
}


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    asyncio.run(main())
