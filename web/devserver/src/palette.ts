// The command palette: all that can be done, by a few letters of its name.

import { attribute, h, icon, keyed, type Icon } from "./dom.js";

export interface Action {
  label: string;
  detail: string;
  icon: Icon;
  /** What it takes, as a line of usage; "" where it takes nothing. */
  usage?: string;
  run(args: string[]): void;
}

const MOST = 60;

export function palette(actions: () => Action[]): { open(): void; update(): void } {
  let found: Action[] = [];
  let at = 0;
  /** One that was chosen and waits for its arguments. */
  let chosen: Action | null = null;
  const field = h("input", {
    type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list", "aria-autocomplete": "list", "aria-label": "Command", autocomplete: "off", spellcheck: "false",
    oninput: () => { at = 0; draw(); },
  });
  const items = h("ul", { id: "palette-list", role: "listbox", "aria-label": "Commands" });
  const note = h("p", { class: "hint" });
  const dialog = h("dialog", { class: "palette", "aria-label": "Command palette" }, h("div", { class: "field" }, icon("search"), field, h("kbd", {}, "Esc")), items, note);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!found.length) return;
      at = (at + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length;
      draw();
    } else if (event.key === "Enter") {
      event.preventDefault();
      const action = chosen ?? found[at];
      if (action) act(action);
    } else if (event.key === "Backspace" && chosen && field.value === "") {
      chosen = null;
      draw();
    }
  });

  function act(action: Action): void {
    if (action.usage && !chosen) {
      chosen = action;
      field.value = "";
      return draw();
    }
    const args = chosen ? words(field.value) : [];
    dialog.close();
    action.run(args);
  }

  function draw(): void {
    field.placeholder = chosen ? `${chosen.label} ${chosen.usage}` : "What do you want to do?";
    note.textContent = chosen ? `Arguments of ${chosen.label}: ${chosen.usage}. Enter runs it.` : "";
    note.hidden = !chosen;
    const letters = field.value.toLowerCase().trim();
    const scored = chosen ? [] : actions().map((action) => ({ action, score: score(`${action.label} ${action.detail}`.toLowerCase(), letters) }));
    // Where something fits well, what has the letters somewhere is only in the way.
    const least = Math.max(1, Math.max(0, ...scored.map((it) => it.score)) / 3);
    found = scored.filter((it) => it.score >= least).sort((a, b) => b.score - a.score).slice(0, MOST).map((it) => it.action);
    keyed(items, found, (action) => `${action.label}\n${action.detail}`, (action) =>
      h("li", { role: "option" }, icon(action.icon), h("span", {}, action.label), h("small", {}, action.detail)),
    (item, action) => {
      const index = found.indexOf(action);
      item.id = `palette-${index}`;
      item.onclick = () => act(action);
      attribute(item, "aria-selected", String(index === at));
    });
    attribute(field, "aria-activedescendant", found.length ? `palette-${at}` : null);
    items.children[at]?.scrollIntoView({ block: "nearest" });
  }

  return {
    open() {
      if (dialog.open) return;
      field.value = "";
      at = 0;
      chosen = null;
      draw();
      dialog.showModal();
      field.focus();
    },
    update() {
      if (dialog.open) draw();
    },
  };
}

/** How well letters fit, in order; 0: not at all. Letters that begin words, and that follow each other, fit better. */
export function score(text: string, letters: string): number {
  let total = 1;
  let from = 0;
  for (const letter of letters) {
    if (letter === " ") continue;
    const at = text.indexOf(letter, from);
    if (at < 0) return 0;
    total += at === from && from > 0 ? 8 : at === 0 || /[^a-z0-9]/.test(text[at - 1]!) ? 6 : 1;
    from = at + 1;
  }
  return text.includes(letters) ? total + 50 - Math.min(40, text.indexOf(letters)) : total;
}

/** The words of a line, as a shell takes them: quotes keep spaces. */
export function words(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
}
