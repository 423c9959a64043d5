"use strict";
// The page: shows the state after one step, and goes to others.

const $ = (id) => document.getElementById(id);

// An element with a class and children; text is text, never markup.
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

let step = -1;
const files = { shown: null };

// Scrolling makes the browser lay out the page; so a step first makes all its changes, and then
// scrolls what has to be scrolled.
const scrolls = new Map(); // name → what to do

function settle() {
  for (const scroll of scrolls.values()) scroll();
  scrolls.clear();
}

// ── small parts ──

function chip(T, extra = "") {
  const element = make("span", `chip c${T % 8} ${extra}`, make("b", "", String(T)), LANES[T].name);
  element.dataset.lane = T;
  return element;
}

// One without a lane's colours, for what is no lane; the lanes in it are names.
function plainChip(parts) {
  return make("span", "chip plain", ...render(parts, (T) => make("b", "", TRACE.names[T])));
}

function callbackChip(entry) {
  const timer = timerOf(entry);
  return plainChip(isOwn(timer) ? [W.timerCallback, " → ", lane(timer.T)] : callbackName(entry));
}

// A sentence's parts as elements.
function render(parts, ofLane = chip) {
  return parts.map((part) =>
    typeof part === "string" ? part : part.code != null ? make("code", "", part.code) : ofLane(part.T),
  );
}

// Put `fresh` into an element but leave alone what is so already: every new node costs a layout.
function put(element, fresh) {
  fresh.forEach((node, i) => {
    const old = element.childNodes[i];
    if (!old) element.append(node);
    else if (old.isEqualNode(node)) return;
    else if (node.hasChildNodes() && old.cloneNode().isEqualNode(node.cloneNode())) put(old, [...node.childNodes]);
    else old.replaceWith(node);
  });
  while (element.childNodes.length > fresh.length) element.lastChild.remove();
}

function fill(id, children, empty) {
  put($(id), children.length ? children : [make("span", "empty", empty)]);
}

const loops = Math.max(1, TRACE.loops?.length ?? 1);
const loopTag = (L) => (loops > 1 && L != null ? [make("small", "loop", W.loop(L))] : []);

// ── the four boxes ──

// As many as a learner looks at; drawing forty timers would cost more than all the rest of a step.
const MOST_READY = 16;
const MOST_TIMERS = 8;

function showRunning(state) {
  const event = EVENTS[STEPS[step]];
  const outside = event.T == null && ["line", "out"].includes(event.k);
  const parts = [];
  const asleep = new Map([...state.asleep.keys()].map((L) => [threadOf(L), L]));
  for (const [thread, frames] of state.running()) {
    const sleeps = asleep.has(thread); // inside of all these: its own loop, or one more
    const frame = sleeps ? null : frames.at(-1);
    parts.push(...loopTag(sleeps ? asleep.get(thread) : frames.findLast(({ L }) => L != null)?.L));
    for (const outer of frames.slice(0, sleeps ? frames.length : -1)) {
      parts.push(outer.T != null ? chip(outer.T, "behind") : callbackChip(outer), make("span", "arrow", "▸"));
    }
    if (sleeps) parts.push(sleeping());
    else parts.push(...runningNow(state, frame));
  }
  // A thread runs beside the loop.
  if (outside && event.by?.thread) parts.push(plainChip(actor(event)), ...where(state.lines.get(event.by.thread)));
  if (!parts.length && asleep.size) parts.push(...loopTag([...asleep.values()][0]), sleeping());
  fill("running", parts, !TRACE.loops?.length ? W.program : outside ? W.outside : W.nobody);
}

function runningNow(state, { T, h, ...frame }) {
  if (T != null) return [chip(T, "now"), ...where(state.lanes[T].line)];
  return [callbackChip({ ...ORIGIN.get(h), ...frame, h }), ...where(state.lines.get(h))];
}

const sleeping = () => make("span", "asleep", `z z z · ${W.asleep}`);
const where = (at) => (at ? [make("code", "where", shorten(sourceOf(...at), 60))] : []);

function showReady(state) {
  const parts = [];
  for (const [L, queue] of state.ready) {
    if (queue.length) parts.push(...loopTag(L));
    for (const entry of queue.slice(0, MOST_READY)) {
      parts.push(entry.T != null ? chip(entry.T) : callbackChip(entry));
    }
    if (queue.length > MOST_READY) parts.push(make("small", "", W.more(queue.length - MOST_READY)));
  }
  fill("ready", parts, W.empty);
}

