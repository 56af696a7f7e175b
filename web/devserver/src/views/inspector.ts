// One member: all that is known of it, and what can be done with it.

import type { App } from "../app.js";
import { button, h, sentence, text } from "../dom.js";
import { ago, brief, count, duration, short } from "../format.js";
import { keyOf } from "../store.js";
import type { Link, Member } from "../types.js";

export function inspector(app: App): { root: HTMLElement; update(): void } {
  const { store } = app;
  const body = h("div", { class: "scroll" });
  const root = h("aside", { class: "inspector", "aria-label": "Member", hidden: true }, body);
  let shown = "";
  let rates: [HTMLElement, Link][] = [];
  let since: HTMLElement | null = null;

  root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const from = app.selected;
    app.select(null);
    document.querySelector<SVGElement>(`[data-node="${CSS.escape(from ?? "")}"]`)?.focus();
  });

  function update(): void {
    const member = app.selected === null ? undefined : store.members.get(app.selected);
    root.hidden = !member;
    if (!member) {
      shown = "";
      return;
    }
    const links = store.links.filter((link) => link.importer === member.name || link.provider === member.name);
    // Numbers change each second, all else seldom: a button that is being pressed stays where it is.
    const now = JSON.stringify([member, links.map((link) => [keyOf(link), link.grants])]);
    if (now !== shown) {
      shown = now;
      render(member, links);
    }
    for (const [element, link] of rates) {
      const rate = store.rate(link);
      text(element, rate ? `${count(rate.calls)}/s · ${duration(rate.mean)}${rate.errors ? ` · ${count(rate.errors)} errors/s` : ""}` : "not counted");
    }
    if (since) text(since, member.since ? `${member.phase} for ${ago(member.since)}` : member.phase);
  }

  function render(member: Member, links: Link[]): void {
    rates = [];
    const held = (document.activeElement as HTMLElement | null)?.dataset["act"];
    const row = (name: string, value: Node | string | null): Node[] => (value === null || value === "" ? [] : [h("dt", {}, name), h("dd", {}, value)]);
    since = h("span");
    const digest = member.digest;
    const url = store.about?.served.find(([name]) => name === member.name)?.[1];
    const related = (title: string, some: Link[], other: (link: Link) => string): Node[] =>
      some.length === 0 ? [] : [h("h3", {}, title), h("ul", { class: "links" }, some.map((link) => {
        const rate = h("span", { class: "rate" });
        rates.push([rate, link]);
        return h("li", {},
          h("div", {}, button(other(link), () => app.select(other(link)), { class: "link" }), rate),
          h("code", {}, brief(link.interface)),
          link.grants.map((grant) => h("p", { class: "grant" }, sentence(grant))));
      }))];
    body.replaceChildren(
      h("header", { class: `is-${member.placement} phase-${member.phase}` },
        h("div", {}, h("p", { class: "kicker" }, member.kind), h("h2", {}, member.name)),
        button("Close", () => app.select(null), { icon: "close", class: "quiet" })),
      h("p", { class: `state phase-${member.phase}` }, h("i"), since, member["crash-loop"] ? " · crash loop: it is not started again" : null),
      member.reason ? h("p", { class: "reason" }, member.reason) : "",
      h("div", { class: "buttons" },
        button("Restart", () => app.restart(member.name), { icon: "restart", "data-act": "restart" }),
        button("Swap…", () => app.swap(member.name), { icon: "swap", "data-act": "swap" }),
        button("Logs", () => app.go("logs", member.name), { icon: "logs", "data-act": "logs" }),
        url && /^https?:/.test(url) && h("a", { class: "button", href: url, target: "_blank", rel: "noreferrer" }, "Visit")),
      h("dl", {},
        row("Serves", digest ? h("span", { class: "digest" }, h("code", { title: digest }, `${digest.split(":")[0]}:${short(digest)}`),
          button("Copy digest", () => app.copy(digest, "the digest"), { icon: "copy", class: "quiet" })) : "not known"),
        row("Generation", String(member.generation)),
        row("Placement", member.placement),
        row("Transport", member.transport),
        row("Source", h("code", {}, member.source)),
        row("Process", member.pid === null ? null : String(member.pid)),
        row("Restarts", member.restarts ? String(member.restarts) : null)),
      ...related("Uses", links.filter((link) => link.importer === member.name), (link) => link.provider),
      ...related("Used by", links.filter((link) => link.provider === member.name), (link) => link.importer));
    if (held) body.querySelector<HTMLElement>(`[data-act="${held}"]`)?.focus();
  }
  return { root, update };
}
