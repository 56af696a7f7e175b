import assert from "node:assert/strict";
import { test } from "node:test";

import { respond } from "./page.js";

const greet = (name) => `Hello, ${name}!`;

test("whoever is named is greeted", () => {
  const { status, html } = respond("/?name=Ada+L%C3%B6we", greet);
  assert.equal(status, 200);
  assert.match(html, /<h1>Hello, Ada Löwe!<\/h1>/);
});

test("what somebody calls himself is text", () => {
  assert.match(respond("/?name=<b>", greet).html, /Hello, &lt;b&gt;!/);
});

test("nothing else is there", () => {
  assert.equal(respond("/other", greet).status, 404);
});
