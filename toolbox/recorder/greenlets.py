"""Lanes for greenlets: greenlet tells us each switch. Loaded when the script imports greenlet.

It tells only those of the thread that asked: the main one.
"""

import greenlet

from .recording import Recording


class Greenlets:
    """What ran in each greenlet when it was left."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.left_in: dict[int, tuple] = {}  # lane → (T, h, generators) to go on with
        self.inside: int | None = None  # the asyncio task in whose step we switch about
        self.count = 0

    def switched(self, event: str, way: tuple) -> None:
        """greenlet calls this in the target, after each switch and each throw."""
        origin, target = way
        recording = self.recording
        if recording.full():
            return
        here = recording.here
        if here.running:  # inside a step of asyncio's: nested in that task
            here.T, here.generators = None, []
        self._leave(origin, event)
        lane = recording.lane(target)
        if lane is None:
            lane = self._new(target)
        self._enter(lane)

    def _leave(self, origin, event: str) -> None:
        recording = self.recording
        here = recording.here
        lane = recording.lane(origin)
        if lane is None:
            lane = self._new(origin)
            self._run(lane)
        if origin.dead:
            state = "error" if event == "throw" else "done"
            recording.lanes[lane]["state"] = state
            recording.ev.append(("end", recording.now(), None, lane, None, state))
            return
        if here.T is not None:
            self.left_in[lane] = here.T, here.generators
        waiting = {"kind": "switch", **self._place(lane, origin.gr_frame)}
        recording.ev.append(("end", recording.now(), None, lane, None, "wait", waiting))

    def _enter(self, lane: int) -> None:
        here = self.recording.here
        self._run(lane)
        here.T, here.generators = self.left_in.pop(lane, (lane, []))

    def _run(self, lane: int) -> None:
        self.recording.ev.append(("run", self.recording.now(), None, lane))

    def _new(self, thing) -> int:
        recording = self.recording
        if thing.parent is None:
            name = "main"
        else:
            self.count += 1
            name = f"greenlet#{self.count}"
        lane = recording.new_lane(name, thing, recording.users_line(4), lane="greenlet")
        recording.bind(thing, lane)
        return lane

    def _place(self, lane: int, frame) -> dict:
        """Where it stands: its own frames, outermost first."""
        recording = self.recording
        users = []
        while frame is not None:
            if recording.is_users(frame.f_code.co_filename):
                users.insert(0, frame)
            frame = frame.f_back
        if not users:
            return {}
        self._name(lane, users[0].f_code)
        place = recording.place(users[-1])
        place["stack"] = [
            [frame.f_code.co_qualname, recording.short(frame.f_code.co_filename), frame.f_lineno]
            for frame in users
        ]
        return place

    def _name(self, lane: int, code) -> None:
        """Only once it stands somewhere can we see which function it runs."""
        entry = self.recording.lanes[lane]
        if entry["def"] is None and entry["name"] != "main":
            entry["coro"] = code.co_qualname
            entry["def"] = [self.recording.short(code.co_filename), code.co_firstlineno]
            entry["name"] = f"{code.co_name}"


def install(recording: Recording) -> None:
    """Watch the switches of this thread."""
    watch = Greenlets(recording)

    def switched(event: str, way: tuple) -> None:
        try:
            watch.switched(event, way)
        except Exception as error:  # would be raised in the learner's switch()
            recording.trouble("greenlets", error)

    greenlet.settrace(switched)
