import assert from "node:assert/strict";
import { test } from "node:test";

import { memory } from "./support.js";
import { createApp } from "../src/app.js";
import { parseTarget } from "../src/http.js";

const files = {
  "index.md": "# Home\n\n[B](guide/b.md) first, then [A](./guide/a.md#x), [out](../secret.md), [none](none.md), ![i](img/i.svg)\n",
  "zebra.md": "# Zebra\n\n[up](/guide/a.md)\n",
  "guide/a.md": "# Page A\n\n## X\n\nneedle\n\n[home](../index.md) [folder](../adr/) [sibling](b.md?c#d)\n",
  "guide/b.md": "no title here\n",
  "adr/README.md": "# Decisions\n\n- [second](002.md)\n",
  "adr/001.md": "# One\n",
  "adr/002.md": "# Two\n",
  "adr/new ideas/ü & co.md": "# Umlaut\n",
  "img/i.svg": "<svg/>",
  ".hidden/a.md": "# Hidden needle\n",
  ".env": "SECRET",
};

function site(changes = {}) {
  const logged = [];
  const dir = { ...memory(files), ...changes };
  const app = createApp({ open: () => dir, log: (...record) => logged.push(record), css: "body {}" });
  return { get: (target, method = "GET") => app({ method, target }), logged };
}

const { get } = site();
/** The titles in the sidebar, in order. */
const sidebar = (body) => [.../<nav aria-label="Pages">[^]*?<\/nav>/.exec(body)[0].matchAll(/>([^<>\n]+)<\/(?:a|summary)>/g)].map((m) => m[1]);

test("a page has its title, the sidebar with itself marked, and its neighbours", () => {
  const { status, headers, body } = get("/guide/a");
  assert.equal(status, 200);
  assert.equal(headers["content-type"], "text/html; charset=utf-8");
  assert.match(body, /<title>Page A · Home<\/title>/);
  assert.match(body, /<a href="\/guide\/a" aria-current="page">Page A<\/a>/);
  assert.match(body, /<a rel="prev" href="\/guide\/b"><small>Previous<\/small> B<\/a>/);
  assert.match(body, /<nav class="crumbs" aria-label="Breadcrumb"><ol><li><a href="\/guide\/">Guide<\/a>/);
});

test("an index orders the sidebar by its links; what it does not link to follows", () => {
  assert.deepEqual(sidebar(get("/").body), [
    "Home", "Guide", "B", "Page A", "Zebra", "Decisions", "Overview", "Two", "One", "New ideas", "Umlaut",
  ]);
});

test("links become the site's own", () => {
  const { body } = get("/");
  assert.match(body, /<a href="\/guide\/b">B<\/a> first, then <a href="\/guide\/a#x">A<\/a>/);
  assert.match(body, /<span class="missing" title="Not on this site: \.\.\/secret\.md">out<\/span>/);
  assert.match(body, /<span class="missing" [^>]*>none<\/span>/);
  assert.match(body, /<img src="\/img\/i\.svg" alt="i" loading="lazy">/);
  assert.match(get("/guide/a").body, /<a href="\/">home<\/a> <a href="\/adr\/">folder<\/a> <a href="\/guide\/b\?c#d">sibling<\/a>/);
});

test("every page has one address, and others lead to it", () => {
  for (const [from, to] of [
    ["/index.md", "/"],
    ["/index", "/"],
    ["/guide/a.md", "/guide/a"],
    ["/guide/a/", "/guide/a"],
    ["/adr", "/adr/"],
    ["/adr/README", "/adr/"],
    ["/adr/new%20ideas/%C3%BC%20&%20co.md", "/adr/new%20ideas/%C3%BC%20%26%20co"],
  ]) {
    const { status, headers } = get(from);
    assert.deepEqual([status, headers.location], [308, to], from);
    assert.equal(get(to).status, 200);
  }
});

test("a folder without an index lists what it holds", () => {
  const { status, body } = get("/guide/");
  assert.equal(status, 200);
  assert.match(body, /<ul class="listing">\n<li><a href="\/guide\/b">B<\/a><\/li>/);
});

test("what is not there is a 404 that helps", () => {
  const { status, body } = get("/old/zebra?x=1");
  assert.equal(status, 404);
  assert.match(body, /<code>\/old\/zebra<\/code>/);
  assert.match(body, /Did you mean<\/p>\n<ul>\n<li><a href="\/zebra">Zebra<\/a>/);
});

