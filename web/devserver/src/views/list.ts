// The members as a table.

import type { App } from "../app.js";
import { attribute, button, h, keyed, text } from "../dom.js";
import { ago, count, short } from "../format.js";
import type { Member } from "../types.js";

const COLUMNS: [string, (member: Member) => string | number][] = [
  ["Name", (it) => it.name],
  ["Kind", (it) => it.kind],
  ["Placement", (it) => it.placement],
  ["Phase", (it) => it.phase],
  ["Serves", (it) => it.digest ?? ""],
  ["Generation", (it) => it.generation],
  ["Restarts", (it) => it.restarts],
  ["Calls", () => 0],
];

export function list(app: App): { root: HTMLElement; update(words: string): void } {
  const { store } = app;
  let by = 0;
  let down = 1;
  let words = "";
  const heads = COLUMNS.map(([name], index) =>
    h("th", { scope: "col" }, button(name, () => {
      down = by === index ? -down : 1;
      by = index;
      update(words);
    }, { class: "sort" })));
  const body = h("tbody");
  const root = h("div", { class: "scroll table-box" }, h("table", { class: "members" }, h("caption", { class: "unseen" }, "Members"), h("thead", {}, h("tr", {}, heads)), body));

  function update(now: string): void {
    words = now;
    const rates = new Map<string, number>();
    for (const link of store.links) {
      const calls = store.rate(link)?.calls ?? 0;
      rates.set(link.provider, (rates.get(link.provider) ?? 0) + calls);
      rates.set(link.importer, (rates.get(link.importer) ?? 0) + calls);
    }
    const value = by === COLUMNS.length - 1 ? (it: Member) => rates.get(it.name) ?? 0 : COLUMNS[by]![1];
    const members = [...store.members.values()].filter((it) =>
      [it.name, it.placement, it.transport, it.source, it.phase].some((part) => part.toLowerCase().includes(words)));
    members.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return down * (x < y ? -1 : x > y ? 1 : 0) || (a.name < b.name ? -1 : 1);
    });
    heads.forEach((head, index) => attribute(head, "aria-sort", index !== by ? null : down > 0 ? "ascending" : "descending"));
    keyed(body, members, (it) => it.name, (it) =>
      h("tr", {}, h("th", { scope: "row" }, button(it.name, () => app.select(it.name), { class: "link" })), Array.from({ length: 7 }, () => h("td"))),
    (row, it) => {
      const cells = [...row.children];
      const values = [
        it.kind, it.transport ? `${it.placement} · ${it.transport}` : it.placement,
        `${it["crash-loop"] ? "crash loop" : it.phase}${it.since ? ` · ${ago(it.since)}` : ""}`,
        short(it.digest), String(it.generation), String(it.restarts), `${count(rates.get(it.name) ?? 0)}/s`,
      ];
      values.forEach((one, index) => text(cells[index + 1]!, one));
      attribute(row, "class", `is-${it.placement} phase-${it.phase}${app.selected === it.name ? " chosen" : ""}`);
    });
  }
  return { root, update };
}
