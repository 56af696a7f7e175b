// Numbers over time: of the workspace itself, its links and processes, and what components measure.

import type { App, View } from "../app.js";
import { attribute, h, keyed, s, text } from "../dom.js";
import { brief, bytes, count, duration, percent } from "../format.js";
import { keyOf, seriesKey } from "../store.js";
import type { Link, Series } from "../types.js";

/** Cards of one kind that are drawn; a filter brings the others. */
const MOST = 100;

interface Card {
  key: string;
  title: string;
  detail: string;
  value: string;
  values: number[];
  note: string;
}

export function metrics(app: App): View {
  const { store } = app;
  let words = "";
  const search = h("input", { type: "search", placeholder: "Filter metrics", "aria-label": "Filter metrics", oninput: () => { words = search.value.toLowerCase(); draw(); } });
  const empty = h("p", { class: "empty", hidden: true }, h("strong", {}, "No component has measured anything yet"), "What they count by loop:core/metrics shows here.");
  const lost = h("p", { class: "hint", hidden: true });
  const parts = [part("Workspace", workspace), part("Links", links), part("Processes", processes), part("Measured by components", measured, empty, lost)];
  const root = h("section", { class: "view metrics-view" }, h("div", { class: "tools" }, search),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Metrics" }, parts.flatMap((it) => it.nodes)));

  function part(title: string, cards: () => Card[], ...more: Node[]) {
    const all = h("div", { class: "cards" });
    const rest = h("p", { class: "hint", hidden: true });
    const heading = h("h2", {}, title);
    return { all, rest, heading, cards, nodes: [heading, ...more, all, rest] };
  }

  function workspace(): Card[] {
    const calls = store.history((now, before, seconds) => total(now.links, before.links, (it) => it.calls) / seconds);
    const errors = store.history((now, before, seconds) => total(now.links, before.links, (it) => it.errors ?? 0) / seconds);
    const busy = store.history((now, before) => {
      const n = total(now.links, before.links, (it) => it.calls);
      return n ? total(now.links, before.links, (it) => it.busy) / n : 0;
    });
    const lines = store.history((now, before, seconds) => Math.max(0, now.lines - before.lines) / seconds);
    const members = [...store.members.values()];
    const ready = members.filter((it) => it.phase === "ready").length;
    const restarts = members.reduce((sum, it) => sum + it.restarts, 0);
    return [
      { key: "calls", title: "Calls", detail: "a second, over all links", value: count(mean(calls)), values: calls, note: "" },
      { key: "mean", title: "Mean call", detail: "over all links", value: duration(mean(busy)), values: busy, note: "" },
      { key: "errors", title: "Errors", detail: "a second, over all links", value: count(mean(errors)), values: errors, note: "" },
      { key: "lines", title: "Log lines", detail: "a second", value: count(mean(lines)), values: lines, note: "" },
      { key: "ready", title: "Ready", detail: `of ${members.length} members`, value: String(ready), values: [], note: `${count(restarts)} restarts after failures` },
    ];
  }

  /** Those that are called most come first. */
  function links(): Card[] {
    const counted = store.links.filter((link) => link.traffic);
    const order = new Map(counted.map((link) => [link, store.rate(link)?.calls ?? 0]));
    return counted.sort((a, b) => order.get(b)! - order.get(a)! || keyOf(a).localeCompare(keyOf(b))).map((link) => {
      const rate = store.rate(link);
      const key = keyOf(link);
      const times = store.history((now, before) => each(now.links.get(key), before.links.get(key)));
      const errors = rate?.errors ? ` · ${count(rate.errors)} errors/s` : "";
      return { key, title: `${link.importer} → ${link.provider}`, detail: brief(link.interface), value: rate ? duration(rate.mean) : "", values: times, note: `${count(rate?.calls ?? 0)} calls/s${errors} · ${count(link.traffic!.calls)} in all` };
    });
  }

  /** The host, and each member that has a process of its own. */
  function processes(): Card[] {
    return store.measured.series.filter((it) => it.origin === "host").map((series) => {
      const key = seriesKey(series);
      const past = history(series);
      const title = series.attributes[0]?.[1] ?? "host";
      const isCpu = series.name === "process.cpu.time";
      return isCpu
        ? { key, title, detail: "of a processor", value: percent(mean(past)), values: past, note: `${count(series.sum)} s since it began` }
        : { key, title, detail: series.description.toLowerCase(), value: bytes(series.last), values: past, note: "" };
    });
  }

  function measured(): Card[] {
    return store.measured.series.filter((it) => it.origin === "component").map((series) => {
      const shown = (value: number): string => measure(value, series.unit);
      const detail = series.attributes.map(([name, value]) => `${name}=${value}`).join(" ") || series.description || series.instrument;
      const past = history(series);
      const card = { key: seriesKey(series), title: series.name, detail, values: past };
      if (series.instrument === "counter") return { ...card, value: `${shown(mean(past))}/s`, note: `${shown(series.sum)} in all` };
      if (series.instrument === "gauge") return { ...card, value: shown(series.last), note: `between ${shown(series.min)} and ${shown(series.max)}` };
      return { ...card, value: shown(quantile(series, 0.5)), note: `median · 95 % below ${shown(quantile(series, 0.95))} · ${count(series.count)} values` };
    });
  }

  function history(series: Series): number[] {
    const key = seriesKey(series);
    return store.history((now, before, seconds) => sample(series.instrument, now.measured.get(key), before.measured.get(key), seconds));
  }

  function draw(): void {
    empty.hidden = store.measured.series.some((it) => it.origin === "component");
    lost.hidden = !store.measured.lost;
    text(lost, `${count(store.measured.lost)} values are of series that there is no room for: an attribute has too many values.`);
    for (const { all, rest, heading, cards } of parts) {
      const some = cards().filter((card) => `${card.title} ${card.detail}`.toLowerCase().includes(words));
      const shown = some.slice(0, MOST);
      heading.hidden = words !== "" && some.length === 0;
      rest.hidden = shown.length === some.length;
      text(rest, `${some.length - shown.length} more: filter to see them.`);
      keyed(all, shown, (card) => card.key, () => h("article", { class: "card" }, h("h3"), h("p", { class: "hint" }), h("p", { class: "value" }), spark(), h("p", { class: "hint note" })), (element, card) => {
        const [title, detail, value, line, note] = [...element.children];
        text(title!, card.title);
        text(detail!, card.detail);
        text(value!, card.value);
        text(note!, card.note);
        trace(line as SVGSVGElement, card.values);
      });
    }
  }
  return {
    root,
    update(parts) {
      if (parts.has("links") || parts.has("measured")) draw();
    },
  };
}

/** What a call took between two moments, in nanoseconds. */
function each(now: Link | undefined, before: Link | undefined): number {
  const calls = (now?.traffic?.calls ?? 0) - (before?.traffic?.calls ?? 0);
  return calls > 0 && now?.traffic && before?.traffic ? (now.traffic.busy - before.traffic.busy) / calls : 0;
}

/** A value below which such a part of all lie: the bound of its bucket. */
function quantile(series: Series, part: number): number {
  let left = part * series.count;
  for (const [bound, n] of series.buckets) {
    left -= n;
    if (left <= 0) return Math.min(bound, series.max);
  }
  return series.max;
}

/** A value with its unit, as UCUM has it. */
function measure(value: number, unit: string): string {
  if (unit === "s") return duration(value * 1e9);
  if (unit === "ms") return duration(value * 1e6);
  if (unit === "us") return duration(value * 1e3);
  if (unit === "By") return bytes(value);
  return unit === "" || unit === "1" || unit.startsWith("{") ? count(value) : `${count(value)} ${unit}`;
}

type Counted = { calls: number; errors: number | null; busy: number };

function total(now: Map<string, { traffic: Counted | null }>, before: Map<string, { traffic: Counted | null }>, value: (it: Counted) => number): number {
  let sum = 0;
  for (const [key, { traffic }] of now) {
    const was = before.get(key)?.traffic;
    if (traffic && was) sum += Math.max(0, value(traffic) - value(was));
  }
  return sum;
}

function sample(instrument: string, now: Series | undefined, before: Series | undefined, seconds: number): number {
  if (!now) return 0;
  if (instrument === "gauge") return now.last;
  const [sum, n] = [now.sum - (before?.sum ?? 0), now.count - (before?.count ?? 0)];
  return instrument === "counter" ? Math.max(0, sum) / seconds : n > 0 ? sum / n : 0;
}

/** Of the last five values. */
function mean(values: number[]): number {
  const some = values.slice(-5);
  return some.length ? some.reduce((sum, value) => sum + value, 0) / some.length : 0;
}

function spark(): SVGSVGElement {
  return s("svg", { class: "spark", viewBox: "0 0 120 36", preserveAspectRatio: "none", "aria-hidden": "true" }, s("path", { class: "area" }), s("path", { class: "curve" }));
}

function trace(svg: SVGSVGElement, values: number[]): void {
  const most = Math.max(...values, 1e-9);
  const step = 120 / Math.max(1, values.length - 1);
  const points = values.map((value, n) => `${(n * step).toFixed(1)} ${(34 - (value / most) * 30).toFixed(1)}`);
  const d = points.length > 1 ? `M${points.join("L")}` : "";
  attribute(svg.children[0]!, "d", d && `${d}L120 36L0 36z`);
  attribute(svg.children[1]!, "d", d);
}
