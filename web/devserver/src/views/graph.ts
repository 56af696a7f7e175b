// The graph: who imports what of whom, and how much goes over it.

import { type App, type View } from "../app.js";
import { attribute, button, h, keyed, s, text } from "../dom.js";
import { count, duration, short } from "../format.js";
import { type Layout, type Point, NODE, along, family, layout, path } from "../layout.js";
import type { Link, Member, Phase } from "../types.js";
import type { Rate } from "../store.js";
import { list } from "./list.js";

/** From so many members on, many of a kind are shown as one at first. */
const CROWD = 40;
/** So many of a kind are many. */
const MANY = 4;
/** Lines that have their numbers beside them all the time. */
const FEW = 24;

interface Node {
  id: string;
  label: string;
  detail: string;
  digest: string;
  placement: string;
  phase: Phase;
  kind: string;
  members: Member[];
}

interface Line {
  id: string;
  from: string;
  to: string;
  links: Link[];
  rate: Rate;
}

/** Those of one kind have this in common. */
const kinOf = (member: Member): string => `${member.kind} ${member.placement} ${family(member.name)}`;
const WORST: Phase[] = ["failed", "starting", "draining", "stopped", "ready"];

export function graph(app: App): View {
  const { store } = app;
  let words = "";
  let grouped: boolean | null = null;
  let zoom: number | null = null;
  let table = false;
  let shape = "";
  let at: Layout = layout([], [], () => true);
  const opened = new Set<string>();

  const search = h("input", {
    type: "search",
    placeholder: "Filter members",
    "aria-label": "Filter members",
    oninput: () => {
      words = search.value.trim().toLowerCase();
      draw();
    },
  });
  const group = button("Group", () => {
    grouped = !isGrouped();
    opened.clear();
    draw();
  }, { icon: "group", "aria-pressed": "false", title: "Show many members of a kind as one" });
  const asList = button("List", () => {
    table = !table;
    attribute(asList, "aria-pressed", String(table));
    stage.hidden = group.hidden = table;
    rows.root.hidden = !table;
    draw();
  }, { icon: "list", "aria-pressed": "false", title: "Show members as a table" });
  const scale = (by: number): void => {
    zoom = Math.min(2, Math.max(0.3, (zoom ?? fit()) * by));
    size();
  };
  const zoomer = h("div", { class: "buttons", role: "group", "aria-label": "Zoom" },
    button("−", () => scale(1 / 1.2), { "aria-label": "Smaller" }),
    button("Fit", () => { zoom = null; size(); }),
    button("+", () => scale(1.2), { "aria-label": "Larger" }));
  const told = h("p", { class: "hint", role: "status" });
  const lines = s("g", { class: "lines" });
  const labels = s("g", { class: "labels", "aria-hidden": "true" });
  const nodes = s("g", { class: "nodes" });
  const svg = s("svg", { class: "graph", role: "group", "aria-label": "Graph of members. Arrow keys go from one to the next." }, lines, labels, nodes);
  const canvas = h("div", { class: "canvas" }, svg);
  const rows = list(app);
  rows.root.hidden = true;
  const stage = h("div", { class: "stage-box" }, canvas, legend(), zoomer);
  const root = h("section", { class: "view graph-view" }, h("div", { class: "tools" }, search, group, asList, told), stage, rows.root);
  new ResizeObserver(() => size()).observe(canvas);
  svg.addEventListener("keydown", (event) => move(event));
  canvas.addEventListener("click", (event) => event.target === canvas || event.target === svg ? app.select(null) : undefined);

  const isGrouped = (): boolean => grouped ?? store.members.size > CROWD;

  /** The node that shows a member. */
  function nodeOf(member: Member, sizes: Map<string, number>): string {
    const kin = kinOf(member);
    return isGrouped() && !opened.has(kin) && (sizes.get(kin) ?? 0) >= MANY ? kin : member.name;
  }

  function collect(): { shown: Node[]; edges: Line[] } {
    const members = [...store.members.values()];
    const fits = (member: Member): boolean =>
      [member.name, member.placement, member.transport, member.source, member.phase].some((it) => it.toLowerCase().includes(words));
    const hits = new Set(members.filter(fits).map((member) => member.name));
    // What was searched for makes sense beside what it is linked to.
    const kept = new Set(hits);
    if (words) {
      for (const { importer, provider } of store.links) {
        if (hits.has(importer)) kept.add(provider);
        if (hits.has(provider)) kept.add(importer);
      }
    }
    const sizes = new Map<string, number>();
    for (const member of members) if (kept.has(member.name)) sizes.set(kinOf(member), (sizes.get(kinOf(member)) ?? 0) + 1);
    const found = new Map<string, Node>();
    for (const member of members) {
      if (!kept.has(member.name)) continue;
      const id = nodeOf(member, sizes);
      const node = found.get(id);
      if (node) node.members.push(member);
      else found.set(id, describe(id, member));
    }
    for (const node of found.values()) if (node.id !== node.members[0]!.name) gather(node);
    const edges = new Map<string, Line>();
    for (const link of store.links) {
      const [from, to] = [store.members.get(link.importer), store.members.get(link.provider)];
      if (!from || !to || !kept.has(from.name) || !kept.has(to.name)) continue;
      const [a, b] = [nodeOf(from, sizes), nodeOf(to, sizes)];
      const id = `${a}\n${b}`;
      let edge = edges.get(id);
      if (!edge) edges.set(id, (edge = { id, from: a, to: b, links: [], rate: { calls: 0, errors: 0, mean: 0 } }));
      edge.links.push(link);
      add(edge.rate, store.rate(link));
    }
    text(told, words ? `${hits.size} of ${members.length} match` : `${members.length} members`);
    return { shown: [...found.values()], edges: [...edges.values()] };
  }

  function draw(): void {
    attribute(group, "aria-pressed", String(isGrouped()));
    if (table) return rows.update(words);
    const { shown, edges } = collect();
    // Laid out again only where something came or went, so that nothing jumps.
    const now = `${shown.map((it) => it.id).sort().join("|")}#${edges.map((it) => it.id).sort().join("|")}`;
    if (now !== shape) {
      const first = new Map(shown.map((it) => [it.id, it.kind === "component"]));
      at = layout(shown.map((it) => it.id), edges, (id) => first.get(id) ?? false);
      shape = now;
      size();
    }
    const chosen = shown.find((it) => it.members.some((member) => member.name === app.selected))?.id;
    const touches = (edge: Line): boolean => edge.from === chosen || edge.to === chosen;
    const beside = new Set(edges.filter(touches).flatMap((edge) => [edge.from, edge.to]));
    const busiest = Math.max(1, ...edges.map((edge) => edge.rate.calls));
    const ways = spread(edges, at);
    // Tab and readers go as the eye does: by layer, from the top.
    shown.sort((a, b) => at.nodes.get(a.id)!.x - at.nodes.get(b.id)!.x || at.nodes.get(a.id)!.y - at.nodes.get(b.id)!.y);
    keyed(lines, edges, (edge) => edge.id, () => s("g", { class: "line" }, s("path", { class: "wire" }), s("path", { class: "flow" })), (element, edge) => {
      const d = path(ways.get(edge.id)!);
      const [wire, flow] = [element.children[0]!, element.children[1]!];
      attribute(wire, "d", d);
      attribute(flow, "d", d);
      const width = (1.2 + 2.6 * Math.sqrt(edge.rate.calls / busiest)).toFixed(1);
      attribute(wire, "stroke-width", width);
      attribute(element, "class", `line${edge.rate.calls > 0 && edges.length <= 60 ? " busy" : ""}${edge.rate.errors > 0 ? " failing" : ""}${chosen && !touches(edge) ? " dim" : ""}${chosen && touches(edge) ? " chosen" : ""}`);
    });
    const named = edges.filter((edge) => (edges.length <= FEW && !chosen) || touches(edge));
    const taken: Point[] = [];
    keyed(labels, named, (edge) => edge.id, () => s("g", {}, s("rect", { rx: 9, height: 18, y: -9 }), s("text", { "text-anchor": "middle", y: 3.5 })), (element, edge) => {
      const label = edge.rate.calls > 0 ? `${count(edge.rate.calls)}/s · ${duration(edge.rate.mean)}` : plural(edge.links.length);
      const [box, words] = [element.children[0]!, element.children[1]!];
      text(words, label);
      const width = label.length * 5.9 + 14;
      const [x, y] = free(ways.get(edge.id)!, taken);
      attribute(box, "width", width.toFixed(1));
      attribute(box, "x", (-width / 2).toFixed(1));
      attribute(element, "transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
      attribute(element, "class", edge.rate.errors > 0 ? "label failing" : "label");
    });
    keyed(nodes, shown, (node) => node.id, create, (element, node) => {
      const { x, y } = at.nodes.get(node.id)!;
      attribute(element, "transform", `translate(${x} ${y})`);
      const many = node.members.length > 1;
      attribute(element, "class", `node is-${node.placement} phase-${node.phase}${many ? " many" : ""}${node.id === chosen ? " chosen" : ""}${chosen && node.id !== chosen && !beside.has(node.id) ? " dim" : ""}`);
      const said = [node.label, node.detail, node.digest].filter(Boolean).join(" ");
      attribute(element, "aria-label", `${said}, ${node.phase}${many ? ", Enter shows them" : ""}`);
      attribute(element, "aria-expanded", many ? "false" : null);
      attribute(element, "aria-pressed", many ? null : String(node.id === chosen));
      text(element.querySelector(".name")!, fitted(node.label, 22));
      text(element.querySelector(".detail")!, fitted(node.detail, 24));
      text(element.querySelector(".digest")!, node.digest);
    });
    rove();
  }

  function create(node: Node): SVGGElement {
    const { width, height } = NODE;
    const press = (): void => choose(node.id);
    return s("g", { role: "button", tabindex: -1, "data-node": node.id, onclick: press,
      onkeydown: (event: KeyboardEvent) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        press();
      } },
      s("rect", { class: "behind", x: 5, y: 5, width, height, rx: 11 }),
      s("rect", { class: "card", width, height, rx: 11 }),
      s("path", { class: "edge", d: `M0 11a11 11 0 0 1 4 -8.5V${height - 2.5}a11 11 0 0 1 -4 -8.5z` }),
      s("circle", { class: "phase", cx: 20, cy: 22, r: 4.5 }),
      s("text", { class: "name", x: 32, y: 26.5 }), " ",
      s("text", { class: "detail", x: 16, y: 47 }), " ",
      s("text", { class: "digest", x: width - 13, y: 47, "text-anchor": "end" }));
  }

  function choose(id: string): void {
    const member = store.members.get(id);
    if (member) return app.select(app.selected === id ? null : id);
    opened.add(id);
    draw();
    const first = [...store.members.values()].find((it) => kinOf(it) === id);
    if (first) nodes.querySelector<SVGElement>(`[data-node="${CSS.escape(first.name)}"]`)?.focus();
  }

  /** One node can be reached by Tab; arrows go on from there. */
  function rove(): void {
    const all = [...nodes.children] as SVGElement[];
    const current = all.find((it) => it.getAttribute("tabindex") === "0") ?? all[0];
    for (const one of all) attribute(one, "tabindex", one === current ? "0" : "-1");
  }

  function move(event: KeyboardEvent): void {
    const from = (event.target as Element).closest<SVGElement>("[data-node]");
    const way = ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] } as Record<string, [number, number]>)[event.key];
    if (!from || !way) return;
    event.preventDefault();
    const here = at.nodes.get(from.dataset["node"]!)!;
    let best: [number, SVGElement] | null = null;
    for (const other of nodes.children as unknown as Iterable<SVGElement>) {
      const there = at.nodes.get(other.dataset["node"]!)!;
      const [dx, dy] = [there.x - here.x, there.y - here.y];
      const along = dx * way[0] + dy * way[1];
      if (along <= 0 || (way[0] === 0 && dx !== 0)) continue;
      const cost = along + 3 * Math.abs(dx * way[1] + dy * way[0]);
      if (!best || cost < best[0]) best = [cost, other];
    }
    if (!best) return;
    attribute(from, "tabindex", "-1");
    attribute(best[1], "tabindex", "0");
    best[1].focus();
    best[1].scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  const fit = (): number => Math.max(0.6, Math.min(1.15, (canvas.clientWidth - 2) / at.width, Math.max(0.75, (canvas.clientHeight - 2) / at.height)));
  function size(): void {
    const by = zoom ?? fit();
    attribute(svg, "viewBox", `0 0 ${at.width} ${at.height}`);
    attribute(svg, "width", (at.width * by).toFixed(0));
    attribute(svg, "height", (at.height * by).toFixed(0));
  }

  return {
    root,
    update(parts) {
      if (parts.has("members") || parts.has("links")) draw();
    },
    focus(what) {
      search.value = words = what;
      draw();
      search.focus();
    },
  };
}