function showTimers(state, now) {
  const timers = [...state.timers.values()].sort((a, b) => a.due - b.due || a.h - b.h);
  const rows = timers.slice(0, MOST_TIMERS).map((timer) => {
    const left = Math.max(0, timer.due - now);
    const bar = make("i", "bar");
    const share = timer.due > timer.set ? left / (timer.due - timer.set) : 0;
    bar.style.setProperty("--share", Math.min(1, share).toFixed(3));
    const what = isOwn(timer) ? chip(timer.T) : plainChip(W.deed(timer));
    return make("div", "timer", what, bar, make("small", "", left > 0 ? W.left(duration(left)) : W.overdue));
  });
  if (timers.length > MOST_TIMERS) rows.push(make("small", "", W.more(timers.length - MOST_TIMERS)));
  fill("timers", rows, W.empty);
}

function showJobs(state) {
  const rows = [...state.jobs.values()].map((job) => {
    const where = job.proc ? W.inProcess : job.finished ? W.finished : job.thread || W.queued;
    const owner = job.by?.T != null ? [chip(job.by.T)] : [];
    const kind = job.finished ? "finished" : job.started ? "started" : "queued";
    return make("div", `job ${kind}`, make("code", "", job.fn ?? "?"), make("small", "", where), ...owner);
  });
  fill("jobs", rows, W.none);
}

// ── output: grows and shrinks at its end ──

function outputPiece(index) {
  const event = OUTPUT[index];
  const before = OUTPUT[index - 1];
  const piece = make("span", `piece ${event.s === "stderr" ? "error" : ""}`);
  let atBegin = !before || before.text.endsWith("\n");
  // Whole lines are laid out one by one, the others must share their line.
  if (atBegin && event.text.endsWith("\n")) piece.classList.add("whole");
  for (const text of event.text.match(/[^\n]*\n|[^\n]+/g) ?? []) {
    const line = make("span", atBegin ? "begin" : "", text);
    if (atBegin) line.dataset.lane = event.T ?? "";
    piece.append(line);
    atBegin = true;
  }
  if (event.T != null) {
    piece.classList.add(`c${event.T % 8}`);
    piece.title = TRACE.names[event.T];
  }
  return piece;
}

// [from, to) of OUTPUT is on the page: the last of them, as many as fill the box of `lines` lines and
// can be scrolled; and more once a learner reads back.
const printed = { from: 0, to: 0, lines: 0, back: false };
const MOST_BACK = 400;

function showOutput(state) {
  const box = $("output");
  const to = state.outputs;
  const from = firstPiece(to);
  const pieces = box.querySelectorAll(".piece");
  if (from >= printed.to || to <= printed.from) {
    pieces.forEach((piece) => piece.remove());
    printed.from = printed.to = from;
  }
  const moved = printed.to < to || printed.from < from;
  while (printed.to > to) box.lastChild.remove(), printed.to--;
  while (printed.to < to) box.append(outputPiece(printed.to++));
  while (printed.from < from) box.querySelector(".piece").remove(), printed.from++;
  while (printed.from > from) box.firstChild.after(outputPiece(--printed.from));
  const earlier = from ? W.earlier(from) : "";
  if (box.firstChild.textContent !== earlier) box.firstChild.textContent = earlier;
  box.querySelector(".latest")?.classList.remove("latest");
  if (EVENTS[STEPS[step]].k === "out") box.lastChild?.classList.add("latest");
  if (moved) scrolls.set("output", () => scrollToLastLine(box));
}

function firstPiece(to) {
  let from = to;
  let pieces = printed.back ? MOST_BACK : printed.lines + 8;
  let characters = pieces * 120;
  for (; from > 0 && pieces > 0; from--, pieces--) {
    characters -= OUTPUT[from - 1].text.length;
    if (characters < 0 && from < to) break;
  }
  return from;
}

function resizeOutput(height) {
  printed.lines = Math.ceil(height / LINE_HEIGHT);
  if (step < 0) return;
  showOutput(stateAfter(STEPS[step]));
  settle();
}

