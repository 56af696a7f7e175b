// In each page that a component serves in `loop dev`: takes up what changes. docs/live.md says what pages can rely on.

interface Told {
  kind: "hello" | "assets" | "code" | "failed";
  version: string;
  paths?: string[];
  styles?: boolean;
  member?: string;
  reason?: string;
}

type Data = Record<string, unknown>;

/** What one module of a page has to do with its own exchange. */
interface Module {
  data: Data;
  disposes: ((data: Data) => void)[];
  accepts: ((module: unknown) => void)[] | null;
  url: URL;
}

const own = document.currentScript as HTMLScriptElement;
const modules = new Map<string, Module>();
let version = own.dataset["version"] ?? "";
let count = 0;
let pause = 100;

/** As `import.meta.hot` of other tools: `const hot = globalThis.loopHot?.(import.meta.url)`. */
function hot(url: string) {
  const at = new URL(url);
  const key = at.origin + at.pathname;
  const data = modules.get(key)?.data ?? {};
  const module: Module = { data, disposes: [], accepts: null, url: at };
  modules.set(key, module);
  return {
    /** What the code before left for this one. */
    data,
    /** This module can be exchanged; `taken` is called with the next one. */
    accept(taken?: (module: unknown) => void): void {
      module.accepts ??= [];
      if (taken) module.accepts.push(taken);
    },
    /** Called before the next one is loaded: undoes what this one did, and leaves in `data` what that is to have. */
    dispose(undo: (data: Data) => void): void {
      module.disposes.push(undo);
    },
  };
}
Object.defineProperty(globalThis, "loopHot", { value: hot });

const fileName = (path: string) => path.slice(path.lastIndexOf("/") + 1);

/** Whether a URL may show a file: nobody but the component knows, and the name is a good guess. */
const shows = (url: URL, file: string) => url.origin === location.origin && decodeURIComponent(fileName(url.pathname)) === fileName(file);

/** The same address with something that no cache has seen. */
function fresh(url: URL): string {
  const next = new URL(url);
  next.searchParams.set("loop", `${version}-${++count}`);
  return next.href;
}

const sheets = () => [...document.querySelectorAll<HTMLLinkElement>('link[rel~="stylesheet"][href]')];

/** Exchanges a sheet once the next one is there, so that nothing is ever shown without. */
function exchange(link: HTMLLinkElement, href: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const next = link.cloneNode() as HTMLLinkElement;
    next.href = href;
    next.onload = () => (link.remove(), resolve());
    next.onerror = () => (next.remove(), reject(new Error(`${href} cannot be loaded`)));
    link.after(next);
  });
}

/** Has the page look as the code that serves now would have it look; false where more than its style is different. */
async function restyle(): Promise<boolean> {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  const wanted = [...next.querySelectorAll<HTMLLinkElement>('link[rel~="stylesheet"][href]')];
  const here = sheets();
  const inline = [...next.querySelectorAll("style")];
  const texts = [...document.querySelectorAll("style")];
  if (wanted.length !== here.length || inline.length !== texts.length) return false;
  inline.forEach((style, at) => {
    if (texts[at]!.textContent !== style.textContent) texts[at]!.textContent = style.textContent;
  });
  await Promise.all(
    here.map(async (link, at) => {
      const href = new URL(wanted[at]!.getAttribute("href")!, location.href);
      if (href.href === link.href) return exchange(link, fresh(href));
      return exchange(link, href.href);
    }),
  );
  return true;
}

async function hand(module: Module): Promise<void> {
  for (const undo of module.disposes) undo(module.data);
  const next: unknown = await import(fresh(module.url));
  for (const taken of module.accepts ?? []) taken(next);
}

/** Takes up one file; false where the page is to be loaded anew. */
async function take(file: string): Promise<boolean> {
  const links = sheets().filter((link) => shows(new URL(link.href), file));
  await Promise.all(links.map((link) => exchange(link, fresh(new URL(link.href)))));
  if (links.length) return true;
  const shown = [...modules.values()].filter((module) => shows(module.url, file));
  if (shown.length) {
    if (!shown.every((module) => module.accepts)) return false;
    for (const module of shown) await hand(module);
    return true;
  }
  // what is loaded by its name, and this page has not loaded, is none of its business
  const isLoaded = performance.getEntriesByType("resource").some((entry) => shows(new URL(entry.name), file));
  return /\.(css|m?js|png|jpe?g|gif|svg|webp|avif|woff2?)$/i.test(file) && !isLoaded;
}

const reload = () => location.reload();

async function told(said: Told): Promise<void> {
  if (said.kind === "failed") return console.error(`loop dev: ${said.member} cannot serve its new code\n${said.reason}`);
  if (said.kind === "hello") {
    // something has changed since the page was sent
    if (said.version !== version) reload();
    return;
  }
  version = said.version;
  try {
    const all = said.kind === "assets" ? await Promise.all(said.paths!.map(take)) : [said.styles === true && (await restyle())];
    if (all.includes(false)) reload();
    else dispatchEvent(new CustomEvent("loop:live", { detail: said }));
  } catch (error) {
    console.error("loop dev:", error);
    reload();
  }
}

let order = Promise.resolve();

function listen(): void {
  const socket = new WebSocket(`ws://${location.host}/@loop/live`);
  socket.onopen = () => (pause = 100);
  socket.onmessage = ({ data }) => (order = order.then(() => told(JSON.parse(data as string) as Told)));
  socket.onclose = () => {
    setTimeout(listen, pause);
    pause = Math.min(pause * 1.5, 3000);
  };
}

listen();
