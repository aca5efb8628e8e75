// The live view of a run. One module without a build, for every host of anywidget.
//
// Data is set as text, never as HTML. A browser that finds the place which the saved words keep (`data-pllm-view`)
// mounts the view in it, so that the notebook needs no widget in any output; elsewhere the view is in its own output.

const MOST_ROWS = 50;
// A kernel that takes longer to answer does not hear this page: its cell blocks, and the page was loaded since.
const ANSWER_MS = 4000;
// What the page says by itself: a kernel that does not answer it has not left a person waiting.
const QUIET = new Set(["here", "placed"]);
// After that long a message goes by the kernel's control channel too, which is read while a cell blocks.
const ASIDE_MS = 800;
// A column is not narrower than this because others want room; and than that, where the table must be scrolled anyway.
const LEAST_PX = 76;
const SCROLLED_PX = 150;
// Nor wider than this, however long its texts are.
const MOST_PX = 460;
const UNANSWERED = "The kernel does not answer this page while a cell runs. Interrupt the kernel (■ above) to stop the run; every finished row is kept.";
const LATER = "marimo passes no clicks on while a cell runs: this is done when the cell has ended. Stop interrupts the cell.";
const stores = new Map();

// One store for each run's view, shared by all of its mounts in this page.
function storeOf(model) {
  const id = model.get("view_id");
  if (!stores.has(id)) stores.set(id, new Store(id));
  const store = stores.get(id);
  if (store.model !== model) store.follow(model);
  return store;
}

class Store {
  constructor(id) {
    this.id = id;
    this.mounts = new Set();
    this.places = new Map();
    this.opened = null;
    this.left = [];
    this.focused = null;
    // What a person has done and the kernel has not said that it heard, and pins among it, which show at once.
    this.page = Math.random().toString(36).slice(2);
    this.numbers = 0;
    this.waiting = new Map();
    this.isUnanswered = false;
    this.pins = new Map();
  }

  // A kernel that hears nothing from this page opens the view again: the newest model counts.
  follow(model) {
    this.model = model;
    const isNewest = () => this.model === model;
    this.data = structuredClone(model.get("snapshot") ?? {});
    model.on("msg:custom", (message) => isNewest() && this.take(message));
    model.on("change:snapshot", () => {
      if (!isNewest()) return;
      this.data = structuredClone(model.get("snapshot"));
      this.changed(new Set(Object.keys(this.data)));
    });
    // Of a kernel that has gone: whatever is on screen is old.
    for (const event of ["comm_live_update", "comm:close"]) model.on(event, () => isNewest() && this.setLive(false));
    this.setLive(true);
    this.changed(new Set(Object.keys(this.data)));
    // What went to a view that was closed before it heard; the kernel does nothing twice.
    for (const [n, message] of this.waiting) model.send({ ...message, n });
  }

  take(message) {
    if (message?.received) {
      this.waiting.delete(message.received);
      for (const [row, pin] of this.pins) if (pin.n === message.received) this.pins.delete(row);
      this.isUnanswered = this.isUnanswered && [...this.waiting.values()].some((each) => !QUIET.has(each.do));
      this.changed(new Set(["pinned", "hint"]));
    }
    if (message?.opened) {
      this.opened = message.opened;
      for (const mount of this.mounts) mount.showOpened(this.opened);
    }
    if (message?.asks) this.send({ do: "here" });
    const changes = message?.changes;
    if (!changes) return;
    const { sample, ...sections } = changes;
    Object.assign(this.data, sections);
    if (sample) {
      const seen = new Set(sample.map((row) => row.row));
      const rest = (this.data.sample ?? []).filter((row) => !seen.has(row.row));
      this.data.sample = [...sample, ...rest].slice(0, MOST_ROWS);
    }
    this.changed(new Set(Object.keys(changes)));
  }

  changed(names) {
    for (const mount of this.mounts) mount.draw(names);
  }

  setLive(live) {
    this.live = live;
    for (const mount of this.mounts) mount.setLive(live);
  }

  // Sends what a person does, with a name by which the kernel says that it has heard it.
  send(message) {
    if (!this.live) return null;
    const n = `${this.page}-${++this.numbers}`;
    this.waiting.set(n, message);
    this.model.send({ ...message, n });
    setTimeout(() => this.waiting.has(n) && this.sendAside({ ...message, n }), ASIDE_MS);
    setTimeout(() => {
      if (!this.waiting.has(n) || QUIET.has(message.do)) return;
      this.isUnanswered = true;
      this.changed(new Set(["hint"]));
    }, ANSWER_MS);
    return n;
  }

  // A page that was loaded while a cell blocks cannot be heard otherwise. Of JupyterLab and Notebook; others have none.
  sendAside(message) {
    const kernel = this.model.widget_manager?.kernel;
    if (!kernel?.sendControlMessage) return;
    const header = { msg_id: `pllm-${message.n}`, msg_type: "pllm_view", session: kernel.clientId, username: kernel.username ?? "", version: "5.3", date: new Date().toISOString() };
    kernel.sendControlMessage({ header, parent_header: {}, metadata: {}, content: { view_id: this.id, message }, buffers: [], channel: "control" }, false, true);
  }

  // Pins a row, or lets it go: on screen at once, whatever state comes from a kernel that has not heard of it yet.
  pin(row) {
    const on = !this.pinned().some((each) => each.row === row);
    const n = this.send({ do: "pin", row, on });
    if (n === null) return;
    this.pins.set(row, { on, n });
    this.changed(new Set(["pinned"]));
  }

  pinned() {
    const rows = new Map((this.data.pinned ?? []).map((row) => [row.row, row]));
    for (const [row, { on }] of this.pins) {
      const known = (this.data.sample ?? []).find((each) => each.row === row);
      if (!on) rows.delete(row);
      else if (!rows.has(row) && known) rows.set(row, known);
    }
    return [...rows.values()];
  }

