"use strict";
// The model of the loops: what is running, ready, set and waiting after each event of the trace.
// Nothing here knows about the page.

const TRACE = JSON.parse(document.getElementById("trace").textContent);
const EVENTS = TRACE.ev;
const STEPS = TRACE.steps;
const LANES = TRACE.tasks;

for (const event of EVENTS) {
  if (event.w) event.w = { ...TRACE.places[event.w.p], ...event.w };
}

// Handle → what put it there: a `soon`, `timer` or `io` event.
const ORIGIN = new Map();
for (const event of EVENTS) {
  if (["soon", "timer", "io"].includes(event.k)) ORIGIN.set(event.h, event);
}
const JOBS = new Map(EVENTS.filter((event) => event.k === "job").map((event) => [event.j, event]));
const OUTPUT = EVENTS.filter((event) => event.k === "out" && event.text);

// Two threads may have one name, but each has a loop of its own.
const MAIN = "MainThread";
const threadOf = (L = 0) => (TRACE.loops?.[L]?.thread === MAIN ? MAIN : L);

// Whose line it is that runs outside any lane: a thread's, a callback's, the program's.
const runnerOf = (event) => event.by?.thread ?? event.by?.h ?? "";

class State {
  constructor(from) {
    this.ready = new Map(from ? [...from.ready].map(([loop, queue]) => [loop, [...queue]]) : []);
    this.timers = new Map(from?.timers);
    this.jobs = new Map(from?.jobs);
    this.lanes = from ? [...from.lanes] : LANES.map(() => ({ s: "none" }));
    this.frames = from ? [...from.frames] : []; // what runs: {T, h, cb, L, in, thread}, oldest first
    this.asleep = new Map(from?.asleep); // loop → the poll event in which it sleeps
    this.outputs = from?.outputs ?? 0;
    this.lines = new Map(from?.lines); // who runs outside any lane → [file, line]
    this.vague = from ? [...from.vague] : []; // lines that are followed by some that are left out
  }

  queue(loop = 0) {
    if (!this.ready.has(loop)) this.ready.set(loop, []);
    return this.ready.get(loop);
  }

  unqueue(handle) {
    for (const queue of this.ready.values()) {
      const at = queue.findIndex((entry) => entry.h === handle);
      if (at >= 0) return queue.splice(at, 1)[0];
    }
  }

  // Lanes' states are replaced, never changed: whoever kept one can compare.
  set(T, state) {
    this.lanes[T] = { line: this.lanes[T].line, ...state };
  }

  apply(event) {
    const { k, h, T, L } = event;
    for (const line of this.vague.splice(0)) {
      if (line.T == null) this.lines.delete(runnerOf(line));
      else this.lanes[line.T] = { ...this.lanes[line.T], line: null };
    }
    const lane = T == null ? null : this.lanes[T];
    switch (k) {
      case "new":
        this.set(T, { s: "new" });
        break;
      case "soon":
        this.queue(L).push({ h, T, cb: event.cb });
        if (lane && lane.s !== "run") this.set(T, { s: "ready", was: lane.w, why: event.why });
        if (!lane && event.by?.thread) this.knock(event);
        break;
      case "io":
        this.queue(L).push({ h, cb: event.cb, io: true });
        break;
      case "timer":
        this.timers.set(h, { h, T, cb: event.cb, L, set: event.t, due: event.t + event.when });
        break;
      case "due": {
        const timer = this.timers.get(h);
        this.timers.delete(h);
        if (timer) this.queue(timer.L).push({ h, cb: timer.cb, wakes: timer.T, timer: true });
        break;
      }
      case "tcancel":
        this.timers.delete(h);
        break;
      case "hcancel":
        this.unqueue(h);
        break;
      case "poll":
        if (event.ready === 0 && !(this.nextTimer(L)?.due <= event.t)) this.asleep.set(L ?? 0, event);
        break;
      case "polled":
        this.asleep.delete(L ?? 0);
        break;
      case "run":
        this.run(event, lane);
        break;
      case "end":
        this.end(event);
        break;
      case "line":
        if (lane) this.lanes[T] = { ...lane, line: [event.f, event.l] };
        else this.lines.set(runnerOf(event), [event.f, event.l]);
        if (event.more) this.vague.push(event);
        break;
      case "out":
        if (event.text) this.outputs++;
        break;
      case "job":
        this.jobs.set(event.j, { ...event, ...this.jobs.get(event.j), fn: event.fn });
        break;
      case "thr+":
        this.jobs.set(event.j, { ...this.jobs.get(event.j), ...event, started: event.t });
        break;
      case "jobdone":
        if (event.state === "cancelled") this.jobs.delete(event.j);
        else this.jobs.set(event.j, { ...this.jobs.get(event.j), finished: event.by?.thread ?? true });
        break;
      case "gone":
        this.set(T, { s: "gone", line: null });
        break;
    }
  }

  // The first callback that a thread queues after it finished a job fetches the result.
  knock({ h, by }) {
    for (const [j, job] of this.jobs) {
      if (job.finished === by.thread && job.knock == null) return this.jobs.set(j, { ...job, knock: h });
    }
  }

  run(event, lane) {
    const { h, T, cb } = event;
    if (h != null) {
      this.unqueue(h);
      this.timers.delete(h);
    }
    this.asleep.delete(event.L ?? 0);
    if ("in" in event) {
      const { L, thread } = this.frames.findLast((frame) => frame.T === event.in) ?? {};
      this.frames.push({ T, h, cb, L, in: event.in, thread });
    } else if (LANES[T]?.lane) this.frames.push({ T, thread: MAIN }); // only its greenlets are seen
    else this.frames.push({ T, h, cb, L: event.L ?? 0, thread: threadOf(event.L) });
    if (lane) {
      const first = lane.s === "none" || lane.s === "new" || lane.why === "create";
      this.set(T, { s: "run", was: lane.was ?? lane.w, first });
    }
  }

  end(event) {
    const same = (frame) => (event.T != null ? frame.T === event.T : frame.h === event.h);
    const at = this.frames.findLastIndex(same);
    if (at >= 0) this.frames.splice(at, 1);
    const { h, T, w, state } = event;
    if (T == null) {
      for (const [j, job] of this.jobs) if (h != null && job.knock === h) this.jobs.delete(j);
      return;
    }
    if (state === "wait") this.set(T, { s: w?.kind === "yield" ? "ready" : "wait", w });
    else this.set(T, { s: state, result: event.result, exc: event.exc, line: null });
  }

  // What runs in each thread, outermost first: only the last really does.
  running() {
    return Map.groupBy(this.frames, (frame) => frame.thread);
  }

  nextTimer(loop = 0) {
    let next = null;
    for (const timer of this.timers.values()) {
      if ((timer.L ?? 0) === loop && (!next || timer.due < next.due)) next = timer;
    }
    return next;
  }
}

// The state after event `index`: going forward costs one event, going back at most one stretch.
const STRETCH = 256;
const checkpoints = [new State()];
let current = new State();
let applied = -1; // the last event in `current`

function stateAfter(index) {
  const stretch = Math.floor((index + 1) / STRETCH);
  const known = Math.min(stretch, checkpoints.length - 1);
  if (index < applied || known * STRETCH - 1 > applied) {
    current = new State(checkpoints[known]);
    applied = known * STRETCH - 1;
  }
  while (applied < index) {
    current.apply(EVENTS[++applied]);
    if ((applied + 1) % STRETCH === 0 && (applied + 1) / STRETCH === checkpoints.length) {
      checkpoints.push(new State(current));
    }
  }
  return current;
}
