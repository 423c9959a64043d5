"""1.2 yield：生成器就是能停在半路的函数

视频：§1.2 yield
运行：python 01_coroutine_basics/02_yield_demo.py
观看：python tutorial.py trace 1.2（一步步看谁在跑、谁在等）

先猜后跑
    罗密欧说 1、2 两句，朱丽叶说 3、4 两句。罗密欧在自己的两句之间写上
    yield from juliet()，听到的会是对白应有的 1 3 2 4 吗？

预期输出
    ── 1. 调用生成器函数只是备场，next 才开演 ──
    调用之后: GEN_CREATED
    1 罗密欧: 我凭月亮起誓。
    停在 yield: GEN_SUSPENDED
    2 罗密欧: 那我凭什么起誓？
    演完之后: GEN_CLOSED
    ── 2. yield from 是等对方演完，不是轮流：1 3 4 2 ──
    1 罗密欧: 我凭月亮起誓。
    3 朱丽叶: 别凭月亮，它夜夜都在变。
    4 朱丽叶: 不必起誓。
    2 罗密欧: 那我凭什么起誓？
    ── 3. send：yield 是表达式，它的值由外面送进来 ──
    还没开演就送: TypeError: can't send non-None value to a just-started generator
    罗密欧: 我凭月亮起誓
    罗密欧: （轻声）我凭月亮起誓
    罗密欧: （跪下）我凭月亮起誓
    ── 4. throw 和 close：在停住的那个 yield 处抛异常 ──
    朱丽叶: 再说一句吧
    朱丽叶: 奶妈叫我，去去就来
    朱丽叶: 收到 GeneratorExit，不再来了
    朱丽叶: 关窗
    close() 之后: GEN_CLOSED
    ── 5. return 的值装在 StopIteration 里，yield from 替你取出来 ──
    手动: StopIteration.value = '不必起誓'
    3 朱丽叶: 别凭月亮，它夜夜都在变。
    罗密欧记下: 不必起誓
    ── 6. 导演，也就是调度器 (scheduler)：一个队列，轮流 next：1 3 5 2 4 6 ──
    1 罗密欧: 我凭月亮起誓。
    3 朱丽叶: 别凭月亮，它夜夜都在变。
    5 奶妈: 小姐！
    2 罗密欧: 那我凭什么起誓？
    4 朱丽叶: 不必起誓。
    6 奶妈: 小姐——！
    导演: 罗密欧、朱丽叶、奶妈 先后演完

动手试试
    1. 让罗密欧多说一句（第 2 节里他是 romeo_delegates），第 6 节里“演完”的先后变成什么？第 2 节呢？
    2. 在 juliet() 的两句之间加 time.sleep(1)（先 import time）：导演能先让奶妈说吗？谁在等谁？
    3. 把 direct 里的 popleft() 换成 pop()，对白变成什么次序？还算轮流吗？
"""

from collections import deque
from collections.abc import Generator, Iterator
from inspect import getgeneratorstate


def romeo() -> Iterator[str]:
    yield "1 罗密欧: 我凭月亮起誓。"
    yield "2 罗密欧: 那我凭什么起誓？"


def juliet() -> Iterator[str]:
    yield "3 朱丽叶: 别凭月亮，它夜夜都在变。"
    yield "4 朱丽叶: 不必起誓。"


def call_and_next() -> list[str]:
    """函数体里有 yield，就是生成器函数 (generator function)；调用它得到生成器，一行也不执行。"""
    part = romeo()
    states = [getgeneratorstate(part)]
    print(f"调用之后: {states[-1]}")
    print(next(part))
    states.append(getgeneratorstate(part))
    print(f"停在 yield: {states[-1]}")
    for line in part:  # for 就是一次次 next，直到 StopIteration
        print(line)
    states.append(getgeneratorstate(part))
    print(f"演完之后: {states[-1]}")
    return states


def delegate() -> list[str]:
    """yield from 把舞台委托 (delegate) 出去：她停一次，外面收到一次；她演完，才轮到下一行。"""

    def romeo_delegates() -> Iterator[str]:
        yield "1 罗密欧: 我凭月亮起誓。"
        yield from juliet()
        yield "2 罗密欧: 那我凭什么起誓？"

    lines = list(romeo_delegates())
    print(*lines, sep="\n")
    return lines


