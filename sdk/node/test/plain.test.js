import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect as netConnect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { Reader } from '../dist/bytes.js';
import { systemClock } from '../dist/clock.js';
import { Exports } from '../dist/exports.js';
import { DEFAULT_LIMITS } from '../dist/hello.js';
import { makeImports } from '../dist/imports.js';
import { connect, serve } from '../dist/index.js';
import { Link } from '../dist/links.js';
import { bindProxy, Proxy } from '../dist/handles.js';
import { PlainHandles } from '../dist/plain.js';
import { PlainCaller } from '../dist/plain-client.js';
import { PlainCall } from '../dist/plain-server.js';
import { connectWire, parseAddress } from '../dist/transports.js';
import { Wire } from '../dist/wire.js';
import { parseFunc } from '../dist/wit.js';
import { fromJson } from './json-values.js';
import { ALL, collect, folder, makeAll, until, wit } from './support.js';

const file = new URL('../../../tests/data/wrpc-vectors.json', import.meta.url);
const { traces, bad_traces } = JSON.parse(readFileSync(file, 'utf8'));

class Bucket {
  get(key) {
    return key === 'k' ? new TextEncoder().encode('value') : undefined;
  }
}

const implementations = {
  unit: { delete() {} },
  add: { add: (a, b) => a + b },
  get: { Bucket },
  streams: { echo: ({ numbers, bytes }) => [numbers, bytes] },
  future: { greet: (f) => f.then((text) => `${text}, world`) },
  streamfut: { echo: async (s) => Promise.all(await collect(s)) },
};

/** The one interface of a trace, from the function it names: a method, where that takes its resource first. */
function interfaceOf(trace) {
  const func = parseFunc(trace.function, trace.signature);
  const [owner, js] = trace.function.split('.');
  if (js === undefined) return { name: trace.instance, functions: [func], resources: [], types: new Map() };
  const { resource } = func.params[0].type;
  assert.equal(owner, resource.name);
  const named = Object.assign(resource, { interface: trace.instance });
  const method = { ...func, name: `[method]${trace.function}`, kind: 'method', js, resource: named };
  return { name: trace.instance, functions: [method], resources: [named], types: new Map() };
}

/** The data of each path, joined; that of a stream as its items, since chunks may be cut otherwise. */
function paths(bytes, header) {
  const reader = new Reader(bytes, header);
  const found = {};
  while (reader.left > 0) {
    const path = Array.from({ length: reader.uleb() }, () => reader.uleb()).join('.');
    found[path] = Buffer.concat([found[path] ?? Buffer.alloc(0), reader.bytes()]);
  }
  return found;
}

/** Chunks whose items are of one byte, and the end. */
function items(data) {
  const reader = new Reader(data);
  const all = [];
  for (let n = reader.uleb(); n > 0; n = reader.uleb()) all.push(...reader.raw(n));
  reader.finish();
  return all;
}

const streams = { streams: ['0.0', '0.1'], streamfut: ['0'] };

function assertSame(trace, actual, expected) {
  for (const path of new Set([...Object.keys(actual), ...Object.keys(expected)])) {
    const [a, b] = [actual[path] ?? Buffer.alloc(0), expected[path] ?? Buffer.alloc(0)];
    if (streams[trace.name]?.includes(path)) assert.deepEqual(items(a), items(b), `path ${path}`);
    else assert.equal(a.toString('hex'), b.toString('hex'), `path ${path}`);
  }
}

async function listening(t, onSocket) {
  const path = join(folder(t), 'socket');
  const server = createServer({ allowHalfOpen: true }, onSocket);
  server.listen(path);
  await once(server, 'listening');
  t.after(() => server.close());
  return path;
}

