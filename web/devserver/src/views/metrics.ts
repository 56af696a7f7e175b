// Numbers over time: of the workspace itself, and what components measure.

import type { App, View } from "../app.js";
import { attribute, h, keyed, s, text } from "../dom.js";
import { count, duration } from "../format.js";
import { seriesKey } from "../store.js";
import type { Series } from "../types.js";

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
  const own = h("div", { class: "cards" });
  const told = h("div", { class: "cards" });
  const empty = h("p", { class: "empty", hidden: true }, h("strong", {}, "No component has measured anything yet"), "What they count by loop:core/metrics shows here.");
  const root = h("section", { class: "view metrics-view" }, h("div", { class: "tools" }, search),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Metrics" }, h("h2", {}, "Workspace"), own, h("h2", {}, "Measured by components"), empty, told));

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

  function measured(): Card[] {
    return store.measured.map((series) => {
      const key = seriesKey(series);
      const unit = series.unit && series.unit !== "1" ? ` ${series.unit}` : "";
      const detail = series.attributes.map(([name, value]) => `${name}=${value}`).join(" ") || series.description || series.instrument;
      const past = store.history((now, before, seconds) => sample(series.instrument, now.measured.get(key), before.measured.get(key), seconds));
      const value = series.instrument === "counter" ? `${count(mean(past))}/s` : series.instrument === "gauge" ? `${count(series.last)}${unit}` : `${count(series.count ? series.sum / series.count : 0)}${unit}`;
      const note = series.instrument === "counter" ? `${count(series.sum)}${unit} in all`
        : series.instrument === "gauge" ? `between ${count(series.min)} and ${count(series.max)}` : `${count(series.count)} values, ${count(series.min)} to ${count(series.max)}`;
      return { key, title: series.name, detail, value, values: past, note };
    });
  }

  function draw(): void {
    const fits = (card: Card): boolean => `${card.title} ${card.detail}`.toLowerCase().includes(words);
    const some = measured().filter(fits);
    empty.hidden = some.length > 0;
    for (const [parent, cards] of [[own, workspace().filter(fits)], [told, some]] as const) {
      keyed(parent, cards, (card) => card.key, () => h("article", { class: "card" }, h("h3"), h("p", { class: "hint" }), h("p", { class: "value" }), spark(), h("p", { class: "hint note" })), (element, card) => {
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
