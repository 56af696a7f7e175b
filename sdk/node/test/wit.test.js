import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadWit, parseWit, WitError } from '../dist/index.js';
import { camel, digest, printFunc, printType, serves } from '../dist/types.js';
import { parseFunc, parseType } from '../dist/wit.js';

const one = (body, name = 'a:b/c') => parseWit(`package a:b; interface c { ${body} }`).interface(name);

test('every form of a type', () => {
  const face = one(`
    resource r { constructor(n: u8); m: func() -> own<r>; s: static func(x: borrow<r>); a: async func(); }
    type id = u32;
    record rec { %type: id, b: list<u8, 4>, }
    flags fl { x, y }
    f: func(a: rec, b: tuple<s8, char>, c: result<_, string>, d: result, e: result<u8>) -> option<r>;
    g: async func(a: stream<u8>, b: stream, c: future<rec>, d: future, e: error-context, f: fl);
    h: func();
  `);
  assert.deepEqual(face.functions.map((func) => `${func.name}: ${printFunc(func)}`), [
    '[constructor]r: func(n: u8) -> r',
    '[method]r.m: func(self: borrow<r>) -> r',
    '[static]r.s: func(x: borrow<r>)',
    '[method]r.a: async func(self: borrow<r>)',
    'f: func(a: record { type: u32, b: list<u8, 4> }, b: tuple<s8, char>, c: result<_, string>, d: result, e: result<u8>) -> option<r>',
    'g: async func(a: stream<u8>, b: stream, c: future<record { type: u32, b: list<u8, 4> }>, d: future, e: error-context, f: flags { x, y })',
    'h: func()',
  ]);
});

test('what is printed is read again', () => {
  for (const text of ['record { a: u8, b: variant { x, y(list<string>) } }', 'result<_, enum { p, q }>', 'borrow<res>', 'list<tuple<f32>, 3>']) {
    assert.equal(printType(parseType(text)), text);
  }
  assert.equal(printFunc(parseFunc('f', 'async func(a: stream<u8>) -> future')), 'async func(a: stream<u8>) -> future');
});

test('comments, gates, worlds, aliases and nested packages', () => {
  const wit = parseWit(`
    /* a /* nested */ comment */
    package a:b@1.0.0;
    use x:y/z@2.0.0 as zed;
    @since(version = 1.0.0)
    interface c { // line
      use zed.{t as mine};
      @unstable(feature = f) @deprecated(version = 1.0.1-rc.1)
      f: func(v: mine) -> mine;
    }
    world w { import c; export run: func(); import i: interface { g: func(); } }
    package x:y@2.0.0 { interface z { type t = list<u8>; } }
  `);
  assert.deepEqual(wit.names, ['a:b/c@1.0.0', 'x:y/z@2.0.0']);
  assert.equal(printFunc(wit.interface('a:b/c').functions[0]), 'func(v: list<u8>) -> list<u8>');
});

test('errors name the place', () => {
  const bad = {
    'f: func(a: nope);': /^wit:1:\d+: there is no type `nope`; declare it/,
    'f: func(a: u8': /`,` expected, `}` found/,
    'f func();': /`:` expected, `func\(\);` found/,
    'record r { }': /a record needs at least one member/,
    'type a = b; type b = a;': /contains itself/,
    'use d.{x};': /a:b\/c uses a:b\/d, which is in no package here or below deps/,
    'f: func(a: borrow<u>); type u = u8;': /`u` is no resource/,
    '/* open': /a comment that is not closed/,
  };
  for (const [body, message] of Object.entries(bad)) {
    assert.throws(() => one(body), (error) => error instanceof WitError && message.test(error.message), body);
  }
});

test('every WIT of this repository, and its digests', () => {
  for (const folder of ['wasi-0.2', 'wasi-0.3']) {
    const wit = loadWit(fileURLToPath(new URL(`../../../wit/deps/${folder}`, import.meta.url)));
    assert.ok(wit.names.length > 20);
    const functions = wit.names.flatMap((name) => wit.interface(name).functions);
    assert.ok(functions.length > 100);
    assert.ok(functions.every((func) => digest(func).length === 32));
  }
});

test('the digest is of a function with its types written out', () => {
  const digests = (body) => one(body).functions.map((func) => Buffer.from(digest(func)).toString('hex'));
  const known = [
    'a56ab2a50937b548ca732b43fa4884da36f6e36b1ef0bfd27beabfa333b46a70',
    'c8a29ff9af2fe74ea4e50697c3453bcea431a8357b1cf9fd915071666087192a',
  ];
  assert.deepEqual(digests('type t = u8; a: async func() -> string; b: func(x: t);'), known);
  assert.deepEqual(digests('a: async func() -> string; b: func(y: u8);'), known);
});

test('versions', () => {
  const table = [
    ['a:b/c@0.1.2', 'a:b/c@0.1.0', 'yes'], ['a:b/c@0.1.0', 'a:b/c@0.1.2', 'version'], ['a:b/c@0.2.0', 'a:b/c@0.1.0', 'version'],
    ['a:b/c@1.4.0', 'a:b/c@1.2.9', 'yes'], ['a:b/c@2.0.0', 'a:b/c@1.0.0', 'version'], ['a:b/c@0.0.2', 'a:b/c@0.0.1', 'version'],
    ['a:b/c', 'a:b/c@1.0.0', 'yes'], ['a:b/c@1.0.0', 'a:b/c', 'yes'], ['a:b/d', 'a:b/c', 'no'],
    ['a:b/c@1.0.0-rc.1', 'a:b/c@1.0.0-rc.1', 'yes'], ['a:b/c@1.0.0', 'a:b/c@1.0.0-rc.1', 'version'],
    ['a:b/c@1.0.3', 'a:b/c@1.0.1', 'yes'], ['a:b/c@0.0.0', 'a:b/c@0.0.0', 'yes'],
  ];
  for (const [offered, wanted, answer] of table) assert.equal(serves(offered, wanted), answer, `${offered} for ${wanted}`);
  assert.equal(camel('get-2-IDs'), 'get2Ids');
});
