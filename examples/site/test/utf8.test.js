import assert from "node:assert/strict";
import { test } from "node:test";

import "./support.js";
import { decode, encode } from "../src/utf8.js";

test("any text survives both ways, as the platform's own coder has it", () => {
  for (const text of ["", "plain", "é ß Ω", "日本語", "🦀 crab", "\0\u007f\u0080\u07ff\u0800\uffff\u{10000}\u{10ffff}", "a".repeat(100_000)]) {
    assert.deepEqual(encode(text), new TextEncoder().encode(text));
    assert.equal(decode(encode(text)), text);
  }
});

test("a lone surrogate becomes the replacement character", () => {
  assert.equal(decode(encode("a\ud800b")), "a\ufffdb");
});

test("what is not UTF-8 is replaced, and the rest kept", () => {
  for (const bytes of [[0x80], [0xff, 0x41], [0x41, 0xc3], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]]) {
    const text = decode(new Uint8Array([0x41, ...bytes, 0x20, 0xc3, 0xa9]));
    assert.match(text, /^A.*\ufffd.* é$/u);
  }
});