  // The name of a row: its label, where it is in sight.
  label(row) {
    return [...(this.data.pinned ?? []), ...(this.data.sample ?? [])].find((each) => each.row === row)?.label ?? String(row);
  }
}

// Elements.

function make(tag, name = "", text = null) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== null) element.textContent = text;
  return element;
}

function shape(tag, attributes, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.append(shapeTitle(text));
  return element;
}

function shapeTitle(text) {
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = text;
  return title;
}

// Text of a row or a model is written from the right where it begins so.
function inOwnDirection(element) {
  element.dir = "auto";
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

// Words and numbers, as the rest of the package writes them.

const count = (number) => Math.round(number).toLocaleString("en-US");

function usd(amount) {
  if (amount === null || amount === undefined) return "cost unknown";
  if (amount === 0) return "$0";
  if (amount >= 0.99995) return "$" + amount.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  if (amount >= 0.00995) return "$" + amount.toFixed(4);
  if (amount < 0.00000095) return "<$0.000001";
  return "$" + amount.toFixed(1 - Math.floor(Math.log10(amount)));
}

function duration(seconds) {
  if (seconds < 0.05) return "<0.1 s";
  if (seconds < 9.95) return seconds.toFixed(1) + " s";
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return whole + " s";
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  const hours = Math.round(seconds / 3600);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function share(part, whole) {
  const percent = (100 * part) / Math.max(1, whole);
  return !part || percent >= 1 ? `${percent.toFixed(0)} %` : "<1 %";
}

function short(number) {
  return Number.isInteger(number) || Math.abs(number) >= 1000 ? count(number) : String(Number(number.toPrecision(3)));
}

// A number of a row: six figures, in groups of three.
function figure6(number) {
  if (Number.isInteger(number)) return count(number);
  const size = Math.abs(number);
  return size >= 1e-4 && size < 1e15 ? number.toLocaleString("en-US", { maximumSignificantDigits: 6 }) : String(Number(number.toPrecision(6)));
}

const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

// The view.

let numbers = 0;

class Mount {
  constructor(store, host) {
    this.store = store;
    this.id = `pllm-${store.id}-${++numbers}`;
    this.held = false;
    this.rows = new Map();
    this.figures = new Set();
    this.asked = null;
    // A notebook sets what is between two dollar signs as mathematics: neither money nor texts of rows are.
    this.root = make("section", "pllm-view mathjax_ignore tex2jax_ignore");
    this.root.setAttribute("aria-label", "Run");
    this.build();
    // Where the page of an ended run is beside the view and not in its place, the view gives way to it.
    this.fold = store.model.get("folds") ? make("details", "pllm-fold") : null;
    if (this.fold) {
      this.fold.open = true;
      this.fold.append(make("summary", "", "Rows of this run: open them, mark them, retry what failed"), this.root);
    }
    host.append(this.fold ?? this.root);
    store.mounts.add(this);
    this.draw(new Set(Object.keys(store.data)));
    this.setLive(store.live);
    // The page of a run that has ended takes the place of the words: a row that was open there stays open.
    if (store.left.length) {
      this.asked = store.left.shift();
      if (store.opened) this.showOpened(store.opened);
    }
    this.takeFocus();
  }

  // What had the focus when the page took the place of the words has it again: a row, a button of one, or of the head.
  takeFocus() {
    const { focused } = this.store;
    this.store.focused = null;
    if (!focused || document.activeElement !== document.body) return;
    const line = focused.row === null ? null : (this.rows.get(focused.row)?.line ?? this.tbody.firstChild);
    const found = (line ?? this.root).querySelector(focused.kind);
    (found && found.checkVisibility() ? found : this.scroll).focus({ preventScroll: true });
  }

  remove() {
    this.store.mounts.delete(this);
    if (this.asked !== null) this.store.left.push(this.asked);
    (this.fold ?? this.root).remove();
  }

  // In marimo the view is below a shadow root, which has a focus of its own.
  get focused() {
    return this.root.getRootNode().activeElement ?? null;
  }

  setLive(live) {
    this.root.classList.toggle("pllm-gone", !live);
    for (const button of this.root.querySelectorAll("button")) button.disabled = !live;
    if (!live) setText(this.state, "kernel gone");
    else if (this.store.data.head) this.drawHead(this.store.data.head);
  }

  build() {
    const head = make("div", "pllm-head");
    const title = make("div", "pllm-title");
    this.state = make("span", "pllm-state");
    this.label = make("span", "pllm-label");
    this.model = make("span", "pllm-model");
    this.simulated = make("span", "pllm-simulated", "SIMULATED");
    title.append(this.state, this.label, this.model, this.simulated);
    const actions = make("div", "pllm-actions");
    this.pause = this.button("Pause", "Send no new calls; those on the wire end and are kept.", () => this.act("pause"));
    this.goOn = this.button("Go on", "Send calls again.", () => this.act("go_on"));
    this.stop = this.button("Stop", "Stop and keep every finished row. Interrupting the kernel does so too.", () => this.act("stop"));
    this.stop.classList.add("pllm-stop");
    this.retry = this.button("Retry", "Send again what has no answer and can have one.", () => this.act("retry", { kinds: null }));
    actions.append(this.pause, this.goOn, this.stop, this.retry);
    head.append(title, actions);

    this.bar = make("div", "pllm-bar");
    this.bar.setAttribute("role", "progressbar");
    this.bar.setAttribute("aria-valuemin", "0");
    this.segments = {};
    for (const [name, words] of [["cached", "from the cache"], ["done", "answered"], ["failed", "failed"], ["skipped", "skipped"], ["not_sent", "not sent"]]) {
      const segment = make("div", `pllm-segment pllm-${name}`);
      segment.dataset.words = words;
      this.segments[name] = segment;
      this.bar.append(segment);
    }

    this.facts = make("div", "pllm-facts");
    this.fact = {};
    for (const name of ["rows", "rate", "left", "paid", "projected", "ceiling", "perhaps", "cached", "skipped", "unsent"]) {
      this.fact[name] = make("span", `pllm-fact pllm-fact-${name}`);
      this.facts.append(this.fact[name]);
    }
    this.failedLink = make("button", "pllm-link pllm-fact");
    this.failedLink.type = "button";
    this.failedLink.addEventListener("click", () => {
      this.failures.scrollIntoView({ block: "nearest" });
      this.failuresTitle.focus();
    });
    this.facts.append(this.failedLink);
    this.hint = make("p", "pllm-hint");
    this.news = make("div", "pllm-hidden");
    this.news.setAttribute("role", "status");
    this.news.setAttribute("aria-live", "polite");

    this.jobs = this.part("Batch jobs");
    this.jobsTable = make("div", "pllm-jobs");
    this.jobs.append(this.jobsTable);

    this.glance = this.part("At a glance");
    this.uncharted = make("span", "pllm-waiting");
    this.glance.firstChild.append(this.uncharted);
    this.charts = make("div", "pllm-charts");
    this.glance.append(this.charts);

    this.failures = this.part("Failures");
    this.failuresTitle = this.failures.firstChild;
    this.failuresTitle.tabIndex = -1;
    this.groups = make("ul", "pllm-groups");
    this.failures.append(this.groups);

    this.sample = this.part("Latest answers");
    this.beyond = make("span", "pllm-waiting");
    this.waiting = make("span", "pllm-waiting");
    this.sample.firstChild.append(this.beyond, this.waiting);
    this.scroll = make("div", "pllm-scroll");
    this.scroll.tabIndex = 0;
    this.scroll.setAttribute("role", "region");
    this.scroll.setAttribute("aria-label", "Latest answers");
    this.table = make("table", "pllm-table");
    this.thead = make("thead");
    this.tbody = make("tbody");
    this.table.append(this.thead, this.tbody);
    this.scroll.append(this.table);
    this.sample.append(this.scroll);
    new ResizeObserver(() => this.fit()).observe(this.scroll);
    // Rows that move under the pointer or the focus cannot be clicked.
    const hold = (held) => () => {
      this.held = held || this.scroll.matches(":hover") || this.tbody.contains(this.focused);
      if (!this.held) this.draw(new Set(["sample", "fields", "failures"]));
    };
    this.scroll.addEventListener("pointerenter", hold(true));
    this.scroll.addEventListener("pointerleave", hold(false));
    this.tbody.addEventListener("focusin", hold(true));
    this.tbody.addEventListener("focusout", () => setTimeout(hold(false)));
    this.tbody.addEventListener("click", (event) => {
      const line = event.target.closest("tr");
      if (!line) return;
      const row = Number(line.dataset.row);
      if (event.target.closest(".pllm-pin")) this.pin(row);
      else this.open(row);
    });
    this.tbody.addEventListener("keydown", (event) => {
      const line = event.target.closest("tr");
      if (line && event.key === "p") this.pin(Number(line.dataset.row));
      const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      if (line && next && line[next]) {
        event.preventDefault();
        line[next].querySelector("button").focus();
      }
    });

    this.root.addEventListener("focusin", ({ target }) => {
      if (this.detail.contains(target)) return;
      const line = target.closest("tr.pllm-row");
      const kind = ["pllm-pin", "pllm-stop", "pllm-scroll"].find((name) => target.classList.contains(name));
      this.store.focused = { row: line ? Number(line.dataset.row) : null, kind: kind ? `.${kind}` : "button" };
    });
    // A focus that a person moves is forgotten; one that goes with its element, because the words give way, is not.
    this.root.addEventListener("focusout", () => setTimeout(() => {
      if (this.root.isConnected && !this.root.contains(this.focused)) this.store.focused = null;
    }));

    this.detail = make("section", "pllm-detail");
    this.detail.hidden = true;
    this.detail.tabIndex = -1;
    this.detail.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.shut();
    });
    this.root.append(head, this.bar, this.facts, this.hint, this.news, this.jobs, this.glance, this.failures, this.sample, this.detail);
  }

  part(title) {
    const part = make("div", "pllm-part");
    part.hidden = true;
    part.append(make("h4", "", title));
    return part;
  }

  button(text, says, act) {
    const button = make("button", "pllm-button", text);
    button.type = "button";
    button.title = says;
    button.hidden = true;
    button.addEventListener("click", act);
    return button;
  }

  act(word, more = {}) {
    const n = this.store.send({ do: word, ...more });
    if (word !== "stop") return;
    this.stop.disabled = true;
    if (!this.store.data.head?.batch) setText(this.stop, "Stopping");
    setTimeout(() => this.store.waiting.has(n) && this.interruptCell(), ASIDE_MS);
    setTimeout(() => {
      const head = this.store.data.head;
      if (this.store.live && !head.ended && head.can.stop) this.stop.disabled = false;
    }, ANSWER_MS);
  }

  // marimo passes nothing on while a cell runs. Its own button interrupts that cell, which stops its run.
  interruptCell() {
    const cell = this.root.getRootNode().host?.closest('[data-status="running"]');
    if (cell) document.querySelector("[data-testid=interrupt-button]")?.click();
  }

  draw(names) {
    const { data } = this.store;
    if (names.has("head") && data.head) this.drawHead(data.head);
    const silence = this.fold ? LATER : UNANSWERED;
    if (names.has("hint")) setText(this.hint, data.hint || (this.store.isUnanswered ? silence : ""));
    setHidden(this.hint, !this.hint.textContent);
    if (names.has("jobs") || names.has("head")) this.drawJobs(data.jobs ?? []);
    if (names.has("fields") || names.has("pace") || names.has("head")) this.drawGlance(data, names);
    if (names.has("failures") || names.has("head")) this.drawFailures(data.failures ?? [], data.head);
    if (names.has("columns")) this.drawColumns(data.columns);
    if (["sample", "columns", "pinned"].some((name) => names.has(name))) this.drawSample(names.has("pinned"));
    if (names.has("marks")) this.drawMarks(data.marks ?? {});
  }

  drawHead(head) {
    const ended = head.done + head.cached + head.failed + head.skipped;
    if (this.state.textContent !== head.says) {
      this.state.textContent = head.says;
      this.root.dataset.state = head.state;
    }
    // Words of the state alone: a reader is not told of each row.
    if (this.said !== head.state) {
      this.said = head.state;
      this.news.textContent = `${head.label}: ${head.says}, ${count(head.done + head.cached)} of ${plural(head.total, head.unit)} answered`;
    }
    setText(this.label, head.label);
    setText(this.model, head.model);
    setHidden(this.simulated, !head.simulated);
    this.bar.setAttribute("aria-label", `${head.label}: ${head.unit}s that have ended`);
    this.bar.setAttribute("aria-valuemax", String(head.total));
    this.bar.setAttribute("aria-valuenow", String(ended));
    this.bar.setAttribute("aria-valuetext", `${count(ended)} of ${plural(head.total, head.unit)}${head.failed ? `, ${count(head.failed)} failed` : ""}`);
    for (const [name, segment] of Object.entries(this.segments)) {
      const width = (100 * head[name]) / Math.max(1, head.total);
      segment.style.width = `${width.toFixed(3)}%`;
      setHidden(segment, !head[name]);
      segment.title = `${count(head[name])} ${segment.dataset.words}`;
    }
    const { fact } = this;
    const finished = head.total - head.pending;
    setText(fact.rows, `${count(finished)} / ${plural(head.total, head.unit)}`);
    setText(fact.rate, head.rows_per_s && !head.batch ? `${head.rows_per_s >= 9.95 ? count(head.rows_per_s) : head.rows_per_s.toFixed(1)} ${head.unit}s/s` : "");
    setText(fact.left, head.ended ? duration(head.elapsed_s) : head.batch || head.eta_s === null || head.eta_s === undefined ? "" : `${duration(head.eta_s)} left`);
    setText(fact.paid, head.cost_usd === null ? "cost unknown" : `${usd(head.cost_usd)} paid`);
    const projects = !head.ended && head.projected_usd !== null && head.pending > 0;
    setText(fact.projected, projects ? `${usd(head.projected_usd)} projected` : "");
    setText(fact.ceiling, head.budget_usd === null ? "" : `${usd(head.budget_usd)} ceiling`);
    fact.projected.classList.toggle("pllm-over", projects && head.budget_usd !== null && head.projected_usd > head.budget_usd);
    setText(fact.perhaps, head.maybe_paid_requests ? `${head.maybe_paid_usd ? "up to " + usd(head.maybe_paid_usd) + " " : ""}perhaps paid (${plural(head.maybe_paid_requests, "request")})` : "");
    setText(fact.cached, head.cached ? `${count(head.cached)} from cache` : "");
    setText(fact.skipped, head.skipped ? `${count(head.skipped)} skipped` : "");
    setText(fact.unsent, head.not_sent ? `${count(head.not_sent)} not sent` : "");
    for (const element of Object.values(fact)) setHidden(element, !element.textContent);
    setText(this.failedLink, head.failed ? `${count(head.failed)} failed` : "");
    setHidden(this.failedLink, !head.failed);
    const can = head.can;
    setHidden(this.stop, head.ended);
    if (!head.ended) {
      setText(this.stop, can.stop || head.batch ? head.stop : "Stopping");
      this.stop.title = head.stop_says;
      this.stop.disabled = !can.stop || !this.store.live;
    }
    setHidden(this.pause, !can.pause);
    setHidden(this.goOn, !can.go_on);
    setHidden(this.retry, !can.retry);
    if (this.fold && head.ended !== this.fold.classList.contains("pllm-ended")) {
      this.fold.classList.toggle("pllm-ended", head.ended);
      this.fold.open = !head.ended || this.asked !== null || this.root.contains(this.focused);
    }
    setText(this.retry, head.retry);
  }

  drawGlance(data, names) {
    const fields = data.fields ?? [];
    const pace = data.pace ?? { rows: [], usd: [], held: [] };
    const paced = pace.rows.length > 1 && pace.rows.some((rate) => rate > 0);
    setHidden(this.glance, !fields.length && !paced);
    // Charts may grow, and what is under the pointer must not move.
    if ((!names.has("fields") && !names.has("pace")) || (this.charts.childElementCount && this.scroll.matches(":hover"))) return;
    const all = (data.columns?.output.length ?? 0) + (data.columns?.more_output ?? 0);
    setText(this.uncharted, fields.length && all > fields.length ? `${fields.length} of ${all} fields` : "");
    const drawn = fields.map(chart);
    if (paced) drawn.push(paceChart(pace, data.head?.unit ?? "row"), moneyChart(pace, data.head));
    this.charts.replaceChildren(...drawn.filter(Boolean));
  }

  drawJobs(jobs) {
    setHidden(this.jobs, !jobs.length);
    const now = Date.now() / 1000;
    const lines = jobs.map((job) => [
      job.job,
      job.state,
      count(job.requests),
      job.answered === null ? "" : count(job.answered),
      job.failed ? count(job.failed) : "",
      duration(Math.max(0, now - job.created_at)),
      !job.open ? "" : job.ends_at === null ? "not submitted yet" : duration(Math.max(0, job.ends_at - now)),
      job.price_usd === null ? "unknown" : usd(job.price_usd),
      job.message,
    ]);
    const shown = JSON.stringify(lines);
    if (shown === this.shownJobs) return;
    this.shownJobs = shown;
    const table = make("table", "pllm-table");
    const heads = ["job", "state", "requests", "answered", "failed", "age", "at most", "price", "message"];
    const kept = heads.map((_, at) => at < 4 || lines.some((line) => line[at]));
    const row = (cells, tag) => {
      const line = make("tr");
      cells.forEach((text, at) => {
        if (!kept[at]) return;
        const cell = make(tag, [2, 3, 4].includes(at) ? "pllm-right" : at === 8 ? "pllm-wraps" : "", text);
        if (tag === "th") cell.scope = "col";
        line.append(cell);
      });
      return line;
    };
    const top = make("thead");
    top.append(row(heads, "th"));
    const body = make("tbody");
    body.append(...lines.map((line) => row(line, "td")));
    table.append(top, body);
    this.jobsTable.replaceChildren(table);
  }

  drawFailures(groups, head) {
    setHidden(this.failures, !groups.length);
    const unit = head?.unit ?? "row";
    const shown = JSON.stringify([groups, head?.can.retry_kinds, this.store.live, unit]);
    if (shown === this.shownGroups || (this.held && this.shownGroups && !head?.ended && this.scroll.matches(":hover"))) return;
    this.shownGroups = shown;
    const focused = this.groups.contains(this.focused) ? this.focused.dataset.kind : null;
    this.groups.replaceChildren(
      ...groups.map((group) => {
        const line = make("li", "pllm-group");
        line.append(make("span", "pllm-number", count(group.count)), make("span", "pllm-kind", group.kind));
        const text = make("span", "pllm-message");
        text.append(inOwnDirection(make("span", "", group.message)));
        for (const [at, row] of group.rows.entries()) {
          const link = make("button", "pllm-link", `${unit} ${group.labels?.[at] ?? row}`);
          link.type = "button";
          link.addEventListener("click", () => this.open(row));
          text.append(" ", link);
        }
        const price = group.price_usd === null ? "" : `about ${usd(group.price_usd)}`;
        const helps = group.can_pass ? "Asking again can help" : "Asking again rarely helps";
        const advice = !group.can_retry ? "" : price ? `${helps}; it costs ${price}.` : `${helps}.`;
        text.append(make("span", "pllm-advice", advice && ` ${advice}`));
        line.append(text);
        if (group.can_retry && head?.can.retry_kinds) {
          const retry = this.button("Retry", `Send ${group.count === 1 ? "this" : "these"} ${plural(group.count, unit)} again${price && `, for ${price}`}.`, () => this.act("retry", { kinds: [group.kind] }));
          retry.hidden = false;
          retry.disabled = !this.store.live;
          retry.dataset.kind = group.kind;
          retry.setAttribute("aria-label", `Retry ${group.kind}`);
          line.append(retry);
        }
        return line;
      }),
    );
    if (focused) this.groups.querySelector(`[data-kind="${CSS.escape(focused)}"]`)?.focus();
  }

  drawColumns(columns) {
    const line = make("tr");
    const names = [[this.store.data.head?.unit ?? "row", ""], ["status", ""], ...columns.input.map((name) => [name, "pllm-input"]), ...columns.output.map((name) => [name, "pllm-output"]), ...(columns.confidence ? [["confidence", "pllm-right"]] : []), ["cost", "pllm-right"], ["time", "pllm-right"]];
    for (const [name, style] of names) {
      const cell = make("th", style);
      cell.scope = "col";
      cell.title = name;
      const words = inOwnDirection(make("span", "", name));
      if (name.length < 12) words.style.whiteSpace = "nowrap";
      else words.style.minWidth = "11ch";
      cell.append(words);
      line.append(cell);
    }
    this.thead.replaceChildren(line);
    this.thead.querySelectorAll(".pllm-input, .pllm-output").forEach((cell, at) => (cell.style.maxWidth = `var(--pllm-c${at})`));
    this.figures = new Set();
    const hidden = [[columns.more_input, "column"], [columns.more_output, "field"]].filter(([more]) => more).map(([more, word]) => plural(more, `more ${word}`));
    setText(this.beyond, hidden.length ? `${hidden.join(" and ")}: open a row` : "");
    this.rows.clear();
    this.tbody.replaceChildren();
  }

  // Each column is as wide as its texts, which are measured, since fonts differ; where there is no room for all, the
  // longest give way, so that cost and time stay in sight.
  fit() {
    const { columns } = this.store.data;
    let room = this.scroll.clientWidth;
    if (!columns || !room) return;
    const widths = [];
    for (const line of [...this.thead.rows, ...this.tbody.rows]) {
      let at = 0;
      for (const cell of line.cells) {
        if (!cell.matches(".pllm-message")) widths[at] = Math.max(widths[at] ?? 0, Math.min(naturalWidth(cell), MOST_PX));
        at += cell.colSpan;
      }
    }
    const needs = widths.splice(2, columns.input.length + columns.output.length);
    room -= widths.reduce((sum, width) => sum + width, 0);
    const fits = needs.reduce((sum, need) => sum + Math.min(need, LEAST_PX), 0) <= room;
    let more = needs.length;
    for (const at of needs.map((_, at) => at).sort((one, other) => needs[one] - needs[other])) {
      const given = Math.floor(Math.max(Math.min(needs[at], fits ? LEAST_PX : SCROLLED_PX), Math.min(needs[at], room / more)));
      this.table.style.setProperty(`--pllm-c${at}`, `${given}px`);
      room -= given;
      more -= 1;
    }
  }

  drawSample(always = false) {
    const pinned = this.store.pinned();
    const kept_in_sight = new Set(pinned.map((row) => row.row));
    const sample = [...pinned, ...(this.store.data.sample ?? []).filter((row) => !kept_in_sight.has(row.row))];
    setHidden(this.sample, !sample.length);
    // As high as it will be: what is below does not move with each row that arrives.
    this.scroll.style.minHeight = `${Math.min(250, 28 + 20 * (this.store.data.head?.total ?? 0))}px`;
    const fresh = sample.filter((row) => !this.rows.has(row.row)).length;
    if (this.held && this.rows.size && !always) {
      setText(this.waiting, fresh ? `${count(fresh)} newer` : "");
      return;
    }
    setText(this.waiting, "");
    // Figures stand below each other, their column's name and missing ones too.
    const inputs = this.store.data.columns?.input.length ?? 0;
    this.thead.querySelectorAll(".pllm-input, .pllm-output").forEach((cell, at) => {
      const values = sample.filter((row) => at < inputs || !row.message).map((row) => [...row.input, ...row.values][at]);
      if (!this.figures.has(at) && values.some((value) => typeof value === "number")) this.figures.add(at);
      cell.classList.toggle("pllm-right", this.figures.has(at));
    });
    const kept = new Map();
    for (const row of sample) {
      const known = this.rows.get(row.row);
      kept.set(row.row, known && sameRow(known.shown, row) ? known : { shown: row, ...this.line(row) });
    }
    const focused = this.tbody.contains(this.focused) ? this.focused : null;
    this.rows = kept;
    this.tbody.replaceChildren(...[...kept.values()].map((each) => each.line));
    for (const [row, each] of kept) {
      const isPinned = kept_in_sight.has(row);
      each.line.classList.toggle("pllm-pinned", isPinned);
      setText(each.pin, isPinned ? "★" : "☆");
      each.pin.setAttribute("aria-pressed", String(isPinned));
      each.pin.title = isPinned ? "Pinned. Press to let this row go." : "Pin: keep this row in sight.";
    }
    for (const each of kept.values()) for (const [at, cell] of each.cells) cell.classList.toggle("pllm-right", this.figures.has(at));
    this.drawMarks(this.store.data.marks ?? {});
    if (focused?.isConnected) focused.focus({ preventScroll: true });
  }

  drawMarks(marks) {
    for (const [row, each] of this.rows) {
      const mark = marks[String(row)] ?? "";
      setText(each.said, mark && ` ${mark}`);
      each.said.className = mark ? `pllm-judged pllm-judged-${mark}` : "pllm-judged";
    }
    this.fit();
  }

  line(row) {
    const line = make("tr", `pllm-row pllm-status-${row.status}`);
    line.dataset.row = String(row.row);
    const first = make("td", "pllm-row-label");
    const button = make("button", "pllm-link", row.label);
    button.type = "button";
    button.setAttribute("aria-label", `Open ${this.store.data.head?.unit ?? "row"} ${row.label}`);
    button.title = row.label;
    button.disabled = !this.store.live;
    first.append(button);
    line.append(first);
    const status = make("td", "pllm-status");
    status.append(make("span", "pllm-mark", { ok: "✓", cached: "↺", failed: "✗" }[row.status] ?? "·"), make("span", "pllm-status-word", row.status));
    const said = make("span", "pllm-judged");
    status.append(said);
    if (row.simulated) status.append(" ", make("span", "pllm-simulated", "SIMULATED"));
    line.append(status);
    const cells = [];
    const add = (value, style, at) => {
      const cell = cellOf(value, style);
      cell.style.maxWidth = `var(--pllm-c${at})`;
      if (value === null || typeof value === "number") cells.push([at, cell]);
      line.append(cell);
    };
    row.input.forEach((value, at) => add(value, "pllm-input", at));
    if (row.message) {
      const message = inOwnDirection(make("td", "pllm-message", row.message));
      message.title = row.message;
      message.colSpan = Math.max(1, row.values.length);
      message.style.maxWidth = `calc(${["0px", ...row.values.map((_, at) => `var(--pllm-c${row.input.length + at})`)].join(" + ")})`;
      line.append(message);
    } else row.values.forEach((value, at) => add(value, "pllm-output", row.input.length + at));
    if (this.store.data.columns?.confidence) line.append(make("td", "pllm-right", row.confidence === null ? "" : row.confidence.toFixed(2)));
    line.append(make("td", "pllm-right", row.cost_usd === null ? "" : usd(row.cost_usd)));
    line.append(make("td", "pllm-right", row.latency_s === null ? "" : duration(row.latency_s)));
    const pin = make("button", "pllm-link pllm-pin", "☆");
    pin.type = "button";
    pin.setAttribute("aria-label", `Pin ${this.store.data.head?.unit ?? "row"} ${row.label}`);
    pin.disabled = !this.store.live;
    first.append(" ", pin);
    return { line, pin, said, cells };
  }

  pin(row) {
    this.store.pin(row);
  }

  open(row) {
    this.asked = row;
    this.store.send({ do: "open", row });
  }

  shut() {
    this.detail.hidden = true;
    this.rows.get(this.asked)?.line.querySelector("button").focus();
    this.asked = null;
  }

  showOpened(opened) {
    if (opened.row !== this.asked) return;
    const marked = opened.by === "mark" && !this.detail.hidden;
    const focused = marked && this.detail.contains(this.focused) ? this.focused.dataset.key : null;
    const top = make("div", "pllm-detail-top");
    const label = opened.label ?? this.store.label(opened.row);
    const place = label === String(opened.row) ? "" : ` (position ${opened.row})`;
    const title = make("h4", "", `${this.store.data.head?.unit === "prompt" ? "Prompt" : "Row"} ${label}${place}`);
    const close = this.button("Close", "Close this row.", () => this.shut());
    close.hidden = false;
    top.append(title, close);
    const facts = make("dl", "pllm-dl");
    for (const [name, text] of opened.facts) facts.append(make("dt", "", name), inOwnDirection(make("dd", "", text)));
    const sure = (opened.confidence ?? []).map(([name, p]) => `${name} ${p.toFixed(2)}`).join(", ");
    if (sure) facts.append(make("dt", "", "confidence"), make("dd", "", sure));
    const parts = [top];
    if (opened.checks?.length) parts.push(this.checks(opened));
    parts.push(facts);
    for (const [column, pieces] of opened.evidence ?? []) parts.push(quoted(column, pieces));
    for (const [role, text] of opened.messages) parts.push(said(role, text));
    if (opened.value) parts.push(said("answer", opened.value));
    for (const [name, text] of opened.folded) {
      const folded = make("details", "pllm-folded");
      folded.append(make("summary", "", name), passage(text));
      parts.push(folded);
    }
    this.detail.replaceChildren(...parts);
    this.detail.setAttribute("aria-label", title.textContent);
    this.detail.hidden = false;
    if (!marked) {
      this.detail.focus({ preventScroll: true });
      this.detail.scrollIntoView({ block: "nearest" });
    } else if (focused) (this.detail.querySelector(`[data-key="${CSS.escape(focused)}"]`) ?? this.detail).focus({ preventScroll: true });
  }

  // Each field with Right and Wrong; Wrong asks for the right value. What is said is a label at once.
  checks(opened) {
    const box = make("div", "pllm-checks");
    const send = (message) => this.store.send({ do: "mark", row: opened.row, ...message });
    const button = (text, says, key, act) => {
      const made = this.button(text, says, act);
      made.hidden = false;
      made.disabled = !this.store.live;
      made.dataset.key = key;
      return made;
    };
    if (opened.checks.length > 1) {
      const all = make("div", "pllm-check");
      all.append(make("span", "pllm-check-field", "all fields"), button("All right", "Every value of this answer is right.", "all", () => send({ field: null })));
      box.append(all);
    }
    for (const check of opened.checks) {
      const line = make("div", "pllm-check");
      const { field } = check;
      const told = check.label === null ? "" : check.right ? "right" : `wrong: ${check.label || "no value"} is right`;
      const right = button("Right", `${field} is right.`, `${field} right`, () => send({ field }));
      const wrong = button("Wrong", `${field} is something else.`, `${field} wrong`, () => setHidden(choice, !choice.hidden));
      right.setAttribute("aria-label", `${field} is right`);
      wrong.setAttribute("aria-label", `${field} is wrong`);
      right.setAttribute("aria-pressed", String(check.label !== null && check.right));
      wrong.setAttribute("aria-pressed", String(check.label !== null && !check.right));
      const choice = make("span", "pllm-choice");
      choice.hidden = true;
      for (const value of check.choices) {
        if (value !== check.value) choice.append(button(value, `${value} is right.`, `${field}=${value}`, () => send({ field, value })));
      }
      if (!check.choices.length) choice.append(...this.typed(field, check.value, (value) => send({ field, value })));
      const value = inOwnDirection(make("span", "pllm-check-value", check.value || "–"));
      value.title = check.value;
      line.append(make("span", "pllm-check-field", field), value, right, wrong, choice, make("span", "pllm-told", told));
      if (check.label !== null) line.append(button("Undo", "Take this back.", `${field} undo`, () => send({ field, undo: true })));
      box.append(line);
    }
    const note = make("div", "pllm-told", opened.problem || (opened.checks.some((check) => check.label !== null) ? "Saved: pllm.labels() has it." : ""));
    note.setAttribute("role", "status");
    box.append(note);
    return box;
  }

  typed(field, value, send) {
    const input = make("input", "pllm-typed");
    input.type = "text";
    input.value = value;
    input.setAttribute("aria-label", `The right value of ${field}`);
    // The notebook has keys of its own.
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") send(input.value);
    });
    const save = this.button("Save", `This is the right value of ${field}.`, () => send(input.value));
    save.hidden = false;
    return [input, save];
  }
}

