// What pages do besides being read: the search, light or dark, and copying. Without it nothing is missing but these.

type Index = {
  pages: [url: string, title: string][];
  sections: [page: number, anchor: string, heading: string, lead: string][];
  words: Record<string, string>;
};
declare global {
  var loopDocs: Index | undefined;
  // TypeScript's own library does not know it yet.
  var trustedTypes: { createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): unknown } } | undefined;
}

const page = document.documentElement;
const root = page.dataset["root"] ?? "";
const MOST = 12;

// ---- light or dark: before anything is shown

const THEME = "loop-docs-theme";

function kept(): string | null {
  try {
    return localStorage.getItem(THEME);
  } catch {
    return null; // it is switched off
  }
}

function setTheme(theme: string | null) {
  if (theme === "light" || theme === "dark") page.dataset["theme"] = theme;
}

setTheme(kept());
page.dataset["script"] = "begun";

function toggleTheme() {
  const isDark = page.dataset["theme"] ? page.dataset["theme"] === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = isDark ? "light" : "dark";
  setTheme(theme);
  try {
    localStorage.setItem(THEME, theme);
  } catch {
    // then it lasts as long as the page
  }
}

// ---- elements

function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// ---- the search

let loading: Promise<Index> | undefined;

/** The index; a script, since a page that was opened from a folder may fetch none. */
function load(): Promise<Index> {
  loading ??= new Promise((resolve, reject) => {
    const script = make("script");
    // Its address is one of this site's own: a policy that lets it through says so.
    const policy = globalThis.trustedTypes?.createPolicy("loop-docs", { createScriptURL: (url) => url });
    const url = `${root}search.js`;
    script.src = (policy?.createScriptURL(url) ?? url) as string;
    script.onload = () => (globalThis.loopDocs ? resolve(globalThis.loopDocs) : reject(new Error("the index is empty")));
    script.onerror = () => {
      loading = undefined;
      reject(new Error("the index could not be loaded"));
    };
    document.head.append(script);
  });
  return loading;
}

let sorted: string[] | undefined;

/** What a word, or the beginning of one, counts in each section that has it. */
function weights(index: Index, word: string): Map<number, number> {
  sorted ??= Object.keys(index.words);
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? "") < word) low = middle + 1;
    else high = middle;
  }
  const found = new Map<number, number>();
  for (let at = low; at < sorted.length; at += 1) {
    const known = sorted[at] ?? "";
    if (!known.startsWith(word)) break;
    const exact = known === word ? 3 : 1;
    let section = 0;
    for (const part of (index.words[known] ?? "").split(" ")) {
      const [step = "0", count = "1"] = part.split(".");
      section += parseInt(step, 36);
      found.set(section, Math.max(found.get(section) ?? 0, Number(count) * exact));
    }
  }
  return found;
}

/** Sections that have all the words, the best first. */
function search(index: Index, text: string): number[] {
  const words = text.toLowerCase().match(/[a-z0-9_]+/g) ?? [];
  let total: Map<number, number> | undefined;
  for (const word of words) {
    const found = weights(index, word);
    if (total === undefined) total = found;
    else total = new Map([...total].flatMap(([at, weight]) => (found.has(at) ? [[at, weight + (found.get(at) ?? 0)]] : [])));
  }
  return [...(total ?? [])].sort(([a, x], [b, y]) => y - x || a - b).map(([at]) => at).slice(0, MOST);
}

