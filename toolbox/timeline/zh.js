"use strict";
// The words of the page, in Chinese.

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
  controls: "一步一步走",
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
  program: "程序",
  theLoop: "事件循环",
  asleep: "循环睡着了",
  empty: "空",
  none: "没有",
  queued: "排队等线程",
  inProcess: "在进程池里",
  finished: "做完了，结果在路上",
  callback: "回调 ",
  timerCallback: "定时器回调",
  aTimer: "定时器",
  ioCallback: "I/O 回调",
  anIoCallback: "I/O 回调",
  innerCallback: "asyncio 或库内部的回调",
  colon: "：",
  and: "、",
  others: "几个 Future",
  andMore: (all, shown) => (shown ? ` 等 ${all} 个` : `${all} 个 Future`),
  thread: (name) => ["线程 ", code(name)],
  timerOfLane: (T) => [lane(T), " 的定时器"],
  loop: (L) => `循环 ${L + 1}`,
  inLoop: (L) => `循环 ${L + 1} 里`,
  step: (n, all) => `第 ${n} / ${all} 步`,
  laneLabel: (name, state) => `${name}：${state}`,
  left: (time) => `还有 ${time}`,
  overdue: "到点了，循环还没去看",
  more: (n) => `还有 ${n} 个`,
  earlier: (n) => `……前面还有 ${n} 段\n`,
  neverRan: (line) => `第 ${line} 行在录像里没有执行过。`,
  states: {
    none: "还没有",
    new: "刚建好",
    ready: "就绪",
    run: "运行",
    wait: "等待",
    done: "完成",
    cancelled: "被取消",
    error: "失败",
    gone: "被回收",
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
    ["↑ ↓ PageUp PageDown", "在输出里（用 Tab 走到）：滚动"],
    ["?", "这张表"],
  ],
  facts: (t, lanes) =>
    [
      `Python ${t.python}`,
      LANES.some((lane) => lane.lane) ? `${lanes} 条线` : `${lanes} 个任务`,
      `${STEPS.length} 步`,
      t.virtual ? "虚拟时钟" : duration(EVENTS.at(-1)?.t ?? 0),
    ].join(" · "),

  // Why it can go on, after it waited for `was`.
  reason(was, e, after) {
    const by = who(e.by);
    const names = laneList(was ?? {});
    const thing = was?.obj;
    if (isLimit(e.by)) return say`期限到了`;
    if (e.how === "shutdown") return say`${by} 关掉了 ${thing}`;
    if (e.how === "broken") return say`${by} 打破了 ${thing}`;
    if (e.exc) return this.failure(was, e);
    switch (was?.kind) {
      case "sleep":
        return say`睡够了`;
      case "task":
        return names.length ? say`它等的 ${names} 结束了` : say`它等的已经结束了`;
      case "gather":
        if (isOne(was)) return say`${names} 结束了，gather 收齐了结果`;
        return names.length ? say`${names} 都结束了，gather 收齐了结果` : say`gather 收齐了结果`;
      case "wait":
        return this.enough(was, e, after);
      case "taskgroup":
        return say`任务组里的任务都结束了`;
      case "lock":
        return say`${by} 放开了 ${thing || "锁"}，轮到它`;
      case "semaphore":
        return say`${by} 让出了 ${thing || "信号量"} 的一个名额`;
      case "event":
        return say`${by} 设了 ${thing || "Event"}`;
      case "condition":
        return say`${by} 通知了 ${thing || "Condition"}`;
      case "queue":
        if (was.api?.endsWith("put")) return say`${by} 从 ${thing || "队列"} 取走了东西，有空位了`;
        if (was.api?.endsWith("join")) return say`${thing || "队列"} 里没有剩下的活了`;
        return say`${by} 往 ${thing || "队列"} 里放了东西`;
      case "barrier":
        return say`${thing || "Barrier"} 前的人到齐了`;
      case "thread":
        return say`线程里的活做完了，结果已经送回循环`;
      case "process":
        return say`进程里的活做完了，结果已经送回循环`;
      case "subprocess":
        return say`子进程有了消息`;
      case "io":
        return say`它等的 I/O 有了结果`;
      case "future":
        if (by[0].T === e.T) return say`它等的 Future 有了结果`; // from a callback that it had left
        return say`${by} 让它等的 Future 有了结果`;
      default:
        return say`它等的东西好了`;
    }
  },

  failure(was, e) {
    const exc = code(shorten(e.exc, 60));
    const child = finisher(was, e.by);
    switch (was?.kind) {
      case "task":
        return say`它等的 ${laneList(was)} 失败了（${exc}）`;
      case "gather":
        if (isCancel(e.exc)) return say`gather 等的任务被取消了`;
        return child == null
          ? say`gather 里有一个失败了（${exc}），不再等别人`
          : say`${lane(child)} 失败了（${exc}），gather 不再等别人`;
      case "thread":
        return say`线程里的活失败了（${exc}）`;
      case "process":
        return say`进程里的活失败了（${exc}）`;
      case "future":
        return say`${who(e.by)} 往它等的 Future 里放了异常 ${exc}`;
      default:
        return say`它等的东西出错了（${exc}）`;
    }
  },

  // wait() and as_completed() are content; `until` says with what.
  enough(was, e, after) {
    const child = finisher(was, e.by);
    if (was.until === "ALL_COMPLETED") return say`它等的任务都结束了`;
    if (was.until === "FIRST_EXCEPTION") {
      if (child == null) return say`它等的里面有一个出错了，或者都有了结果`;
      return after.lanes[child].s === "error" ? say`${lane(child)} 出错了` : say`它等的任务都结束了，没有一个出错`;
    }
    return child == null ? say`它等的里面有一个有了结果` : say`${lane(child)} 先结束了`;
  },

  waits(w) {
    const timer = ORIGIN.get(w.timeout);
    return tidy(timer ? say`${this.waitsFor(w)}（期限 ${duration(timer.when)}）` : this.waitsFor(w));
  },

  waitsFor(w) {
    const names = laneList(w);
    const those = names.length ? names : this.others;
    if (isOver(w)) return say`它等的已经结束，循环转过来就叫醒它`;
    const thing = w.obj || { lock: "锁", semaphore: "信号量", queue: "队列" }[w.kind] || w.kind;
    switch (w.kind) {
      case "sleep":
        return say`睡 ${delayOf(w)} 秒，到时由定时器叫醒`;
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
        return say`等 ${those} 结束`;
      case "gather":
        if (isOne(w)) return this.waitsFor({ ...w, kind: "task" });
        return say`等 ${names} 全部结束`;
      case "wait":
        if (isOne(w)) return this.waitsFor({ ...w, kind: "task" });
        if (w.until === "ALL_COMPLETED") return say`等 ${those} 全部结束`;
        if (w.until === "FIRST_EXCEPTION") return say`等 ${those} 里第一个出错，或者全部结束`;
        return say`等 ${those} 里第一个结束`;
      case "taskgroup":
        if (isOne(w)) return say`等组里的 ${names} 结束`;
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
    return tidy(this.phrase(e, after));
  },

  phrase(e, after) {
    const it = e.T != null ? lane(e.T) : null;
    const now = e.T != null ? after.lanes[e.T] : null;
    switch (e.k) {
      case "new":
        return say`${it} 建好了。`;
      case "soon":
        return this.queues(e, after, it, now);
      case "timer":
        if (purpose(e) === "sleep") return say`${it} 定了一个 ${duration(e.when)} 后响的定时器，放进定时器堆。`;
        if (purpose(e) === "limit") return say`给 ${it} 设了 ${duration(e.when)} 的期限：定时器放进堆里。`;
        return say`${who(e.by)} 定了时：${duration(e.when)} 后 ${this.deed(e)}。定时器放进堆里。`;
      case "due": {
        const timer = ORIGIN.get(e.h);
        if (purpose(timer) === "sleep") return say`${lane(timer.T)} 的定时器到期：它的回调从定时器堆移到就绪队列。`;
        if (purpose(timer) === "limit") return say`${lane(timer.T)} 的期限到了：回调从定时器堆移到就绪队列。`;
        return say`定时器到期，该 ${this.deed(timer)} 了：回调从定时器堆移到就绪队列。`;
      }
      case "tcancel": {
        const timer = ORIGIN.get(e.h);
        if (purpose(timer) === "sleep") return say`${lane(timer.T)} 的定时器用不着了：从堆里取消。`;
        if (purpose(timer) === "limit") return say`${lane(timer.T)} 的期限用不着了：定时器从堆里取消。`;
        return say`${who(e.by)} 取消了定时器：不会 ${this.deed(timer)} 了。`;
      }
      case "hcancel":
        return say`就绪队列里的 ${originName(e)} 被取消，不会再执行。`;
      case "io":
        return say`选择器醒了：有 I/O 就绪，它的回调排进就绪队列。`;
      case "poll":
        return this.sleeps(e, after);
      case "run":
        return this.runs(e, now, it);
      case "end":
        return this.ends(e, now, it);
      case "line":
        return [
          ...say`${actor(e)} 执行第 ${String(e.l)} 行：${code(shorten(sourceOf(e.f, e.l), 70))}`,
          ...(e.more ? say`（后面的行省略了）` : []),
        ];
      case "out":
        return e.s === "stderr"
          ? say`${actor(e)} 在 stderr 印出：${code(shorten(e.text.trim(), 70))}`
          : say`${actor(e)} 印出：${code(shorten(e.text.trim(), 70))}`;
      case "gone":
        return say`没有人再引用 ${it}：它被垃圾回收了，永远不会接着跑。`;
      default:
        return this.works(e);
    }
  },

  // A job of a thread or process.
  works(e) {
    const job = ownName(e.fn ?? JOBS.get(e.j)?.fn ?? "这件活");
    switch (e.k) {
      case "job":
        return e.proc
          ? say`${who(e.by)} 把 ${job} 交给进程池；循环自己接着转。`
          : say`${who(e.by)} 把 ${job} 交给线程池；循环自己接着转。`;
      case "thr+":
        return say`${this.thread(e.thread)} 开始做 ${job}，和事件循环同时进行。`;
      case "thr-":
        return say`${this.thread(e.thread)} 空出来了。`;
      case "jobdone":
        if (e.state === "cancelled") return say`${job} 还没开始就被取消了。`;
        return e.state === "error"
          ? say`${job} 失败了：异常 ${code(shorten(e.exc ?? "", 60))} 放进它的 Future，敲醒循环来取。`
          : say`${job} 做完了：结果放进它的 Future，敲醒循环来取。`;
    }
    return [e.k];
  },

  // What a timer that is no sleep and no limit will do.
  deed(timer) {
    switch (purpose(timer)) {
      case "result":
        return say`给 Future 放结果`;
      case "exception":
        return say`给 Future 放异常`;
      case "cancel":
        return timer.T != null ? say`取消 ${lane(timer.T)}` : say`取消一个 Future`;
    }
    return isInternal(timer?.cb) ? say`执行 ${this.innerCallback}` : say`执行 ${ownName(timer.cb)}`;
  },

  queues(e, after, it, now) {
    if (!it) return say`${callbackName(e)} 排进就绪队列（由 ${who(e.by)}）。`;
    switch (e.why) {
      case "create":
        if (isClosing(e.T))
          return LANES[e.T].coro.endsWith("asyncgens")
            ? say`收尾：把 ${it} 交给事件循环，关掉没走完的异步生成器。`
            : say`收尾：把 ${it} 交给事件循环，关掉线程池。`;
        return e.by?.T != null || e.by?.h != null
          ? say`${who(e.by)} 建了 ${it}：它排到就绪队列末尾，还一行也没有执行。`
          : say`${who(e.by)} 把 ${it} 交给事件循环：它排进就绪队列。`;
      case "yield":
        return say`${it} 让出一步：自己排回就绪队列末尾。`;
      case "cancel":
        return isLimitOf(e.by, e.T)
          ? say`期限到了，取消 ${it}：它排进就绪队列，轮到时收到 CancelledError，再由期限换成 TimeoutError。`
          : say`${this.cancels(e, it, now.was)}：它排进就绪队列，轮到时在 await 处收到 CancelledError。`;
      case "throw":
        return say`${it} 排进就绪队列，轮到时有异常抛进去。`;
    }
    return say`${this.reason(now.was, e, after)}：${it} 从等待变成就绪，排到队尾。`;
  },

  cancels(e, it, was) {
    const origin = ORIGIN.get(e.by?.h);
    if (origin?.cb?.endsWith("_on_task_done") && origin.by?.T != null)
      return say`任务组因为 ${lane(origin.by.T)} 失败，取消了 ${it}`;
    if (was?.on?.includes(e.by?.T)) return say`${it} 等的 ${lane(e.by.T)} 被取消了`;
    return e.how === "request" ? say`${who(e.by)} 取消了 ${it}` : say`${who(e.by)} 取消了 ${it} 等的东西`;
  },

  sleeps(e, after) {
    const next = after.nextTimer(e.L);
    const here = inLoop(e);
    if (!next) return say`${here}没有人就绪，也没有定时器：循环睡下，等 I/O 或别的线程叫醒。`;
    if (next.due <= e.t) return say`${here}没有人就绪，但有定时器已经到点：循环不睡，只看一眼 I/O。`;
    const left = duration(next.due - e.t);
    return isOwn(next)
      ? say`${here}没有人就绪：循环睡下，最迟 ${left} 后被 ${lane(next.T)} 的定时器叫醒。`
      : say`${here}没有人就绪：循环睡下，最迟 ${left} 后被定时器叫醒。`;
  },

  runs(e, now, it) {
    if (!it) {
      const timer = timerOf(e);
      if (purpose(timer) === "sleep") return say`循环执行 ${lane(timer.T)} 的定时器回调：把它等的 Future 标成完成。`;
      if (purpose(timer) === "limit") return say`循环执行 ${lane(timer.T)} 的定时器回调：期限到了。`;
      return timer ? say`循环执行定时器回调：${this.deed(timer)}。` : say`循环执行 ${callbackName(e)}。`;
    }
    const exc = e.thrown && code(shorten(e.thrown, 60));
    const from = now.was && codeOf(now.was);
    if (LANES[e.T].lane === "greenlet") return this.switches(e, now, it, exc);
    if (LANES[e.T].lane === "generator") return this.resumes(e, now, it, exc);
    if (e.eager) return say`急切任务 ${it} 不排队，在 create_task 里当场开跑。`;
    if (exc && runsNothing(e, now)) return say`循环取出 ${it}：它还没开始就被取消，${exc} 直接抛进去，一行也不执行。`;
    if (exc) return from ? say`轮到 ${it}：在 ${from} 收到 ${exc}。` : say`轮到 ${it}：收到 ${exc}。`;
    if (now.first) return say`循环从就绪队列头上取出 ${it}，第一次执行它。`;
    return from ? say`轮到 ${it}：从 ${from} 接着跑。` : say`循环从就绪队列头上取出 ${it}，接着跑。`;
  },

  switches(e, now, it, exc) {
    if (now.first && LANES[e.T].name === "main") return say`${it} 就是程序自己：它本来就在跑。`;
    if (e.thrown === "…") return say`切换到 ${it}，把一个异常抛进去。`;
    if (exc) return say`切换到 ${it}：${exc} 从它的 switch() 里抛出来。`;
    return now.first ? say`切换到 ${it}：它第一次跑。` : say`切换到 ${it}：它接着跑。`;
  },

  resumes(e, now, it, exc) {
    const outer = e.in != null ? lane(e.in) : this.program;
    if (e.thrown?.startsWith("GeneratorExit")) return say`${outer} 关掉 ${it}：${exc} 从 yield 处抛出。`;
    if (exc) return say`${outer} 把 ${exc} 抛进 ${it}，从 yield 处抛出。`;
    return now.first
      ? say`${outer} 第一次调用 next()：${it} 从头开始跑。`
      : say`${outer} 又要一个值：${it} 从上次的 yield 接着跑。`;
  },

  ends(e, now, it) {
    if (!it) return say`回调执行完了。`;
    const kind = LANES[e.T].lane;
    const exc = code(shorten(e.exc ?? "", 80));
    switch (e.state) {
      case "done":
        return e.result == null || e.result === "None"
          ? say`${it} 结束了。`
          : say`${it} 结束了，结果是 ${code(shorten(e.result, 60))}。`;
      case "cancelled":
        if (kind === "generator") return say`${it} 被关掉了：${exc} 到此为止。`;
        if (kind === "greenlet") return say`${it} 被 ${exc} 结束了：它到此为止，不再往外传。`;
        return say`${it} 以取消告终：CancelledError 一直传到最外面。`;
      case "error":
        if (kind === "generator") return say`${it} 失败了：${exc} 它自己没有接住，传给调用它的人。`;
        if (kind === "greenlet") return say`${it} 失败了：${exc} 它自己没有接住，传给它的 parent。`;
        return say`${it} 失败了：${exc} 没有人接住，留在任务里。`;
    }
    const w = now.w ?? { kind: "future" };
    if (w.kind === "next")
      return w.value == null || w.value === "None"
        ? say`${it} 停在 ${codeOf(w)}，把控制权还给调用它的人。`
        : say`${it} 交出 ${code(w.value)}，停在 ${codeOf(w)}，等下一次 next()。`;
    if (w.kind === "switch") return say`${it} 切换出去，停在 ${codeOf(w)}。`;
    return isEagerStep(e)
      ? say`${it} 停在 ${codeOf(w)}：${this.waits(w)}。控制权回到 create_task，${who(LANES[e.T].by)} 接着跑。`
      : say`${it} 停在 ${codeOf(w)}：${this.waits(w)}。控制权回到事件循环。`;
  },
};

// No space between Chinese and Chinese, nor before its punctuation: parts do not know their neighbours.
function tidy(parts) {
  const joined = [];
  for (const part of parts) {
    if (typeof part === "string" && typeof joined.at(-1) === "string") joined.push(joined.pop() + part);
    else joined.push(part);
  }
  const hanzi = String.raw`\u3001-\u303f\u4e00-\u9fff\uff00-\uffef`;
  const needless = new RegExp(`(?<=[${hanzi}]) (?=[${hanzi}])|^ (?=[，。：；）])`, "g");
  return joined.map((part) => (typeof part === "string" ? part.replace(needless, "") : part));
}
