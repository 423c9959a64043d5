"""Lanes for greenlets: greenlet tells us each switch. Loaded when the script imports greenlet.

It tells only those of the thread that asked: the main one.
"""

import greenlet

from .brief import brief
from .recording import Recording

UNKNOWN = "…"  # an exception, but nobody tells which


class Greenlets:
    """What ran in each greenlet when it was left."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.left_in: dict[int, tuple] = {}  # lane → (T, generators) to go on with
        self.thrown_into: int | None = None
        self.error: str | None = None  # the last one that left a function

    def unwinds(self, error: BaseException) -> None:
        """greenlet does not tell what a dead one died of; only lines do."""
        self.error = brief(error)

    def switched(self, event: str, way: tuple) -> None:
        """greenlet calls this in the target, after each switch and each throw."""
        origin, target = way
        recording = self.recording
        if recording.full():
            return
        left = recording.lane(origin)
        if left is None:
            left = self._new(origin, recording.by(), None)
            self._begins(left)
        place = self._place(left, origin.gr_frame)
        entered = recording.lane(target)
        if entered is None:
            entered = self._new(target, {"T": left}, place.get("at"))
        thrown = self._ends(left, origin, event, place)
        # A dead one's exception that goes on to its parent is no throw().
        self.thrown_into = entered if event == "throw" and not origin.dead else None
        self.error = None
        self._begins(entered, thrown)
        here = recording.here
        here.T, here.generators = self.left_in.pop(entered, (entered, []))

    def _ends(self, lane: int, origin, event: str, place: dict) -> str | None:
        """Control left this lane: it waits, or it is over. Returns what is thrown into the next."""
        recording = self.recording
        if not origin.dead:
            self.left_in[lane] = recording.here.T or lane, recording.here.generators
            waiting = {"kind": "switch", **place}
            recording.ev.append(("end", recording.now(), None, lane, None, "wait", waiting))
            return UNKNOWN if event == "throw" else None
        # GreenletExit goes no further than the greenlet, and comes by a throw() only.
        died_of = (self.error or UNKNOWN) if recording.lines else "GreenletExit()"
        if event == "throw":
            state, exc = "error", self.error or UNKNOWN
        elif lane == self.thrown_into and died_of.startswith("GreenletExit"):
            state, exc = "cancelled", died_of
        else:
            state, exc = "done", None
        recording.lanes[lane].update(state=state, **({"exc": exc} if exc else {}))
        recording.ev.append(("end", recording.now(), None, lane, None, state, None, None, exc))
        return exc if event == "throw" else None

    def _begins(self, lane: int, thrown: str | None = None) -> None:
        self.recording.ev.append(("run", self.recording.now(), None, lane, None, None, thrown))

    def _new(self, thing, by: dict, at: list | None) -> int:
        recording = self.recording
        name = "main" if thing.parent is None else "greenlet"
        lane = recording.new_lane(name, thing, at[:2] if at else None, lane="greenlet")
        recording.lanes[lane].update(by=by, coro=None)
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
        if entry["name"] == "main":
            entry["coro"] = "main"
        elif entry["coro"] is None:
            name = self.recording.short(code.co_filename)
            self.recording.name_lane(lane, code.co_name, code.co_qualname)
            entry["def"] = [name, code.co_firstlineno]


def install(recording: Recording) -> None:
    """Watch the switches of this thread."""
    watch = Greenlets(recording)

    def switched(event: str, way: tuple) -> None:
        try:
            watch.switched(event, way)
        except Exception as error:  # would be raised in the learner's switch()
            recording.trouble("greenlets", error)

    recording.unwinds = watch.unwinds
    recording.before_trace.append(lambda: _name_the_rest(recording))
    greenlet.settrace(switched)


def _name_the_rest(recording: Recording) -> None:
    """Those that never stood anywhere: the function around the first line that they ran."""
    nameless = {
        lane["id"]
        for lane in recording.lanes
        if lane.get("lane") == "greenlet" and lane["coro"] is None
    }
    for event in recording.ev:
        if nameless and event and event[0] == "line" and event[2] in nameless:
            nameless.remove(event[2])
            _, _, lane, file, number, *_ = event
            name, line = recording.function_at(file, number) or ("<lambda>", number)
            recording.name_lane(lane, name, name)
            recording.lanes[lane]["def"] = [file, line]
    for lane in nameless:
        recording.name_lane(lane, recording.lanes[lane]["name"], "greenlet")
