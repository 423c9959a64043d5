"use strict";
// What the page says. A sentence is a list of parts: text, {T: lane} or {code: text}.

const lane = (T) => ({ T });
const code = (text) => ({ code: text });
const say = (texts, ...parts) => texts.flatMap((text, i) => [text, ...[parts[i] ?? []].flat()]);
// Lanes by name, at most four; `count` says how many there are if the list is not complete.
function laneList(numbers, and, count = numbers.length) {
  const known = numbers.filter((T) => LANES[T]).slice(0, count > 4 ? 3 : 4);
  const list = known.flatMap((T, i) => (i ? [and, lane(T)] : [lane(T)]));
  if (count === known.length) return list;
  if (and === "、") return [...list, `等 ${count} 个任务`];
  return list.length ? [...list, ` and ${count - known.length} more`] : [`${count} tasks`];
}
const codeOf = (w) => code(w.expr || w.api || { future: "Future", io: "I/O" }[w.kind] || w.kind);
const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const sourceOf = (file, line) => (TRACE.src[file]?.[line - 1] ?? "").trim();

function duration(microseconds) {
  const ms = microseconds / 1000;
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(ms >= 1 ? 1 : 2)} ms`;
}

// asyncio's own callbacks, in words; the learner's are called by their names.
const INNER = [
  [/_run_until_complete_cb/, "asyncio.run 的收尾回调", "asyncio.run's closing callback"],
  [/gather.*_done_callback/, "gather 的清点回调", "gather's counting callback"],
  [/_on_task_done/, "任务组的清点回调", "the task group's counting callback"],
  [/_on_completion|_handle_completion/, "wait 的清点回调", "wait's counting callback"],
  [/_release_waiter/, "wait_for 的回调", "wait_for's callback"],
  [/_call_set_state|_set_state|_call_check_cancel/, "取回线程结果的回调", "callback with a thread's result"],
  [/_read_from_self/, "别的线程敲门", "a knock from another thread"],
  [/Timeout\._on_timeout/, "期限到了的回调", "time limit's callback"],
  [/Transport|_read_ready|_write_ready|sock|_accept|connection/i, "套接字的回调", "a socket's callback"],
];

function isWakeUp(cb) {
  return cb?.includes("_set_result_unless_cancelled");
}

const ZH = {
  name: "中文",
  other: "English",
  source: "源代码",
  running: "正在运行",
  readyQueue: "就绪队列",
  nextFirst: "最左边的下一个运行",
  timers: "定时器堆",
  soonestFirst: "最先到期的在前",
  jobs: "线程与进程",
  output: "输出",
  lanes: "时间线：每行一个任务",
  helpTitle: "怎么用键盘",
  helpIntro:
    "“步”是值得停下来看的一刻：有人开始跑、停下、被叫醒，或执行了一行。点时间线上任意一处、点源代码的任意一行，都会跳过去。网址末尾的 #step=42 指向这一步，可以发给别人。",
  close: "关闭",
  play: "播放",
  pause: "暂停",
  playLabel: "▶▶ 播放",
  pauseLabel: "❚❚ 暂停",
  forward: "下一步",
  forwardLabel: "下一步 ▶",
  back: "上一步",
  first: "第一步",
  last: "最后一步",
  taskBack: "这个任务的上一步",
  taskForward: "这个任务的下一步",
  scrub: "拖到任意一步",
  byStep: "横轴：步",
  byTime: "横轴：时间",
  fit: "全部",
  zoomIn: "放大",
  zoomOut: "缩小",
  theme: "深浅",
  themeLabel: "切换深色、浅色",
  languageLabel: "Switch to English",
  help: "键盘和说明",
  nobody: "没有人：循环在两步之间",
  outside: "循环之外的程序",
  asleep: "循环睡着了",
  empty: "空",
  none: "没有",
  queued: "排队等线程",
  inProcess: "在进程池里",
  finished: "做完了，结果在路上",
  callback: (cb) => `回调 ${cb}`,
  timerCallback: "定时器回调",
  ioCallback: "I/O 回调",
  innerCallback: "asyncio 内部的回调",
  loop: (L) => `循环 ${L + 1}`,
  step: (n, all) => `第 ${n} / ${all} 步`,
  laneLabel: (name, state) => `${name}：${state}`,
  left: (time) => `还有 ${time}`,
  overdue: "到点了，循环还没去看",
  goesTo: (line) => `第 ${line} 行`,
  more: (n) => `还有 ${n} 个`,
  states: {
    none: "还没有",
    new: "刚建好",
    ready: "就绪",
    run: "运行",
    wait: "等待",
    done: "完成",
    cancelled: "被取消",
    error: "失败",
    pending: "没有结束",
  },
  groups: {
    running: "运行",
    ready: "就绪（排队）",
    sleep: "睡（定时器）",
    sync: "等锁、队列、事件",
    task: "等别的任务",
    future: "等 Future",
    outside: "等线程、进程",
    io: "等 I/O",
    turn: "等对方切换回来",
  },
  keys: [
    ["→ ←", "下一步、上一步"],
    ["Shift+→ Shift+←", "选中的任务的下一步、上一步"],
    ["↑ ↓", "选中上一个、下一个任务"],
    ["Esc", "不再选中任务"],
    ["空格", "播放、暂停"],
    ["Home End", "第一步、最后一步"],
    ["PageUp PageDown", "前后跳十步"],
    ["+ − 0", "时间线放大、缩小、全部"],
    ["t", "横轴：步 / 真实时间"],
    ["l", "中文 / English"],
    ["d", "深色 / 浅色"],
    ["↑ ↓ Enter", "在源代码里（用 Tab 走到）：挑一行，跳到它下一次执行"],
    ["?", "这张表"],
  ],
  facts: (t) =>
    [
      `Python ${t.python}`,
      LANES.some((lane) => lane.lane) ? `${LANES.length} 条线` : `${LANES.length} 个任务`,
      `${STEPS.length} 步`,
      t.virtual ? "虚拟时钟" : duration(EVENTS.at(-1)?.t ?? 0),
    ].join(" · "),
  notes: {
    truncated: "录像到上限为止，之后的没有录下来。",
    cut: (shown, all) => `太长了：只画出前 ${shown} 个事件，一共录了 ${all} 个。`,
    lines: (lines) =>
      lines ? `太长了：任务每跑一次只画开头 ${lines} 行，切换和等待都在。` : "太长了：不画源代码的逐行执行，切换和等待都在。",
    noLines: "没有录源代码的逐行执行，切换和等待都在。",
    more: "有的一步执行了太多行，只录了开头，切换和等待都在。",
    died: (exc) => `脚本最后因 ${exc} 结束。`,
  },

  // Who did it: a lane, a thread, a callback (then whoever stands behind it), or the program.
  who(by) {
    if (by?.T != null) return [lane(by.T)];
    if (by?.thread) return [`线程 ${by.thread}`];
    const origin = by?.h != null ? ORIGIN.get(by.h) : null;
    if (origin?.k === "timer") return origin.T != null ? [lane(origin.T), " 的定时器"] : ["定时器"];
    if (origin?.k === "io") return ["I/O 就绪"];
    if (origin?.by?.T != null && isInternal(origin.cb)) return [lane(origin.by.T)];
    if (origin?.cb && !isInternal(origin.cb)) return ["回调 ", code(origin.cb)];
    return by?.h != null ? ["事件循环"] : ["程序"];
  },

  // Why it can go on, after it waited for `was`.
  reason(was, by) {
    const who = this.who(by);
    switch (was?.kind) {
      case "sleep":
        return say`睡够了`;
      case "task":
        return was.on?.length ? say`它等的 ${laneList(was.on, "、", was.count)} 结束了` : say`它等的任务结束了`;
      case "gather":
        return say`gather 收齐了 ${laneList(was.on ?? [], "、", was.count)} 的结果`;
      case "wait":
        return say`它等的任务里有了可以交代的`;
      case "taskgroup":
        return say`任务组里的任务都结束了`;
      case "lock":
        return say`${who} 放开了 ${was.obj || "锁"}，轮到它`;
      case "semaphore":
        return say`${who} 让出了 ${was.obj || "信号量"} 的一个名额`;
      case "event":
        return say`${who} 设了 ${was.obj || "Event"}`;
      case "condition":
        return say`${who} 通知了 ${was.obj || "Condition"}`;
      case "queue":
        if (was.api?.endsWith("put")) return say`${who} 从 ${was.obj || "队列"} 取走了东西，有空位了`;
        if (was.api?.endsWith("join")) return say`${was.obj || "队列"} 里的活全做完了`;
        return say`${who} 往 ${was.obj || "队列"} 里放了东西`;
      case "barrier":
        return say`${was.obj || "Barrier"} 前的人到齐了`;
      case "thread":
      case "process":
        return say`${was.kind === "thread" ? "线程" : "进程"}里的活做完了，结果已经送回循环`;
      case "subprocess":
        return say`子进程有了消息`;
      case "io":
        return say`套接字有消息了`;
      case "future":
        return say`${who} 让它等的 Future 有了结果`;
      default:
        return say`它等的东西好了`;
    }
  },

  waits(w) {
    const names = laneList(w.on ?? [], "、", w.count);
    const thing = w.obj || { lock: "锁", semaphore: "信号量", queue: "队列" }[w.kind] || w.kind;
    switch (w.kind) {
      case "sleep":
        return w.delay != null ? say`睡 ${String(w.delay)} 秒，到时由定时器叫醒` : say`等定时器叫醒`;
      case "yield":
        return say`只让一步，已经排回就绪队列末尾`;
      case "lock":
        return say`${thing} 在别人手里，排队等`;
      case "semaphore":
        return say`${thing} 没有名额了，等别人让出来`;
      case "event":
        return say`等别人 set ${thing}`;
      case "condition":
        return say`等别人通知 ${thing}`;
      case "queue":
        if (w.api?.endsWith("put")) return say`${thing} 满了，等别人取走`;
        if (w.api?.endsWith("join")) return say`等 ${thing} 里的活全部做完`;
        return say`${thing} 是空的，等别人放东西`;
      case "barrier":
        return say`等人到齐（${thing}）`;
      case "task":
        return names.length ? say`等 ${names} 结束` : say`等另一个任务结束`;
      case "gather":
        return say`等 ${names} 全部结束`;
      case "wait":
        return names.length ? say`等 ${names} 里有人好` : say`等几个任务里有人好`;
      case "taskgroup":
        return names.length ? say`等组里的 ${names} 全部结束` : say`等组里的任务全部结束`;
      case "future":
        return say`等一个 Future 有结果`;
      case "thread":
        return say`活在线程里做，等它做完`;
      case "process":
        return say`活在进程里做，等它做完`;
      case "subprocess":
        return say`等子进程`;
      case "io":
        return say`等 I/O（${w.api || "套接字"}）`;
      case "next":
        return say`等下一次 next() 或 send()`;
      case "switch":
        return say`等别人切换回来`;
      default:
        return say`等 ${w.api || w.kind}`;
    }
  },

  // One sentence for what just happened; `after` is the state after the event.
  sentence(e, after) {
    const who = e.T != null ? lane(e.T) : "程序";
    const now = e.T != null ? after.lanes[e.T] : null;
    switch (e.k) {
      case "new":
        return say`${who} 建好了。`;
      case "soon":
        if (e.T == null) return say`${callbackName(e)} 排进就绪队列（由 ${this.who(e.by)}）。`;
        switch (e.why) {
          case "create":
            return e.by?.T != null || e.by?.h != null
              ? say`${this.who(e.by)} 建了 ${who}：它排到就绪队列末尾，还一行也没有执行。`
              : say`程序把 ${who} 交给事件循环：它排进就绪队列。`;
          case "yield":
            return say`${who} 让出一步：自己排回就绪队列末尾。`;
          case "cancel":
            return say`${this.cancels(e, who, now.was)}：它排进就绪队列，轮到时在 await 处收到 CancelledError。`;
          case "throw":
            return say`${who} 排进就绪队列，轮到时有异常抛进去。`;
          default:
            return say`${this.reason(now.was, e.by)}：${who} 从等待变成就绪，排到队尾。`;
        }
      case "timer":
        return e.T != null && isWakeUp(e.cb)
          ? say`${lane(e.T)} 定了一个 ${duration(e.when)} 后响的定时器，放进定时器堆。`
          : e.T != null
            ? say`给 ${lane(e.T)} 设了 ${duration(e.when)} 的期限：定时器放进堆里。`
            : say`${this.who(e.by)} 定了时：${duration(e.when)} 后执行${callbackName(e)}。`;
      case "due": {
        const timer = ORIGIN.get(e.h);
        return timer?.T != null
          ? say`${lane(timer.T)} 的定时器到期：它的回调从定时器堆移到就绪队列。`
          : say`定时器到期：${callbackName(timer ?? {})} 从定时器堆移到就绪队列。`;
      }
      case "tcancel": {
        const timer = ORIGIN.get(e.h);
        return timer?.T != null
          ? say`${lane(timer.T)} 的定时器用不着了：从堆里取消。`
          : say`定时器（${callbackName(timer ?? {})}）被取消。`;
      }
      case "hcancel":
        return say`就绪队列里的 ${callbackName(ORIGIN.get(e.h) ?? {})} 被取消，不会再执行。`;
      case "io":
        return say`选择器醒了：有 I/O 就绪，它的回调排进就绪队列。`;
      case "poll":
        return this.sleeps(e, after);
      case "run":
        return this.runs(e, after, now);
      case "end":
        return this.ends(e, now);
      case "line":
        return [
          ...say`${who} 执行第 ${String(e.l)} 行：${code(shorten(sourceOf(e.f, e.l), 70))}`,
          ...(e.more ? ["（这一步执行的行太多了，后面的没有录）"] : []),
        ];
      case "out":
        return say`${who} ${e.s === "stderr" ? "在 stderr " : ""}印出：${code(shorten(e.text.trim(), 70))}`;
      case "job":
        return say`${this.who(e.by)} 把 ${code(e.fn)} 交给${e.proc ? "进程池" : "线程池"}；循环自己接着转。`;
      case "thr+":
        return say`线程 ${e.thread} 开始做 ${code(e.fn ?? "这件活")}，和事件循环同时进行。`;
      case "thr-":
        return say`线程 ${e.thread} 做完了，通知事件循环来取结果。`;
      case "jobdone":
        return say`${code(JOBS.get(e.j)?.fn ?? "活")} 的结果到了循环手里。`;
    }
    return [e.k];
  },

  cancels(e, who, was) {
    if (was?.on?.includes(e.by?.T)) return say`${who} 等的 ${lane(e.by.T)} 被取消了`;
    return e.by?.T != null && e.by.T !== e.T
      ? say`${lane(e.by.T)} 取消了 ${who}`
      : say`${this.who(e.by)} 取消了 ${who} 等的东西`;
  },

  sleeps(e, after) {
    const next = nextTimer(after, e.L ?? 0);
    if (!next) return say`没有人就绪，也没有定时器：循环睡下，等 I/O 或别的线程叫醒。`;
    const left = duration(Math.max(0, next.due - e.t));
    return next.T != null
      ? say`没有人就绪：循环睡下，最迟 ${left} 后被 ${lane(next.T)} 的定时器叫醒。`
      : say`没有人就绪：循环睡下，最迟 ${left} 后被定时器叫醒。`;
  },

  runs(e, after, now) {
    if (e.T == null) {
      const origin = ORIGIN.get(e.h);
      if (isWakeUp(e.cb) && origin?.T != null)
        return say`循环执行 ${lane(origin.T)} 的定时器回调：把它等的 Future 标成完成。`;
      if (origin?.k === "timer" && origin.T != null)
        return say`循环执行 ${lane(origin.T)} 的定时器回调：期限到了。`;
      return say`循环执行${callbackName(e)}。`;
    }
    const who = lane(e.T);
    if (e.eager) return say`急切任务 ${who} 不排队，在 create_task 里当场开跑。`;
    const kind = LANES[e.T].lane;
    if (kind === "greenlet") return say`切换到 ${who}：它${now.first ? "第一次" : "接着"}跑。`;
    if ("in" in e) {
      const outer = e.in != null ? lane(e.in) : "程序";
      return now.first
        ? say`${outer} 第一次调用 next()：${who} 从头开始跑。`
        : say`${outer} 又要一个值：${who} 从上次的 yield 接着跑。`;
    }
    if (now.first) return say`循环从就绪队列头上取出 ${who}，第一次执行它。`;
    return now.was
      ? say`轮到 ${who}：从 ${codeOf(now.was)} 接着跑。`
      : say`循环从就绪队列头上取出 ${who}，接着跑。`;
  },

  ends(e, now) {
    const who = e.T != null ? lane(e.T) : null;
    if (!who) return say`回调执行完了。`;
    switch (e.state) {
      case "done":
        return e.result == null || e.result === "None"
          ? say`${who} 结束了。`
          : say`${who} 结束了，结果是 ${code(shorten(e.result, 60))}。`;
      case "cancelled":
        return say`${who} 以取消告终：CancelledError 一直传到最外面。`;
      case "error":
        return say`${who} 失败了：${code(shorten(e.exc ?? "", 80))} 没有人接住，留在任务里。`;
    }
    const w = now.w ?? { kind: "future" };
    if (w.kind === "next")
      return w.value == null || w.value === "None"
        ? say`${who} 停在 ${codeOf(w)}，把控制权还给调用它的人。`
        : say`${who} 交出 ${code(w.value)}，停在 ${codeOf(w)}，等下一次 next()。`;
    if (w.kind === "switch") return say`${who} 切换出去，停在 ${codeOf(w)}。`;
    return say`${who} 停在 ${codeOf(w)}：${this.waits(w)}。控制权回到事件循环。`;
  },
};

const EN = {
  ...ZH,
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
  asleep: "the loop is asleep",
  empty: "empty",
  none: "none",
  queued: "waits for a thread",
  inProcess: "in a process pool",
  finished: "finished, the result is on its way",
  callback: (cb) => `callback ${cb}`,
  timerCallback: "timer callback",
  ioCallback: "I/O callback",
  innerCallback: "a callback of asyncio's own",
  loop: (L) => `Loop ${L + 1}`,
  step: (n, all) => `Step ${n} / ${all}`,
  laneLabel: (name, state) => `${name}: ${state}`,
  left: (time) => `in ${time}`,
  overdue: "due, not yet looked at",
  goesTo: (line) => `line ${line}`,
  more: (n) => `${n} more`,
  states: {
    none: "not yet",
    new: "created",
    ready: "ready",
    run: "running",
    wait: "waiting",
    done: "done",
    cancelled: "cancelled",
    error: "failed",
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
    ["?", "This table"],
  ],
  facts: (t) =>
    [
      `Python ${t.python}`,
      LANES.some((lane) => lane.lane) ? `${LANES.length} lanes` : `${LANES.length} tasks`,
      `${STEPS.length} steps`,
      t.virtual ? "virtual clock" : duration(EVENTS.at(-1)?.t ?? 0),
    ].join(" · "),
  notes: {
    truncated: "The recording reached its limit; what came after is missing.",
    cut: (shown, all) => `Too long: only the first ${shown} of ${all} events are shown.`,
    lines: (lines) =>
      lines
        ? `Too long: of each run of a task, only its first ${lines} lines are shown. Switches and waits are complete.`
        : "Too long: single lines are not shown. Switches and waits are complete.",
    noLines: "Single lines were not recorded. Switches and waits are complete.",
    more: "Some steps run too many lines: only the first of them were recorded. Switches and waits are complete.",
    died: (exc) => `The script ended with ${exc}.`,
  },

  who(by) {
    if (by?.T != null) return [lane(by.T)];
    if (by?.thread) return [`thread ${by.thread}`];
    const origin = by?.h != null ? ORIGIN.get(by.h) : null;
    if (origin?.k === "timer") return origin.T != null ? [lane(origin.T), "'s timer"] : ["a timer"];
    if (origin?.k === "io") return ["I/O"];
    if (origin?.by?.T != null && isInternal(origin.cb)) return [lane(origin.by.T)];
    if (origin?.cb && !isInternal(origin.cb)) return ["callback ", code(origin.cb)];
    return by?.h != null ? ["the event loop"] : ["the program"];
  },

  reason(was, by) {
    const who = this.who(by);
    switch (was?.kind) {
      case "sleep":
        return say`It has slept long enough`;
      case "task":
        return was.on?.length ? say`${laneList(was.on, ", ", was.count)}, which it awaited, is finished` : say`The awaited task is finished`;
      case "gather":
        return say`gather has all results of ${laneList(was.on ?? [], ", ", was.count)}`;
      case "wait":
        return say`Of the tasks it waits for, enough are finished`;
      case "taskgroup":
        return say`All tasks of the group are finished`;
      case "lock":
        return say`${who} released ${was.obj || "the lock"}`;
      case "semaphore":
        return say`${who} gave back a slot of ${was.obj || "the semaphore"}`;
      case "event":
        return say`${who} set ${was.obj || "the event"}`;
      case "condition":
        return say`${who} notified ${was.obj || "the condition"}`;
      case "queue":
        if (was.api?.endsWith("put")) return say`${who} took an item from ${was.obj || "the queue"}: there is room`;
        if (was.api?.endsWith("join")) return say`All work in ${was.obj || "the queue"} is done`;
        return say`${who} put an item into ${was.obj || "the queue"}`;
      case "barrier":
        return say`All have arrived at ${was.obj || "the barrier"}`;
      case "thread":
      case "process":
        return say`The job in the ${was.kind} is done and its result is back`;
      case "subprocess":
        return say`The child process has news`;
      case "io":
        return say`The socket has news`;
      case "future":
        return say`${who} gave the awaited Future its result`;
      default:
        return say`What it awaited is there`;
    }
  },

  waits(w) {
    const names = laneList(w.on ?? [], ", ", w.count);
    const thing = w.obj || `the ${w.kind}`;
    switch (w.kind) {
      case "sleep":
        return w.delay != null ? say`sleeps for ${String(w.delay)} s, until its timer` : say`until its timer`;
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
        return names.length ? say`until ${names} is finished` : say`until another task is finished`;
      case "gather":
      case "taskgroup":
        return names.length ? say`until all of ${names} are finished` : say`until all its tasks are finished`;
      case "wait":
        return names.length ? say`until some of ${names} are finished` : say`until some tasks are finished`;
      case "future":
        return say`until a Future has its result`;
      case "thread":
      case "process":
        return say`a ${w.kind} does the job`;
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
    const who = e.T != null ? lane(e.T) : "The program";
    const now = e.T != null ? after.lanes[e.T] : null;
    switch (e.k) {
      case "new":
        return say`${who} exists.`;
      case "soon":
        if (e.T == null) return say`${callbackName(e)} joins the ready queue (by ${this.who(e.by)}).`;
        switch (e.why) {
          case "create":
            return e.by?.T != null || e.by?.h != null
              ? say`${this.who(e.by)} creates ${who}: it joins the ready queue; not one line of it has run.`
              : say`The program hands ${who} to the event loop: it joins the ready queue.`;
          case "yield":
            return say`${who} steps aside: to the end of the ready queue.`;
          case "cancel":
            return say`${this.cancels(e, who, now.was)}: it joins the ready queue and will get CancelledError at its await.`;
          case "throw":
            return say`${who} joins the ready queue; an exception will be thrown into it.`;
          default:
            return say`${this.reason(now.was, e.by)}: ${who} is ready and joins the end of the queue.`;
        }
      case "timer":
        return e.T != null && isWakeUp(e.cb)
          ? say`${lane(e.T)} sets a timer for ${duration(e.when)} from now; it goes on the heap.`
          : e.T != null
            ? say`${lane(e.T)} gets a time limit of ${duration(e.when)}: a timer goes on the heap.`
            : say`${this.who(e.by)} sets a timer: ${callbackName(e)} in ${duration(e.when)}.`;
      case "due": {
        const timer = ORIGIN.get(e.h);
        return timer?.T != null
          ? say`${lane(timer.T)}'s timer is due: its callback moves from the heap to the ready queue.`
          : say`A timer is due: ${callbackName(timer ?? {})} moves from the heap to the ready queue.`;
      }
      case "tcancel": {
        const timer = ORIGIN.get(e.h);
        return timer?.T != null
          ? say`${lane(timer.T)}'s timer is no longer needed: cancelled.`
          : say`The timer of ${callbackName(timer ?? {})} is cancelled.`;
      }
      case "hcancel":
        return say`${callbackName(ORIGIN.get(e.h) ?? {})} in the ready queue is cancelled: it will not run.`;
      case "io":
        return say`The selector wakes: I/O is ready, its callback joins the ready queue.`;
      case "poll":
        return this.sleeps(e, after);
      case "run":
        return this.runs(e, after, now);
      case "end":
        return this.ends(e, now);
      case "line":
        return [
          ...say`${who} runs line ${String(e.l)}: ${code(shorten(sourceOf(e.f, e.l), 70))}`,
          ...(e.more ? [" (this step runs too many lines; the rest were not recorded)"] : []),
        ];
      case "out":
        return say`${who} prints${e.s === "stderr" ? " to stderr" : ""}: ${code(shorten(e.text.trim(), 70))}`;
      case "job":
        return say`${this.who(e.by)} hands ${code(e.fn)} to a ${e.proc ? "process" : "thread"} pool; the loop goes on.`;
      case "thr+":
        return say`Thread ${e.thread} begins ${code(e.fn ?? "the job")}, beside the event loop.`;
      case "thr-":
        return say`Thread ${e.thread} is done and tells the event loop.`;
      case "jobdone":
        return say`The result of ${code(JOBS.get(e.j)?.fn ?? "the job")} has reached the loop.`;
    }
    return [e.k];
  },

  cancels(e, who, was) {
    if (was?.on?.includes(e.by?.T)) return say`${lane(e.by.T)}, which ${who} awaits, was cancelled`;
    return e.by?.T != null && e.by.T !== e.T
      ? say`${lane(e.by.T)} cancels ${who}`
      : say`${this.who(e.by)} cancelled what ${who} awaits`;
  },

  sleeps(e, after) {
    const next = nextTimer(after, e.L ?? 0);
    if (!next) return say`Nobody is ready and there is no timer: the loop sleeps until I/O or another thread.`;
    const left = duration(Math.max(0, next.due - e.t));
    return next.T != null
      ? say`Nobody is ready: the loop sleeps, for ${left} at most, until ${lane(next.T)}'s timer.`
      : say`Nobody is ready: the loop sleeps, for ${left} at most, until a timer.`;
  },

  runs(e, after, now) {
    if (e.T == null) {
      const origin = ORIGIN.get(e.h);
      if (isWakeUp(e.cb) && origin?.T != null)
        return say`The loop runs ${lane(origin.T)}'s timer callback: the awaited Future is done.`;
      if (origin?.k === "timer" && origin.T != null)
        return say`The loop runs ${lane(origin.T)}'s timer callback: its time is up.`;
      return say`The loop runs ${callbackName(e)}.`;
    }
    const who = lane(e.T);
    if (e.eager) return say`Eager task ${who} does not queue: it starts inside create_task.`;
    if (LANES[e.T].lane === "greenlet") return say`Switch to ${who}: it ${now.first ? "starts" : "goes on"}.`;
    if ("in" in e) {
      const outer = e.in != null ? lane(e.in) : "The program";
      return now.first
        ? say`${outer} calls next() for the first time: ${who} starts.`
        : say`${outer} wants another value: ${who} goes on from its yield.`;
    }
    if (now.first) return say`The loop takes ${who} from the head of the ready queue and runs it for the first time.`;
    return now.was
      ? say`It is ${who}'s turn: it goes on from ${codeOf(now.was)}.`
      : say`The loop takes ${who} from the head of the ready queue.`;
  },

  ends(e, now) {
    const who = e.T != null ? lane(e.T) : null;
    if (!who) return say`The callback returns.`;
    switch (e.state) {
      case "done":
        return e.result == null || e.result === "None"
          ? say`${who} is finished.`
          : say`${who} is finished; its result is ${code(shorten(e.result, 60))}.`;
      case "cancelled":
        return say`${who} ends cancelled: CancelledError went all the way out.`;
      case "error":
        return say`${who} failed: nobody caught ${code(shorten(e.exc ?? "", 80))}; the task keeps it.`;
    }
    const w = now.w ?? { kind: "future" };
    if (w.kind === "next")
      return w.value == null || w.value === "None"
        ? say`${who} stops at ${codeOf(w)}; its caller goes on.`
        : say`${who} hands out ${code(w.value)} and stops at ${codeOf(w)}.`;
    if (w.kind === "switch") return say`${who} switches away at ${codeOf(w)}.`;
    return say`${who} stops at ${codeOf(w)}: ${this.waits(w)}. Control goes back to the loop.`;
  },
};

let W = ZH; // the language of the page

function isInternal(cb) {
  return !cb || /^_|\._|<locals>\.on_completion|^(Task|Future|BaseEventLoop|Server)\./.test(cb);
}

// A callback as a learner should read it.
function callbackName(entry) {
  const cb = entry.cb;
  if (entry.timer || isWakeUp(cb)) {
    return isInternal(cb) ? [W.timerCallback] : [W.timerCallback, " ", code(cb)];
  }
  if (entry.io) return [W.ioCallback];
  if (!isInternal(cb)) return [W.callback(""), code(cb)];
  const known = INNER.find(([pattern]) => pattern.test(cb));
  return [known ? known[W === ZH ? 1 : 2] : W.innerCallback];
}

function nextTimer(state, loop) {
  let next = null;
  for (const timer of state.timers.values()) {
    if ((timer.L ?? 0) === loop && (!next || timer.due < next.due)) next = timer;
  }
  return next;
}
