"""What the script prints, written down on its way to the same place, in the same order.

sys.stdout becomes a TextIOWrapper around the very same buffer, so that encoding, buffering and
`.buffer`, `.fileno()`, `.reconfigure()` work as before.
"""

import io
import sys

from .recording import Recording


class _Text(io.TextIOWrapper):
    """Standard output or error that also tells the recording."""

    def watch(self, recording: Recording, name: str) -> None:
        self._recording, self._name = recording, name

    def write(self, text: str) -> int:
        with self._recording.printing:
            written = super().write(text)
            if text:
                self._recording.output(self._name, text)
        return written

    def __repr__(self) -> str:
        return f"<_io.TextIOWrapper {super().__repr__().partition(' ')[2]}"

    @property
    def buffer(self) -> "_Bytes":
        return _Bytes(super().buffer, self._recording, self._name)


class _Bytes:
    """The binary buffer below it."""

    def __init__(self, buffer, recording: Recording, name: str) -> None:
        self._buffer, self._recording, self._name = buffer, recording, name

    def write(self, data) -> int:
        with self._recording.printing:
            written = self._buffer.write(data)
            text = bytes(data).decode("utf-8", "backslashreplace")
            self._recording.output(self._name, text, is_bytes=True)
        return written

    def __getattr__(self, name: str):
        return getattr(self._buffer, name)

    def __enter__(self):
        self._buffer.__enter__()
        return self

    def __exit__(self, *error):
        return self._buffer.__exit__(*error)

    def __iter__(self):
        return iter(self._buffer)


def install(recording: Recording) -> None:
    """Watch sys.stdout and sys.stderr, where they are ordinary text streams."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper:
            continue
        how = {
            "encoding": stream.encoding,
            "errors": stream.errors,
            "newline": None if sys.platform == "win32" else "\n",
            "line_buffering": stream.line_buffering,
            "write_through": stream.write_through,
        }
        watched = _Text(stream.detach(), **how)
        watched.mode = "w"
        watched.watch(recording, name)
        setattr(sys, name, watched)
        setattr(sys, f"__{name}__", watched)
