import assert from "node:assert/strict";
import { test } from "node:test";

import { excerpt, search, suggest, termsOf } from "../src/search.js";

const page = (path, source) => ({ path, title: /^# (.*)/.exec(source)?.[1] ?? path, source });
const paths = (pages, query) => search(pages, query).results.map((result) => result.path);

test("a page has to have every word, at the beginning of one", () => {
  const pages = [page("a.md", "# A\nstreams of bytes"), page("b.md", "# B\nbytes upstream"), page("c.md", "# C\nnothing")];
  assert.deepEqual(paths(pages, "stream BYTES"), ["a.md"]);
  assert.deepEqual(paths(pages, "byte").sort(), ["a.md", "b.md"]);
  assert.deepEqual(paths(pages, "stream nothing"), []);
  assert.deepEqual(paths(pages, "  ?! "), []);
});

test("titles count before headings, and headings before text", () => {
  const filler = "word ".repeat(50);
  const pages = [
    page("text.md", `# A\n${filler} grant ${filler}`),
    page("heading.md", `# B\n${filler}\n## The grant\n${filler}`),
    page("title.md", `# Grant\n${filler}`),
  ];
  assert.deepEqual(paths(pages, "grant"), ["title.md", "heading.md", "text.md"]);
});

test("a result points to the section that has most to say", () => {
  const [result] = search([page("a.md", "# A\nx\n## One\nfuel\n## Two\nfuel and fuel again\n")], "fuel").results;
  assert.deepEqual(result.section, { id: "two", heading: "Two" });
  assert.equal(String(result.excerpt), "<mark>fuel</mark> and <mark>fuel</mark> again");
});

test("accents and case do not matter, and stay as they are", () => {
  const [result] = search([page("a.md", "# A\nUn CAFÉ naïf à İzmir")], "café naif izmir").results;
  assert.equal(String(result.excerpt), "Un <mark>CAFÉ</mark> <mark>naïf</mark> à <mark>İzmir</mark>");
});

test("addresses and comments are not searched", () => {
  const pages = [page("a.md", "# A\n[b](secret.md) <!-- secret -->")];
  assert.equal(search(pages, "secret").total, 0);
});

test("an excerpt is cut between words around the match, and escaped", () => {
  const text = `${"before ".repeat(40)}a <b>match</b> here ${"after ".repeat(100)}`;
  const shown = String(excerpt(text, ["match"]));
  assert.match(shown, /^… (before )+a &lt;b&gt;<mark>match<\/mark>&lt;\/b&gt; here (after )+after …$/);
  assert.equal(String(excerpt("foo_bar <x>", ["foo", "bar"])), "<mark>foo</mark>_<mark>bar</mark> &lt;x&gt;");
});

test("the total counts what the limit leaves out", () => {
  const pages = Array.from({ length: 5 }, (_, i) => page(`${i}.md`, "# A\nword"));
  const { total, results } = search(pages, "word", 2);
  assert.deepEqual([total, results.length], [5, 2]);
});

test("terms are distinct, and not too many", () => {
  assert.deepEqual(termsOf('Loop:FSX "fsx"'), ["loop", "fsx"]);
  assert.equal(termsOf("a b c d e f g h i j").length, 8);
});

test("suggestions share words with what was asked for", () => {
  const pages = [page("guide/streams.md", "# Streams"), page("guide/limits.md", "# Limits")];
  assert.deepEqual(suggest(pages, "/old/streams").map(({ path }) => path), ["guide/streams.md"]);
});
