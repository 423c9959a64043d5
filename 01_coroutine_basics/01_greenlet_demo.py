"""1.1 greenlet：不用任何新语法，手动切换两段代码

视频：§1 协程、§1.1 greenlet
运行：python 01_coroutine_basics/01_greenlet_demo.py
观看：python tutorial.py trace 1.1（一步步看谁在跑、谁在等）

先猜后跑
    第 1 节里，罗密欧的最后一行是 print("罗密欧: 谢幕")。
    朱丽叶说完第 4 句、函数结束之后，这一行会执行吗？

预期输出
    ── 1. switch 手动换人：1 3 2 4 ──
    1 罗密欧: 我凭月亮起誓。
    3 朱丽叶: 别凭月亮，它夜夜都在变。
    2 罗密欧: 那我凭什么起誓？
    4 朱丽叶: 不必起誓。
    后台: 朱丽叶.dead = True，罗密欧.dead = False（他的谢幕没人叫）
    ── 2. switch(值)：这边递出去，那边收到 ──
    朱丽叶听到: 我凭月亮起誓
    朱丽叶听到: 那我凭什么起誓
    罗密欧听到: ['别凭月亮', '不必起誓']
    ── 3. 隔着几层普通函数也能换人，所以不需要新语法 ──
    罗密欧听到: 唉……
    朱丽叶停在: juliet → recite → sigh
    朱丽叶演完: 罗密欧啊
    ── 4. 异常交给 parent，不交给刚才的搭档 ──
    parent 是后台: 后台听到“忘词了”，罗密欧还在台上等: True
    parent 是罗密欧: 罗密欧听到“忘词了”，替她接上
    ── 5. GreenletExit：请人下台，finally 照样执行 ──
    罗密欧: 放下佩剑
    throw() 返回 GreenletExit()，没有抛出；dead = True
    没有人再引用他，也一样下台：
    罗密欧: 放下佩剑
    台上空了，落幕
    ── 6. 没有人叫醒你：信到了没有，得自己去问 ──
    反复切换着问: 问了 ≈60,000 次，收到“明天九点”
    让选择器 (selector) 叫醒: 问了 2 次，收到“明天九点”

动手试试
    1. 在第 1 节的最后加一句 romeo_part.switch()，“谢幕”出现在哪一行之后？
    2. 第 1 节里把朱丽叶的 romeo_part.switch() 删掉，1 3 2 4 变成什么？两个人还算“同时在台上”吗？
    3. 在第 3 节的 sigh 里加一句 time.sleep(1)（先 import time）：
       台上的另一个人能趁这一秒说话吗？
"""

import selectors
import socket
import threading

from greenlet import getcurrent, greenlet


def switch_by_hand() -> tuple[greenlet, greenlet]:
    """协程 (coroutine)：能停在半路、以后从原处继续的函数。这里由它们自己说换谁。"""

    def romeo() -> None:
        print("1 罗密欧: 我凭月亮起誓。")
        juliet_part.switch()
        print("2 罗密欧: 那我凭什么起誓？")
        juliet_part.switch()
        print("罗密欧: 谢幕")

    def juliet() -> None:
        print("3 朱丽叶: 别凭月亮，它夜夜都在变。")
        romeo_part.switch()
        print("4 朱丽叶: 不必起誓。")
        # 函数到头，控制权回到 parent，也就是创建她的后台，而不是刚才换她上来的罗密欧

    romeo_part, juliet_part = greenlet(romeo), greenlet(juliet)
    romeo_part.switch()
    print(
        f"后台: 朱丽叶.dead = {juliet_part.dead}，罗密欧.dead = {romeo_part.dead}（他的谢幕没人叫）"
    )
    return romeo_part, juliet_part


def pass_values() -> list[str]:
    def juliet(heard: str) -> str:  # 第一次 switch 的参数，是函数的参数
        print(f"朱丽叶听到: {heard}")
        heard = romeo.switch("别凭月亮")  # 以后每次 switch 的参数，是停住的那个 switch 的返回值
        print(f"朱丽叶听到: {heard}")
        return "不必起誓"  # 返回值交给 parent

    romeo, juliet_part = getcurrent(), greenlet(juliet)
    replies = [juliet_part.switch("我凭月亮起誓"), juliet_part.switch("那我凭什么起誓")]
    print(f"罗密欧听到: {replies}")
    return replies


