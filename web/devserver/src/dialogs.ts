// What comes over the page: an exchange, what a command said, and builds that failed.

import type { App } from "./app.js";
import { button, h, icon } from "./dom.js";
import { plural, short } from "./format.js";
import type { Build, Change, Place } from "./types.js";

function modal(label: string, kind: string): HTMLDialogElement {
  const dialog = h("dialog", { class: kind, "aria-label": label });
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return dialog;
}

/** Seconds that calls which have begun may take, where nobody says otherwise: `docs/swap.md`. */
const DRAIN = 10;

/** Exchanges a member: first what would change is shown, then it is done. */
export function swapDialog(app: App): (member: string) => void {
  const dialog = modal("Swap", "sheet");
  return (name) => {
    const member = app.store.members.get(name);
    if (!member) return;
    const before = member.source;
    const isProvider = member.kind === "provider";
    const uses = [...new Set([before, before.startsWith("python:") ? `sidecar:${before}` : before.startsWith("sidecar:python:") ? before.slice(8) : "", "builtin:", "component:", "sidecar:", "remote:"])].filter(Boolean);
    const field = h("input", { type: "text", value: before, name: "use", list: "uses", spellcheck: "false", autocomplete: "off", oninput: () => reset() });
    const other = h("input", { type: "radio", name: "what", value: "other", checked: true, onchange: () => reset() });
    const same = h("input", { type: "radio", name: "what", value: "same", checked: !isProvider, onchange: () => reset() });
    const drain = h("input", { type: "number", name: "drain", min: 0, max: 86_400, step: "any", required: true, value: String(DRAIN), "aria-describedby": "drain-hint", oninput: () => reset() });
    const told = h("div", { class: "told", role: "status" });
    const go = button("Swap", () => void run(false), { icon: "swap", class: "primary", disabled: true });
    let busy = false;
    const reset = (): void => {
      told.replaceChildren();
      go.disabled = true;
      field.disabled = same.checked;
    };
    const run = async (dry: boolean): Promise<void> => {
      if (busy) return;
      busy = true;
      const use = same.checked ? null : field.value.trim();
      try {
        const changes = await app.wire.ask<Change[]>({ do: "swap", member: name, use, "dry-run": dry, drain: Math.round(drain.valueAsNumber * 1000) });
        if (dry) {
          told.replaceChildren(...diff(changes));
          go.disabled = changes.length === 0;
          if (!go.disabled) go.focus();
        } else {
          dialog.close();
          app.toast(`${name} was swapped: ${use ?? "its new code"} serves`, "good");
        }
      } catch (error) {
        told.replaceChildren(h("p", { class: "bad", role: "alert" }, (error as Error).message));
        go.disabled = true;
      } finally {
        busy = false;
      }
    };
    const form = h("form", { onsubmit: (event: SubmitEvent) => { event.preventDefault(); void run(true); } },
      h("header", {}, h("h2", {}, `Swap ${name}`), button("Close", () => dialog.close(), { icon: "close", class: "quiet" })),
      h("p", { class: "hint" }, `${isProvider ? "Another provider" : "New code"} takes its place while calls go on. If it does not come up, the old one stays.`),
      isProvider && h("fieldset", {}, h("legend", {}, "What takes its place"),
        h("label", { class: "choice" }, other, h("span", {}, "Another provider")),
        h("label", { class: "under" }, h("span", {}, "use"), field, h("datalist", { id: "uses" }, uses.map((value) => h("option", { value })))),
        h("label", { class: "choice" }, same, h("span", {}, "The same, its code read anew"))),
      h("label", {}, h("span", {}, "seconds for calls that have begun"), drain),
      h("p", { class: "hint", id: "drain-hint" }, "They end in the old code; what has not ended by then fails, and so do handles and streams."),
      told, h("footer", {}, h("button", { type: "submit" }, "Show what changes"), go));
    dialog.replaceChildren(form);
    dialog.showModal();
    if (isProvider) {
      field.focus();
      field.select();
    } else {
      same.checked = true;
      form.querySelector<HTMLElement>("[type=submit]")!.focus();
    }
  };
}

function diff(changes: Change[]): Node[] {
  if (!changes.length) return [h("p", { class: "hint" }, "Nothing would change.")];
  return [h("p", { class: "hint" }, `${plural(changes.length, "change")}, not made yet:`), h("ul", { class: "diff" }, changes.map((change) =>
    h("li", {}, h("b", {}, change.member), h("del", {}, change.before || "nothing"), h("ins", {}, change.after || "nothing"))))];
}

