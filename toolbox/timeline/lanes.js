"use strict";
// The timeline: one row per lane, painted on a canvas as large as its window. Only what is in view is
// drawn, so that thousands of lanes cost no more than twenty.

const ROW = 22;
const AXIS = 18;

const spansOf = LANES.map(() => []);
for (const [T, state, first, last] of TRACE.spans) {
  spansOf[T].push({ T, state, first, last, group: TRACE.groups[state] ?? "future" });
}
for (const spans of spansOf) {
  for (const span of spans) {
    const begun = EVENTS[span.first];
    if (begun.k === "end") span.w = begun.w;
  }
}

// For each event, the step that it belongs to.
const stepOf = new Int32Array(EVENTS.length);
for (let event = 0, step = -1; event < EVENTS.length; event++) {
  if (STEPS[step + 1] === event) step++;
  stepOf[event] = Math.max(step, 0);
}

// Time begins with the first lane: what a script did before takes no room.
const BEGIN = TRACE.spans.length ? EVENTS[Math.min(...TRACE.spans.map(([, , first]) => first))].t : 0;

function waitLabel(w) {
  if (w.kind === "sleep") return w.delay != null ? `sleep ${delayOf(w)}` : "sleep";
  if (w.on?.length && w.on.length <= 3) return w.on.map((T) => TRACE.names[T] ?? T).join(" ");
  if (w.on?.length) return `${w.count ?? w.on.length} ×`;
  const method = w.api?.includes(".") ? `.${w.api.split(".").pop()}` : "";
  return w.obj ? w.obj + method : w.api || { future: "Future", io: "I/O" }[w.kind] || w.kind;
}