function legend(): HTMLElement {
  return h("ul", { class: "legend", "aria-label": "Placements" },
    ["component", "builtin", "python", "sidecar", "remote"].map((name) => h("li", { class: `is-${name}` }, h("i"), name)));
}

function describe(id: string, member: Member): Node {
  const { name, kind, placement, transport, phase } = member;
  const detail = placement === "component" && kind === "component" ? "component" : transport ? `${placement} · ${transport}` : placement;
  const state = phase === "ready" ? detail : `${member["crash-loop"] ? "crash loop" : phase} · ${placement}`;
  return { id, label: name, detail: state, digest: member.digest ? short(member.digest) : "", placement, phase, kind, members: [member] };
}

/** Makes one node of many. */
function gather(node: Node): void {
  const first = node.members[0]!;
  const bad = node.members.filter((member) => member.phase !== "ready").length;
  node.label = `${family(first.name)} × ${node.members.length}`;
  node.phase = WORST.find((phase) => node.members.some((member) => member.phase === phase)) ?? "ready";
  node.detail = bad ? `${bad} not ready` : `${first.placement}${first.transport && ` · ${first.transport}`}`;
  node.digest = "";
}

function add(sum: Rate, rate: Rate | null): void {
  if (!rate) return;
  const calls = sum.calls + rate.calls;
  if (calls > 0) sum.mean = (sum.mean * sum.calls + rate.mean * rate.calls) / calls;
  else sum.mean = Math.max(sum.mean, rate.mean);
  sum.calls = calls;
  sum.errors += rate.errors;
}

