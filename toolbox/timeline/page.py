"""One HTML page to step through a trace: it needs no server, no network and no other file.

The page is page.html with page.css and the scripts written into it. What the scripts get is the
trace itself, plus what reading.py knows about it: steps, spans, names.
"""

import html
import json
import re
from pathlib import Path

from . import reading

HERE = Path(__file__).resolve().parent
SCRIPTS = ("model.js", "words.js", "lanes.js", "page.js")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

# Of a wait, what is the same each time a task waits at the same place.
_FIXED = ("kind", "at", "expr", "stack", "api")
_MOST_AWAITED = 20  # of the lanes that one lane waits for


def build(trace: dict, *, limit: int = reading.LIMIT) -> str:
    """The page for a trace, as text. More than `limit` events are shortened, and it says so."""
    short = reading.shorten(trace, limit)
    data = {
        **{key: value for key, value in short.trace.items() if key != "ev"},
        **_compact(short.trace["ev"]),
        "steps": reading.steps(short.trace),
        "spans": [
            [span.lane, span.state, span.first, span.last] for span in reading.spans(short.trace)
        ],
        "names": reading.names(short.trace),
        "groups": reading.GROUPS,
        "recorded": short.events,
        "lines": short.lines,
        "cut": short.cut,
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
                changing.update(on=on[:_MOST_AWAITED], count=len(on))
            event = {**event, "w": {"p": number, **changing}}
        compact.append(event)
    return {"ev": compact, "places": [json.loads(place) for place in places]}


def _for_script(data: dict) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
