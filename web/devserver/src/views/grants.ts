// What each member may do, in sentences, and what was refused.

import type { App, View } from "../app.js";
import { attribute, button, h, keyed, sentence, text } from "../dom.js";
import { brief, clock, plural } from "../format.js";
import type { Refused } from "../store.js";

export function grants(app: App): View {
  const { store } = app;
  let words = "";
  const search = h("input", { type: "search", placeholder: "Filter grants", "aria-label": "Filter grants", oninput: () => { words = search.value.toLowerCase(); draw(); } });
  const refused = h("div", { class: "refusals" });
  const none = h("p", { class: "empty small" }, h("strong", {}, "Nothing was refused"), "What a grant does not allow shows here, with the lines that would allow it.");
  const given = h("div", { class: "given" });
  const root = h("section", { class: "view grants-view" }, h("div", { class: "tools" }, search),
    h("div", { class: "scroll" }, h("h2", {}, "Refused"), none, refused, h("h2", {}, "Granted"), given));

  function draw(): void {
    const fits = (...parts: string[]): boolean => parts.join(" ").toLowerCase().includes(words);
    const some = [...store.refusals.values()].reverse().filter((it) => fits(it.importer, it.interface, it.what));
    none.hidden = some.length > 0;
    keyed(refused, some, (it) => `${it.importer}\n${it.interface}\n${it.what}`, refusal, (card, it) => {
      text(card.querySelector(".times")!, `${it.count > 1 ? `${plural(it.count, "time")}, last ` : ""}at ${clock(it.time).slice(0, 8)}`);
    });
    const by = Map.groupBy(store.links.filter((it) => fits(it.importer, it.interface, it.provider, ...it.grants)), (it) => it.importer);
    keyed(given, [...by].sort(([a], [b]) => (a < b ? -1 : 1)), ([name]) => name, ([name]) =>
      h("article", { class: "card" }, h("h3", {}, button(name, () => app.select(name), { class: "link" })), h("ul")),
    (card, [, links]) => {
      attribute(card, "class", `card is-${store.members.get(links[0]!.importer)?.placement ?? "component"}`);
      const sentences = links.flatMap((link) => link.grants.map((grant) => ({ link, grant })));
      keyed(card.children[1]!, sentences.length ? sentences : [{ link: links[0]!, grant: "is granted nothing that is told" }], (it) => `${it.grant}\n${it.link.interface}\n${it.link.provider}`, (it) =>
        h("li", {}, h("span", {}, sentence(it.grant)), h("small", {}, "by ", h("b", {}, it.link.provider), ` · ${brief(it.link.interface)}`)), () => {});
    });
  }

  function refusal(it: Refused): HTMLElement {
    return h("article", { class: "card refusal" },
      h("header", {}, h("div", {}, h("h3", {}, h("b", {}, it.importer || "a component"), " wanted to ", sentence(it.what)), h("p", { class: "hint" }, brief(it.interface), " refused it ", h("span", { class: "times" }))),
        it.proposal && button("Copy for loop.toml", () => app.copy(it.proposal, "the lines for loop.toml"), { icon: "copy", class: "primary" })),
      it.proposal ? h("pre", {}, it.proposal.trimEnd()) : h("p", { class: "hint" }, "There is no grant that would allow this."));
  }

  return {
    root,
    update(parts) {
      if (parts.has("links") || parts.has("refusals") || parts.has("members")) draw();
    },
  };
}