/** The points of each line. They begin and end along the sides of their nodes, in the order of where they go. */
function spread(edges: Line[], at: Layout): Map<string, Point[]> {
  const ways = new Map<string, Point[]>();
  for (const edge of edges) {
    const between = (at.through.get(edge.id) ?? []).flatMap(({ x, y }): Point[] => [[x, y], [x + NODE.width, y]]);
    ways.set(edge.id, [[0, 0], ...between, [0, 0]]);
  }
  for (const isEnd of [false, true]) {
    const height = (edge: Line): number => {
      const way = ways.get(edge.id)!;
      const next = way.length > 2 ? way.at(isEnd ? -2 : 1)![1] : null;
      return next ?? at.nodes.get(isEnd ? edge.from : edge.to)!.y + NODE.height / 2;
    };
    for (const [id, some] of Map.groupBy(edges, (edge) => (isEnd ? edge.to : edge.from))) {
      const node = at.nodes.get(id)!;
      some.sort((a, b) => height(a) - height(b) || (a.id < b.id ? -1 : 1));
      const step = Math.min(14, (NODE.height - 18) / Math.max(1, some.length - 1));
      some.forEach((edge, row) => {
        const y = node.y + NODE.height / 2 + (row - (some.length - 1) / 2) * step;
        ways.get(edge.id)!.splice(isEnd ? -1 : 0, 1, [isEnd ? node.x : node.x + NODE.width, y]);
      });
    }
  }
  return ways;
}

/** The place on a line that is farthest from other labels; its middle, if that is far enough. */
function free(way: Point[], taken: Point[]): Point {
  const places = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74].flatMap((t) =>
    Array.from({ length: way.length / 2 }, (_, n) => along(way[way.length - 2 - 2 * n]!, way[way.length - 1 - 2 * n]!, t)));
  const room = ([x, y]: Point): number => Math.min(1, ...taken.map(([a, b]) => Math.max(Math.abs(x - a) / 100, Math.abs(y - b) / 20)));
  const found = places.reduce((best, place) => (room(place) > room(best) ? place : best));
  taken.push(found);
  return found;
}

const plural = (links: number): string => (links === 1 ? "1 link" : `${links} links`);
const fitted = (value: string, most: number): string => (value.length > most ? `${value.slice(0, most - 1)}…` : value);
