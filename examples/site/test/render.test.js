import assert from "node:assert/strict";
import { test } from "node:test";

import { highlight } from "../src/highlight.js";
import { render, sections, strip, titleOf } from "../src/render.js";

const html = (source, resolve = (href) => href) => render(source, resolve).html;
/** What a reader sees: no tags, and entities undone. */
const seen = (markup) =>
  markup
    .replace(/<[^>]*>/g, "")
    .replace(/&(lt|gt|quot|#39|amp);/g, (_, name) => ({ lt: "<", gt: ">", quot: '"', "#39": "'", amp: "&" })[name]);

test("headings get ids and anchors as on GitHub, repeated ones numbered", () => {
  const { html, headings } = render("# The `Dyn<N>` path\n\n## Für & wider\n\n## Für & wider\n", (href) => href);
  assert.deepEqual(headings, [
    { level: 1, id: "the-dynn-path", text: "The Dyn<N> path" },
    { level: 2, id: "für--wider", text: "Für & wider" },
    { level: 2, id: "für--wider-1", text: "Für & wider" },
  ]);
  assert.match(html, /<h2 id="für--wider-1">Für &amp; wider <a class="anchor" href="#f%C3%BCr--wider-1"/);
});

test("the sections of a page have the ids of its headings", () => {
  const source = "# A *b*\n\ntext\n\n```sh\n# no heading\n```\n\n## C [d](e.md)\n\n## A b ##\n\n~~~\n```\n## nor this\n~~~\n\n### A b\n";
  const ids = render(source, (href) => href).headings.map(({ id }) => id);
  assert.deepEqual(sections(source).slice(1).map(({ id }) => id), ids);
});

test("HTML is text, and comments are nothing", () => {
  assert.equal(html("<script>alert(1)</script>"), "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n");
  assert.equal(html('a <img src=x onerror="alert(1)"> b'), "<p>a &lt;img src=x onerror=&quot;alert(1)&quot;&gt; b</p>\n");
  assert.equal(html("a <!-- b --> c\n\n<!--\nd\n-->\n"), "<p>a  c</p>\n");
  assert.doesNotMatch(html("<!-- a --><script>alert(1)</script><!-- b -->"), /<script/);
});

test("no markup becomes a script, whatever the address", () => {
  const hostile = ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java&#115;cript:alert(1)", "vbscript:x", "data:text/html,x", "file:///etc"];
  for (const address of hostile) {
    assert.doesNotMatch(html(`[a](${address}) ![a](${address}) <${address}>`), /(href|src)=/i);
  }
  assert.match(html('[a](b "\\" onclick=\\"x")'), /title="&quot; onclick=&quot;x"/);
  assert.match(html("```\"><script>\nx\n```"), /data-language="&quot;&gt;&lt;script&gt;"/);
});

test("links and images go where the site says, or nowhere", () => {
  const resolve = (href) => (href === "a.md#b" ? "/a#b" : null);
  assert.equal(html("[*a*](a.md#b)", resolve), '<p><a href="/a#b"><em>a</em></a></p>\n');
  assert.equal(html("[a](gone.md)", resolve), '<p><span class="missing" title="Not on this site: gone.md">a</span></p>\n');
  assert.match(html('![A **b**](a.md#b "T")', resolve), /<img src="\/a#b" alt="A b" title="T" loading="lazy">/);
});

test("tables scroll, and are aligned by classes", () => {
  const table = html("| a | b |\n| --- | --: |\n| 1 | `2` |\n");
  assert.match(table, /<div class="table" role="region" aria-label="Table" tabindex="0"><table>/);
  assert.match(table, /<th class="right">b<\/th>/);
  assert.match(table, /<td class="right"><code>2<\/code><\/td>/);
  assert.doesNotMatch(table, /style=/);
});

test("alerts and tasks", () => {
  assert.equal(
    html("> [!TIP]\n> Do *it*.\n"),
    '<blockquote class="alert tip" role="note">\n<p class="alert-title">Tip</p>\n<p>Do <em>it</em>.</p>\n</blockquote>\n',
  );
  assert.doesNotMatch(html("> [!constructor]\n> x\n"), /alert/);
  assert.match(html("- [x] a\n- [ ] b\n"), /<li class="task"><input type="checkbox" disabled checked aria-label="done"> a<\/li>/);
});

test("highlighting changes no character", () => {
  const code = "/* a */ x = \"b\\\"c\" + 'd' // <e>\n# f `g` 0x1F 12.5e3 --flag $HOME [t]\n- k: v\n+ @@ {\"j\": null}\n\"open";
  for (const name of ["js", "py", "rust", "wit", "toml", "json", "yaml", "sh", "c", "go", "css", "html", "diff", "", "nope", "__proto__"]) {
    assert.equal(seen(highlight(code, name)), code, name);
  }
});

test("highlighting knows comments, strings and words", () => {
  assert.equal(
    highlight('let a = "b"; // c', "js"),
    '<span class="word">let</span> a = <span class="string">&quot;b&quot;</span>; <span class="comment">// c</span>',
  );
  assert.match(highlight("$ make run", "console"), /^<span class="prompt">\$<\/span> make run$/);
});

test("a title is the first heading of level one, without its markup", () => {
  assert.equal(titleOf("text\n\n# The `a` & *b*  #\n# c"), "The a & b");
  assert.equal(titleOf("```sh\n# no\n```\n\n## nor this\n"), null);
  assert.equal(titleOf("# \r\n# a\r\n"), "a");
});

test("stripping leaves the words", () => {
  assert.equal(strip("> [!NOTE]\n> **A** [b](c)\n\n- [x] `d` snake_case\n| e | f |\n| --- | --- |\n"), "A b(c) d snake_case e f");
});
