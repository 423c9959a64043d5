"""Record what asyncio's event loop does while a script runs, and write one JSON trace.

    python -m toolbox.recorder [-o trace.json] [--no-lines] [--virtual] SCRIPT [ARGS…]

or `record(script, arguments, output=…)`. The script is not changed and does not notice. The trace
is described in schema.md. Standard library only.

The rooms, in the order in which a recording passes through them:

launch       starts the script in a child process; inject/ gets the recorder into it
session      puts everything in place there, and writes the trace at the end
recording    the events and lanes so far
hooks        in asyncio: ready queue, timers, steps, tasks, executors; woven in by `weave`
waits        what a suspended task waits for
lines        source lines; `generators` and `greenlets`: their lanes
streams      what is printed
clock        the virtual clock
uvloop_hooks another loop, as far as it lets itself be seen
model        reads a trace again: the loop's queue and heap, step by step
"""

from .launch import record

__all__ = ["record"]
