import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Reader, Writer } from '../dist/bytes.js';
import { codecOf } from '../dist/codec.js';
import { WireError } from '../dist/errors.js';
import { hasChannels, hasHandles } from '../dist/types.js';
import { parseType } from '../dist/wit.js';
import { fromJson, plain } from './json-values.js';

const file = new URL('../../../tests/data/wrpc-vectors.json', import.meta.url);
const { vectors, decode_only, reject } = JSON.parse(readFileSync(file, 'utf8'));

// Handles as their bytes.
const raw = { lowerHandle: (_, value) => value };

function encode(type, value) {
  const writer = new Writer(1);
  writer.lowering = raw;
  codecOf(type).encode(writer, value);
  return writer.copy().toString('hex');
}

function decode(type, hex) {
  const reader = new Reader(Buffer.from(hex, 'hex'));
  const value = codecOf(type).decode(reader);
  reader.finish();
  return value;
}

const title = (entry) => `${entry.type.slice(0, 80)} ${entry.bytes.slice(0, 40)}`;

for (const entry of vectors) {
  test(`vector ${title(entry)} ${JSON.stringify(entry.value).slice(0, 40)}`, () => {
    const type = parseType(entry.type);
    const value = fromJson(type, entry.value);
    assert.equal(encode(type, value), entry.bytes);
    assert.deepEqual(plain(type, decode(type, entry.bytes)), value);
  });
  test(`every cut of ${title(entry)} is refused`, () => {
    const type = parseType(entry.type);
    for (let n = 0; n < entry.bytes.length; n += 2) {
      assert.throws(() => decode(type, entry.bytes.slice(0, n)), WireError);
    }
  });
}

for (const entry of decode_only) {
  test(`decodes ${title(entry)}`, (t) => {
    const type = parseType(entry.type);
    const check = () => assert.deepEqual(decode(type, entry.bytes), fromJson(type, entry.value));
    if (!entry.uncertain) return check();
    try {
      check();
      t.diagnostic(`not settled by the specification; as in the vector: ${entry.why}`);
    } catch (error) {
      t.diagnostic(`not settled by the specification; other than the vector: ${error.message}`);
    }
  });
}

for (const entry of reject) {
  test(`refuses ${title(entry)}: ${entry.error}`, () => {
    const type = parseType(entry.type);
    assert.throws(() => decode(type, entry.bytes), { name: 'WireError', kind: entry.error });
  });
}

test('the largest numbers survive at every length', () => {
  for (const [kind, width] of [['u64', 64n], ['s64', 63n]]) {
    const type = parseType(kind);
    for (let bits = 0n; bits < width; bits++) {
      for (const value of [1n << bits, (1n << bits) - 1n, (1n << bits) + 1n]) {
        for (const signed of kind === 's64' ? [value, -value] : [value]) {
          if (BigInt.asIntN(64, signed) !== signed && kind === 's64') continue;
          assert.equal(decode(type, encode(type, signed)), signed);
        }
      }
    }
  }
  for (const kind of ['u32', 's32', 'u16', 's16']) {
    const type = parseType(kind);
    for (let bits = 0; bits < Number(kind.slice(1)) - 1; bits++) {
      for (const value of [2 ** bits, 2 ** bits - 1]) {
        assert.equal(decode(type, encode(type, value)), value);
        if (kind[0] === 's') assert.equal(decode(type, encode(type, -value - 1)), -value - 1);
      }
    }
  }
});

test('floats as typed arrays, every NaN canonical', () => {
  const odd = new Float64Array(new BigUint64Array([0xfff0dead00000001n, 0x3ff8000000000000n]).buffer);
  assert.equal(encode(parseType('list<f64>'), odd), '02000000000000f87f000000000000f83f');
  assert.ok(decode(parseType('list<f64>'), '01000000000000f83f') instanceof Float64Array);
  const odd32 = new Float32Array(new Uint32Array([0xffaaaaaa]).buffer);
  assert.equal(encode(parseType('list<f32>'), odd32), '010000c07f');
});

test('a list of fixed length has no count', () => {
  assert.equal(encode(parseType('list<u16, 2>'), [1, 128]), '018001');
  assert.deepEqual(decode(parseType('list<u8, 3>'), '010203'), Uint8Array.of(1, 2, 3));
  assert.throws(() => encode(parseType('list<u8, 3>'), [1, 2]), /list of 3 wanted/);
});

// Nothing is lifted: what is pending is undefined.
test('a stream that is there already is 01 and a list, and nothing else', async () => {
  const items = async (type, hex) => {
    const all = [];
    for await (const item of decode(parseType(type), hex)) all.push(item);
    return all;
  };
  assert.deepEqual(await items('stream<u32>', '01020aac02'), [10, 300]);
  assert.deepEqual(await items('stream<u32>', '0100'), []);
  assert.deepEqual(await items('stream<u8>', '0103010203'), [Uint8Array.of(1, 2, 3)]);
  assert.deepEqual(await items('stream<stream<string>>', '010200010101' + '78').then((all) => all.length), 2);
  assert.equal((await items('stream', '0103')).length, 3);
  assert.equal(decode(parseType('stream<u32>'), '00'), undefined);
  for (const bytes of ['020aac02', '0201', '80']) {
    assert.throws(() => decode(parseType('stream<u32>'), bytes), WireError, bytes);
  }
  assert.throws(() => decode(parseType('stream<u32>'), '010201'), { kind: 'truncated' });
  assert.throws(() => decode(parseType('future<u8>'), '02'), { kind: 'invalid-discriminant' });
  assert.equal(await decode(parseType('future<u8>'), '0107'), 7);
  assert.equal(await decode(parseType('future'), '01'), undefined);
});

test('a value that does not fit names its place', () => {
  const type = parseType('record { a-b: list<tuple<u8, option<string>>> }');
  assert.throws(
    () => encode(type, { aB: [[1, 'x'], [2, 3]] }),
    (error) => error.path === 'aB.1.1' && error.expected === 'string' && error.got === '3',
  );
  assert.throws(() => decode(type, '010102'), { kind: 'invalid-discriminant', path: 'aB.0.1' });
});

test('values that JavaScript would bend are refused', () => {
  const bad = { u8: [256, -1, 1.5, '1', true], u64: [1, -1n, 1n << 64n], bool: [1, 'true'], char: ['', 'ab', '\ud800'],
    string: [1, 'x\ud800', `${'x'.repeat(99)}\udfff`], 'list<u8>': ['ab', [256], null], 'flags { a }': [1], 's32': [2 ** 31] };
  for (const [type, values] of Object.entries(bad)) {
    for (const value of values) assert.throws(() => encode(parseType(type), value), WireError, `${type} ${value}`);
  }
});

test('what only claims to be long costs nothing', () => {
  for (const type of ['list<u64>', 'list<list<string>>', 'string', 'list<u8>', 'list<f64>', 'list<record { a: u8 }>']) {
    assert.throws(() => decode(parseType(type), 'ffffffff0f00'), { kind: 'truncated' });
  }
});

test('types know whether they hold channels or handles', () => {
  assert.ok(hasChannels(parseType('record { a: option<list<stream<u8>>> }')));
  assert.ok(hasHandles(parseType('result<_, own<r>>')));
  assert.ok(!hasHandles(parseType('tuple<u8, string>')));
});