async function exchange(path, bytes, { cut = false } = {}) {
  const socket = netConnect({ path, allowHalfOpen: true });
  socket.on('error', () => undefined);
  if (cut) {
    for (const byte of bytes) {
      socket.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    socket.end();
  } else {
    socket.end(bytes);
  }
  const chunks = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  await once(socket, 'close');
  return Buffer.concat(chunks);
}

for (const trace of traces) {
  for (const cut of [false, true]) {
    test(`trace ${trace.name} is served${cut ? ', come byte by byte' : ''}`, async (t) => {
      const face = interfaceOf(trace);
      const exports = new Exports({ interface: () => face }, { [trace.instance]: implementations[trace.name] });
      const handles = new PlainHandles();
      if (face.resources[0]) handles.add(face.resources[0], new Bucket(), Buffer.from('deadbeef', 'hex'));
      const serving = { exports, objects: [implementations[trace.name]], limits: DEFAULT_LIMITS, clock: systemClock, handles, giveHandles: false };
      const path = await listening(t, (socket) => new PlainCall(new Wire(socket, socket, 'test'), serving));
      const answer = await exchange(path, Buffer.from(trace.client_bytes, 'hex'), { cut });
      assertSame(trace, paths(answer, 0), paths(Buffer.from(trace.server_bytes, 'hex'), 0));
    });
  }

  test(`trace ${trace.name} is called`, async (t) => {
    const face = interfaceOf(trace);
    const [func] = face.functions;
    let sent = Buffer.alloc(0);
    const path = await listening(t, (socket) => {
      socket.on('data', (chunk) => (sent = Buffer.concat([sent, chunk])));
      socket.on('end', () => socket.end(Buffer.from(trace.server_bytes, 'hex')));
    });
    const link = new Link({ ended: false, drop: () => undefined }, { number: 0 }, []);
    const caller = new PlainCaller(() => connectWire(parseAddress(`unix:${path}`)), [face]);
    const args = trace.params.map((param, index) => fromJson(func.params[index].type, param));
    const imports = makeImports(caller, link, [face])[trace.instance];
    let call;
    if (func.kind === 'method') {
      const proxy = new imports.Bucket();
      assert.ok(proxy instanceof Proxy);
      bindProxy(proxy, link, face.resources[0], args[0], false);
      call = proxy.get(...args.slice(1));
    } else {
      // The trace has its futures pending, as records of the upstream client are.
      if (trace.name === 'streamfut') args[0] = ['a', 'b', 'c'].map((text) => Promise.resolve(text));
      call = imports[func.js](...args);
    }
    const value = await call;
    const expected = trace.results.length === 0 ? undefined : trace.results[0];
    if (trace.name === 'streams') {
      assert.deepEqual(await collect(value[0]), [1n, 2n, 3n, 4n, 5n]);
      assert.deepEqual(await collect(value[1]), [Uint8Array.of(10, 20, 30, 40)]);
    } else if (trace.name === 'future') {
      assert.equal(await value, 'hello, world');
    } else if (trace.name === 'get') {
      assert.deepEqual([...value], expected.ok.some);
    } else {
      assert.equal(value, expected);
    }
    const header = trace.client_header.length / 2;
    assert.equal(sent.subarray(0, header).toString('hex'), trace.client_header);
    assertSame(trace, paths(sent, header), paths(Buffer.from(trace.client_bytes, 'hex'), header));
  });
}

async function all(t, more = {}) {
  const server = await serve({ wit, provides: { [ALL]: makeAll(more.seen) }, on: `unix:${join(folder(t), 's')}`, ...more });
  t.after(() => server.close());
  const client = await connect(server.address, { wit, imports: [ALL], mode: 'plain' });
  return { server, all: client.imports[ALL], path: server.address.slice('unix:'.length) };
}

for (const { name, client_bytes } of bad_traces) {
  test(`bad trace ${name} is closed without a result, and the server lives on`, async (t) => {
    const { path, all: functions } = await all(t);
    const answer = await exchange(path, Buffer.from(client_bytes, 'hex'));
    assert.equal(answer.length, 0);
    assert.equal(await functions.u8s(7), 7);
  });
}

test('plain calls and sessions share an address', async (t) => {
  const { server, all: plain } = await all(t);
  const session = await connect(server.address, { wit, imports: [ALL] });
  assert.equal(await plain.two(1, 'a'), 'a1');
  assert.equal(await session.imports[ALL].two(2, 'b'), 'b2');
  await session.close();
});

test('streams, futures and errors in plain mode', async (t) => {
  const { all: plain } = await all(t);
  assert.deepEqual(await collect(await plain.doubled([1, 2, 3])), [2, 4, 6]);
  const big = await collect(await plain.pipe([new Uint8Array(5_000_000).fill(3)]));
  assert.equal(big.reduce((sum, chunk) => sum + chunk.length, 0), 5_000_000);
  assert.equal(await plain.later(Promise.resolve('a')).then((future) => future), 'a!');
  await assert.rejects(plain.checked(10), { name: 'ResultError' });
  await assert.rejects(plain.fails('x'), { code: 'provider-gone' });
  await assert.rejects(async () => collect(await plain.broken()), { code: 'provider-gone' });
  const text = 'x'.repeat(3_000_000);
  assert.equal(await plain.strings(text), text);
});

test('a plain call is given up by its caller; its server notices when it writes', async (t) => {
  let signal;
  const { all: plain } = await all(t, { grace: 0, seen: { waiting: (one) => (signal = one) } });
  const controller = new AbortController();
  const waiting = assert.rejects(plain.wait({ signal: controller.signal }), { code: 'cancelled' });
  await until(() => signal !== undefined);
  controller.abort();
  await waiting;
  await assert.rejects(plain.wait({ deadline: 1 }), { code: 'deadline-exceeded' });
});

test('resources over plain calls only where they are allowed', async (t) => {
  const without = await all(t);
  await assert.rejects(without.all.Counter.construct(1), { code: 'provider-gone' });
  const allowed = await all(t, { plainHandles: true });
  const counter = await allowed.all.Counter.construct(1);
  assert.equal(await counter.add(2), 3);
});

test('the names of resources are taken with the kind that WIT puts before them, and without', async (t) => {
  const { path } = await all(t, { plainHandles: true });
  const call = async (name, params) => {
    const head = Buffer.concat([Buffer.of(0, ALL.length), Buffer.from(ALL), Buffer.of(name.length), Buffer.from(name)]);
    const answer = await exchange(path, Buffer.concat([head, Buffer.of(0, params.length), params]));
    return new Reader(answer, 2).raw(answer.length - 2);
  };
  for (const [constructor, method, ofClass] of [
    ['counter', 'counter.add', 'counter.value-of'],
    ['[constructor]counter', '[method]counter.add', '[static]counter.value-of'],
  ]) {
    const handle = await call(constructor, Buffer.of(7));
    assert.equal(handle[0], handle.length - 1);
    assert.deepEqual([...(await call(method, Buffer.concat([handle, Buffer.of(2)])))], [9]);
    assert.deepEqual([...(await call(ofClass, handle))], [9]);
  }
});

test('a provider that serves by grant refuses plain calls', async (t) => {
  const server = await serve({ wit, provides: { [ALL]: () => makeAll() }, on: `unix:${join(folder(t), 's')}` });
  t.after(() => server.close());
  const client = await connect(server.address, { wit, imports: [ALL], mode: 'plain' });
  await assert.rejects(client.imports[ALL].nothing(), { code: 'provider-gone' });
});

test('hostile plain peers', async (t) => {
  const { path, all: functions } = await all(t);
  const head = Buffer.concat([Buffer.of(0, ALL.length), Buffer.from(ALL), Buffer.of(5), Buffer.from('texts')]);
  const bad = {
    'a path that is too long': Buffer.of(40, ...new Array(40).fill(0), 0),
    'more than the root': Buffer.of(0, 2, 0, 0),
    'a second root': Buffer.of(0, 1, 0, 0, 1, 0),
    'data where nothing is open': Buffer.of(0, 1, 0, 1, 5, 1, 0),
    'too many paths': Buffer.concat(Array.from({ length: 1100 }, (_, i) => Buffer.of(2, 0x80 | (i & 0x7f), i >> 7, 0, 0))),
    'a chunk that is no UTF-8': Buffer.of(0, 1, 0, 1, 0, 4, 1, 2, 0xff, 0xff),
    'a stream that does not end': Buffer.of(0, 1, 0, 1, 0, 3, 1, 1, 97),
  };
  for (const [name, bytes] of Object.entries(bad)) {
    assert.equal((await exchange(path, Buffer.concat([head, bytes]))).length, 0, name);
  }
  assert.equal(await functions.texts(['still', 'there']), 10);
});