def switch_from_deep_inside() -> list[str]:
    """greenlet 收起的是整个调用栈；而生成器 (1.2) 里的 yield 只能停住自己那一层。

    代价：光看 recite() 这一行，看不出它会换人。async / await (1.4) 就是为了让人看得见。
    """

    def sigh() -> str:
        return romeo.switch("唉……")

    def recite() -> str:
        return sigh() + "啊"

    def juliet() -> str:
        return recite()

    romeo, juliet_part = getcurrent(), greenlet(juliet)
    print(f"罗密欧听到: {juliet_part.switch()}")
    stack, frame = [], juliet_part.gr_frame
    while frame is not None:
        stack.insert(0, frame.f_code.co_name)
        frame = frame.f_back
    print(f"朱丽叶停在: {' → '.join(stack)}")
    print(f"朱丽叶演完: {juliet_part.switch('罗密欧')}")
    return stack


def route_the_exception() -> list[str]:
    caught_by = []

    def romeo() -> None:
        try:
            juliet_part.switch()
        except RuntimeError as error:
            caught_by.append("罗密欧")
            print(f"parent 是罗密欧: 罗密欧听到“{error}”，替她接上")

    def juliet() -> None:
        raise RuntimeError("忘词了")

    romeo_part, juliet_part = greenlet(romeo), greenlet(juliet)
    try:
        romeo_part.switch()
    except RuntimeError as error:
        caught_by.append("后台")
        waiting = not romeo_part.dead
        print(f"parent 是后台: 后台听到“{error}”，罗密欧还在台上等: {waiting}")

    romeo_part = greenlet(romeo)
    juliet_part = greenlet(juliet, parent=romeo_part)
    romeo_part.switch()
    return caught_by


def leave_the_stage() -> greenlet:
    """不肯演完的人怎么办：在他停住的 switch 处抛 GreenletExit，那是“收场”，不算出错。"""

    def romeo() -> None:
        try:
            backstage.switch()
        finally:
            print("罗密欧: 放下佩剑")

    backstage = getcurrent()
    asked, forgotten = greenlet(romeo), greenlet(romeo)
    asked.switch()
    forgotten.switch()
    print(f"throw() 返回 {asked.throw()!r}，没有抛出；dead = {asked.dead}")
    print("没有人再引用他，也一样下台：")
    del forgotten
    print("台上空了，落幕")
    return asked


def wait_for_letter(inbox: socket.socket, backstage: greenlet) -> tuple[int, str]:
    asked = 0
    while True:
        asked += 1
        try:
            return asked, inbox.recv(64).decode()
        except BlockingIOError:  # 若让 recv 阻塞 (blocking)，信到才返回：同一线程的人就全停了
            backstage.switch()


def nobody_wakes_you() -> list[tuple[int, str]]:
    """greenlet 只管换人。I/O 何时就绪，要另有人盯着：这个人就是事件循环 (event loop) 的雏形。"""
    answers = []
    for sleep_until_ready in (False, True):
        inbox, outbox = socket.socketpair()
        with inbox, outbox, selectors.DefaultSelector() as selector:
            inbox.setblocking(False)
            selector.register(inbox, selectors.EVENT_READ)
            romeo_part = greenlet(wait_for_letter)
            romeo_part.switch(inbox, getcurrent())
            nurse = threading.Timer(0.1, outbox.send, ["明天九点".encode()])
            try:
                nurse.start()
                while not romeo_part.dead:
                    if sleep_until_ready:
                        selector.select()  # 睡到 inbox 可读为止，一点 CPU 也不用
                    answer = romeo_part.switch()
            finally:  # 中途按 Ctrl-C，信就不送了
                nurse.cancel()
                if nurse.is_alive():
                    nurse.join()
        answers.append(answer)
    (polled, letter), (woken, same_letter) = answers
    print(f"反复切换着问: 问了 ≈{polled:,} 次，收到“{letter}”")
    print(f"让选择器 (selector) 叫醒: 问了 {woken} 次，收到“{same_letter}”")
    return answers


SECTIONS = {
    "1. switch 手动换人：1 3 2 4": switch_by_hand,
    "2. switch(值)：这边递出去，那边收到": pass_values,
    "3. 隔着几层普通函数也能换人，所以不需要新语法": switch_from_deep_inside,
    "4. 异常交给 parent，不交给刚才的搭档": route_the_exception,
    "5. GreenletExit：请人下台，finally 照样执行": leave_the_stage,
    "6. 没有人叫醒你：信到了没有，得自己去问": nobody_wakes_you,
}


def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        section()


if __name__ == "__main__":
    main()
