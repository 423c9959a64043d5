"""One HTML page to step through a trace: it needs no server, no network and no other file.

The page is page.html with page.css and the scripts written into it. What the scripts get is the
trace itself, plus what reading.py knows about it: steps, spans, names.
"""

import html
import itertools
import json
import re
from pathlib import Path

from . import reading, remarks

HERE = Path(__file__).resolve().parent
SCRIPTS = ("model.js", "words.js", "zh.js", "en.js", "lanes.js", "page.js")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

# Of a wait, what is the same each time a task waits at the same place.
_FIXED = ("kind", "at", "expr", "stack", "api")
_MOST_AWAITED = 20  # of the lanes that one lane waits for

# A page of 20,000 events is at most 3 MB; this is what else may be in it.
MOST_PRINTED = 300_000  # characters
MOST_SOURCE = 300_000
MOST_LINES = 5_000  # of one file: each is an element
LONGEST_LINE = 1_000


def build(trace: dict, *, limit: int = reading.LIMIT) -> str:
    """The page for a trace, as text. More than `limit` events are shortened, and it says so."""
    short = reading.shorten(trace, limit)
    shown, said = short.trace, remarks.remarks(trace, short)
    events = _cut_output(shown["ev"], said)
    ends = reading.ends(events)
    lanes = shown["tasks"]
    data = {
        **{key: value for key, value in shown.items() if key not in ("ev", "src", "notes")},
        **_compact(events),
        "src": _cut_source(trace, said),
        "steps": reading.steps(shown),
        "spans": [[span.lane, span.state, span.first, span.last] for span in reading.spans(shown)],
        "ends": [ends.get(lane["id"]) for lane in lanes],
        "closing": [lane["id"] for lane in lanes if reading.is_closing(lane)],
        "names": reading.names(shown),
        "internal": sorted(reading.internal(shown)),
        "groups": reading.GROUPS,
        "remarks": said,
    }
    parts = {
        "title": html.escape(trace["script"]),
        "policy": POLICY,
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "js": "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "data": _for_script(data),
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _cut_output(events: list[dict], said: list) -> list[dict]:
    """All that was printed, each time as much as there is room for."""
    longest = max((len(event["text"]) for event in events if event["k"] == "out"), default=0)
    most = longest
    while sum(min(len(event.get("text", "")), most) for event in events) > MOST_PRINTED:
        most //= 2
    if most == longest:
        return events
    said.append(remarks.output(most))
    return [
        {**event, "text": event["text"][:most] + "…\n"}
        if len(event.get("text", "")) > most
        else event
        for event in events
    ]


def _cut_source(trace: dict, said: list) -> dict[str, list[str]]:
    """The beginning of each file, the script's own first, as long as there is room."""
    room, kept, cut = MOST_SOURCE, {}, []
    for name in sorted(trace["src"], key=lambda name: (name != trace["script"], name)):
        lines = [_clip(line) for line in trace["src"][name][:MOST_LINES]]
        sizes = itertools.accumulate(len(line) + 4 for line in lines)
        kept[name] = lines[: sum(size <= room for size in sizes)]
        room -= sum(len(line) + 4 for line in kept[name])
        if len(kept[name]) < len(trace["src"][name]):
            cut.append(name)
    if cut:
        said.append(remarks.source(cut))
    return {name: kept[name] for name in trace["src"]}


def _clip(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"


def _compact(events: list[dict]) -> dict:
    """The events with each place of waiting written once: `w` becomes {p: number, …}."""
    places: dict[str, int] = {}
    compact = []
    for event in events:
        if wait := event.get("w"):
            fixed = json.dumps({key: wait[key] for key in _FIXED if key in wait})
            number = places.setdefault(fixed, len(places))
            changing = {key: value for key, value in wait.items() if key not in _FIXED}
            if len(on := wait.get("on", [])) > _MOST_AWAITED:
                changing.update(on=on[:_MOST_AWAITED], count=wait.get("count", len(on)))
            event = {**event, "w": {"p": number, **changing}}
        compact.append(event)
    return {"ev": compact, "places": [json.loads(place) for place in places]}


def _for_script(data: dict) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
