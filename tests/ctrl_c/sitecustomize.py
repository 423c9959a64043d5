"""Ctrl-C at a chosen moment: $CTRL_C seconds after the script prints a line that begins as asked.

The script's own alarm presses it, so no busy machine can let the moment pass, and the handler
runs in the interpreter, so no sleep that is just about to begin can miss it.
"""

import builtins
import json
import os
import signal

beginning, seconds = json.loads(os.environ.pop("CTRL_C"))
del os.environ["PYTHONPATH"]  # the script's children are not meant
print_plainly = builtins.print


def press(*_):
    signal.raise_signal(signal.SIGINT)


def print_and_wait_for_it(*words, **options):
    print_plainly(*words, **options)
    if str(words[0] if words else "").startswith(beginning):
        builtins.print = print_plainly
        signal.setitimer(signal.ITIMER_REAL, seconds)


signal.signal(signal.SIGALRM, press)
builtins.print = print_and_wait_for_it
