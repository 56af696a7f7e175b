// The page: what there is around the views, and what they have done for them.

import type { App, View } from "./app.js";
import { buildsDialog, outputDialog, swapDialog } from "./dialogs.js";
import { attribute, button, h, icon, s, text, type Icon } from "./dom.js";
import { count, plural } from "./format.js";
import { type Action, palette } from "./palette.js";
import { type Part, Store } from "./store.js";
import type { Command, Hello, State } from "./types.js";
import { grants } from "./views/grants.js";
import { graph } from "./views/graph.js";
import { inspector } from "./views/inspector.js";
import { latency } from "./views/latency.js";
import { logs } from "./views/logs.js";
import { metrics } from "./views/metrics.js";
import { traces } from "./views/traces.js";
import { type Connection, Wire } from "./wire.js";

/** Between two looks at the state, in milliseconds. */
const EVERY = 1_000;
const PARTS: Part[] = ["about", "members", "links", "lines", "traces", "refusals", "builds", "measured"];

const VIEWS: { id: string; title: string; icon: Icon; make: (app: App) => View }[] = [
  { id: "graph", title: "Graph", icon: "graph", make: graph },
  { id: "logs", title: "Logs", icon: "logs", make: logs },
  { id: "traces", title: "Traces", icon: "traces", make: traces },
  { id: "latency", title: "Latency", icon: "latency", make: latency },
  { id: "metrics", title: "Metrics", icon: "metrics", make: metrics },
  { id: "grants", title: "Grants", icon: "grants", make: grants },
];

