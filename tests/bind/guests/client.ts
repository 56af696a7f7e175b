// Calls all kinds of a provider elsewhere, typed by what `loop bind --lang typescript` made.

import assert from 'node:assert/strict';
import { connect, ResultError } from '@loop-kit/provider';
import type { Color, CounterClient, Imports, Point, Shape } from './bindings.js';

const [address, wit] = process.argv.slice(2) as [string, string];
const client = await connect(address, { wit, imports: ['acme:all/kinds@0.1.0', 'acme:all/flow@0.1.0'] });
const { 'acme:all/kinds@0.1.0': kinds, 'acme:all/flow@0.1.0': flow } = client.imports as unknown as Imports;

const POINT: Point = { x: -1, class: 'a', import: 1n << 40n, ids: [1, 2], bytes: Uint8Array.of(7) };

const point: Point = await kinds.echoPoint(POINT, { deadline: 10_000 });
assert.deepEqual({ ...point, bytes: [...point.bytes] }, { ...POINT, bytes: [7] });
assert.equal((await kinds.echoPoint({ ...POINT, class: undefined })).class, undefined);
const shapes: Shape[] = [
  { tag: 'none' },
  { tag: 'circle', val: 1.5 },
  { tag: 'nested', val: { tag: 'some', val: undefined } },
  { tag: 'outcome', val: { tag: 'err', val: 'red' } },
];
for (const shape of shapes) assert.equal((await kinds.echoShape(shape)).tag, shape.tag);
assert.deepEqual(await kinds.echoRights({ lambda: true }), { read: false, write: false, lambda: true });
const floats: Float64Array = await kinds.echoFloats([0.5, 0.25]);
assert.deepEqual([...floats], [0.5, 0.25]);
const wide: bigint[] = await kinds.echoWide([-1n]);
assert.deepEqual(wide, [-1n]);
const results = await kinds.echoResults([{ tag: 'ok', val: 1 }, { tag: 'err', val: 'no' }]);
assert.deepEqual(results.map((each): number | string => each.val), [1, 'no']);
await assert.rejects(kinds.type('t', true), (error: unknown) => {
  assert.ok(error instanceof ResultError);
  assert.deepEqual(error.payload, { tag: 'circle', val: 2 } satisfies Shape);
  return true;
});

const counter: CounterClient = await kinds.Counter.construct(1);
assert.equal(await counter.add(2), 3);
assert.deepEqual(await counter.list(), ['3']);
const color: Color = 'dark-green';
await assert.rejects(counter.await(''), { payload: color });
const merged = await kinds.Counter.merge(await kinds.Counter.construct(0), counter);
assert.equal(await kinds.look(merged), 3);
const held = await flow.hold({ name: 'held', counter: merged });
assert.equal(held.name, 'HELD');
counter[Symbol.dispose]();

const parts: Uint8Array[] = [];
for await (const part of await flow.pump([Uint8Array.of(1), Uint8Array.of(2)])) parts.push(part);
assert.deepEqual([...Buffer.concat(parts)], [1, 2]);
const counted: number[] = [];
for await (const each of await flow.count(3)) counted.push(each);
assert.deepEqual(counted, [0, 1, 2]);
const later: string = await (await flow.later(Promise.resolve('now')));
assert.equal(later, 'now!');
assert.equal(await flow.both([[1, 2], 4]), 7);
assert.deepEqual(await flow.echoFixed([1, 2, 3]), [1, 2, 3]);
assert.equal(await flow.why(new Error('because')), 'because');

await client.close();
console.log('all kinds agree');