function dialog(): { open: () => void } {
  const field = make("input", {
    type: "search", role: "combobox", placeholder: "Search the docs", autocomplete: "off", spellcheck: "false",
    "aria-label": "Search the docs", "aria-controls": "found", "aria-expanded": "false", "aria-autocomplete": "list",
  });
  const list = make("ul", { id: "found", role: "listbox", "aria-label": "Found" });
  const said = make("p", { class: "said", role: "status" });
  const keys = make("p", { class: "keys", "aria-hidden": "true" }, make("kbd", {}, "↑"), make("kbd", {}, "↓"), " choose ", make("kbd", {}, "Enter"), " open ", make("kbd", {}, "Esc"), " close");
  const box = make("dialog", { class: "search", "aria-label": "Search" }, field, list, make("footer", {}, said, keys));
  document.body.append(box);
  let chosen = 0;

  function choose(at: number) {
    const options = [...list.querySelectorAll("[role=option]")];
    chosen = options.length ? (at + options.length) % options.length : 0;
    options.forEach((option, number) => option.setAttribute("aria-selected", String(number === chosen)));
    const option = options[chosen];
    if (option) field.setAttribute("aria-activedescendant", option.id);
    else field.removeAttribute("aria-activedescendant");
    option?.scrollIntoView({ block: "nearest" });
  }

  function show(index: Index) {
    const text = field.value.trim();
    const found = text ? search(index, text) : [];
    const options = found.map((at, number) => {
      const [of, anchor, heading, lead] = index.sections[at] ?? [0, "", "", ""];
      const [url, title] = index.pages[of] ?? ["", ""];
      const href = root + url + (anchor && `#${anchor}`);
      const link = make("a", { role: "option", id: `found-${number}`, href, tabindex: "-1" });
      link.append(make("strong", {}, heading || title), make("span", { class: "where" }, heading ? title : ""), make("span", { class: "lead" }, lead));
      return make("li", { role: "none" }, link);
    });
    list.replaceChildren(...options);
    field.setAttribute("aria-expanded", String(options.length > 0));
    said.textContent = !text ? "" : found.length === MOST ? `the best ${MOST}` : found.length === 1 ? "1 section" : `${found.length} sections`;
    choose(0);
  }

  const refresh = () => load().then(show, (error: Error) => (said.textContent = error.message));
  field.addEventListener("input", refresh);
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      list.querySelector<HTMLElement>("[aria-selected=true]")?.click();
    } else if (event.key === "Escape") {
      event.preventDefault(); // a field for searching would only be emptied
      box.close();
    }
  });
  box.addEventListener("click", (event) => {
    // a click beside it, or one on what was found: that may be on this page
    if (event.target === box || (event.target as Element).closest("a")) box.close();
  });
  return {
    open() {
      if (box.open) return;
      box.showModal();
      field.select();
      void refresh();
    },
  };
}

// ---- copying

/** What is worth copying of a block: of commands those that are typed. */
function copied(code: HTMLElement): string {
  if (code.closest("figure")?.dataset["language"] !== "console") return code.innerText.replace(/\n$/, "");
  return [...code.querySelectorAll<HTMLElement>(".i")].map((typed) => typed.textContent ?? "").join("\n");
}

function copying() {
  if (!isSecureContext || !("clipboard" in navigator)) return;
  for (const figure of document.querySelectorAll<HTMLElement>("figure.code")) {
    const code = figure.querySelector<HTMLElement>("code");
    if (!code) continue;
    const button = make("button", { class: "copy", type: "button" }, "Copy");
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(copied(code));
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    figure.append(button);
  }
}

// ---- the list of pages, which stands beside the text, or opens above it where there is no room

function list() {
  const details = document.querySelector<HTMLDetailsElement>("nav.pages details");
  const narrow = matchMedia("(max-width: 820px)");
  if (!details) return;
  const fit = () => (details.open = !narrow.matches);
  fit();
  narrow.addEventListener("change", fit);
  if (!narrow.matches) details.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  page.dataset["script"] = "done";
}

// ---- where in the page the reader is

function following() {
  const links = new Map([...document.querySelectorAll<HTMLAnchorElement>(".contents a")].map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
  const headings = [...links.keys()].flatMap((id) => document.getElementById(id) ?? []);
  if (!headings.length) return;
  const mark = () => {
    const passed = headings.filter((heading) => heading.getBoundingClientRect().top < 120);
    const here = passed.at(-1)?.id ?? headings[0]?.id;
    for (const [id, link] of links) {
      if (id === here) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  let waits = false;
  addEventListener("scroll", () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      mark();
    });
  }, { passive: true });
  mark();
}

document.addEventListener("DOMContentLoaded", () => {
  const theme = document.querySelector<HTMLButtonElement>("button.theme");
  const find = document.querySelector<HTMLButtonElement>("button.find");
  if (theme) {
    theme.hidden = false;
    theme.addEventListener("click", toggleTheme);
  }
  if (find) {
    const searching = dialog();
    find.hidden = false;
    find.addEventListener("click", searching.open);
    document.addEventListener("keydown", (event) => {
      const typing = (event.target as Element).matches("input, textarea, select, [contenteditable]");
      const asked = event.key.toLowerCase() === "k" ? event.ctrlKey || event.metaKey : event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
      if (!asked) return;
      event.preventDefault();
      searching.open();
    });
  }
  list();
  copying();
  following();
});

export {};
