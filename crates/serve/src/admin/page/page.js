"use strict";
// Everything shown comes from three paths of this port: /recent (the last ten minutes, then what is new), /top and
// /status. Text from them is only ever set as text.

const SPAN_MS = 600_000, SPAN_MIN_MS = 60_000, SMALL_PAUSE_MS = 2_000, LONG_PAUSE_MS = 10_000, SLOW_EVERY = 2;
const LARGE_KEYS = 1_000, HUGE_KEYS = 5_000;
const at = id => document.getElementById(id);
const SVG = document.querySelector("svg").namespaceURI;

let samples = [], recent = null, status_ = null, top_ = null, span = "last_1_minute", held = false, turn = 0;

// --- Words and numbers ---

function short(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  const a = Math.abs(n);
  if (a >= 1e9) return (n / 1e9).toFixed(a >= 1e10 ? 0 : 1) + "G";
  if (a >= 1e6) return (n / 1e6).toFixed(a >= 1e7 ? 0 : 1) + "M";
  if (a >= 1e4) return (n / 1e3).toFixed(a >= 1e5 ? 0 : 1) + "k";
  return a >= 100 || Number.isInteger(n) ? Math.round(n).toLocaleString() : n.toFixed(a >= 10 ? 1 : 2);
}
function bytes(n) {
  if (n === null || n === undefined) return "–";
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) if (n >= size) return (n / size).toFixed(n >= 100 * size ? 0 : 1) + " " + unit;
  return n + " B";
}
function micros(us) {
  if (!us) return "–";
  if (us < 1_000) return Math.round(us) + " µs";
  return us < 1e6 ? (us / 1e3).toFixed(us < 1e4 ? 1 : 0) + " ms" : (us / 1e6).toFixed(1) + " s";
}
function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 1) return Math.round(s * 1e3) + " ms";
  if (s < 120) return (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
  return s < 7_200 ? Math.round(s / 60) + " min" : s < 172_800 ? Math.round(s / 3_600) + " h" : Math.round(s / 86_400) + " d";
}
const percent = part => part === null ? "–" : (part * 100).toFixed(part > 0 && part < 0.0995 ? 1 : 0) + " %";
const clock = ms => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const ago = ms => seconds(Math.max(0, (recent.now_ms - ms) / 1e3)) + " ago";
const sum = (list, of) => list.reduce((total, it) => total + of(it), 0);
const most = (list, of) => list.reduce((top, it) => Math.max(top, of(it) ?? 0), 0);

// --- Elements ---

function el(name, attributes = {}, ...children) {
  const it = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) it.setAttribute(key, value);
  it.append(...children.filter(child => child !== null && child !== undefined).map(child => typeof child === "number" ? String(child) : child));
  return it;
}
function svg(name, attributes, ...children) {
  const it = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) it.setAttribute(key, value);
  it.append(...children);
  return it;
}
const cell = (value, kind) => el("td", { class: kind }, value);
function rows(body, list, columns, none) {
  body.replaceChildren(...(list.length ? list.map(cells => el("tr", {}, ...cells)) : [el("tr", {}, el("td", { colspan: columns, class: "quiet" }, none))]));
}

// --- Charts ---

function spark(values, color, width = 120, height = 26) {
  const top = Math.max(...values, 1e-9), step = width / Math.max(1, values.length - 1);
  const points = values.map((v, n) => `${(n * step).toFixed(1)},${(height - 2 - (v / top) * (height - 4)).toFixed(1)}`);
  const it = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (values.length > 1) {
    it.append(svg("polygon", { points: `0,${height} ${points.join(" ")} ${width},${height}`, fill: color, opacity: .16 }));
    it.append(svg("polyline", { points: points.join(" "), fill: "none", stroke: color, "stroke-width": 1.6, "vector-effect": "non-scaling-stroke" }));
  }
  return it;
}

/** A number that reads well and is at least as large. */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map(n => n * power).find(n => n >= value * .999);
}

/**
 * A chart of the last ten minutes. Its legend is its reading: of the latest sample, or of the one under the pointer or
 * the arrow keys.
 */