// Near the top there is more to come; what is in view stays where it is.
function readBack() {
  const box = $("output");
  if (box.scrollTop > 2 * LINE_HEIGHT || printed.from === 0 || printed.back) return;
  printed.back = true;
  const below = box.scrollHeight - box.scrollTop;
  showOutput(stateAfter(STEPS[step]));
  box.scrollTop = box.scrollHeight - below;
}

// So that no line is cut in half at the top: its padding, 3 px, and whole lines are out of view.
function scrollToLastLine(box) {
  const lines = Math.floor((box.scrollHeight - box.clientHeight - 3) / LINE_HEIGHT);
  box.scrollTop = lines >= 0 ? lines * LINE_HEIGHT + 3 : 0;
}

// ── source ──

const KEYWORDS = new Set(
  "False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield match case".split(" "),
);
const TOKEN = /(#.*)|([rbfuRBFU]{0,2}(?:"""|'''))|([rbfuRBFU]{0,2}(?:"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?))|([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)|(\d[\w.]*)/g;

// Each line of a file as [start, end, class]; enough of Python to tell words from strings.
function colourLines(lines) {
  let open = null; // the quotes of a string that goes on
  return lines.map((text) => {
    const pieces = [];
    let from = 0;
    if (open) {
      const end = text.indexOf(open);
      from = end < 0 ? text.length : end + 3;
      pieces.push([0, from, "string"]);
      if (end < 0) return pieces;
      open = null;
    }
    TOKEN.lastIndex = from;
    for (let found; (found = TOKEN.exec(text)); ) {
      const [all, comment, triple, string, word] = found;
      let end = found.index + all.length;
      if (triple) {
        const quotes = triple.slice(-3);
        const close = text.indexOf(quotes, end);
        if (close < 0) open = quotes;
        end = close < 0 ? text.length : close + 3;
        pieces.push([found.index, end, "string"]);
        TOKEN.lastIndex = end;
        if (open) break;
        continue;
      }
      if (comment) pieces.push([found.index, end, "comment"]);
      else if (string) pieces.push([found.index, end, "string"]);
      else if (word && KEYWORDS.has(word)) pieces.push([found.index, end, "keyword"]);
      else if (word && /^\s*(async\s+)?(def|class)\s+$/.test(text.slice(0, found.index))) pieces.push([found.index, end, "defined"]);
    }
    return pieces;
  });
}

// Columns of the trace count UTF-8 bytes, those of a string UTF-16 units.
const encoder = new TextEncoder();
const decoder = new TextDecoder();
function characters(text, bytes) {
  return bytes == null ? null : decoder.decode(encoder.encode(text).slice(0, bytes)).length;
}

// A line's text in pieces: coloured by token, and between `from` and `to` marked as awaited.
function lineText(text, pieces, from, to, kind) {
  const cuts = new Set([0, text.length]);
  for (const [start, end] of pieces) cuts.add(start).add(end);
  if (from != null) cuts.add(from).add(Math.min(to, text.length));
  const sorted = [...cuts].sort((a, b) => a - b);
  const result = [];
  let mark = null;
  for (let i = 0; i + 1 < sorted.length; i++) {
    const [start, end] = [sorted[i], sorted[i + 1]];
    const token = pieces.find((piece) => piece[0] <= start && start < piece[1]);
    const part = token ? make("span", token[2], text.slice(start, end)) : text.slice(start, end);
    if (from != null && from <= start && start < to) {
      if (!mark) result.push((mark = make("mark", `g-${kind}`)));
      mark.append(part);
    } else result.push(part);
  }
  return result.length ? result : [" "];
}

const source = { lines: [], marks: new Map(), coloured: [], made: new Map(), picked: 0, scrolled: 0, height: 0 };

// The lines of a file as elements; made once, since a trace may go to and fro between files.
function makeFile(file) {
  const lines = TRACE.src[file] ?? [];
  const coloured = colourLines(lines);
  const elements = lines.map((text, i) => {
    const number = make("span", "number", String(i + 1));
    const line = make("div", "line", number, make("span", "code", ...lineText(text, coloured[i])), make("span", "tags"));
    line.dataset.line = i + 1;
    line.setAttribute("role", "option");
    return line;
  });
  const body = make("div", "", ...elements);
  const widest = Math.max(0, ...lines.map((text) => encoder.encode(text).length));
  body.style.setProperty("--width", `calc(${widest + 8}ch + 60px)`);
  return { body, lines: elements, coloured };
}

function openFile(file) {
  for (const line of source.marks.keys()) paintLine(line);
  source.lines[source.picked - 1]?.removeAttribute("aria-selected");
  files.shown = file;
  if (!source.made.has(file)) {
    source.made.set(file, makeFile(file));
    $("source").append(source.made.get(file).body);
  }
  const { body, lines, coloured } = source.made.get(file);
  source.body?.classList.add("closed");
  body.classList.remove("closed");
  Object.assign(source, { body, lines, coloured, marks: new Map(), picked: 0, scrolled: Infinity });
  $("source").removeAttribute("aria-activedescendant");
  for (const tab of $("files").children) {
    tab.setAttribute("aria-pressed", tab.dataset.file === file);
    if (tab.dataset.file === file) scrolls.set("file", () => tab.scrollIntoView({ block: "nearest", inline: "nearest" }));
  }
}

// Where everybody stands: line → [{T, as: run | wait | ready, w}].
function marksOf(state, file) {
  const marks = new Map();
  if (file == null) return marks;
  const innermost = new Set([...state.running().values()].map((frames) => frames.at(-1).T));
  const add = (line, mark) => marks.get(line)?.push(mark) ?? marks.set(line, [mark]);
  state.lanes.forEach((lane, T) => {
    if (lane.s === "run") {
      if (lane.line?.[0] === file) add(lane.line[1], { T, as: innermost.has(T) ? "run" : "behind" });
    } else if (lane.s === "wait" || lane.s === "ready") {
      const w = lane.w ?? lane.was;
      if (w?.at?.[0] === file) add(w.at[1], { T, as: lane.s, w });
    }
  });
  const event = EVENTS[STEPS[step]];
  const at = ["line", "out"].includes(event.k) && event.T == null ? state.lines.get(runnerOf(event)) : null;
  if (at?.[0] === file) add(at[1], { T: null, as: "run" });
  return marks;
}

function tag({ T, as }) {
  const sign = { run: "▶", behind: "▷", wait: "❚❚", ready: "◦" }[as];
  if (T == null) return make("span", "tag plain", sign);
  const element = make("span", `tag ${as} c${T % 8}`, `${sign} `, make("b", "", String(T)), ` ${LANES[T].name}`);
  element.title = `${TRACE.names[T]}：${W.states[as === "behind" ? "run" : as]}`;
  return element;
}

function paintLine(number, marks = []) {
  const line = source.lines[number - 1];
  if (!line) return;
  const text = TRACE.src[files.shown][number - 1];
  const running = marks.some((mark) => mark.as === "run");
  line.classList.toggle("current", running);
  line.classList.toggle("stands", marks.length > 0 && !running);
  if (running) line.setAttribute("aria-current", "true");
  else line.removeAttribute("aria-current");
  const waits = marks.find((mark) => mark.w?.at?.[3] != null && mark.as !== "run");
  let from = null;
  let to = null;
  if (waits) {
    const [, first, last, begin, end] = waits.w.at;
    from = characters(text, begin);
    to = first === last ? characters(text, end) : text.length;
  }
  const kind = waits ? TRACE.groups[waits.w.kind] ?? "future" : "";
  const code = make("span", "", ...lineText(text, source.coloured[number - 1], from, to, kind));
  put(line.children[1], [...code.childNodes]);
  const room = text.length > 50 ? 1 : text.length > 30 ? 2 : 4; // tags cover the end of a long line
  const tags = marks.slice(0, room).map(tag);
  if (marks.length > room) tags.push(make("span", "tag plain", `+${marks.length - room}`));
  put(line.children[2], tags);
}

function showSource(state, event) {
  const at = placeOf(state, event) ?? lastPlace();
  const file = at?.[0] ?? files.shown ?? TRACE.script;
  if (file in TRACE.src && file !== files.shown) openFile(file);
  markSource(state);
  if (at && at[0] === files.shown) revealLine(at[1]);
}

function markSource(state) {
  const marks = marksOf(state, files.shown);
  const key = (list) => (list ?? []).map((mark) => `${mark.T}${mark.as}${mark.w?.p ?? ""}`).join();
  for (const line of new Set([...marks.keys(), ...source.marks.keys()])) {
    if (key(marks.get(line)) !== key(source.marks.get(line))) paintLine(line, marks.get(line));
  }
  source.marks = marks;
}

// The line that this step is about.
function placeOf(state, event) {
  if (event.k === "line") return [event.f, event.l];
  if (event.k === "out" && event.T == null) return state.lines.get(runnerOf(event)) ?? null;
  if (event.T == null) return event.at ?? null;
  const lane = state.lanes[event.T];
  const w = lane.w ?? lane.was;
  if (event.k === "soon" && event.why === "create") return LANES[event.T].at;
  return lane.line ?? w?.at ?? LANES[event.T].at; // a library's: where the script made it
}

// Asking the browser for sizes would cost a layout of the whole file at each step.
const LINE_HEIGHT = 19;

// Where somebody last was: what to show while nobody runs.
function lastPlace() {
  for (let i = STEPS[step]; i >= Math.max(0, STEPS[step] - 500); i--) {
    const event = EVENTS[i];
    if (event.k === "line") return [event.f, event.l];
    if (event.w?.at) return event.w.at;
  }
  return null;
}

function revealLine(number) {
  const top = (number - 1) * LINE_HEIGHT;
  const { scrolled, height } = source;
  if (top < scrolled + 2 * LINE_HEIGHT || top > scrolled + height - 4 * LINE_HEIGHT) {
    const lines = Math.floor((top - height / 2) / LINE_HEIGHT);
    source.scrolled = lines > 0 ? lines * LINE_HEIGHT + 4 : 0; // no line cut in half
    scrolls.set("source", () => ($("source").scrollTop = source.scrolled));
  }
}

// ── labels of the lanes ──

const labels = new Map(); // lane → its label, for those in view

// When others come into view, the timeline asks for them.
function showLabels(state) {
  const [first, last] = timeline.rows();
  for (const [T, label] of labels) {
    if (T >= first && T <= last) continue;
    label.remove();
    labels.delete(T);
  }
  for (let T = first; T <= last; T++) {
    if (!labels.has(T)) labels.set(T, makeLabel(T));
    const label = labels.get(T);
    const { s } = state.lanes[T];
    if (label.dataset.state !== s) {
      label.dataset.state = s;
      label.lastChild.textContent = W.states[s];
      label.setAttribute("aria-label", W.laneLabel(TRACE.names[T], W.states[s]));
    }
  }
  const byTab = labels.has(timeline.chosen) ? timeline.chosen : first;
  for (const [T, label] of labels) label.tabIndex = T === byTab ? 0 : -1;
}

function makeLabel(T) {
  const { name, coro, at, def, ...other } = LANES[T];
  const label = make("button", `label c${T % 8}`, make("b", "", String(T)), make("span", "name", name), make("small", ""));
  label.type = "button";
  label.dataset.lane = T;
  label.style.top = `${AXIS + T * ROW}px`;
  label.setAttribute("aria-pressed", timeline.chosen === T);
  label.title = `${coro}${at ? ` (${at.join(":")})` : ""}${loops > 1 && !other.lane ? ` · ${W.loop(other.loop ?? 0)}` : ""}`;
  label.classList.toggle("library", !def && !other.lane);
  label.classList.toggle("striped", T % 2 === 1);
  const next = Math.min(...[...labels.keys()].filter((other) => other > T));
  $("labels").insertBefore(label, labels.get(next) ?? null);
  return label;
}

function makeLabels() {
  labels.clear();
  const all = make("div", "all"); // as high as all of them
  all.style.height = `${LANES.length * ROW}px`;
  $("labels").replaceChildren(make("div", "spacer"), all);
}

function choose(T) {
  const hadFocus = $("labels").contains(document.activeElement);
  labels.get(timeline.chosen)?.setAttribute("aria-pressed", "false");
  timeline.chosen = T;
  if (T != null) {
    timeline.reveal(T);
    settle();
  }
  timeline.draw();
  labels.get(T)?.setAttribute("aria-pressed", "true");
  if (hadFocus) labels.get(T)?.focus({ preventScroll: true });
  showChosen();
}

// Where the arrows begin: at the chosen task, else at the label that has the focus.
function reached() {
  const focused = document.activeElement.closest(".label")?.dataset.lane;
  return timeline.chosen ?? (focused == null ? null : Number(focused));
}

// A timer is its task's; what is no task's is that of whoever set it.
function isAbout(event) {
  const origin = ORIGIN.get(event.h);
  return event.T ?? origin?.T ?? (event.by ?? origin?.by)?.T ?? null;
}

// The task that Shift+arrows follow: the chosen one, else the one that this step is about.
function followed() {
  const event = EVENTS[STEPS[step]] ?? {};
  return timeline.chosen ?? isAbout(event);
}

function showChosen() {
  const T = followed();
  fill("chosen", T != null ? [chip(T)] : [], "—");
  $("task-back").disabled = $("task-forward").disabled = T == null;
}

// ── a step ──

function show(wanted) {
  const next = Math.max(0, Math.min(STEPS.length - 1, wanted));
  if (!STEPS.length || next === step) return;
  step = next;
  refresh();
  rememberStep();
}

function refresh() {
  const event = EVENTS[STEPS[step]];
  const state = stateAfter(STEPS[step]);
  $("sentence").replaceChildren(...render(W.sentence(event, state)));
  showRunning(state);
  showReady(state);
  showTimers(state, event.t);
  showJobs(state);
  printed.back = false;
  showOutput(state);
  showSource(state, event);
  showChosen();
  const woken = event.k === "soon" ? event.by?.T ?? null : null;
  timeline.place(step, woken, isAbout(event));
  showLabels(state);
  $("scrub").value = step + 1;
  $("scrub").setAttribute("aria-valuetext", W.step(step + 1, STEPS.length));
  $("position").textContent = `${step + 1} / ${STEPS.length} · ${duration(event.t)}`;
  $("back").disabled = $("first").disabled = step === 0;
  $("forward").disabled = $("last").disabled = step === STEPS.length - 1;
  document.body.dataset.step = step + 1;
  settle();
}

let remembering;
function rememberStep() {
  clearTimeout(remembering);
  remembering = setTimeout(() => history.replaceState(null, "", `#step=${step + 1}`), 200);
}

function stepInAddress() {
  const found = /[#&]step=(\d+)/.exec(location.hash);
  return found ? Number(found[1]) - 1 : null;
}

function sameTask(direction) {
  const T = followed();
  if (T == null) return;
  for (let n = step + direction; n >= 0 && n < STEPS.length; n += direction) {
    const event = EVENTS[STEPS[n]];
    if (event.T === T || (event.k === "due" && ORIGIN.get(event.h)?.T === T)) return show(n);
  }
}

// The next time this line runs, from here on; else the first time ever.
function goToLine(number) {
  const runs = (n) => {
    const event = EVENTS[STEPS[n]];
    if (event.k === "line") return event.f === files.shown && event.l === number;
    return event.w?.at?.[0] === files.shown && event.w.at[1] === number;
  };
  for (let i = 1; i <= STEPS.length; i++) {
    const n = (step + i) % STEPS.length;
    if (runs(n)) return show(n);
  }
  $("sentence").textContent = W.neverRan(number);
}

let playing = null;
function play(on = !playing) {
  clearInterval(playing);
  playing = null;
  if (on && step === STEPS.length - 1) show(0);
  if (on) {
    playing = setInterval(() => {
      if (step >= STEPS.length - 1) play(false);
      else show(step + 1);
    }, 600);
  }
  $("sentence").setAttribute("aria-live", on ? "off" : "polite");
  showPlay();
}

function showPlay() {
  $("play").textContent = playing ? W.pauseLabel : W.playLabel;
  $("play").setAttribute("aria-label", playing ? W.pause : W.play);
}

// ── settings ──

function remember(key, value) {
  try {
    localStorage.setItem(`timeline-${key}`, value);
  } catch {} // a browser that keeps nothing for files
}

function remembered(key) {
  try {
    return localStorage.getItem(`timeline-${key}`);
  } catch {
    return null;
  }
}

function setLanguage(words) {
  W = words;
  document.documentElement.lang = W === ZH ? "zh-CN" : "en";
  remember("language", W === ZH ? "zh" : "en");
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = W[element.dataset.say];
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", W[element.dataset.label]);
  const labels = { back: "back", first: "first", last: "last", scrub: "scrub", forward: "forward", "task-back": "taskBack", "task-forward": "taskForward", "zoom-in": "zoomIn", "zoom-out": "zoomOut", "help-button": "help", theme: "themeLabel", language: "languageLabel", source: "source", output: "output", labels: "lanes", controls: "controls" };
  for (const [id, key] of Object.entries(labels)) {
    $(id).setAttribute("aria-label", W[key]);
    if ($(id).tagName === "BUTTON") $(id).title = W[key];
  }
  $("forward").textContent = W.forwardLabel;
  $("language").textContent = W.other;
  $("theme").textContent = `◐ ${W.theme}`;
  $("zoom-fit").textContent = W.fit;
  $("facts").textContent = W.facts(TRACE, LANES.length - TRACE.closing.length);
  $("keys").replaceChildren(...W.keys.flatMap(([keys, what]) => [make("dt", "", ...keys.split(" ").flatMap((key, i) => [i ? " " : "", make("kbd", "", key)])), make("dd", "", what)]));
  showAxis();
  showPlay();
  showNotes();
  showLegend();
  makeLabels();
  if (step >= 0) refresh();
}

function showAxis() {
  $("axis").textContent = timeline.byTime ? W.byTime : W.byStep;
  $("axis").setAttribute("aria-pressed", timeline.byTime);
}

function showNotes() {
  $("notes").hidden = !TRACE.remarks.length;
  $("notes").textContent = TRACE.remarks.map((remark) => remark[W === ZH ? 0 : 1]).join(" ");
}

function showLegend() {
  const used = new Set(TRACE.spans.map(([, state]) => TRACE.groups[state] ?? "future"));
  timeline.readColours();
  $("legend").replaceChildren(
    ...Object.keys(W.groups)
      .filter((group) => used.has(group))
      .map((group) => {
        const swatch = make("canvas", `swatch ${group}`);
        swatch.width = 22;
        swatch.height = 12;
        paintSwatch(swatch.getContext("2d"), group);
        return make("span", "", swatch, W.groups[group]);
      }),
  );
}

function paintSwatch(context, group) {
  const colour = timeline.colours[group];
  context.fillStyle = context.strokeStyle = colour;
  if (group === "running") return context.fillRect(0, 0, 22, 12);
  if (group === "ready") {
    context.lineWidth = 1.5;
    return context.strokeRect(1, 2, 20, 8);
  }
  const thin = group === "sleep" || group === "turn";
  context.fillStyle = context.createPattern(tile(group, colour), "repeat");
  context.fillRect(0, thin ? 3 : 1, 22, thin ? 6 : 10);
  context.fillStyle = colour;
  context.fillRect(0, thin ? 3 : 1, 22, 1);
  context.fillRect(0, thin ? 8 : 10, 22, 1);
}

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  showLegend();
  timeline.draw();
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  remember("theme", theme);
  setTheme(theme);
}

function toggleLanguage() {
  setLanguage(W === ZH ? EN : ZH);
}

function toggleAxis() {
  timeline.setAxis(!timeline.byTime);
  timeline.place(step, null, null);
  settle();
  showAxis();
}

// ── mouse and keys ──

function connect() {
  const clicks = {
    first: () => show(0),
    back: () => show(step - 1),
    play: () => play(),
    forward: () => show(step + 1),
    last: () => show(STEPS.length - 1),
    "task-back": () => sameTask(-1),
    "task-forward": () => sameTask(1),
    axis: toggleAxis,
    language: toggleLanguage,
    theme: toggleTheme,
    "help-button": () => $("help").showModal(),
    "zoom-in": () => timeline.scale(1.5),
    "zoom-out": () => timeline.scale(1 / 1.5),
    "zoom-fit": () => timeline.scale(0),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  $("scrub").addEventListener("input", (event) => show(event.target.valueAsNumber - 1));
  $("labels").addEventListener("click", (event) => {
    const label = event.target.closest("button");
    if (!label) return;
    const T = Number(label.dataset.lane);
    choose(timeline.chosen === T ? null : T);
  });
  $("view").addEventListener("click", (event) => {
    const found = timeline.at(event);
    if (found.T != null && found.T !== timeline.chosen) choose(found.T);
    show(found.step);
  });
  $("view").addEventListener("mousemove", showHint);
  $("view").addEventListener("mouseleave", () => ($("hint").hidden = true));
  $("labels").addEventListener("wheel", (event) => ($("view").scrollTop += event.deltaY));
  $("output").addEventListener("scroll", readBack);
  new ResizeObserver(([entry]) => resizeOutput(entry.contentRect.height)).observe($("output"));
  $("source").addEventListener("click", (event) => {
    const line = event.target.closest(".line");
    if (line) goToLine(Number(line.dataset.line));
  });
  $("source").addEventListener("keydown", sourceKey);
  $("source").addEventListener("scroll", () => (source.scrolled = $("source").scrollTop));
  new ResizeObserver(([entry]) => (source.height = entry.contentRect.height)).observe($("source"));
  document.addEventListener("click", (event) => {
    const found = event.target.closest(".chip[data-lane]");
    if (found) choose(Number(found.dataset.lane));
  });
  document.addEventListener("keydown", key);
  addEventListener("hashchange", () => show(stepInAddress() ?? step));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());
}

function showHint(event) {
  const found = timeline.at(event);
  const span = timeline.spanAt(found);
  const hint = $("hint");
  hint.hidden = !span;
  if (!span) return;
  const what = span.w && span.group !== "ready" ? render(W.waits(span.w)) : [W.groups[span.group]];
  const length = duration(EVENTS[span.last].t - EVENTS[span.first].t);
  hint.replaceChildren(chip(span.T), " ", ...what, ` · ${length}`);
  const box = hint.parentElement.getBoundingClientRect();
  hint.style.left = `${Math.min(event.clientX - box.left + 12, box.width - hint.offsetWidth - 8)}px`;
  hint.style.top = `${Math.max(event.clientY - box.top - hint.offsetHeight - 8, -30)}px`;
}

function sourceKey(event) {
  const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (move) {
    const from = source.picked || [...source.marks.keys()][0] || 1;
    pickLine(Math.max(1, Math.min(source.lines.length, from + (source.picked ? move : 0))));
  } else if (event.key === "Enter" && source.picked) goToLine(source.picked);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function pickLine(number) {
  const before = source.lines[source.picked - 1];
  before?.removeAttribute("aria-selected");
  before?.removeAttribute("id");
  source.picked = number;
  source.lines[number - 1].setAttribute("aria-selected", "true");
  source.lines[number - 1].id = "picked-line";
  $("source").setAttribute("aria-activedescendant", "picked-line");
  revealLine(number);
  settle();
}

const SCROLLS = new Set(["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"]);

const KEYS = {
  ArrowRight: (event) => (event.shiftKey ? sameTask(1) : show(step + 1)),
  ArrowLeft: (event) => (event.shiftKey ? sameTask(-1) : show(step - 1)),
  ArrowDown: () => choose(Math.min(LANES.length - 1, (reached() ?? -1) + 1)),
  ArrowUp: () => choose(Math.max(0, (reached() ?? LANES.length) - 1)),
  PageDown: () => show(step + 10),
  PageUp: () => show(step - 10),
  Home: () => show(0),
  End: () => show(STEPS.length - 1),
  " ": () => play(),
  Escape: () => choose(null),
  "+": () => timeline.scale(1.5),
  "=": () => timeline.scale(1.5),
  "-": () => timeline.scale(1 / 1.5),
  0: () => timeline.scale(0),
  t: toggleAxis,
  l: toggleLanguage,
  d: toggleTheme,
  "?": () => $("help").showModal(),
};

function key(event) {
  if ($("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  if (target.matches("button") && event.key === " ") return;
  if (target.matches("input") && ["ArrowUp", "ArrowDown"].includes(event.key)) return;
  if (target === $("output") && SCROLLS.has(event.key)) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || !LANES.length && ["ArrowDown", "ArrowUp"].includes(event.key)) return;
  event.preventDefault();
  action(event);
}

// ── begin ──

function begin() {
  $("output").append(make("span", "earlier"));
  $("script").textContent = [TRACE.script, ...(TRACE.argv ?? [])].join(" ");
  $("scrub").max = Math.max(STEPS.length, 1);
  const names = Object.keys(TRACE.src);
  if (names.length > 1) {
    for (const file of names) {
      const tab = make("button", "file", file);
      tab.type = "button";
      tab.dataset.file = file;
      tab.addEventListener("click", () => {
        openFile(file);
        markSource(stateAfter(STEPS[step]));
        settle();
      });
      $("files").append(tab);
    }
  } else $("files").textContent = names[0] ?? "";
  const theme = remembered("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  openFile(TRACE.script in TRACE.src ? TRACE.script : names[0]);
  source.height = $("source").clientHeight;
  printed.lines = Math.ceil($("output").clientHeight / LINE_HEIGHT);
  timeline.start();
  setLanguage(remembered("language") === "en" ? EN : ZH);
  connect();
  show(stepInAddress() ?? 0);
}

begin();
