"""Show a trace: in the terminal, as a page to step through, as a file for Perfetto.

Everything here reads version 1 of the trace as toolbox/recorder/schema.md describes it, and nothing
else: a trace that somebody else wrote will do.

    reading.py     what all three share: steps, spans, names; a long trace made shorter
    terminal.py    a lane per task, in text
    page.py        one HTML file that needs nothing else (page.html, page.css, *.js)
    perfetto.py    Chrome's trace format, for ui.perfetto.dev
    command.py     what `python tutorial.py trace` was asked to do
"""