class Chart {
  constructor(id, { title, note, series, stacked, log, format, ceiling, floor, unit }) {
    Object.assign(this, { series, stacked, log, format, ceiling, floor: floor ?? 0, unit: unit ?? 1, cursor: null });
    this.view = svg("svg", { tabindex: "0", role: "img" });
    this.legend = el("ul", { class: "legend" });
    this.title = title;
    at(id).append(el("h3", {}, title, note ? el("small", {}, note) : null), this.view, this.legend);
    const move = event => {
      const box = this.view.getBoundingClientRect();
      this.pointAt(this.from + (event.clientX - box.left - 40) / (box.width - 46) * this.span);
    };
    this.view.addEventListener("pointermove", move);
    this.view.addEventListener("pointerdown", move);
    this.view.addEventListener("pointerleave", () => { this.cursor = null; this.draw(); });
    this.view.addEventListener("blur", () => { this.cursor = null; this.draw(); });
    this.view.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -SPAN_MS, End: SPAN_MS }[event.key];
      if (!step || !samples.length) return;
      event.preventDefault();
      const now = this.cursor ?? samples.length - 1;
      this.cursor = Math.max(0, Math.min(samples.length - 1, now + step));
      this.draw();
    });
  }
  pointAt(ms) {
    let best = null;
    samples.forEach((it, n) => { if (best === null || Math.abs(it.at_ms - ms) < Math.abs(samples[best].at_ms - ms)) best = n; });
    this.cursor = best;
    this.draw();
  }
  draw() {
    const width = this.view.clientWidth, height = this.view.clientHeight;
    if (!width || !recent) return;
    const left = 40, right = width - 6, base = height - 16, head = 8, shown = this.series.filter(it => !it.hide?.());
    // A process that has just begun has less to show.
    this.span = Math.min(SPAN_MS, Math.max(SPAN_MIN_MS, recent.now_ms - (samples[0]?.at_ms ?? recent.now_ms)));
    this.from = recent.now_ms - this.span;
    const x = ms => left + (ms - this.from) / this.span * (right - left);
    const ceiling = this.ceiling?.() ?? null;
    const peak = Math.max(this.floor, this.stacked ? most(samples, s => sum(shown, it => it.of(s) ?? 0)) : Math.max(0, ...shown.map(it => most(samples, it.of))));
    const top = this.log ? Math.max(this.log * 100, 10 ** Math.ceil(Math.log10(Math.max(peak, this.log)))) : nice(Math.max(peak * 1.05, ceiling !== null && peak > ceiling * .5 ? ceiling * 1.1 : 0) / this.unit) * this.unit;
    const y = v => this.log
      ? base - Math.max(0, Math.log10(Math.max(v, this.log) / this.log) / Math.log10(top / this.log)) * (base - head)
      : base - Math.min(1, v / top) * (base - head);
    const out = [];
    const marks = this.log ? Array.from({ length: Math.round(Math.log10(top / this.log)) + 1 }, (_, n) => this.log * 10 ** n) : [0, top / 2, top];
    for (const mark of marks) {
      out.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(mark), y2: y(mark) }));
      out.push(svg("text", { class: "axis", x: left - 5, y: y(mark) + 4, "text-anchor": "end" }, this.format(mark, true)));
    }
    for (const [part, anchor] of [[1, "start"], [.5, "middle"], [0, "end"]]) {
      out.push(svg("text", { class: "axis", x: x(recent.now_ms - part * this.span), y: height - 2, "text-anchor": anchor }, part ? "−" + seconds(Math.round(part * this.span / 1e3)) : "now"));
    }
    const under = samples.map(() => 0);
    for (const it of shown) {
      const points = [];
      samples.forEach((s, n) => {
        const value = it.of(s);
        if (value === null || value === undefined) return;
        points.push([x(s.at_ms), y(this.stacked ? under[n] + value : value), this.stacked ? y(under[n]) : base]);
        if (this.stacked) under[n] += value;
      });
      if (!points.length) continue;
      const upper = points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`);
      const lower = points.map(([a, , c]) => `${a.toFixed(1)},${c.toFixed(1)}`).reverse();
      if (this.stacked || it.fill) out.push(svg("polygon", { points: [...upper, ...lower].join(" "), fill: it.color, opacity: this.stacked ? .45 : .13 }));
      out.push(svg("polyline", { points: upper.join(" "), fill: "none", stroke: it.color, "stroke-width": 1.8, "stroke-linejoin": "round" }));
    }
    if (ceiling !== null && ceiling <= top) out.push(svg("line", { class: "ceiling", x1: left, x2: right, y1: y(ceiling), y2: y(ceiling) }));
    const one = samples[this.cursor ?? samples.length - 1];
    if (this.cursor !== null && one) out.push(svg("line", { class: "cursor", x1: x(one.at_ms), x2: x(one.at_ms), y1: head, y2: base }));
    this.view.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.view.replaceChildren(...out);
    const read = shown.map(it => [it, one ? it.of(one) : null]);
    const items = read.map(([it, value]) => el("li", {}, el("span", { class: "swatch", style: `background:${it.color}` }), it.name, el("b", {}, value === null || value === undefined ? "–" : this.format(value))));
    if (ceiling !== null) items.push(el("li", { class: "quiet" }, "ceiling ", el("b", {}, this.format(ceiling))));
    if (this.cursor !== null && one) items.push(el("li", { class: "time" }, clock(one.at_ms)));
    this.legend.replaceChildren(...items);
    this.view.setAttribute("aria-label", `${this.title}${one ? ", " + clock(one.at_ms) : ""}: ` + read.map(([it, v]) => `${it.name} ${v === null || v === undefined ? "none" : this.format(v)}`).join(", ") + ". Arrow keys read earlier times.");
  }
}

const C = Object.fromEntries(["blue", "teal", "amber", "red", "violet", "grey"].map(name => [name, `var(--${name})`]));
const per = n => n / (recent.every_ms / 1e3);
const rate = (v, axis) => short(v) + (axis ? "" : "/s");
const limit = name => () => recent.limits[name] || null;

const charts = [
  new Chart("c-calls", { title: "Calls", note: "a second, by how they ended", stacked: true, format: rate, floor: 1, series: [
    { name: "failed", color: C.red, of: s => per(s.failed) },
    { name: "refused", color: C.amber, of: s => per(s.shed) },
    { name: "caller's fault", color: C.violet, of: s => per(s.invalid) },
    { name: "caller gone", color: C.grey, of: s => per(s.gone) },
    { name: "answered", color: C.blue, of: s => per(s.ok) },
  ] }),
  new Chart("c-latency", { title: "Latency", note: "99 of 100 calls are faster, by size", log: 100, format: (v, axis) => axis ? micros(v).replace(" ", "") : micros(v), series: [
    { name: "small, to 50 keys", color: C.teal, of: s => s.sizes[0].p99_us || null },
    { name: "medium, to 1,000", color: C.blue, of: s => s.sizes[1].p99_us || null },
    { name: "large", color: C.amber, of: s => s.sizes[2].p99_us || null },
  ] }),
  new Chart("c-cache", { title: "Cache", note: "keys a second", stacked: true, format: rate, floor: 1, series: [
    { name: "from the store", color: C.amber, of: s => per(s.near_misses) },
    { name: "from memory", color: C.teal, of: s => per(s.near_hits) },
  ] }),
  new Chart("c-store", { title: "Store", note: "visits in flight, peaks", format: v => short(v), ceiling: limit("store_inflight"), floor: 4, series: [
    { name: "in flight", color: C.violet, fill: true, of: s => s.store_inflight },
    { name: "calls waiting", color: C.red, of: s => s.waiting },
  ] }),
  new Chart("c-memory", { title: "Memory", unit: 2 ** 20, format: (v, axis) => axis ? bytes(v).replace(" ", "").replace("iB", "") : bytes(v), ceiling: limit("memory_bytes"), series: [
    { name: "resident", color: C.blue, fill: true, of: s => s.resident_bytes },
    { name: "requests and answers", color: C.amber, of: s => s.bytes_inflight },
  ] }),
  new Chart("c-sockets", { title: "Sockets", format: v => short(v), floor: 10, series: [
    { name: "callers connected", color: C.blue, of: s => s.connections },
    { name: "TIME_WAIT on this host", color: C.amber, fill: true, of: s => s.time_wait },
    { name: "files and sockets", color: C.grey, of: s => s.open_fds },
  ] }),
  new Chart("c-lag", { title: "Behind the network", format: (v, axis) => axis ? seconds(v).replace(" ", "") : seconds(v), floor: 1, series: [
    { name: "lag", color: C.violet, fill: true, of: s => s.lag_seconds },
  ] }),
  new Chart("c-drops", { title: "Work for the network", note: "pending, and lost a second", format: v => short(v), floor: 4, series: [
    { name: "pending", color: C.teal, fill: true, of: s => s.pending },
    { name: "lost/s", color: C.red, of: s => per(s.drops) },
  ] }),
];

// --- What the samples say ---

const lastMinute = () => samples.filter(it => it.at_ms > recent.now_ms - 60_000);
const ended = s => s.ok + s.invalid + s.shed + s.failed;

function callersNow() {
  const seconds = Math.max(1, lastMinute().length) * recent.every_ms / 1e3, all = new Map();
  const of = n => all.get(n) ?? all.set(n, { name: recent.callers[n], calls: 0, keys: 0, largest: 0, rpc: "", largest_at: 0, inflight: 0, line: samples.map(() => 0) }).get(n);
  samples.forEach((sample, n) => sample.callers.forEach(it => {
    const caller = of(it.caller);
    if (sample.at_ms > recent.now_ms - 60_000) { caller.calls += it.calls / seconds; caller.keys += it.keys / seconds; }
    if (it.largest >= caller.largest) Object.assign(caller, { largest: it.largest, rpc: it.rpc, largest_at: sample.at_ms });
    caller.inflight = Math.max(caller.inflight, it.inflight_keys);
    caller.line[n] = it.keys;
  }));
  return [...all.values()].sort((a, b) => b.keys - a.keys || b.largest - a.largest);
}

/** What somebody who opens this page at three in the morning should read first. */
function findings() {
  const found = [], say = (level, ...text) => found.push([level, text]), minute = lastMinute(), b = text => el("b", {}, String(text));
  if (recent.not_ready) say("bad", b("Not ready: "), recent.not_ready);
  const total = sum(minute, ended), failed = sum(minute, s => s.failed), shed = sum(minute, s => s.shed);
  if (total && failed / total > .001) say("bad", b(percent(failed / total)), " of the calls of the last minute ", b("failed"), ": see which calls in Heaviest calls and in the log.");
  if (total && shed / total > .001) say("bad", b(percent(shed / total)), " of the calls of the last minute were ", b("refused"), ": somebody asks for more than there is room for.");
  for (const it of callersNow()) {
    if (it.largest > LARGE_KEYS) say(it.largest > HUGE_KEYS ? "bad" : "warn", b("Batch size: "), b(it.name), " asked ", b(it.rpc), " for ", b(it.largest.toLocaleString()), " keys in one call, ", ago(it.largest_at), ".");
  }
  const last = samples.at(-1);
  if (last) {
    if (last.ports_used > .3) say("bad", b(percent(last.ports_used)), " of this host's ports towards one address are in use: something opens and closes connections.");
    if (last.time_wait > 5_000) say("warn", b(short(last.time_wait)), " sockets of this host wait in TIME_WAIT.");
    const full = minute.filter(s => s.store_inflight >= recent.limits.store_inflight).length;
    if (minute.length > 5 && full / minute.length > .9) say("bad", "The ", b("store"), " has been at its ceiling for the last minute: memory does not answer what is asked.");
    if (recent.limits.memory_bytes && last.resident_bytes > .8 * recent.limits.memory_bytes) say("bad", b(percent(last.resident_bytes / recent.limits.memory_bytes)), " of the memory this process may use is in use.");
    if (recent.limits.open_fds && last.open_fds > .8 * recent.limits.open_fds) say("bad", "Almost all files and sockets this process may open are open: ", b(last.open_fds), ".");
    if (last.lag_seconds > 60) say("warn", "The ", b("network"), " is read with a lag of ", b(seconds(last.lag_seconds)), ".");
  }
  if (status_?.firehose?.url && status_.firehose.running === false) say("warn", "The network is ", b("not being read"), status_.paused ? ": ingest is paused." : ".");
  if (status_?.error) say("bad", b("The store failed: "), String(status_.error));
  if (!found.length) say("good", "Nothing stands out.", samples.length < 30 ? " This process has been looking for less than a minute." : "");
  return found;
}

// --- The page ---

function tile(name, value, unit, line, color, level) {
  return el("div", { class: "tile" + (level ? " is-" + level : "") }, el("dt", {}, name), el("dd", {}, el("span", { class: "value" }, value, unit ? el("small", {}, unit) : null), spark(line, color)));
}
const level = (value, warn, bad) => value >= bad ? "bad" : value >= warn ? "warn" : "";

function showTiles() {
  const last = samples.slice(-5), minute = lastMinute(), one = samples.at(-1);
  if (!one) return;
  const calls = per(sum(last, ended)) / last.length, total = sum(minute, ended), wrong = sum(minute, s => s.failed + s.shed);
  const asked = sum(minute, s => s.near_hits + s.near_misses), p99 = most(last, s => s.sizes[0].p99_us), lag = one.lag_seconds;
  const hits = asked ? sum(minute, s => s.near_hits) / asked : null, store = most(last, s => s.store_inflight);
  const largest = most(samples, s => most(s.callers, it => it.largest)), memory = recent.limits.memory_bytes ? one.resident_bytes / recent.limits.memory_bytes : 0;
  at("tiles").replaceChildren(
    tile("Calls", short(calls), "a second", samples.map(ended), C.blue),
    tile("Not answered", total ? percent(wrong / total) : "–", "last minute", samples.map(s => s.failed + s.shed), C.red, level(total ? wrong / total : 0, .001, .01)),
    tile("Small calls, p99", micros(p99), "", samples.map(s => s.sizes[0].p99_us), C.teal, level(p99, 25_000, 100_000)),
    tile("Largest batch", largest.toLocaleString(), "keys", samples.map(s => most(s.callers, it => it.largest)), C.amber, level(largest, LARGE_KEYS + 1, HUGE_KEYS + 1)),
    tile("From memory", percent(hits), "of keys", samples.map(s => s.near_hits + s.near_misses ? s.near_hits / (s.near_hits + s.near_misses) : 0), C.teal),
    tile("Store in flight", `${store} / ${recent.limits.store_inflight}`, "", samples.map(s => s.store_inflight), C.violet, level(store, recent.limits.store_inflight, Infinity)),
    tile("Behind the network", seconds(lag), "", samples.map(s => s.lag_seconds ?? 0), C.violet, level(lag ?? 0, 60, 600)),
    tile("Callers connected", short(one.connections), "", samples.map(s => s.connections), C.grey, level(one.connections, .9 * recent.limits.connections, recent.limits.connections)),
    tile("Ports in use", percent(one.ports_used), "at most", samples.map(s => s.ports_used), C.amber, level(one.ports_used, .15, .3)),
    tile("Memory", bytes(one.resident_bytes), memory ? percent(memory) : "", samples.map(s => s.resident_bytes), C.blue, level(memory, .7, .8)),
  );
}

function showCallers() {
  const list = callersNow(), top = most(list, it => it.largest);
  rows(at("callers"), list.map(it => {
    const width = top > 1 ? Math.max(2, Math.log(it.largest + 1) / Math.log(top + 1) * 84) : 2;
    const size = it.largest > HUGE_KEYS ? "is-bad" : it.largest > LARGE_KEYS ? "is-warn" : "";
    return [cell(it.name, "name"), cell(el("div", { class: "bar" }, el("i", { class: size, style: `width:${width}px` }), el("span", {}, it.largest.toLocaleString(), el("small", {}, it.largest ? it.rpc : "")))),
      cell(short(it.keys), "n"), cell(spark(it.line, C.blue, 110, 20), "roomy"), cell(short(it.inflight), "n"), cell(short(it.calls), "n")];
  }), 6, "Nobody has called in the last ten minutes.");
}
function sizeTag(keys) {
  return keys > LARGE_KEYS ? el("span", { class: "tag " + (keys > HUGE_KEYS ? "bad" : "warn") }, keys.toLocaleString()) : keys.toLocaleString();
}
function showShapes() {
  rows(at("shapes"), recent.shapes.map(it => [cell(ago(it.at_ms)), cell(it.caller, "name"), cell(it.rpc), cell(sizeTag(it.keys), "n")]), 4, "Nothing yet.");
}
function showHeavy() {
  if (!top_) return;
  rows(at("heavy"), top_[span].calls.map(it => [cell(clock(it.at_ms)), cell(it.caller, "name"), cell(sizeTag(it.keys), "n"), cell(it.rpc), cell(micros(it.duration_ms * 1e3), "n"),
    cell(it.status === "OK" ? "ok" : el("span", { class: "tag " + (it.status === "RESOURCE_EXHAUSTED" ? "warn" : "bad") }, it.status)), cell(short(it.cost), "n"), cell(bytes(it.request_bytes), "n"), cell(bytes(it.response_bytes), "n"),
    cell(it.trace ?? "–", it.trace ? "mono" : "quiet")]), 10, "No calls in this time.");
}

function parts(status) {
  const list = [], add = (name, ok, state, more) => list.push([name, ok, state, more]);
  const disk = status.disk ?? {};
  add(`store (${status.store ?? "?"})`, !disk.full && !disk.failed, disk.failed ? "failed" : disk.full ? "disk full" : "open", disk.bytes !== undefined ? bytes(disk.bytes) + " on disk" : "");
  for (const [name, it] of Object.entries(status)) {
    if (!it || typeof it !== "object" || typeof it.ready !== "boolean") continue;
    add(name, it.ready, it.ready ? "ready" : "not ready", it.lag_seconds === null || it.lag_seconds === undefined ? "" : seconds(it.lag_seconds) + " behind");
  }
  const upstream = (name, it) => {
    if (it?.url) add(name, it.running !== false && it.state !== "connecting", it.state ?? (it.running ? "running" : "stopped"), `${it.url}${it.seq !== undefined ? ", at " + it.seq : ""}`);
  };
  for (const it of status.firehose?.relays?.length ? status.firehose.relays : [status.firehose]) upstream("relay", it);
  upstream("private state", status.bsync);
  for (const it of status.labelers ?? []) upstream("labeler", it);
  const running = ["resync", "refresh", "delete"].map(name => [name, status[name]?.running]).filter(([, n]) => n);
  if (running.length) add("jobs", true, "running", running.map(([name, n]) => `${n} ${name}`).join(", "));
  add("log", true, "written", `${short(recent.log.written)} of ${short(recent.log.events)} lines, ${short(recent.log.suppressed)} suppressed`);
  return list;
}
function showStatus() {
  if (!status_) return;
  rows(at("parts"), parts(status_).map(([name, ok, state, more]) => [cell(name, "name"), cell(el("span", { class: "tag " + (ok ? "good" : "warn") }, state)), cell(more)]), 3, "");
  const drops = Object.entries(status_.drops ?? {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  rows(at("drops"), drops.map(([reason, n]) => [cell(reason), cell(n.toLocaleString(), "n")]), 2, "Nothing was lost.");
  const roles = (status_.roles ?? []).join(" and ");
  at("about").textContent = `${status_.version ?? ""}${roles ? ", " + roles : ""}, up ${seconds((recent.now_ms - recent.started_ms) / 1e3)}`;
}
function state(text, kind) {
  const it = at("state");
  if (it.textContent !== text) it.textContent = text;
  it.className = "pill " + kind;
}
let said = "", shownOnce = false;
function show() {
  state(recent.not_ready ? "not ready" : recent.state, recent.not_ready || recent.state !== "serving" ? "warn" : "good");
  const found = findings(), words = JSON.stringify(found.map(([kind, text]) => [kind, text.map(it => it.textContent ?? it)]));
  // Said again only if it is something else, so that a screen reader does not repeat itself.
  if (words !== said) { said = words; at("verdict").replaceChildren(...found.map(([kind, text]) => el("li", { class: kind }, ...text))); }
  showTiles(); showCallers(); showShapes(); showHeavy(); showStatus();
  charts.forEach(it => it.draw());
  if (!shownOnce) { shownOnce = true; performance.mark("shown"); }
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ?? answer.status);
  return body;
}
async function look() {
  if (!held) {
    try {
      const slow = turn++ % SLOW_EVERY === 0;
      const [now, top, status] = await Promise.all([ask("/recent?after=" + (samples.at(-1)?.at_ms ?? 0)), slow ? ask("/top") : top_, slow ? ask("/status") : status_]);
      // Another process answers now.
      if (recent && now.started_ms !== recent.started_ms) samples = [];
      recent = now; top_ = top; status_ = status;
      samples = samples.concat(now.samples).filter(it => it.at_ms > now.now_ms - SPAN_MS);
      show();
    } catch (error) {
      state("no answer: " + error.message, "bad");
    }
  }
  setTimeout(look, document.hidden ? LONG_PAUSE_MS : SMALL_PAUSE_MS);
}

for (const button of document.querySelectorAll("[data-span]")) button.addEventListener("click", () => {
  span = button.dataset.span;
  for (const other of document.querySelectorAll("[data-span]")) other.setAttribute("aria-pressed", String(other === button));
  showHeavy();
});
at("pause").addEventListener("click", () => {
  held = !held;
  at("pause").setAttribute("aria-pressed", String(held));
  at("pause").textContent = held ? "Held: go on" : "Hold still";
});
addEventListener("resize", () => charts.forEach(it => it.draw()));
look();