test("no address leaves the folder or shows what is hidden", () => {
  const dir = memory(files);
  const asked = [];
  const spy = (name) => (path, ...rest) => (asked.push(path), dir[name](path, ...rest));
  const { get } = site({ read: spy("read"), readRange: spy("readRange"), stat: spy("stat") });
  for (const target of [
    "/../secret", "/..%2fsecret", "/%2e%2e/secret", "/guide/../../secret.md", "//etc/passwd", "/..\\secret", "/%00",
    "/.env", "/.hidden/a", "/img/.%2e/.env", "/%ff", "/%", "*", "", "http://other/",
  ]) {
    const answer = get(target);
    assert.equal(answer.status, 404, target);
    assert.doesNotMatch(String(answer.body), /SECRET|Hidden/);
  }
  assert.ok(asked.every((path) => path in files && !path.startsWith(".") || !/(^|\/)\.|\\|\0/.test(path)), asked.join());
});

test("what is asked for is escaped where it is shown", () => {
  for (const target of ["/<script>alert(1)</script>", "/%3Cscript%3E", "/search?q=%3Cscript%3E%22%27", '/"onmouseover=x']) {
    assert.doesNotMatch(get(target).body, /<script|"onmouseover/);
  }
});

test("search finds, counts, and keeps the query", () => {
  const { status, body } = get("/search?q=needle+page");
  assert.equal(status, 200);
  assert.match(body, /name="q" value="needle page"/);
  assert.match(body, /1 page for “needle page”/);
  assert.match(body, /<a href="\/guide\/a#x">Page A<span> › X<\/span><\/a>/);
  assert.match(get("/search?q=zzz").body, /No pages for “zzz”/);
  assert.match(get("/search").body, /Type a word or two/);
});

test("other files are sent as they are, a piece at a time", () => {
  const big = Buffer.alloc(150_000, 7);
  const { get } = site(memory({ "index.md": "# H", "big.png": big, "page.html": "<script>" }));
  const { status, headers, body } = get("/big.png");
  assert.deepEqual([status, headers["content-type"], body.length], [200, "image/png", 150_000]);
  const pieces = [...body.pieces];
  assert.deepEqual(pieces.map((piece) => piece.length), [65536, 65536, 18928]);
  assert.deepEqual(Buffer.concat(pieces), big);
  assert.equal(get("/page.html").headers["content-type"], "application/octet-stream");
});

test("a file that shrinks while it is sent is an error, not an endless loop", () => {
  const { get } = site({ ...memory({ "index.md": "# H", "a.txt": "abc" }), readRange: () => new Uint8Array() });
  assert.throws(() => [...get("/a.txt").body.pieces], /became shorter/);
});

test("the style sheet is named by its content, and kept", () => {
  const [, address] = /href="(\/style\.css\?v=\w+)"/.exec(get("/").body);
  const { headers, body } = get(address);
  assert.equal(body, "body {}");
  assert.match(headers["cache-control"], /immutable/);
});

test("every answer forbids scripts", () => {
  for (const target of ["/", "/none", "/search?q=a", "/img/i.svg", "/style.css"]) {
    assert.match(get(target).headers["content-security-policy"], /default-src 'none'/);
    assert.equal(get(target).headers["x-content-type-options"], "nosniff");
  }
});

test("only GET and HEAD", () => {
  assert.equal(get("/", "HEAD").status, 200);
  const { status, headers } = get("/", "POST");
  assert.deepEqual([status, headers.allow], [405, "GET, HEAD"]);
});

test("a failure is a 500 that tells the log why, and the reader nothing", () => {
  for (const [error, reason] of [
    [new TypeError("a bug"), /^cannot answer: a bug\n/],
    [Object.assign(new Error("[object Object]"), { payload: { tag: "io" } }), /^cannot answer: io\n/],
  ]) {
    const { get, logged } = site({
      read: () => {
        throw error;
      },
    });
    const { status, body } = get("/zebra");
    assert.equal(status, 500);
    assert.doesNotMatch(body, /a bug|object|stack/i);
    const [[level, target, message]] = logged;
    assert.deepEqual([level, target], ["error", "site"]);
    assert.match(message, reason);
  }
});

test("each request is logged once, with its status", () => {
  const { get, logged } = site();
  get("/none");
  assert.deepEqual(logged, [["info", "site", "request", [["method", "GET"], ["target", "/none"], ["status", "404"]]]]);
});

test("targets are taken apart", () => {
  const { path, parameters } = parseTarget("/a%20b?q=c+d%26&q=2&e&=f&g=%ff&h==#i");
  assert.equal(path, "/a b");
  assert.deepEqual([...parameters], [["q", "c d&"], ["e", ""], ["h", "="]]);
});
