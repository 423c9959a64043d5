"use strict";
// The words of the page, in English.

const EN = {
  name: "English",
  other: "中文",
  source: "Source",
  running: "Running now",
  readyQueue: "Ready queue",
  nextFirst: "leftmost runs next",
  timers: "Timer heap",
  soonestFirst: "soonest first",
  jobs: "Threads and processes",
  output: "Output",
  lanes: "Timeline: one lane per task",
  controls: "Step by step",
  helpTitle: "Keyboard",
  helpIntro:
    "A step is a moment worth looking at: somebody starts to run, stops, is woken, or executes a line. Click anywhere in the timeline or on a line of source to go there. #step=42 at the end of the address leads to this step, and can be shared.",
  close: "Close",
  play: "Play",
  pause: "Pause",
  playLabel: "▶▶ Play",
  pauseLabel: "❚❚ Pause",
  forward: "Next step",
  forwardLabel: "Next ▶",
  back: "Step back",
  first: "First step",
  last: "Last step",
  taskBack: "Previous step of this task",
  taskForward: "Next step of this task",
  scrub: "Go to any step",
  byStep: "x: steps",
  byTime: "x: time",
  fit: "Fit",
  zoomIn: "Zoom in",
  zoomOut: "Zoom out",
  theme: "Theme",
  themeLabel: "Switch between dark and light",
  languageLabel: "切换到中文",
  help: "Keyboard and help",
  nobody: "nobody: the loop is between two steps",
  outside: "the program, outside the loop",
  program: "the program",
  theLoop: "the event loop",
  asleep: "the loop is asleep",
  empty: "empty",
  none: "none",
  queued: "waits for a thread",
  inProcess: "in a process pool",
  finished: "finished, the result is on its way",
  callback: "callback ",
  timerCallback: "timer callback",
  aTimer: "a timer",
  ioCallback: "I/O callback",
  anIoCallback: "an I/O callback",
  innerCallback: "a callback of asyncio's or a library's own",
  colon: ": ",
  and: ", ",
  others: "some Futures",
  andMore: (all, shown) => (shown ? ` and ${all - shown} more` : `${all} Future${all === 1 ? "" : "s"}`),
  thread: (name) => ["thread ", code(name)],
  timerOfLane: (T) => [lane(T), "'s timer"],
  loop: (L) => `Loop ${L + 1}`,
  inLoop: (L) => ` in loop ${L + 1}`,
  step: (n, all) => `Step ${n} / ${all}`,
  laneLabel: (name, state) => `${name}: ${state}`,
  left: (time) => `in ${time}`,
  overdue: "due, not yet looked at",
  more: (n) => `${n} more`,
  earlier: (n) => `… ${n} pieces before\n`,
  neverRan: (line) => `Line ${line} never ran in this recording.`,
  states: {
    none: "not yet",
    new: "created",
    ready: "ready",
    run: "running",
    wait: "waiting",
    done: "done",
    cancelled: "cancelled",
    error: "failed",
    gone: "collected",
    pending: "not finished",
  },
  groups: {
    running: "running",
    ready: "ready",
    sleep: "timer",
    sync: "lock, queue, event",
    task: "other tasks",
    future: "Future",
    outside: "thread, process",
    io: "I/O",
    turn: "switched away",
  },
  keys: [
    ["→ ←", "Next, previous step"],
    ["Shift+→ Shift+←", "Next, previous step of the chosen task"],
    ["↑ ↓", "Choose the task above, below"],
    ["Esc", "Choose no task"],
    ["Space", "Play, pause"],
    ["Home End", "First, last step"],
    ["PageUp PageDown", "Ten steps"],
    ["+ − 0", "Timeline: zoom in, zoom out, fit"],
    ["t", "x axis: steps / real time"],
    ["l", "English / 中文"],
    ["d", "Dark / light"],
    ["↑ ↓ Enter", "In the source (Tab leads there): pick a line, go to its next execution"],
    ["↑ ↓ PageUp PageDown", "In the output (Tab leads there): scroll"],
    ["?", "This table"],
  ],
  facts: (t, lanes) =>
    [
      `Python ${t.python}`,
      LANES.some((lane) => lane.lane) ? `${lanes} lanes` : `${lanes} tasks`,
      `${STEPS.length} steps`,
      t.virtual ? "virtual clock" : duration(EVENTS.at(-1)?.t ?? 0),
    ].join(" · "),

  reason(was, e, after) {
    const by = who(e.by);
    const names = laneList(was ?? {});
    const thing = was?.obj;
    if (isLimit(e.by)) return say`Its time is up`;
    if (e.how === "shutdown") return say`${by} shut ${thing} down`;
    if (e.how === "broken") return say`${by} broke ${thing}`;
    if (e.exc) return this.failure(was, e);
    switch (was?.kind) {
      case "sleep":
        return say`It has slept long enough`;
      case "task":
        return names.length ? say`${names}, which it awaited, is finished` : say`What it awaited is over`;
      case "gather":
        return names.length ? say`${names} ended, gather has all results` : say`gather has all results`;
      case "wait":
        return this.enough(was, e, after);
      case "taskgroup":
        return say`All tasks of the group are finished`;
      case "lock":
        return say`${by} released ${thing || "the lock"}`;
      case "semaphore":
        return say`${by} gave back a slot of ${thing || "the semaphore"}`;
      case "event":
        return say`${by} set ${thing || "the event"}`;
      case "condition":
        return say`${by} notified ${thing || "the condition"}`;
      case "queue":
        if (was.api?.endsWith("put")) return say`${by} took an item from ${thing || "the queue"}: there is room`;
        if (was.api?.endsWith("join")) return say`No work is left in ${thing || "the queue"}`;
        return say`${by} put an item into ${thing || "the queue"}`;
      case "barrier":
        return say`All have arrived at ${thing || "the barrier"}`;
      case "thread":
        return say`The job in the thread is done and its result is back`;
      case "process":
        return say`The job in the process is done and its result is back`;
      case "subprocess":
        return say`The child process has news`;
      case "io":
        return say`The I/O that it awaited has come`;
      case "future":
        if (by[0].T === e.T) return say`The awaited Future has its result`;
        return say`${by} gave the awaited Future its result`;
      default:
        return say`What it awaited is there`;
    }
  },

  failure(was, e) {
    const exc = code(shorten(e.exc, 60));
    const child = finisher(was, e.by);
    switch (was?.kind) {
      case "task":
        return say`${laneList(was)}, which it awaited, failed (${exc})`;
      case "gather":
        if (isCancel(e.exc)) return say`A task that gather waits for was cancelled`;
        return child == null
          ? say`One of gather's failed (${exc}): it waits for no other`
          : say`${lane(child)} failed (${exc}): gather waits for no other`;
      case "thread":
        return say`The job in the thread failed (${exc})`;
      case "process":
        return say`The job in the process failed (${exc})`;
      case "future":
        return say`${who(e.by)} put the exception ${exc} into the awaited Future`;
      default:
        return say`What it awaited failed (${exc})`;
    }
  },

  enough(was, e, after) {
    const child = finisher(was, e.by);
    if (was.until === "ALL_COMPLETED") return say`All that it waits for are finished`;
    if (was.until === "FIRST_EXCEPTION") {
      if (child == null) return say`One of those that it waits for failed, or all have their results`;
      return after.lanes[child].s === "error" ? say`${lane(child)} failed` : say`All that it waits for are finished, none failed`;
    }
    return child == null ? say`One of those that it waits for has its result` : say`${lane(child)} is the first to finish`;
  },

  waits(w) {
    const timer = ORIGIN.get(w.timeout);
    return timer ? say`${this.waitsFor(w)} (time limit ${duration(timer.when)})` : this.waitsFor(w);
  },

  waitsFor(w) {
    const names = laneList(w);
    const those = names.length ? names : this.others;
    if (isOver(w)) return say`what it awaits is over, the loop will wake it when it comes round`;
    const thing = w.obj || `the ${w.kind}`;
    switch (w.kind) {
      case "sleep":
        return say`sleeps for ${delayOf(w)} s, until its timer`;
      case "yield":
        return say`steps aside, at the end of the ready queue again`;
      case "lock":
        return say`somebody holds ${thing}, so it queues`;
      case "semaphore":
        return say`${thing} has no slot left`;
      case "event":
        return say`until somebody sets ${thing}`;
      case "condition":
        return say`until somebody notifies ${thing}`;
      case "queue":
        if (w.api?.endsWith("put")) return say`${thing} is full`;
        if (w.api?.endsWith("join")) return say`until all work in ${thing} is done`;
        return say`${thing} is empty`;
      case "barrier":
        return say`until all have arrived at ${thing}`;
      case "task":
        return say`until ${those} is finished`;
      case "gather":
        if (isOne(w)) return this.waitsFor({ ...w, kind: "task" });
        return say`until all of ${names} are finished`;
      case "wait":
        if (isOne(w)) return this.waitsFor({ ...w, kind: "task" });
        if (w.until === "ALL_COMPLETED") return say`until all of ${those} are finished`;
        if (w.until === "FIRST_EXCEPTION") return say`until the first of ${those} fails, or all are finished`;
        return say`until the first of ${those} is finished`;
      case "taskgroup":
        if (isOne(w)) return say`until the group's ${names} is finished`;
        return names.length ? say`until the group's ${names} are finished` : say`until all tasks of the group are finished`;
      case "future":
        return say`until a Future has its result`;
      case "thread":
        return say`a thread does the job`;
      case "process":
        return say`a process does the job`;
      case "subprocess":
        return say`until the child process has news`;
      case "io":
        return say`until there is I/O (${w.api || "socket"})`;
      case "next":
        return say`until the next next() or send()`;
      case "switch":
        return say`until somebody switches back`;
      default:
        return say`for ${w.api || w.kind}`;
    }
  },

  sentence(e, after) {
    return capital(this.phrase(e, after));
  },

  phrase(e, after) {
    const it = e.T != null ? lane(e.T) : null;
    const now = e.T != null ? after.lanes[e.T] : null;
    switch (e.k) {
      case "new":
        return say`${it} exists.`;
      case "soon":
        return this.queues(e, after, it, now);
      case "timer":
        if (purpose(e) === "sleep") return say`${it} sets a timer for ${duration(e.when)} from now; it goes on the heap.`;
        if (purpose(e) === "limit") return say`${it} gets a time limit of ${duration(e.when)}: a timer goes on the heap.`;
        return say`${who(e.by)} sets a timer, on the heap: in ${duration(e.when)}, ${this.deed(e)}.`;
      case "due": {
        const timer = ORIGIN.get(e.h);
        if (purpose(timer) === "sleep") return say`${lane(timer.T)}'s timer is due: its callback moves from the heap to the ready queue.`;
        if (purpose(timer) === "limit") return say`${lane(timer.T)}'s time is up: the callback moves from the heap to the ready queue.`;
        return say`A timer is due, to ${this.deed(timer)}: its callback moves from the heap to the ready queue.`;
      }
      case "tcancel": {
        const timer = ORIGIN.get(e.h);
        if (purpose(timer) === "sleep") return say`${lane(timer.T)}'s timer is no longer needed: cancelled.`;
        if (purpose(timer) === "limit") return say`${lane(timer.T)}'s time limit is no longer needed: its timer is cancelled.`;
        return say`${who(e.by)} cancels a timer: it will not ${this.deed(timer)}.`;
      }
      case "hcancel":
        return say`${originName(e)} in the ready queue is cancelled: it will not run.`;
      case "io":
        return say`The selector wakes: I/O is ready, its callback joins the ready queue.`;
      case "poll":
        return this.sleeps(e, after);
      case "run":
        return this.runs(e, now, it);
      case "end":
        return this.ends(e, now, it);
      case "line":
        return [
          ...say`${actor(e)} runs line ${String(e.l)}: ${code(shorten(sourceOf(e.f, e.l), 70))}`,
          ...(e.more ? say` (the lines after it are left out)` : []),
        ];
      case "out":
        return e.s === "stderr"
          ? say`${actor(e)} prints to stderr: ${code(shorten(e.text.trim(), 70))}`
          : say`${actor(e)} prints: ${code(shorten(e.text.trim(), 70))}`;
      case "gone":
        return say`Nobody refers to ${it} any more: it was garbage collected and will never go on.`;
      default:
        return this.works(e);
    }
  },

  works(e) {
    const job = ownName(e.fn ?? JOBS.get(e.j)?.fn ?? "the job");
    switch (e.k) {
      case "job":
        return e.proc
          ? say`${who(e.by)} hands ${job} to a process pool; the loop goes on.`
          : say`${who(e.by)} hands ${job} to a thread pool; the loop goes on.`;
      case "thr+":
        return say`${this.thread(e.thread)} begins ${job}, beside the event loop.`;
      case "thr-":
        return say`${this.thread(e.thread)} is free again.`;
      case "jobdone":
        if (e.state === "cancelled") return say`${job} was cancelled before it began.`;
        return e.state === "error"
          ? say`${job} failed: the exception ${code(shorten(e.exc ?? "", 60))} goes into its Future, and a knock wakes the loop to fetch it.`
          : say`${job} is done: its result goes into its Future, and a knock wakes the loop to fetch it.`;
    }
    return [e.k];
  },

  deed(timer) {
    switch (purpose(timer)) {
      case "result":
        return say`give a Future its result`;
      case "exception":
        return say`give a Future an exception`;
      case "cancel":
        return timer.T != null ? say`cancel ${lane(timer.T)}` : say`cancel a Future`;
    }
    return isInternal(timer?.cb) ? say`run ${this.innerCallback}` : say`run ${ownName(timer.cb)}`;
  },

  queues(e, after, it, now) {
    if (!it) return say`${callbackName(e)} joins the ready queue (by ${who(e.by)}).`;
    switch (e.why) {
      case "create":
        if (isClosing(e.T))
          return LANES[e.T].coro.endsWith("asyncgens")
            ? say`To close up, ${it} is handed to the event loop: it closes unfinished asynchronous generators.`
            : say`To close up, ${it} is handed to the event loop: it closes the thread pool.`;
        return e.by?.T != null || e.by?.h != null
          ? say`${who(e.by)} creates ${it}: it joins the ready queue; not one line of it has run.`
          : say`${who(e.by)} hands ${it} to the event loop: it joins the ready queue.`;
      case "yield":
        return say`${it} steps aside: to the end of the ready queue.`;
      case "cancel":
        return isLimitOf(e.by, e.T)
          ? say`Its time is up, which cancels ${it}: it joins the ready queue and will get CancelledError, which the limit turns into TimeoutError.`
          : say`${this.cancels(e, it, now.was)}: it joins the ready queue and will get CancelledError at its await.`;
      case "throw":
        return say`${it} joins the ready queue; an exception will be thrown into it.`;
    }
    return say`${this.reason(now.was, e, after)}: ${it} is ready and joins the end of the queue.`;
  },

  cancels(e, it, was) {
    const origin = ORIGIN.get(e.by?.h);
    if (origin?.cb?.endsWith("_on_task_done") && origin.by?.T != null)
      return say`Because ${lane(origin.by.T)} failed, the task group cancels ${it}`;
    if (was?.on?.includes(e.by?.T)) return say`${lane(e.by.T)}, which ${it} awaits, was cancelled`;
    return e.how === "request" ? say`${who(e.by)} cancels ${it}` : say`${who(e.by)} cancels what ${it} awaits`;
  },

  sleeps(e, after) {
    const next = after.nextTimer(e.L);
    const here = inLoop(e);
    if (!next) return say`Nobody is ready${here} and there is no timer: the loop sleeps until I/O or another thread.`;
    if (next.due <= e.t) return say`Nobody is ready${here}, but a timer is due: the loop does not sleep, it only looks for I/O.`;
    const left = duration(next.due - e.t);
    return isOwn(next)
      ? say`Nobody is ready${here}: the loop sleeps, for ${left} at most, until ${lane(next.T)}'s timer.`
      : say`Nobody is ready${here}: the loop sleeps, for ${left} at most, until a timer.`;
  },

  runs(e, now, it) {
    if (!it) {
      const timer = timerOf(e);
      if (purpose(timer) === "sleep") return say`The loop runs ${lane(timer.T)}'s timer callback: the awaited Future is done.`;
      if (purpose(timer) === "limit") return say`The loop runs ${lane(timer.T)}'s timer callback: its time is up.`;
      return timer ? say`The loop runs a timer callback, to ${this.deed(timer)}.` : say`The loop runs ${callbackName(e)}.`;
    }
    const exc = e.thrown && code(shorten(e.thrown, 60));
    const from = now.was && codeOf(now.was);
    if (LANES[e.T].lane === "greenlet") return this.switches(e, now, it, exc);
    if (LANES[e.T].lane === "generator") return this.resumes(e, now, it, exc);
    if (e.eager) return say`Eager task ${it} does not queue: it starts inside create_task.`;
    if (exc && runsNothing(e, now)) return say`The loop takes ${it}, which was cancelled before it began: ${exc} is thrown in, not one line runs.`;
    if (exc) return from ? say`It is ${it}'s turn: at ${from} it gets ${exc}.` : say`It is ${it}'s turn: it gets ${exc}.`;
    if (now.first) return say`The loop takes ${it} from the head of the ready queue and runs it for the first time.`;
    return from ? say`It is ${it}'s turn: it goes on from ${from}.` : say`The loop takes ${it} from the head of the ready queue.`;
  },

  switches(e, now, it, exc) {
    if (now.first && LANES[e.T].name === "main") return say`${it} is the program itself, which was running all along.`;
    if (e.thrown === "…") return say`Switch to ${it}, throwing an exception into it.`;
    if (exc) return say`Switch to ${it}: its switch() raises ${exc}.`;
    return now.first ? say`Switch to ${it}: it starts.` : say`Switch to ${it}: it goes on.`;
  },

  resumes(e, now, it, exc) {
    const outer = e.in != null ? lane(e.in) : this.program;
    if (e.thrown?.startsWith("GeneratorExit")) return say`${outer} closes ${it}: its yield raises ${exc}.`;
    if (exc) return say`${outer} throws ${exc} into ${it}, at its yield.`;
    return now.first
      ? say`${outer} calls next() for the first time: ${it} starts.`
      : say`${outer} wants another value: ${it} goes on from its yield.`;
  },

  ends(e, now, it) {
    if (!it) return say`The callback returns.`;
    const kind = LANES[e.T].lane;
    const exc = code(shorten(e.exc ?? "", 80));
    switch (e.state) {
      case "done":
        return e.result == null || e.result === "None"
          ? say`${it} is finished.`
          : say`${it} is finished; its result is ${code(shorten(e.result, 60))}.`;
      case "cancelled":
        if (kind === "generator") return say`${it} is closed: ${exc} goes no further.`;
        if (kind === "greenlet") return say`${it} is ended by ${exc}, which goes no further.`;
        return say`${it} ends cancelled: CancelledError went all the way out.`;
      case "error":
        if (kind === "generator") return say`${it} failed: it did not catch ${exc}, which goes to its caller.`;
        if (kind === "greenlet") return say`${it} failed: it did not catch ${exc}, which goes to its parent.`;
        return say`${it} failed: nobody caught ${exc}; the task keeps it.`;
    }
    const w = now.w ?? { kind: "future" };
    if (w.kind === "next")
      return w.value == null || w.value === "None"
        ? say`${it} stops at ${codeOf(w)}; its caller goes on.`
        : say`${it} hands out ${code(w.value)} and stops at ${codeOf(w)}.`;
    if (w.kind === "switch") return say`${it} switches away at ${codeOf(w)}.`;
    return isEagerStep(e)
      ? say`${it} stops at ${codeOf(w)}: ${this.waits(w)}. Control goes back to create_task, and ${who(LANES[e.T].by)} goes on.`
      : say`${it} stops at ${codeOf(w)}: ${this.waits(w)}. Control goes back to the loop.`;
  },
};

// A sentence begins with a capital letter, unless it begins with a name or code.
function capital(parts) {
  const at = parts.findIndex((part) => part !== "");
  const text = parts[at];
  if (typeof text !== "string") return parts;
  return parts.with(at, text[0].toUpperCase() + text.slice(1));
}

let W = ZH; // the language of the page