const timeline = {
  byTime: false,
  zoom: 0, // pixels per step, or per millisecond
  chosen: null,

  start() {
    this.view = document.getElementById("view");
    this.canvas = document.getElementById("canvas");
    this.head = document.getElementById("head");
    this.labels = document.getElementById("labels");
    this.view.addEventListener("scroll", () => {
      this.readScroll();
      this.later();
    });
    new ResizeObserver(() => this.resize()).observe(this.view);
    this.resize();
  },

  // ── x ──

  extent() {
    return this.byTime ? Math.max((EVENTS.at(-1)?.t ?? 0) - BEGIN, 1) / 1000 : Math.max(STEPS.length, 1);
  },

  fit() {
    return (this.width - 24) / this.extent();
  },

  x(event) {
    if (!EVENTS.length) return 4;
    return 4 + (this.byTime ? Math.max(0, EVENTS[event].t - BEGIN) / 1000 : stepOf[event]) * this.zoom;
  },

  // Asking the browser at each step would cost a layout of the page; so its answers are kept.
  readScroll() {
    this.left = this.view.scrollLeft;
    this.top = this.view.scrollTop;
  },

  // Scroll when the page settles; at once only for whoever reads where it got.
  scrollTo(left, top) {
    if (left === this.left && top === this.top) return;
    [this.left, this.top] = [left, top];
    scrolls.set("timeline", () => {
      this.view.scrollTo(this.left, this.top);
      this.readScroll();
    });
  },

  resize() {
    this.width = this.view.clientWidth;
    this.height = this.view.clientHeight;
    this.readScroll();
    const fit = this.fit();
    if (!this.zoom || this.fitted) {
      this.fitted = true;
      this.zoom = this.byTime ? fit : Math.min(Math.max(fit, 2), 48);
    }
    this.zoom = Math.max(this.zoom, fit * 0.999);
    const extent = document.getElementById("extent");
    extent.style.width = `${this.extent() * this.zoom + 24}px`;
    extent.style.height = `${LANES.length * ROW + AXIS}px`;
    this.draw();
  },

  scale(factor) {
    const middle = this.xOfStep(this.step) - this.left;
    this.fitted = factor === 0;
    this.zoom = factor === 0 ? this.fit() : Math.min(Math.max(this.zoom * factor, this.fit()), 400);
    this.resize();
    if (factor) this.scrollTo(Math.max(0, this.xOfStep(this.step) - middle), this.top);
    this.place(this.step, null, null);
    settle();
  },

  setAxis(byTime) {
    this.byTime = byTime;
    this.fitted = true;
    this.zoom = 0;
    this.resize();
  },

  xOfStep(step) {
    return this.x(STEPS[step] ?? 0);
  },

  stepAt(x) {
    let low = 0;
    let high = STEPS.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.xOfStep(middle) <= x) low = middle;
      else high = middle - 1;
    }
    return low;
  },

  // ── now ──

  // Put the playhead on a step; an arrow leads from the lane that woke to the one it woke.
  place(step, from, to) {
    this.step = step;
    const x = this.xOfStep(step);
    const width = this.byTime ? 2 : Math.max(this.zoom, 2);
    this.head.style.transform = `translateX(${x}px)`;
    this.head.style.width = `${width}px`;
    this.head.style.height = `${LANES.length * ROW + AXIS}px`;
    const arrow = from != null && to != null && from !== to;
    this.head.className = arrow ? (from < to ? "down" : "up") : "";
    if (arrow) {
      this.head.style.setProperty("--top", `${AXIS + (Math.min(from, to) + 0.5) * ROW}px`);
      this.head.style.setProperty("--length", `${Math.abs(from - to) * ROW}px`);
    }
    if (x < this.left || x + width > this.left + this.width - 8) {
      this.scrollTo(Math.max(0, x - this.width / 3), this.top);
    }
    if (to != null) this.reveal(to);
  },

  reveal(T) {
    // Rows begin below the axis, which stays in view.
    const top = T * ROW;
    const room = this.height - AXIS - ROW;
    if (top < this.top) this.scrollTo(this.left, top);
    else if (top > this.top + room) this.scrollTo(this.left, top - room);
  },

  // ── what is under the mouse ──

  at(event) {
    const box = this.view.getBoundingClientRect();
    const x = event.clientX - box.left + this.left;
    const y = event.clientY - box.top + this.top - AXIS;
    const T = event.clientY - box.top < AXIS ? null : Math.floor(y / ROW);
    return { x, T: T != null && T < LANES.length ? T : null, step: this.stepAt(x) };
  },

  spanAt({ x, T }) {
    return T == null ? null : spansOf[T].findLast((span) => this.x(span.first) <= x && x <= this.x(span.last) + 2);
  },

  // ── painting ──

  // The first and the last lane in view.
  rows() {
    return [Math.max(0, Math.floor(this.top / ROW)), Math.min(LANES.length - 1, Math.ceil((this.top + this.height) / ROW))];
  },

  later() {
    if (!this.waiting) {
      this.waiting = requestAnimationFrame(() => {
        this.waiting = 0;
        this.draw();
      });
    }
  },

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    this.colours = { text: get("--text"), soft: get("--soft"), panel: get("--panel"), grid: get("--grid"), stripe: get("--stripe"), chosen: get("--chosen") };
    for (const name of Object.keys(W.groups)) this.colours[name] = get(`--${name}`);
    this.patterns = {};
  },

  pattern(context, group) {
    return (this.patterns[group] ??= context.createPattern(tile(group, this.colours[group]), "repeat"));
  },

  draw() {
    if (!this.colours) this.readColours();
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const { width, height } = this;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    this.labels.scrollTop = this.top;
    if (step >= 0) showLabels(stateAfter(STEPS[step]));
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    const [first, last] = this.rows();
    for (let T = first; T <= last; T++) {
      const top = AXIS + T * ROW - this.top;
      const stripe = T === this.chosen ? this.colours.chosen : T % 2 ? this.colours.stripe : null;
      if (stripe) {
        context.fillStyle = stripe;
        context.fillRect(0, top, width, ROW);
      }
      this.drawLane(context, T, top, width);
    }
    this.drawAxis(context, width);
  },

  drawLane(context, T, top, width) {
    const spans = spansOf[T];
    const scrollLeft = this.left;
    let low = 0;
    let high = spans.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.x(spans[middle].last) < scrollLeft) low = middle + 1;
      else high = middle;
    }
    const running = [];
    for (let i = low; i < spans.length; i++) {
      const span = spans[i];
      const x = this.x(span.first) - scrollLeft;
      if (x > width) break;
      const w = Math.max(this.x(span.last) - scrollLeft - x, 1.5);
      if (span.group === "running") running.push([x, Math.max(w, 2.5)]);
      else this.drawWait(context, span, x, w, top, width);
    }
    context.fillStyle = this.colours.running;
    for (const [x, w] of running) {
      context.beginPath();
      context.roundRect(x, top + 3, w - (w > 4 ? 1 : 0), ROW - 6, w > 6 ? 3 : 0);
      context.fill();
    }
    this.drawEnd(context, T, top);
  },

  drawWait(context, span, x, w, top, width) {
    const thin = span.group === "sleep" || span.group === "turn";
    const y = top + (thin ? 8 : 6);
    const h = ROW - (thin ? 16 : 12);
    if (span.group === "ready") {
      context.strokeStyle = this.colours.ready;
      context.lineWidth = 1.5;
      if (w > 4) context.strokeRect(x + 1, y + 0.75, w - 2.5, h - 1.5);
      else {
        context.fillStyle = this.colours.ready;
        context.fillRect(x, y, w, h);
      }
      return;
    }
    context.fillStyle = this.pattern(context, span.group);
    context.fillRect(x, y, w, h);
    context.fillStyle = this.colours[span.group];
    context.fillRect(x, y, w, 1);
    context.fillRect(x, y + h - 1, w, 1);
    if (!span.w || w < 40) return;
    const label = waitLabel(span.w);
    const size = context.measureText(label).width;
    const left = Math.max(x, 0);
    const room = Math.min(x + w, width) - left;
    if (size + 16 > room) return;
    context.fillStyle = this.colours.panel;
    context.fillRect(left + 6, top + 4, size + 6, ROW - 8);
    context.fillStyle = this.colours.text;
    context.fillText(label, left + 9, top + ROW / 2 + 0.5);
  },

  drawEnd(context, T, top) {
    const spans = spansOf[T];
    const state = TRACE.ends[T]; // as far as it is shown
    const mark = { done: "✓", error: "✗", cancelled: "⊘", gone: "∅" }[state];
    if (!mark || !spans.length) return;
    context.fillStyle = state === "done" ? this.colours.soft : this.colours.sync;
    context.fillText(mark, this.x(spans.at(-1).last) - this.left + 5, top + ROW / 2 + 0.5);
  },

  drawAxis(context, width) {
    context.fillStyle = this.colours.panel;
    context.fillRect(0, 0, width, AXIS);
    context.fillStyle = this.colours.grid;
    context.fillRect(0, AXIS - 1, width, 1);
    const wanted = 90 / this.zoom;
    let interval = 10 ** Math.floor(Math.log10(Math.max(wanted, 1e-6)));
    interval *= [1, 2, 5, 10].find((factor) => factor * interval >= wanted);
    if (!this.byTime) interval = Math.max(1, interval);
    const scrollLeft = this.left;
    const from = (this.byTime ? BEGIN / 1000 : 1) - 4 / this.zoom; // the value at x = 0
    const left = from + scrollLeft / this.zoom;
    context.fillStyle = this.colours.soft;
    for (let value = Math.floor(left / interval) * interval; value < left + width / this.zoom; value += interval) {
      const number = this.byTime ? value : Math.max(value, 1);
      const x = (number - left) * this.zoom;
      if (number < from || number > from + this.extent() + 1) continue;
      context.fillRect(x, AXIS - 5, 1, 4);
      context.fillText(this.byTime ? duration(number * 1000) : String(number), x + 3, AXIS / 2);
    }
  },
};

// What a kind of wait looks like besides its colour: lines in a direction of its own.
function tile(group, colour) {
  const size = 8;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  context.globalAlpha = group === "sleep" ? 0.55 : 0.28;
  context.fillStyle = colour;
  context.fillRect(0, 0, size, size);
  context.globalAlpha = 1;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.6;
  context.beginPath();
  const line = (x0, y0, x1, y1) => (context.moveTo(x0, y0), context.lineTo(x1, y1));
  if (group === "sync" || group === "outside") {
    line(-2, 2, 2, -2);
    line(-1, 9, 9, -1);
    line(6, 10, 10, 6);
  }
  if (group === "outside") {
    line(6, -2, 10, 2);
    line(-1, -1, 9, 9);
    line(-2, 6, 2, 10);
  }
  if (group === "io") line(4, 0, 4, 8);
  if (group === "turn") line(2, 4, 6, 4);
  context.stroke();
  if (group === "future") {
    context.beginPath();
    context.arc(4, 4, 1.5, 0, 7);
    context.fill();
  }
  return canvas;
}
