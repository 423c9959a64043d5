"""Show what rounds.summary found: a table in the terminal, an HTML page with a chart for each."""

import html
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

WORDS = {"speed": "速度", "memory": "内存", "time": "用时"}


def print_table(result: dict) -> None:
    """One benchmark: a line for each row, then one for each target."""
    right = {"justify": "right", "no_wrap": True}
    table = Table(
        Column(title(result), overflow="fold"),
        Column(f"{result['unit']}（中位）", **right),
        Column("最小–最大", **right),
        Column("倍数", **right),
        Column("CPU 秒", **right),
        Column("内存", **right),
        Column("", no_wrap=True),
        box=None,
        padding=(0, 2, 0, 0),
    )
    longest = max((row["speed"] for row in result["rows"] if not row["refusal"]), default=1)
    for row in result["rows"]:
        if row["refusal"]:
            table.add_row(row["name"], "–", "", "", "", "", "")
            continue
        table.add_row(
            row["name"],
            number(row["speed"]),
            f"{number(row['least'])}–{number(row['most'])}",
            times(row["ratio"]),
            f"{row['cpu']:.2f}",
            size(row["memory"]),
            "█" * max(1, round(16 * row["speed"] / longest)),
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print("", table, sep="\n")
    for row in result["rows"]:
        if row["refusal"]:
            console.print(Text(f"{row['name']}：不算，{row['refusal']}", "yellow"))
    for target in result["targets"]:
        console.print(Text(target_in_words(target), _colour(target)))


def title(result: dict) -> str:
    return result["title"] + ("（--quick：只是看一眼，别当真）" if result["quick"] else "")


def target_in_words(target: dict) -> str:
    """E.g. "✓ 速度：4.4 默认 ÷ Scrapy ＝ 1.92，目标 ≥ 1.8"."""
    what = f"{WORDS[target['of']]}：{target['row']} ÷ {target['baseline']}"
    sign = "≥" if target["of"] == "speed" else "≤"
    goal = f"目标 {sign} {target['figure']:g}"
    if target["ratio"] is None:
        return f"– {what} 没有量到，{goal}"
    return f"{'✓' if target['reached'] else '✗'} {what} ＝ {_ratio(target['ratio'])}，{goal}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}（1/{1 / value:.0f}）"


def _colour(target: dict) -> str:
    return {None: "yellow", True: "green", False: "red"}[target["reached"]]


def number(value: float) -> str:
    """Three digits that matter: 0.0123, 12.3, 12,345."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def times(ratio: float) -> str:
    """A ratio with at least two digits that matter: 20.3×, 1.85×, 0.00043×."""
    return f"{ratio:.1f}×" if ratio >= 10 else f"{ratio:.2f}×" if ratio >= 0.1 else f"{ratio:.2g}×"


def size(value: float) -> str:
    """Bytes in words: 12 KiB, 57 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


# ── The page ──

STYLE = """
:root { color-scheme: light dark; --bar: #4878a8; --base: #9a9a9a; --line: #8884; --ok: #2a7d3f;
        --bad: #b3372f; }
@media (prefers-color-scheme: dark) { :root { --bar: #6ea3d8; --base: #8a8a8a; --ok: #6cc486;
        --bad: #ff8a80; } }
body { font: 16px/1.6 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.5rem 0 .25rem; border-top: 1px solid var(--line); padding-top: 1rem; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; font: inherit; font-size: 14px; }
.soft { opacity: .75; } .bar { fill: var(--bar); } .base { fill: var(--base); }
.range { stroke: currentColor; stroke-width: 1.5; opacity: .6; }
table { border-collapse: collapse; font-size: .9rem; }
td, th { padding: .15rem .9rem .15rem 0; text-align: right; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; }
ul { padding-left: 1.2rem; } .ok { color: var(--ok); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; }
"""


def page(results: Iterable[dict]) -> str:
    """All results as one HTML page that needs nothing else; escaped, no script."""
    body, said = "", ""
    for result in results:  # the machine and the versions are said again only where they change
        place = _place(result)
        body += _section(result) + (place if place != said else "")
        said = place
    return (
        '<!doctype html>\n<html lang="zh-CN">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>量出来的</title>\n<style>{STYLE}</style>\n<h1>量出来的</h1>\n"
        "<p>每一行都做了同样的事才算数；各行轮流跑，只有同一次运行里的倍数有意义。"
        "条长是中位数，细线是最小到最大；灰条是比较的基准。</p>\n"
        f"{body}</html>\n"
    )


def _section(result: dict) -> str:
    text = html.escape
    note = f"<p>{text(result['note'])}</p>\n" if result["note"] else ""
    targets = "".join(
        f'<li class="{ {None: "", True: "ok", False: "bad"}[target["reached"]] }">'
        f"{text(target_in_words(target))}</li>"
        for target in result["targets"]
    )
    refusals = "".join(
        f"<li>{text(row['name'])}：不算，{text(row['refusal'])}</li>"
        for row in result["rows"]
        if row["refusal"]
    )
    return (
        f'<h2 id="{text(result["name"])}">{text(title(result))}</h2>\n{note}'
        f"{_charts(result)}\n{_rows(result)}\n"
        f"<ul>{targets}{refusals}</ul>\n"
        f'<p class="soft">{text(result["date"])}</p>\n'
    )


def _place(result: dict) -> str:
    """The machine, and the versions of what was measured."""
    machine = result["machine"]
    what = [machine["processor"], f"{machine['cores']} 核", machine["system"], machine["python"]]
    used = "，".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f'<p class="soft">{html.escape("，".join(what))}</p>\n'
        f'<details class="soft"><summary>各个包的版本</summary>{html.escape(used)}</details>\n'
    )