function sameRow(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

// The text of a cell, with what the answer quotes from it.
function quoted(column, pieces) {
  const part = make("div", "pllm-said");
  const text = passage("");
  text.classList.add("pllm-evidence");
  for (const [piece, fields] of pieces) {
    if (!fields) text.append(piece);
    else {
      const mark = make("mark", "", piece);
      mark.title = `evidence of ${fields}`;
      text.append(mark, make("sup", "pllm-of", fields));
    }
  }
  part.append(make("div", "pllm-role", `evidence: ${column}`), text);
  return part;
}

// A text of any length; one that is longer than its box is scrolled, by keyboard too.
function passage(text) {
  const made = inOwnDirection(make("pre", "", text));
  made.tabIndex = 0;
  return made;
}

function said(role, text) {
  const part = make("div", "pllm-said");
  part.append(make("div", "pllm-role", role), passage(text));
  return part;
}

// The width of a cell with its whole text in one line, in pixels, wherever the cell cuts it now.
function naturalWidth(cell) {
  const style = getComputedStyle(cell);
  const words = cell.querySelector(":scope > span:only-child") ?? cell;
  const range = document.createRange();
  range.selectNodeContents(words);
  const asked = parseFloat(getComputedStyle(words).minWidth) || range.getBoundingClientRect().width;
  return Math.ceil(asked + parseFloat(style.paddingLeft) + parseFloat(style.paddingRight));
}

function cellOf(value, style) {
  const cell = make("td", style);
  if (value === null || value === undefined) {
    cell.classList.add("pllm-missing");
    cell.textContent = "–";
  } else if (typeof value === "number") {
    cell.textContent = figure6(value);
  } else {
    cell.textContent = typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
    if (typeof value === "string") {
      cell.dir = "auto";
      if (value.length > 12) cell.title = value;
    }
  }
  return cell;
}

// Charts. Bars of categories lie, with their words; numbers stand.

function figure(name, note) {
  const box = make("figure", "pllm-chart");
  const caption = make("figcaption");
  caption.append(inOwnDirection(make("span", "pllm-chart-name", name)));
  caption.title = name;
  box.append(caption);
  const below = make("div", "pllm-chart-note", note);
  return [box, below];
}

function chart(field) {
  const name = field.of ? `${field.name} (${field.of})` : field.name;
  const missing = field.missing ? `${share(field.missing, field.counted)} missing`.replaceAll(" ", "\u00a0") : "";
  if (field.kind === "categories") {
    const [box, below] = figure(name, missing);
    const list = make("div", "pllm-categories");
    const bars = field.more ? [...field.bars, { label: "others", count: field.more }] : field.bars;
    const most = Math.max(1, ...bars.map((bar) => bar.count));
    for (const bar of bars) {
      const line = make("div", "pllm-category");
      const track = make("span", "pllm-track");
      const fill = make("span", "pllm-fill");
      fill.style.width = `${((100 * bar.count) / most).toFixed(1)}%`;
      track.append(fill);
      line.title = `${bar.label}: ${count(bar.count)}`;
      line.append(inOwnDirection(make("span", "pllm-category-name", bar.label)), track, make("span", "pllm-category-share", share(bar.count, field.counted)));
      list.append(line);
    }
    box.append(list, below);
    return box;
  }
  const range = field.low === null ? "no values" : field.low === field.high ? short(field.low) : `${short(field.low)} to ${short(field.high)}`;
  const mean = field.mean === null || field.low === field.high ? "" : `mean ${short(field.mean)}`;
  const [box, below] = figure(name, [range, mean, missing].filter(Boolean).join("\u00a0· "));
  const most = Math.max(1, ...field.bars.map((bar) => bar.count));
  const width = 160 / Math.max(1, field.bars.length);
  const drawing = shape("svg", { viewBox: "0 0 160 44", class: "pllm-histogram", role: "img", preserveAspectRatio: "none" }, `${name}: ${below.textContent}`);
  field.bars.forEach((bar, at) => {
    const height = bar.count ? Math.max(1.5, (42 * bar.count) / most) : 0;
    const rect = { x: at * width + 0.75, y: 43 - height, width: Math.max(1, width - 1.5), height, rx: 1 };
    drawing.append(shape("rect", rect, `${bar.label}: ${count(bar.count)}`));
  });
  drawing.append(shape("line", { x1: 0, y1: 43.5, x2: 160, y2: 43.5 }));
  box.append(drawing, below);
  return box;
}

function points(values, most) {
  const step = 160 / Math.max(1, values.length - 1);
  return values.map((value, at) => `${(at * step).toFixed(1)},${(42 - (40 * value) / most).toFixed(1)}`);
}

function spark(name, note, values, most, held = []) {
  const [box, below] = figure(name, note);
  const drawing = shape("svg", { viewBox: "0 0 160 44", class: "pllm-spark", role: "img", preserveAspectRatio: "none" }, `${name}: ${note}`);
  const line = points(values, most);
  drawing.append(shape("polygon", { points: `0,43 ${line.join(" ")} 160,43`, class: "pllm-area" }));
  drawing.append(shape("polyline", { points: line.join(" "), class: "pllm-curve" }));
  const step = 160 / Math.max(1, values.length - 1);
  for (const at of held) drawing.append(shape("line", { x1: at * step, y1: 40, x2: at * step, y2: 44, class: "pllm-held" }, "a limit held"));
  drawing.append(shape("line", { x1: 0, y1: 43.5, x2: 160, y2: 43.5 }));
  box.append(drawing, below);
  return [box, drawing];
}

function paceChart(pace, unit) {
  const most = Math.max(0.1, ...pace.rows);
  const held = pace.held.length ? ` · held ${share(pace.held.length, pace.rows.length)} of the time` : "";
  return spark(`${unit}s a second`, `up to ${short(most)}${held}`, pace.rows, most, pace.held)[0];
}

function moneyChart(pace, head) {
  const paid = head?.cost_usd ?? 0;
  if (!paid) return null;
  const ceiling = head?.budget_usd ?? null;
  const near = ceiling !== null && ceiling < paid * 5;
  const most = near ? ceiling * 1.02 : paid;
  const [box, drawing] = spark("dollars", ceiling === null ? usd(paid) : `${usd(paid)} of ${usd(ceiling)}`, pace.usd, most);
  if (near) drawing.append(shape("line", { x1: 0, y1: 42 - (40 * ceiling) / most, x2: 160, y2: 42 - (40 * ceiling) / most, class: "pllm-ceiling" }, "ceiling"));
  return box;
}

// Where views are mounted.

function mountPlaces(store) {
  const { places } = store;
  for (const [host, mount] of places) {
    if (!host.isConnected) {
      mount.remove();
      places.delete(host);
    }
  }
  for (const host of document.querySelectorAll(`[data-pllm-view="${CSS.escape(store.id)}"]`)) {
    if (places.has(host)) continue;
    places.set(host, new Mount(store, host));
    host.classList.add("pllm-mounted");
  }
  return places.size > 0;
}

export default {
  initialize({ model }) {
    const store = storeOf(model);
    const place = `[data-pllm-view="${CSS.escape(store.id)}"]`;
    let told = false;
    const look = () => {
      if (mountPlaces(store) && !told) {
        told = true;
        store.send({ do: "placed" });  // as what a person does: a comm that is new may not be known to the kernel yet
      }
    };
    // In the same task that put a page in the words' place: the focus and a key that comes next find the row there.
    const holds = (node) => node.nodeType === Node.ELEMENT_NODE && (node.matches(place) || node.querySelector(place) !== null);
    const observer = new MutationObserver((records) => {
      const isGone = [...store.places.keys()].some((host) => !host.isConnected);
      if (isGone || records.some((record) => [...record.addedNodes].some(holds))) look();
    });
    observer.observe(document.body, { childList: true, subtree: true });
    look();
    return () => {
      observer.disconnect();
      if (store.model !== model) return;
      for (const [host, mount] of store.places) {
        mount.remove();
        host.classList.remove("pllm-mounted");
      }
      stores.delete(store.id);
    };
  },

  render({ model, el }) {
    const store = storeOf(model);
    // A browser that has found the place shows the view there, and this output is about to be emptied.
    const placed = document.querySelector(`[data-pllm-view="${CSS.escape(store.id)}"]`) !== null;
    const mount = placed ? null : new Mount(store, el);
    return () => mount?.remove();
  },
};