/** What a command said. */
export function outputDialog(app: App): (name: string, code: number, output: string) => void {
  const dialog = modal("Output", "sheet wide");
  return (name, code, output) => {
    dialog.replaceChildren(
      h("header", {}, h("h2", {}, name), h("span", { class: code ? "chip bad" : "chip good" }, code ? `exit code ${code}` : "done"), h("span", { class: "space" }),
        button("Copy output", () => app.copy(output, "the output"), { icon: "copy", class: "quiet" }), button("Close", () => dialog.close(), { icon: "close", class: "quiet" })),
      h("pre", { tabindex: 0 }, output || "It said nothing."));
    dialog.showModal();
  };
}

/** Builds that failed lie over everything until they are mended; what was built before serves on. */
export function buildsDialog(app: App): { update(): void } {
  const dialog = h("dialog", { class: "builds", role: "alertdialog", "aria-labelledby": "builds-title" });
  const strip = button("", () => { folded = ""; update(); }, { class: "strip" });
  strip.hidden = true;
  document.body.append(dialog, strip);
  const status = h("span", { class: "hint", role: "status" });
  let shown = "";
  /** What was looked behind: something new comes up again. */
  let folded = "";
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    fold();
  });

  function fold(): void {
    folded = shown;
    update();
    strip.focus();
  }

  function update(): void {
    const failed = [...app.store.builds.values()].filter((build) => build.step === "failed");
    const now = JSON.stringify(failed.map(({ again: _, ...build }) => build));
    strip.hidden = failed.length === 0 || folded !== now;
    strip.replaceChildren(icon("open"), h("span", {}, `${failed.map((it) => it.member).join(", ")} ${failed.length === 1 ? "does" : "do"} not build; the code of before serves`));
    if (failed.length === 0 || folded === now) {
      if (dialog.open) dialog.close();
      if (failed.length === 0) folded = shown = "";
      return;
    }
    const trying = failed.some((build) => build.again);
    if (now === shown && dialog.open) {
      status.textContent = trying ? "It is being built again…" : "";
      return;
    }
    shown = now;
    status.textContent = trying ? "It is being built again…" : "";
    dialog.replaceChildren(
      h("header", {}, h("h2", { id: "builds-title", tabindex: -1 }, failed.length === 1 ? `${failed[0]!.member} does not build` : `${failed.length} members do not build`),
        status, button("Look behind", fold, { title: "Esc" })),
      h("div", { class: "scroll" }, failed.map((build) => report(build))));
    if (!dialog.open) {
      // Of two dialogs, the one that was opened last is above.
      dialog.showModal();
      dialog.querySelector<HTMLElement>("h2")!.focus();
    }
  }

  function report(build: Build): HTMLElement {
    const member = app.store.members.get(build.member);
    const serves = member?.digest ? ["Generation ", String(member.generation), ", ", h("code", {}, `${member.digest.split(":")[0]}:${short(member.digest)}`), ", serves on."] : ["What was built before serves on."];
    return h("article", {},
      h("p", { class: "serves" }, h("strong", {}, build.member), " ", ...serves),
      build.places.map((place) => h("figure", {}, h("figcaption", {}, h("code", {}, `${place.file}:${place.line}${place.column ? `:${place.column}` : ""}`),
        button("Copy place", () => app.copy(`${place.file}:${place.line}${place.column ? `:${place.column}` : ""}`, "the place"), { icon: "copy", class: "quiet" })), excerpt(place))),
      build.output && h("details", { open: build.places.length === 0 }, h("summary", {}, "All that it said"), h("pre", {}, build.output)));
  }
  return { update };
}

/** The lines around a place: numbered, with `>` before the one that is meant and `^` below it; else as they are. */
function excerpt(place: Place): HTMLElement {
  const lines = place.excerpt.replace(/\n$/, "").split("\n");
  const numbered = lines.map((line) => /^([> ]?) *(\d+) \| ?(.*)$/.exec(line));
  if (!numbered.some(Boolean)) return h("pre", { class: "excerpt" }, lines.map((line) => h("span", { class: "code" }, h("i"), h("span", {}, line || " "))));
  return h("pre", { class: "excerpt" }, numbered.map((match, at) => {
    if (!match) return "";
    const [, , number, code] = match;
    const mark = /^ *\| ?( *\^)/.exec(lines[at + 1] ?? "")?.[1];
    return h("span", { class: Number(number) === place.line ? "code here" : "code" }, h("i", {}, number), h("span", {}, code || " "),
      mark && h("span", { class: "mark", "aria-hidden": "true" }, mark));
  }));
}
