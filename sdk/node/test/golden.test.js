// The published bytes of every frame: what each says is its payload, and what reads and writes frames here agrees.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Reader, Writer } from '../dist/bytes.js';
import { codecOf } from '../dist/codec.js';
import { FrameReader, Kind, MORE, PREFACE } from '../dist/frames.js';
import { readFailure, readHello, readLink, readOutcome, writeFailure, writeHello, writeLink, writeOutcome } from '../dist/messages.js';
import { parseType } from '../dist/wit.js';
import { fromJson } from './json-values.js';
import { frame } from './support.js';

const file = new URL('../../../tests/data/wire-golden.json', import.meta.url);
const { preface, frames } = JSON.parse(readFileSync(file, 'utf8'));

/** The frames that bytes are, as a session reads them. */
function read(bytes) {
  const found = [];
  const reader = new FrameReader((kind, stream, buf, pos, end) => found.push({ kind, stream, payload: Buffer.from(buf.subarray(pos, end)) }), false);
  reader.push(bytes);
  return found;
}

test('the preface', () => assert.equal(PREFACE.toString('hex'), preface));

for (const { name, kind, stream, says, bytes } of frames) {
  test(`${name} is what it says`, () => {
    const writer = new Writer();
    for (const item of says) {
      if (item.bytes !== undefined) writer.raw(Buffer.from(item.bytes, 'hex'));
      else codecOf(parseType(item.type)).encode(writer, fromJson(parseType(item.type), item.value));
    }
    assert.equal(frame(kind, stream, (w) => w.raw(writer.copy())).toString('hex'), bytes);
    assert.deepEqual(read(Buffer.from(bytes, 'hex')), [{ kind, stream, payload: writer.copy() }]);
  });
}

// A number, where there is one, and then a record: what both ends of a session read and write.
const records = {
  [Kind.HELLO]: [readHello, writeHello],
  [Kind.WELCOME]: [readHello, writeHello],
  [Kind.REFUSE]: [readFailure, writeFailure],
  [Kind.GOAWAY]: [readFailure, writeFailure],
  [Kind.FAIL]: [readFailure, writeFailure],
  [Kind.LINK]: [readLink, writeLink],
  [Kind.LINKED]: [(r) => [r.uleb(), readOutcome(r)], (w, [number, outcome]) => (w.uleb(number), writeOutcome(w, outcome))],
  [Kind.RELOADED]: [(r) => [r.uleb(), readOutcome(r)], (w, [number, outcome]) => (w.uleb(number), writeOutcome(w, outcome))],
};

for (const { name, kind, bytes } of frames.filter((one) => records[one.kind])) {
  test(`${name} is read and written`, () => {
    const [{ payload }] = read(Buffer.from(bytes, 'hex'));
    const [readIt, writeIt] = records[kind];
    const reader = new Reader(payload);
    const value = readIt(reader);
    reader.finish();
    const writer = new Writer();
    writeIt(writer, value);
    assert.equal(writer.copy().toString('hex'), payload.toString('hex'));
  });
}

test('every kind of frame that is spoken here is among them', () => {
  const kinds = new Set(frames.map((one) => one.kind & ~MORE));
  for (const [name, kind] of Object.entries(Kind)) assert.ok(kinds.has(kind), name);
});
