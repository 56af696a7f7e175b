// Where the time of each link goes.

import type { App, View } from "../app.js";
import { attribute, button, h, keyed, text } from "../dom.js";
import { brief, count, duration } from "../format.js";
import { keyOf } from "../store.js";
import { type Link, STEPS, type Step } from "../types.js";

const MEANT: Record<Step, string> = {
  encode: "values into bytes, in the host",
  session: "the way there and back",
  queue: "waiting at the provider until it began",
  provider: "in the provider itself",
  decode: "bytes into values, in the host",
};

interface Row {
  link: Link;
  calls: number;
  mean: number;
  parts: Record<Step, number> | null;
}

export function latency(app: App): View {
  const { store } = app;
  let by: "mean" | "total" = "mean";
  let scaled = false;
  let words = "";
  const search = h("input", { type: "search", placeholder: "Filter links", "aria-label": "Filter links", oninput: () => { words = search.value.toLowerCase(); draw(); } });
  const sort = h("select", { "aria-label": "Order", onchange: () => { by = sort.value as typeof by; draw(); } },
    h("option", { value: "mean" }, "slowest call first"), h("option", { value: "total" }, "most time in all first"));
  const scale = button("To scale", () => {
    scaled = !scaled;
    attribute(scale, "aria-pressed", String(scaled));
    draw();
  }, { "aria-pressed": "false", title: "Bars as long as what they take; else each shows the shares of its steps" });
  const body = h("ol", { class: "bars" });
  const empty = h("p", { class: "empty", hidden: true }, h("strong", {}, "Nothing was called yet"), "Each link shows here what one of its calls takes, once there are any.");
  const key = h("ul", { class: "legend", "aria-label": "Steps" }, STEPS.map((step) => h("li", { class: `step-${step}`, title: MEANT[step] }, h("i"), step)));
  const root = h("section", { class: "view latency-view" }, h("div", { class: "tools" }, search, sort, scale, h("span", { class: "space" }), key), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Latency of links" }, empty, body));

  function rows(): Row[] {
    const found: Row[] = [];
    for (const link of store.links) {
      const { traffic } = link;
      if (!traffic?.calls) continue;
      if (words && !`${link.importer} ${link.interface} ${link.provider}`.toLowerCase().includes(words)) continue;
      const { spent } = traffic;
      const parts = spent?.calls ? (Object.fromEntries(STEPS.map((step) => [step, spent[step] / spent.calls])) as Record<Step, number>) : null;
      const mean = parts ? STEPS.reduce((sum, step) => sum + parts[step], 0) : traffic.busy / traffic.calls;
      found.push({ link, calls: traffic.calls, mean, parts });
    }
    const value = (row: Row): number => (by === "mean" ? row.mean : row.mean * row.calls);
    return found.sort((a, b) => value(b) - value(a) || (keyOf(a.link) < keyOf(b.link) ? -1 : 1));
  }

  function draw(): void {
    const found = rows();
    empty.hidden = found.length > 0;
    const value = (row: Row): number => (by === "mean" ? row.mean : row.mean * row.calls);
    const longest = Math.max(1, ...found.map(value));
    const width = (row: Row): number => (scaled ? (value(row) / longest) * 100 : 100);
    keyed(body, found, (row) => keyOf(row.link), (row) =>
      h("li", {}, h("div", { class: "title" }, h("strong", {}, `${row.link.importer} → ${row.link.provider}`), h("code", {}, brief(row.link.interface)), h("span", { class: "took" })),
        h("div", { class: "bar", role: "img" }, h("div", { class: "stack" }, STEPS.map((step) => h("i", { class: `step-${step}` })), h("i", { class: "step-whole" }))), h("p", { class: "hint parts" })),
    (item, row) => {
      const [title, bar, rest] = [...item.children] as HTMLElement[];
      text(title!.children[2]!, by === "mean" ? duration(row.mean) : duration(row.mean * row.calls));
      const stack = bar!.firstElementChild as HTMLElement;
      stack.style.width = `${width(row)}%`;
      const words = STEPS.map((step) => (row.parts ? `${step} ${duration(row.parts[step])}` : ""));
      STEPS.forEach((step, n) => {
        const part = stack.children[n] as HTMLElement;
        part.hidden = !row.parts?.[step];
        part.style.flexGrow = String(row.parts ? row.parts[step] / row.mean : 0);
        part.title = words[n]!;
      });
      const whole = stack.lastElementChild as HTMLElement;
      whole.hidden = row.parts !== null;
      whole.style.flexGrow = "1";
      attribute(bar!, "aria-label", row.parts ? words.join(", ") : "in the host's process: not split up");
      text(rest!, `${count(row.calls)} calls · ${row.parts ? words.join(" · ") : "in the host's process, where nothing is encoded or sent"}`);
    });
  }
  return {
    root,
    update(parts) {
      if (parts.has("links")) draw();
    },
  };
}
