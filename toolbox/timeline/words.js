"use strict";
// What the page says, as far as it is the same in every language; zh.js and en.js have the words.
// A sentence is a list of parts: text, {T: lane} or {code: text}.

const lane = (T) => ({ T });
const code = (text) => ({ code: text });
const say = (texts, ...parts) => texts.flatMap((text, i) => [text, ...[parts[i] ?? []].flat()]);
const codeOf = (w) => code(w.expr || w.api || { future: "Future", task: "Task", io: "I/O" }[w.kind] || w.kind);
const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const sourceOf = (file, line) => (TRACE.src[file]?.[line - 1] ?? "").trim();

function duration(microseconds) {
  if (microseconds <= 0) return "0 ms";
  const ms = microseconds / 1000;
  if (ms >= 1e12) return "∞";
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(ms >= 1 ? 1 : 2)} ms`;
}

// What was asked of sleep(): computed ones may have seventeen digits.
const delayOf = (w) => String(typeof w.delay === "number" ? Number(w.delay.toPrecision(4)) : w.delay);

// Lanes by name, at most four; `w.count` says how many there are if `w.on` is not complete.
function laneList({ on = [], count = on.length }) {
  const known = on.filter((T) => LANES[T]).slice(0, count > 4 ? 3 : 4);
  const list = known.flatMap((T, i) => (i ? [W.and, lane(T)] : [lane(T)]));
  return count === known.length ? list : [...list, W.andMore(count, known.length)];
}

const isOne = (w) => (w?.count ?? w?.on?.length) === 1;
// All that it waits for has ended already: wait() and gather() still take a round to see that.
const isOver = (w) => ["task", "gather", "wait"].includes(w.kind) && w.on && !laneList(w).length;
// In which loop, where there are several.
const inLoop = (e) => (TRACE.loops?.length > 1 ? W.inLoop(e.L ?? 0) : "");

// ── callbacks ──

// asyncio's own, in words (Chinese, English); the learner's are called by their names.
const INNER = [
  [/_run_until_complete_cb|^run_until_complete/, "收尾回调", "the closing callback of run()"],
  [/gather.*_done_callback/, "gather 的清点回调", "gather's counting callback"],
  [/_on_task_done/, "任务组的清点回调", "the task group's counting callback"],
  [/_on_completion|_handle_completion/, "wait 的清点回调", "wait's counting callback"],
  [/_release_waiter/, "wait_for 的回调", "wait_for's callback"],
  [/_call_set_state|_set_state|_call_check_cancel/, "取回线程结果的回调", "callback with a thread's result"],
  [/_read_from_self/, "别的线程敲门", "a knock from another thread"],
  [/set_result/, "给 Future 放结果的回调", "callback that gives a Future its result"],
  [/Transport|_read_ready|_write_ready|sock|_accept|connection/i, "套接字的回调", "a socket's callback"],
];
const INTERNAL = new Set(TRACE.internal);
const isInternal = (cb) => !cb || INTERNAL.has(cb);

// What a timer is for. Only asyncio's own are a lane's: its sleep, or a limit of its time.
const PURPOSES = [
  [/^_set_result_unless_cancelled$/, "sleep"],
  [/^_release_waiter$|\bTimeout\._on_timeout$|^as_completed\.|^_AsCompletedIterator\./, "limit"],
  [/Future\.set_result$/, "result"],
  [/Future\.set_exception$/, "exception"],
  [/^Task\.cancel$|Future\.cancel$/, "cancel"],
];

function purpose(timer) {
  const found = PURPOSES.find(([pattern]) => pattern.test(timer?.cb))?.[1];
  return timer?.T == null && ["sleep", "limit"].includes(found) ? "result" : found;
}

const isOwn = (timer) => ["sleep", "limit"].includes(purpose(timer));

function timerOf(entry) {
  const origin = ORIGIN.get(entry?.h);
  return origin?.k === "timer" ? origin : null;
}

// A function inside of a function goes by its own name.
const ownName = (cb) => code(cb.split("<locals>.").at(-1));

// A callback as a learner should read it.
function callbackName(entry) {
  const { cb } = entry;
  const timer = timerOf(entry);
  if (timer && !isInternal(cb)) return [W.timerCallback, " ", ownName(cb)];
  if (timer) return isOwn(timer) ? [W.timerCallback] : [W.timerCallback, W.colon, ...W.deed(timer)];
  if (entry.io || entry.k === "io") return [W.ioCallback];
  if (!isInternal(cb)) return [W.callback, ownName(cb)];
  const known = INNER.find(([pattern]) => pattern.test(cb));
  return [known ? known[W === ZH ? 1 : 2] : W.innerCallback];
}

const originName = ({ h }) => callbackName(ORIGIN.get(h) ?? {});

// ── who and why ──

// Who runs a line or prints: a lane, a thread, a callback, or the program.
function actor(e) {
  if (e.T != null) return [lane(e.T)];
  if (e.by?.thread) return W.thread(e.by.thread);
  return e.by?.h != null ? originName(e.by) : [W.program];
}

// Who did it: a lane, a thread, a callback (then whoever stands behind it), or the program.
function who(by) {
  if (by?.T != null) return [lane(by.T)];
  if (by?.thread) return W.thread(by.thread);
  const origin = ORIGIN.get(by?.h);
  if (origin?.k === "timer") return isOwn(origin) ? W.timerOfLane(origin.T) : [W.aTimer];
  if (origin?.k === "io") return [W.anIoCallback];
  if (origin?.by?.T != null && isInternal(origin.cb)) return [lane(origin.by.T)];
  if (origin?.by?.thread && isInternal(origin.cb)) return W.thread(origin.by.thread);
  if (origin?.cb && !isInternal(origin.cb)) return [W.callback, ownName(origin.cb)];
  return [by?.h != null ? W.theLoop : W.program];
}

// Of the lanes that a wait is for, the one whose end brought this about.
function finisher(was, by) {
  const T = ORIGIN.get(by?.h)?.by?.T;
  return was?.on?.includes(T) ? T : null;
}

// One that had passed when it was set has no timer.
const isPastLimit = (by) => ORIGIN.get(by?.h)?.cb === "Timeout._on_timeout" && !timerOf(by);
const isLimit = (by) => purpose(timerOf(by)) === "limit" || isPastLimit(by);
// Whose limit it is: only there it becomes a TimeoutError.
const isLimitOf = (by, T) => isLimit(by) && (timerOf(by)?.T ?? ORIGIN.get(by.h).by?.T) === T;
const isCancel = (exc) => exc?.startsWith("CancelledError");
const isClosing = (T) => TRACE.closing.includes(T);
// What is thrown into a first step runs no line; but an aclose() hands it on to its generator.
const runsNothing = (e, now) => now.first && LANES[e.T].coro !== "async_generator_athrow";
// An eager task's first step: it ends inside of create_task, not in the loop.
const isEagerStep = (e) => e.h == null && !LANES[e.T].lane;
