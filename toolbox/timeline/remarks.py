"""What one must know before believing the picture: what it lacks, in Chinese and in English."""

from .reading import Shortened

Remark = tuple[str, str]

# What a note of the trace is about; the note itself is English.
_NOTES = {
    "uvloop": "uvloop：看不到它的 I/O 和每一轮；取消了的回调和定时器还留在表里；"
    "急切任务从第二步才看得到。",
    "lines": "逐行执行只录了前一段：剩下的地方留给切换和等待。",
    "generators": "生成器太多：只有前 200 个有自己的行。",
    "eager": "有的急切任务不是 create_task 建的，从第二步才看得到。",
}


def remarks(trace: dict, short: Shortened) -> list[Remark]:
    """About the trace, and about what was left out to draw it."""
    found = []
    if short.cut:
        shown = len(short.trace["ev"])
        found.append(
            (
                f"太长了：只画出前 {shown} 个事件，一共录了 {short.events} 个。",
                f"Too long: only the first {shown} of {short.events} events are shown.",
            )
        )
    found += _lines(trace, short)
    if trace["truncated"]:
        count = len(trace["ev"])
        found.append(
            (
                f"录像到上限为止：录了 {count} 个事件，之后的没有录。",
                f"The recording reached its limit of {count} events; what came after is missing.",
            )
        )
    if exc := trace.get("died"):
        found.append((f"脚本最后因 {exc} 结束。", f"The script ended with {exc}."))
    return found + [(_NOTES.get(note.partition(":")[0], note), note) for note in trace["notes"]]


def _lines(trace: dict, short: Shortened) -> list[Remark]:
    """Of source lines much is missing before anything else is."""
    events = short.trace["ev"]
    whole, complete = "，切换和等待都在", " Switches and waits are complete."
    if short.cut or trace["truncated"]:
        whole = complete = ""
    if short.lines:
        return [
            (
                f"太长了：任务每跑一次只画开头 {short.lines} 行{whole}。",
                f"Too long: of each run of a task only {short.lines} "
                f"{'line is' if short.lines == 1 else 'lines are'} shown.{complete}",
            )
        ]
    if short.lines == 0:
        return [
            (
                f"太长了：不画源代码的逐行执行{whole}。",
                f"Too long: single lines are not shown.{complete}",
            )
        ]
    if trace["tasks"] and not any(event["k"] == "line" for event in events):
        return [
            (
                f"没有录源代码的逐行执行{whole}。",
                f"Single lines were not recorded.{complete}",
            )
        ]
    if any(event.get("more") for event in events):
        return [
            (
                f"有的一步执行了太多行，只录了开头{whole}。",
                f"Some steps run too many lines: only the first of them were recorded.{complete}",
            )
        ]
    return []


def output(characters: int) -> Remark:
    """What was printed was cut."""
    return (
        f"印出的太多了：每次只留开头 {characters} 个字。",
        f"Too much was printed: only the first {characters} characters of each piece are kept.",
    )


def source(files: list[str]) -> Remark:
    """So were these files."""
    return (
        f"源代码太长了，只留开头：{'、'.join(files)}。",
        f"Too much source: only the beginning is kept of {', '.join(files)}.",
    )