def _charts(result: dict) -> str:
    """Speed; memory, too, where something is claimed of it."""
    rows = [row for row in result["rows"] if not row["refusal"]]
    if not rows:
        return ""
    base = rows[0]
    label = f"{result['title']}：{result['unit']}，相对 {base['name']} 的倍数"
    charts = _chart(
        label,
        [(row["name"], row["least"], row["speed"], row["most"], row["ratio"]) for row in rows],
    )
    if any(target["of"] == "memory" for target in result["targets"]):
        label = f"内存，相对 {base['name']} 的倍数"
        sizes = [(row["name"], row["memory"], row["memory"] / base["memory"]) for row in rows]
        charts += f"<p>{html.escape(label)}</p>" + _chart(
            label, [(name, size, size, size, ratio) for name, size, ratio in sizes]
        )
    return charts


def _chart(label: str, bars: list[tuple[str, float, float, float, float]]) -> str:
    """Horizontal bars (name, least, median, most, ratio) from zero to the largest maximum."""
    left, width, height = 400, 440, 30
    scale = width / max(most for _, _, _, most, _ in bars)
    drawn = []
    for index, (name, least, median, most, ratio) in enumerate(bars):
        y = index * height
        middle = y + height / 2
        drawn.append(
            f'<text x="{left - 10}" y="{middle + 5}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{left}" y="{y + 5}" width="{max(median * scale, 1):.1f}"'
            f' height="{height - 10}" rx="2" class="{"bar" if index else "base"}"/>'
            f'<path d="M{left + least * scale:.1f} {middle}H{left + most * scale:.1f}"'
            f' class="range"/>'
            f'<text x="{left + most * scale + 8:.1f}" y="{middle + 5}">{times(ratio)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {left + width + 90} {height * len(bars)}" role="img"'
        f' aria-label="{html.escape(label)}">{"".join(drawn)}</svg>'
    )


def _rows(result: dict) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(row['name'])}</td><td>{number(row['speed'])}</td>"
        f"<td>{number(row['least'])}–{number(row['most'])}</td><td>{times(row['ratio'])}</td>"
        f"<td>{row['cpu']:.2f}</td><td>{size(row['memory'])}</td></tr>"
        for row in result["rows"]
        if not row["refusal"]
    )
    head = f"<th></th><th>{html.escape(result['unit'])}（中位）</th><th>最小–最大</th><th>倍数</th>"
    return (
        f'<div class="scroll"><table><tr>{head}<th>CPU 秒</th><th>内存</th></tr>{cells}</table>'
        "</div>"
    )
