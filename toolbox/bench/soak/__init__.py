"""Hard conditions, counted and bounded: `python tutorial.py bench soak [name …]`.

Every other module here is one of them: it has TITLE (Chinese), and `checks(say, quick)`, a
generator of Check that is done within some minutes, whatever happens; `say` takes a line of
progress.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that must hold: what (Chinese), what was counted, whether that is as it must be."""

    what: str
    found: str
    ok: bool
