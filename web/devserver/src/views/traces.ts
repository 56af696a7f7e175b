// Traces: what happened for one request, in whatever process, along one line of time.

import type { App, View } from "../app.js";
import { attribute, button, h, keyed, text } from "../dom.js";
import { clock, duration, plural } from "../format.js";
import { type Trace, begin } from "../store.js";
import type { Span } from "../types.js";

interface Row {
  span: Span;
  depth: number;
}

export function traces(app: App): View {
  const { store } = app;
  let words = "";
  let failed = false;
  let held: Trace[] | null = null;
  /** Stays, even where newer ones have taken its place. */
  let chosen: Trace | null = null;
  let span: Span | null = null;
  let drawn = "";
  let epoch = 0;

  const search = h("input", { type: "search", placeholder: "Filter by name or member", "aria-label": "Filter traces",
    oninput: () => { words = search.value.toLowerCase(); draw(); } });
  const only = h("label", { class: "check" }, h("input", { type: "checkbox", onchange: (event: Event) => { failed = (event.target as HTMLInputElement).checked; draw(); } }), "only failed");
  const told = h("p", { class: "hint" });
  const pause = button("Pause", () => {
    held = held ? null : found();
    attribute(pause, "aria-pressed", String(held !== null));
    text(pause.querySelector("span")!, held ? "Go on" : "Pause");
    draw();
  }, { icon: "pause", "aria-pressed": "false" });
  const index = h("ul", { class: "scroll index", role: "listbox", tabindex: 0, "aria-label": "Traces" });
  const stage = h("div", { class: "scroll stage" });
  const root = h("section", { class: "view traces-view" }, h("div", { class: "tools" }, search, only, pause, told), h("div", { class: "split" }, index, stage));
  index.addEventListener("keydown", (event) => {
    const by = ({ ArrowDown: 1, ArrowUp: -1 } as Record<string, number>)[event.key];
    if (!by) return;
    event.preventDefault();
    const shown = found();
    const at = shown.findIndex((trace) => trace.id === chosen?.id);
    pick(shown[Math.min(shown.length - 1, Math.max(0, at + by))] ?? null);
    index.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  });

  const rootOf = (trace: Trace): Span => trace.spans.find((it) => !it.parent || !trace.spans.some((other) => other.id === it.parent)) ?? trace.spans[0]!;

  function found(): Trace[] {
    return (held ?? [...store.traces.values()].reverse()).filter((trace) => (!failed || trace.failed) &&
      (!words || trace.spans.some((it) => `${it.name} ${it.source}`.toLowerCase().includes(words))));
  }

  function pick(trace: Trace | null): void {
    chosen = trace;
    span = null;
    draw();
  }

  function draw(): void {
    const shown = found();
    text(told, plural(shown.length, "trace"));
    const fits = chosen && shown.some((trace) => trace.id === chosen!.id);
    // Of those that do not fit the filter none is shown; one that is merely old stays.
    if (!chosen || (!fits && (words || failed || !shown.length))) chosen = shown[0] ?? null;
    const longest = Math.max(1, ...shown.map((trace) => trace.end - trace.start));
    keyed(index, shown, (trace) => trace.id, (trace) =>
      h("li", { role: "option", id: `trace-${trace.id}`, onclick: () => pick(store.traces.get(trace.id) ?? trace) }, h("strong"), h("span", { class: "took" }), h("span", { class: "bar" }, h("i")), h("span", { class: "hint" })),
    (item, trace) => {
      const [name, took, bar, rest] = [...item.children] as HTMLElement[];
      text(name!, rootOf(trace).name);
      text(took!, duration((trace.end - trace.start) * 1e3));
      (bar!.firstElementChild as HTMLElement).style.width = `${Math.max(1, ((trace.end - trace.start) / longest) * 100)}%`;
      const sources = new Set(trace.spans.map((it) => it.source));
      text(rest!, `${clock(trace.start / 1e3)} · ${plural(trace.spans.length, "span")} in ${plural(sources.size, "member")}`);
      attribute(item, "aria-selected", String(trace.id === chosen?.id));
      attribute(item, "class", trace.failed ? "failed" : "");
    });
    attribute(index, "aria-activedescendant", chosen && shown.some((it) => it.id === chosen!.id) ? `trace-${chosen.id}` : null);
    const trace = chosen;
    const now = trace ? `${trace.id} ${trace.spans.length} ${span?.id}` : "";
    if (now === drawn && trace) return;
    drawn = now;
    stage.replaceChildren(...(trace ? timeline(trace) : [h("p", { class: "empty" }, h("strong", {}, "No traces yet"), "Spans of components and providers show here when a request goes through them.")]));
  }

  function timeline(trace: Trace): Node[] {
    const rows = tree(trace);
    const whole = Math.max(1, trace.end - trace.start);
    const sources = [...new Set(rows.map((row) => row.span.source))];
    const left = (at: number): string => `${((at - trace.start) / whole) * 100}%`;
    const ticks = Array.from({ length: 5 }, (_, n) => {
      const tick = h("span", {}, duration((whole * 1e3 * n) / 4));
      tick.style.left = `${n * 25}%`;
      return tick;
    });
    const list = h("ol", { class: "spans" });
    for (const { span: one, depth } of rows) {
      const bar = h("i");
      bar.style.left = left(begin(one));
      bar.style.width = `max(3px, ${(one.nanoseconds / 1e3 / whole) * 100}%)`;
      const took = h("em", {}, duration(one.nanoseconds));
      const start = (begin(one) - trace.start) / whole;
      if (start > 0.75) took.style.right = `${(1 - start) * 100}%`;
      else took.style.left = `calc(${Math.min(100, (start + one.nanoseconds / 1e3 / whole) * 100)}%)`;
      if (start <= 0.75 && start + one.nanoseconds / 1e3 / whole > 0.88) took.className = "within";
      const name = h("span", { class: "name" }, one.name);
      name.style.paddingInlineStart = `${depth * 14}px`;
      const row = h("button", {
        type: "button", class: `span lane-${sources.indexOf(one.source) % 6}${one.error ? " failed" : ""}${one === span ? " chosen" : ""}`,
        "aria-pressed": String(one === span),
        onclick: () => {
          const scrolled = stage.scrollTop;
          span = span === one ? null : one;
          draw();
          stage.scrollTop = scrolled;
          stage.querySelectorAll<HTMLElement>(".span")[rows.findIndex((it) => it.span === one)]?.focus();
        },
      }, h("span", { class: "who" }, one.source || "host"), " ", name, " ", h("span", { class: "track" }, bar, took), one.error && h("span", { class: "unseen" }, ` failed: ${one.error}`));
      list.append(h("li", {}, row, one === span && about(one, trace)));
    }
    return [
      h("header", {}, h("h2", {}, rootOf(trace).name), h("p", { class: "hint" }, `${duration(whole * 1e3)} · ${plural(rows.length, "span")} · trace `, h("code", {}, trace.id.slice(-16))),
        h("ul", { class: "lanes", "aria-label": "Members" }, sources.map((source, n) => h("li", { class: `lane-${n % 6}` }, h("i"), source || "host")))),
      h("div", { class: "axis", "aria-hidden": "true" }, h("span", { class: "ticks" }, ticks)), list];
  }

  const about = (one: Span, trace: Trace): HTMLElement =>
    h("dl", { class: "about" }, h("dt", {}, "Began"), h("dd", {}, `${duration((begin(one) - trace.start) * 1e3)} after the first`), h("dt", {}, "Took"), h("dd", {}, duration(one.nanoseconds)),
      h("dt", {}, "Span"), h("dd", {}, h("code", {}, one.id)), ...(one.error ? [h("dt", {}, "Failed"), h("dd", { class: "bad" }, one.error)] : []));

  return {
    root,
    update(parts) {
      if (epoch !== store.epoch) chosen = held = null;
      epoch = store.epoch;
      if (parts.has("traces")) draw();
    },
  };
}

/** Spans in the order of a tree, each below the one above it; one whose parent did not come stands alone. */
function tree(trace: Trace): Row[] {
  const ids = new Set(trace.spans.map((span) => span.id));
  const below = Map.groupBy(trace.spans, (span) => (ids.has(span.parent) && span.parent !== span.id ? span.parent : ""));
  const rows: Row[] = [];
  const walk = (id: string, depth: number): void => {
    const some = below.get(id) ?? [];
    below.delete(id);
    for (const span of some.sort((a, b) => begin(a) - begin(b))) {
      rows.push({ span, depth });
      walk(span.id, depth + 1);
    }
  };
  walk("", 0);
  return rows;
}