/** The token: of the URL, from which it is taken away at once, or of before in this tab. */
function token(): string | null {
  const given = location.hash.slice(1);
  if (given && !given.startsWith("/")) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

function begin(): void {
  const given = token();
  if (given === null) return locked("This page opens with its whole URL, as `loop dev` prints it: what stands behind # is the key.");
  page(given);
}

/** In place of the page: a field for its URL. */
function locked(why: string): void {
  const field = h("input", { type: "text", "aria-label": "URL or key", placeholder: `${location.origin}/#…`, autocomplete: "off", spellcheck: "false" });
  document.body.replaceChildren(h("main", { class: "locked" }, logo(), h("h1", {}, "Where is the key?"), h("p", {}, why),
    h("form", { onsubmit: (event: SubmitEvent) => {
      event.preventDefault();
      const key = field.value.trim().split("#").at(-1)!;
      if (!key) return;
      sessionStorage.setItem("token", key);
      location.reload();
    } }, field, h("button", { type: "submit", class: "primary" }, "Open"))));
  field.focus();
}

function logo(): SVGSVGElement {
  return s("svg", { viewBox: "0 0 32 32", class: "logo", "aria-hidden": "true" },
    s("path", { d: "M11 22a6 6 0 1 1 0-12c5 0 5 12 10 12a6 6 0 1 0 0-12c-2.2 0-3.4 2.2-4.6 4.6" }));
}

function page(given: string): void {
  let current = "";
  let files = "";
  let pending = 0;
  let state: Connection = "opening";
  let again = 0;
  let instance = "";
  const views = new Map<string, View>();

  const store = new Store(() => {
    // One picture at a time, however much happens; a page that nobody sees draws nothing.
    pending ||= requestAnimationFrame(draw);
  });

  const wire = new Wire(given, {
    hello(hello: Hello) {
      if (files && files !== hello.hello) return location.reload(); // the files are of another version
      files = hello.hello;
      const before = instance;
      instance = hello.about.instance;
      store.hello(hello);
      ask();
      if (before) app.toast(before === instance ? "Connected again" : `The host was started again, as process ${hello.about.pid}`, "good");
    },
    events: (events) => store.events(events),
    connection(now, when) {
      if (now === "refused") {
        sessionStorage.removeItem("token");
        return locked("The server does not know this key; a new one stands in the URL that `loop dev` prints.");
      }
      state = now;
      again = when;
      banner();
    },
  });

  const app: App = {
    store,
    wire,
    selected: null,
    select(member) {
      app.selected = member;
      side.update();
      views.get(current)?.update(new Set(["members"]));
    },
    go(view, what) {
      if (location.hash !== `#/${view}`) history.replaceState(null, "", `#/${view}`);
      if (view !== current && app.selected !== null) app.select(null);
      show(view);
      if (what !== undefined) views.get(view)?.focus?.(what);
    },
    restart(member) {
      const done = app.toast(`${member} is started again…`);
      wire.ask({ do: "restart", member }).finally(done).then(
        () => app.toast(`${member} was started again`, "good"),
        (error: Error) => app.toast(`${member} was not started again: ${error.message}`, "bad"));
    },
    swap: (member) => swap(member),
    toast(message, kind) {
      const one = h("p", { class: `toast ${kind ?? ""}` }, message);
      toasts.append(one);
      while (toasts.childElementCount > 3) toasts.firstElementChild!.remove();
      const done = (): void => one.remove();
      setTimeout(done, kind === "bad" ? 9_000 : 4_000);
      return done;
    },
    copy(what, name) {
      navigator.clipboard.writeText(what).then(
        () => app.toast(`Copied ${name}`, "good"),
        () => output(`Copy ${name}`, 0, what));
    },
  };

  const swap = swapDialog(app);
  const output = outputDialog(app);
  const builds = buildsDialog(app);
  const commands = palette(actions);

  const title = h("h1", {}, "…");
  const folder = h("code", { class: "folder" });
  const status = h("span", { class: "chip", role: "status" });
  const banners = h("div", { class: "banner", role: "alert", hidden: true });
  const main = h("main", { id: "main", tabindex: -1 });
  const side = inspector(app);
  const toasts = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
  const tabs = VIEWS.map((view, index) => {
    const badge = h("span", { class: "badge", hidden: true });
    const tab = h("button", { type: "button", onclick: () => app.go(view.id), "data-view": view.id, title: `${view.title} (${index + 1})` }, icon(view.icon), h("span", {}, view.title), badge);
    return { tab, badge, view };
  });
  const version = h("p", { class: "hint version" });
  document.body.prepend(
    h("a", { class: "skip", href: "#/", onclick: (event: Event) => { event.preventDefault(); main.focus(); } }, "Skip to the view"),
    h("header", { class: "top" }, logo(), h("div", { class: "title" }, title, folder), status, h("span", { class: "space" }),
      h("button", { type: "button", class: "find", onclick: () => command() }, icon("search"), h("span", {}, "Commands"), h("kbd", {}, "Ctrl K")),
      button("Dark or light", () => turn(), { icon: "theme", class: "quiet" })),
    banners,
    h("div", { class: "body" }, h("nav", { "aria-label": "Views" }, tabs.map((it) => it.tab), h("span", { class: "space" }), version), main, side.root),
    toasts);

  function actions(): Action[] {
    const members = [...store.members.values()];
    return [
      ...VIEWS.map((view, index): Action => ({ label: `Show ${view.title.toLowerCase()}`, detail: `view ${index + 1}`, icon: view.icon, run: () => app.go(view.id) })),
      ...store.commands.map((command): Action => ({ label: command.name, detail: command.summary, icon: "play", usage: command.usage, run: (args) => run(command.name, args) })),
      ...members.map((it): Action => ({ label: `Look at ${it.name}`, detail: `${it.kind}, ${it.placement}`, icon: "graph", run: () => { app.go("graph"); app.select(it.name); } })),
      ...members.map((it): Action => ({ label: `Restart ${it.name}`, detail: it.phase, icon: "restart", run: () => app.restart(it.name) })),
      ...members.map((it): Action => ({ label: `Swap ${it.name}…`, detail: it.source, icon: "swap", run: () => swap(it.name) })),
      { label: "Turn dark or light", detail: "theme", icon: "theme", run: () => turn() },
      { label: "Stop the workspace", detail: "components first, then what they use", icon: "stop", usage: "type `stop` to be sure", run: (args) => stop(args) },
    ];
  }

  function command(): void {
    commands.open();
    ask(); // a component that was exchanged may offer others
  }

  /** Asks for the commands: components may have to be loaded for that, so nothing waits for it. */
  function ask(): void {
    wire.ask<Command[]>({ do: "commands" }).then((some) => {
      store.commands = some;
      commands.update();
    }, () => undefined);
  }

  function run(name: string, args: string[]): void {
    const done = app.toast(`${name} runs…`);
    wire.ask<{ code: number; output: string }>({ do: "run", name, args }).finally(done).then(
      (it) => output([name, ...args].join(" "), it.code, it.output),
      (error: Error) => app.toast(`${name} did not run: ${error.message}`, "bad"));
  }

  function stop(args: string[]): void {
    if (args[0] !== "stop") return void app.toast("The workspace goes on: `stop` was not typed", "bad");
    wire.ask({ do: "stop" }).catch(() => undefined); // the connection ends with it
    app.toast("The workspace is being stopped…");
  }

  function show(id: string): void {
    const view = VIEWS.find((it) => it.id === id) ?? VIEWS[0]!;
    if (view.id === current) return;
    current = view.id;
    let made = views.get(current);
    if (!made) views.set(current, (made = view.make(app)));
    main.replaceChildren(made.root);
    attribute(main, "aria-label", view.title);
    for (const { tab, view: one } of tabs) attribute(tab, "aria-current", one === view ? "page" : null);
    document.title = `${view.title} · ${store.about?.name ?? "loop-kit"}`;
    made.update(new Set(PARTS));
  }

  function draw(): void {
    pending = 0;
    const parts = store.changes();
    const { about } = store;
    if (about && parts.has("about")) {
      text(title, about.name);
      text(folder, about.folder);
      text(version, `loop-kit ${about.version} · process ${about.pid}`);
      document.title = `${VIEWS.find((it) => it.id === current)?.title} · ${about.name}`;
    }
    badge("logs", store.errors);
    badge("grants", store.refusals.size);
    badge("traces", parts.has("traces") ? [...store.traces.values()].filter((it) => it.failed).length : -1);
    if (parts.has("builds") || parts.has("members")) builds.update();
    if (parts.has("members") || parts.has("links")) {
      side.update();
      banner();
    }
    views.get(current)?.update(parts);
  }

  function badge(id: string, value: number): void {
    const { badge } = tabs.find((it) => it.view.id === id)!;
    if (value < 0) return;
    badge.hidden = value === 0;
    text(badge, value > 999 ? "999+" : String(value));
    attribute(badge, "aria-label", plural(value, id === "grants" ? "refusal" : "error"));
  }

  function banner(): void {
    const lost = state === "lost";
    document.documentElement.toggleAttribute("data-lost", lost);
    banners.hidden = !lost;
    const members = [...store.members.values()];
    const bad = members.filter((it) => it.phase === "failed").length;
    attribute(status, "class", `chip ${lost ? "bad" : state === "open" ? (bad ? "warn" : "good") : ""}`);
    text(status, lost ? "connection lost" : state !== "open" ? "connecting…" : bad ? `${plural(bad, "member")} failed` : `${count(members.length)} members`);
    if (!lost) return;
    if (!banners.firstChild) banners.append(h("strong", {}, "The connection is lost."), h("span"), button("Try now", () => wire.retry()));
    const left = Math.ceil((again - Date.now()) / 1000);
    text(banners.children[1]!, left > 0 ? `What you see is of before. It is tried again in ${left} s.` : "What you see is of before. It is tried again…");
  }

  function turn(): void {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (document.documentElement.dataset["theme"] === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
    theme(dark ? "light" : "dark");
  }

  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      return command();
    }
    // A field of a dialog that was just closed may still have the focus.
    const field = (event.target as Element).closest("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || field?.checkVisibility() || document.querySelector("dialog[open]")) return;
    const view = VIEWS[Number(event.key) - 1];
    if (view) {
      app.go(view.id);
      tabs.find((it) => it.view === view)!.tab.focus();
    } else if (event.key === "/") {
      const field = main.querySelector<HTMLInputElement>("input[type=search]");
      if (field) event.preventDefault();
      field?.focus();
    }
  });
  addEventListener("hashchange", () => {
    const view = location.hash.slice(2);
    if (location.hash.startsWith("#/") && view) show(view);
    else if (location.hash.length > 1) location.reload(); // somebody pasted a whole URL
  });
  setInterval(() => {
    if (state === "lost") banner();
    if (state === "open" && !document.hidden) wire.state<State>().then((it) => store.state(it), () => undefined);
  }, EVERY);
  show(location.hash.startsWith("#/") ? location.hash.slice(2) : "graph");
}

function theme(name: string | null): void {
  if (name) {
    document.documentElement.dataset["theme"] = name;
    localStorage.setItem("theme", name);
  }
}

theme(localStorage.getItem("theme"));
begin();