def send_directions() -> list[str]:
    def romeo_follows() -> Generator[str, str, None]:
        direction = ""
        while True:
            direction = yield f"罗密欧: {direction}我凭月亮起誓"

    part = romeo_follows()
    try:
        part.send("（轻声）")  # 他还没停在任何 yield 上，没有地方收
    except TypeError as error:
        print(f"还没开演就送: TypeError: {error}")
    lines = [part.send(None)]  # 与 next(part) 相同：走到第一个 yield
    lines += [part.send(direction) for direction in ("（轻声）", "（跪下）")]
    print(*lines, sep="\n")
    return lines


class NurseCalls(Exception):
    """奶妈在屋里喊人。"""


def interrupt_and_close() -> str:
    """asyncio 的取消 (cancel) 就是一次 throw。收尾写在 finally 里，throw 和 close 都会经过它。"""

    def juliet_at_the_window() -> Iterator[str]:
        try:
            try:
                yield "朱丽叶: 再说一句吧"
            except NurseCalls:
                yield "朱丽叶: 奶妈叫我，去去就来"
        except GeneratorExit:
            print("朱丽叶: 收到 GeneratorExit，不再来了")
            raise  # 拦下来看一眼可以，还得放它出去
        finally:
            print("朱丽叶: 关窗")

    part = juliet_at_the_window()
    print(next(part))
    print(part.throw(NurseCalls()))  # throw 也会走到下一个 yield，并返回它的值
    part.close()  # 在 yield 处抛 GeneratorExit；接住它再 yield，close() 就报 RuntimeError
    print(f"close() 之后: {getgeneratorstate(part)}")
    return getgeneratorstate(part)


def return_an_answer() -> tuple[str, list[str]]:
    def juliet_answers() -> Generator[str, None, str]:
        yield "3 朱丽叶: 别凭月亮，它夜夜都在变。"
        return "不必起誓"

    def romeo_listens() -> Iterator[str]:
        answer = yield from juliet_answers()  # 后来的 answer = await …，就是这一行
        yield f"罗密欧记下: {answer}"

    part = juliet_answers()
    next(part)
    try:
        next(part)
    except StopIteration as stop:
        by_hand = stop.value
    print(f"手动: StopIteration.value = {by_hand!r}")
    lines = list(romeo_listens())
    print(*lines, sep="\n")
    return by_hand, lines


def direct(cast: dict[str, Iterator[str]]) -> list[str]:
    """演员不用认识彼此 (1.1 里要写死换谁)：yield 回到导演手里，由导演决定下一个。

    事件循环也是这样转的，只多一样本事：演员说“等信到了再叫我”，它就先不叫 (1.3)。
    """
    waiting, finished = deque(cast.items()), []
    while waiting:
        name, part = waiting.popleft()
        try:
            print(next(part))
        except StopIteration:
            finished.append(name)
        else:
            waiting.append((name, part))
    return finished


def direct_three_actors() -> list[str]:
    def nurse() -> Iterator[str]:
        yield "5 奶妈: 小姐！"
        yield "6 奶妈: 小姐——！"

    finished = direct({"罗密欧": romeo(), "朱丽叶": juliet(), "奶妈": nurse()})
    print(f"导演: {'、'.join(finished)} 先后演完")
    return finished


SECTIONS = {
    "1. 调用生成器函数只是备场，next 才开演": call_and_next,
    "2. yield from 是等对方演完，不是轮流：1 3 4 2": delegate,
    "3. send：yield 是表达式，它的值由外面送进来": send_directions,
    "4. throw 和 close：在停住的那个 yield 处抛异常": interrupt_and_close,
    "5. return 的值装在 StopIteration 里，yield from 替你取出来": return_an_answer,
    "6. 导演，也就是调度器 (scheduler)：一个队列，轮流 next：1 3 5 2 4 6": direct_three_actors,
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        section()


if __name__ == "__main__":
    main()
