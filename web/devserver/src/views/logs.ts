// The log: the newest hundred thousand lines, of which only those that are seen are elements.

import type { App, View } from "../app.js";
import { attribute, button, h, text } from "../dom.js";
import { clock, count } from "../format.js";
import { LEVELS, type Line } from "../types.js";

const ROW = 24;
/** Browsers hold no element of any height. */
const TALLEST = 100_000 * ROW;

export function logs(app: App): View {
  const { lines } = app.store;
  let least = 1;
  let source = "*";
  let words = "";
  let paused = false;
  let follows = true;
  /** Numbers of the lines that fit, from `head` on; up to `looked` all were looked at. */
  let fits: number[] = [];
  let head = 0;
  let looked = 0;
  let chosen = -1;
  let sources = -1;

  const level = h("select", { "aria-label": "Least level", onchange: () => { least = level.selectedIndex; again(); } },
    LEVELS.map((name, index) => h("option", { selected: index === least }, `${name}${index < 4 ? " and above" : ""}`)));
  const from = h("select", { "aria-label": "Source", onchange: () => { source = from.value; again(); } }, h("option", { value: "*" }, "every source"));
  const search = h("input", { type: "search", placeholder: "Filter text", "aria-label": "Filter text",
    oninput: () => { words = search.value.toLowerCase(); again(); } });
  const pause = button("Pause", () => hold(!paused), { icon: "pause", "aria-pressed": "false" });
  const newest = button("Newest", () => { hold(false); follows = true; draw(); }, { class: "newest", hidden: true });
  const told = h("p", { class: "hint" });
  const rows = h("div", { class: "rows" });
  const space = h("div", { class: "space" });
  const scroller = h("div", { class: "scroll lines", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "Log lines. Arrow keys choose one." }, space, rows);
  const detail = h("div", { class: "detail", hidden: true, role: "region", "aria-label": "Chosen line" });
  const root = h("section", { class: "view logs-view" },
    h("div", { class: "tools" }, search, level, from, pause, told, h("span", { class: "space" }),
      button("Clear", () => { lines.clear(); app.store.errors = 0; again(); })),
    h("div", { class: "log-box" }, scroller, newest), detail);
  const pool: HTMLElement[] = [];

  scroller.addEventListener("scroll", () => {
    const end = scroller.scrollTop + scroller.clientHeight >= space.offsetHeight - ROW;
    if (end !== follows && !paused) follows = end;
    draw(true);
  }, { passive: true });
  new ResizeObserver(() => draw()).observe(scroller);
  rows.addEventListener("click", (event) => {
    const row = (event.target as Element).closest<HTMLElement>("[data-line]");
    if (!row) return;
    follows = false; // what is looked at stays where it is
    choose(Number(row.dataset["line"]) === chosen ? -1 : Number(row.dataset["line"]));
  });
  scroller.addEventListener("keydown", (event) => {
    const by = ({ ArrowDown: 1, ArrowUp: -1 } as Record<string, number>)[event.key];
    if (event.key === "Escape") choose(-1);
    if (event.key === "End") { follows = true; hold(false); }
    if (by === undefined) return;
    event.preventDefault();
    const at = fits.indexOf(chosen, head);
    const next = at < 0 ? fits.length - 1 : Math.min(fits.length - 1, Math.max(head, at + by));
    if (next < head) return;
    follows = false;
    const top = (next - head) * ROW;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + ROW > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW - scroller.clientHeight;
    choose(fits[next]!);
  });

  function hold(now: boolean): void {
    paused = now;
    attribute(pause, "aria-pressed", String(paused));
    text(pause.querySelector("span")!, paused ? "Go on" : "Pause");
    if (paused) follows = false;
    else look();
    draw();
  }

  function again(): void {
    fits = [];
    head = 0;
    looked = lines.first;
    const was = paused;
    paused = false;
    look();
    paused = was;
    draw();
  }

  const passes = (line: Line): boolean =>
    LEVELS.indexOf(line.level) >= least && (source === "*" || line.source === source) &&
    (words === "" || line.message.toLowerCase().includes(words) || line.target.toLowerCase().includes(words) ||
      line.fields.some(([key, value]) => `${key}=${value}`.toLowerCase().includes(words)));

  /** Looks at the lines that came. */
  function look(): void {
    if (!paused) {
      for (looked = Math.max(looked, lines.first); looked < lines.next; looked++) if (passes(lines.at(looked)!)) fits.push(looked);
    }
    while (head < fits.length && fits[head]! < lines.first) head++;
    if (head > 50_000) {
      fits = fits.slice(head);
      head = 0;
    }
  }

  function draw(scrolled = false): void {
    if (!root.isConnected) return;
    const all = fits.length - head;
    const height = Math.min(TALLEST, all * ROW);
    if (!scrolled) {
      space.style.height = `${height}px`;
      if (follows) scroller.scrollTop = height;
    }
    const top = follows ? Math.max(0, height - scroller.clientHeight) : scroller.scrollTop;
    const first = Math.max(0, Math.floor(top / ROW) - 4);
    const seen = Math.min(all - first, Math.ceil(scroller.clientHeight / ROW) + 9);
    rows.style.transform = `translateY(${first * ROW}px)`;
    while (pool.length < seen) pool.push(blank());
    for (let n = 0; n < seen; n++) fill(pool[n]!, fits[head + first + n]!);
    if (rows.childElementCount !== seen) rows.replaceChildren(...pool.slice(0, Math.max(0, seen)));
    newest.hidden = follows;
    const lost = app.store.lost ? ` · ${count(app.store.lost)} lost` : "";
    text(told, `${count(all)} of ${count(lines.next - lines.first)} lines${lost}${paused ? ` · ${count(lines.next - looked)} more wait` : ""}`);
    if (app.store.sources.size !== sources) {
      sources = app.store.sources.size;
      const names = [...app.store.sources].sort();
      from.replaceChildren(h("option", { value: "*" }, "every source"), ...names.map((name) => h("option", { value: name }, name || "host")));
      from.value = source;
      if (from.selectedIndex < 0) from.append(h("option", { value: source, selected: true }, source));
    }
  }

  function fill(row: HTMLElement, number: number): void {
    const line = lines.at(number);
    const is = number === chosen ? "row chosen" : "row";
    if (row.dataset["line"] === String(number) && row.className.startsWith(is) && line) return;
    row.dataset["line"] = String(number);
    const [time, kind, where, what] = row.children as unknown as [Element, Element, Element, Element];
    row.className = `${is} level-${line?.level ?? "trace"}`;
    text(time, line ? clock(line.time) : "");
    text(kind, line?.level ?? "");
    text(where, line ? `${line.source || "host"}${line.target && line.target !== line.source ? ` ${line.target}` : ""}` : "");
    text(what.children[0]!, line?.message ?? "no longer kept");
    text(what.children[1]!, line?.fields.map(([key, value]) => `${key}=${value}`).join(" ") ?? "");
  }

  function choose(number: number): void {
    chosen = number;
    const line = lines.at(number);
    detail.hidden = !line;
    if (line) {
      detail.replaceChildren(
        h("header", {}, h("strong", {}, `${line.level} · ${line.source || "host"}${line.target && ` · ${line.target}`}`), h("time", {}, new Date(line.time).toISOString()),
          button("Copy line", () => app.copy(`${new Date(line.time).toISOString()} ${line.level} ${line.source} ${line.target} ${line.message} ${line.fields.map((it) => it.join("=")).join(" ")}`, "the line"), { icon: "copy", class: "quiet" }),
          button("Close", () => choose(-1), { icon: "close", class: "quiet" })),
        h("pre", {}, line.message),
        line.fields.length ? h("dl", {}, line.fields.flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)])) : "");
    }
    draw();
  }

  return {
    root,
    update(parts) {
      if (!parts.has("lines")) return;
      if (looked > lines.next || lines.first > looked) looked = lines.first;
      if (fits.length > head && fits.at(-1)! < lines.first) {
        fits = [];
        head = 0;
      }
      look();
      draw();
    },
    focus(what) {
      source = what;
      sources = -1;
      again();
    },
  };
}

function blank(): HTMLElement {
  return h("div", { class: "row" }, h("time"), h("b"), h("span", { class: "from" }), h("span", { class: "what" }, h("span"), h("em")));
}
