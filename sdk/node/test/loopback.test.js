import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sessionClient } from '../dist/connect.js';
import { connect, Failure, ResultError, serve } from '../dist/index.js';
import { Wire } from '../dist/wire.js';
import { ALL, collect, Counter, folder, makeAll, until, wit } from './support.js';

/** Certificates of a fresh authority: for the listener and for a client. */
function certificates(path) {
  const openssl = (...args) => execFileSync('openssl', args, { cwd: path, stdio: ['ignore', 'ignore', 'ignore'] });
  const key = (name) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${name}.key`];
  openssl('req', '-x509', ...key('ca'), '-out', 'ca.pem', '-subj', '/CN=test', '-days', '2');
  for (const name of ['server', 'client']) {
    openssl('req', ...key(name), '-out', `${name}.csr`, '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost');
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', `${name}.pem`,
      '-days', '2', '-copy_extensions', 'copy');
  }
  const read = (name) => readFileSync(join(path, name));
  const of = (name) => ({ key: read(`${name}.key`), cert: read(`${name}.pem`), ca: read('ca.pem') });
  return { server: of('server'), client: of('client'), ca: read('ca.pem') };
}

const wants = [wit.interface(ALL)];

async function overStdio() {
  const child = spawn(process.execPath, [fileURLToPath(new URL('serve-all.js', import.meta.url))], { stdio: ['pipe', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const client = await sessionClient(new Wire(child.stdout, child.stdin, 'child'), { imports: [ALL] }, wit, wants);
  const close = async () => {
    const exit = once(child, 'exit');
    await client.close();
    const [code] = await exit;
    assert.equal(code, 0);
    assert.match(stderr, /this must not disturb the frames\nnor this/);
  };
  return { client, close };
}

async function overListener(on, tls, clientTls) {
  const server = await serve({ wit, provides: { [ALL]: makeAll() }, on, ...(tls ? { tls } : {}) });
  const client = await connect(server.address, { wit, imports: [ALL], ...(clientTls ? { tls: clientTls } : {}) });
  const close = async () => {
    await client.close();
    await server.close();
  };
  return { client, close };
}

const peers = {
  stdio: () => overStdio(),
  unix: (t) => overListener(`unix:${join(folder(t), 'socket')}`),
  tcp: () => overListener('tcp://127.0.0.1:0'),
  tls: (t) => {
    const { server, client } = certificates(folder(t));
    return overListener('tcp://localhost:0', server, client);
  },
};

const samples = {
  bools: [true, false],
  u8s: [0, 255],
  u16s: [0, 65535],
  u32s: [0, 2 ** 32 - 1],
  u64s: [0n, 2n ** 64n - 1n],
  s8s: [-128, 127],
  s16s: [-32768, 32767],
  s32s: [-(2 ** 31), 2 ** 31 - 1],
  s64s: [-(2n ** 63n), 2n ** 63n - 1n],
  f32s: [1.5, -0, NaN, Infinity],
  f64s: [Math.PI, NaN, 5e-324],
  chars: ['a', 'é', '€', '😀', '\u0000'],
  strings: ['', 'plain', 'grüße 👋', 'x'.repeat(100_000), '\ufffd', '\ufeffbom'],
  bytes: [new Uint8Array(0), Uint8Array.of(1, 2, 3), new Uint8Array(300_000).fill(7)],
  numbers: [[], [1, 128, 2 ** 32 - 1]],
  doubles: [Float64Array.of(1.5, NaN, -0)],
  fixed: [[1, 2, 65535]],
  points: [[{ x: -1, yAxis: undefined }, { x: 1, yAxis: 2.5 }]],
  tuples: [[1, 'two', [true]]],
  shaped: [{ tag: 'dot' }, { tag: 'circle', val: 0.5 }, { tag: 'poly', val: [{ x: 0, yAxis: 1 }] }],
  colors: ['red', 'dark-green'],
  right: [{ canRead: true, canWrite: false }],
  options: [undefined, 0, 7],
  nested: [{ tag: 'none' }, { tag: 'some', val: undefined }, { tag: 'some', val: 'x' }],
  results: [[{ tag: 'ok', val: 1 }, { tag: 'err', val: 'no' }]],
};

for (const [kind, open] of Object.entries(peers)) {
  describe(kind, () => {
    let all;
    let client;
    let close;
    before(async (t) => {
      ({ client, close } = await open({ after }));
      all = client.imports[ALL];
    });
    after(() => close());

    test('every type survives the round', async () => {
      for (const [name, values] of Object.entries(samples)) {
        for (const value of values) assert.deepEqual(await all[name](value), value, name);
      }
      assert.equal((await all.errors(new Error('why'))).message, 'why');
      assert.equal(await all.nothing(), undefined);
      assert.equal(await all.two(1, 'b'), 'b1');
    });

    test('errors of the type are thrown with their payload', async () => {
      assert.equal(await all.checked(9), 9);
      await assert.rejects(all.checked(10), (error) => error instanceof ResultError && error.payload.tag === 'circle');
      await assert.rejects(all.unitError(), (error) => error instanceof ResultError && error.payload === undefined);
    });

    test('failures say what and where', async () => {
      await assert.rejects(all.fails('oh no'), (error) => {
        assert.ok(error instanceof Failure);
        assert.deepEqual([error.code, error.message, error.fields], ['provider', 'oh no', { type: 'RangeError', interface: ALL, function: 'fails' }]);
        return true;
      });
      await assert.rejects(all.wrong(), { code: 'bad-value', fields: { path: 'result', expected: 'u32', got: '"not a number"' } });
      await assert.rejects(all.u8s(256), { name: 'WireError', path: 'v' });
      assert.equal(await all.u8s(1), 1);
    });

    test('64 MiB there and back', async () => {
      const size = 64 * 1024 * 1024;
      const big = new Uint8Array(size).fill(5);
      big[size - 1] = 9;
      const back = await all.bytes(big);
      assert.equal(Buffer.compare(back, big), 0);
    });

    test('1,000 calls in flight are answered each by its own', async () => {
      const calls = Array.from({ length: 1000 }, (_, i) => (i % 2 ? all.u32s(i) : all.two(i, 'n')));
      const answers = await Promise.all(calls);
      answers.forEach((answer, i) => assert.equal(answer, i % 2 ? i : `n${i}`));
    });

    test('streams and futures, both ways', async () => {
      assert.deepEqual(await collect(await all.numbered(1000)), Array.from({ length: 1000 }, (_, i) => i));
      assert.deepEqual(await collect(await all.doubled([1, 2, 3])), [2, 4, 6]);
      const chunks = await collect(await all.pipe([new Uint8Array(3_000_000).fill(1), Uint8Array.of(2)]));
      assert.ok(chunks.every((chunk) => chunk instanceof Uint8Array));
      assert.equal(chunks.reduce((sum, chunk) => sum + chunk.length, 0), 3_000_001);
      assert.equal(await all.texts(['a', 'bc', 'x'.repeat(3_000_000)]), 3_000_003);
      assert.equal(await all.ticks([undefined, undefined, undefined]), 3);
      assert.equal(await all.later(Promise.resolve('hello')), 'hello!');
      assert.equal(await all.later('ready'), 'ready!');
      assert.deepEqual(await all.deep([Promise.resolve('a'), 'b', Promise.resolve('c')]), ['a', 'b', 'c']);
      const lists = [];
      for await (const inner of await all.streams(4)) lists.push(await collect(inner));
      assert.deepEqual(lists, [[], [1], [2, 2], [3, 3, 3]]);
      const { sum, items } = await all.both([[1, 2, 3], Promise.resolve(10)]);
      assert.deepEqual(await collect(items), [2, 3, 4]);
      assert.equal(await sum, 16);
    });

    test('any number of streams and futures follow one another in a stream', async () => {
      const words = Array.from({ length: 3000 }, (_, i) => `${i}`);
      const later = (async function* () {
        for (const word of words) yield new Promise((resolve) => setImmediate(resolve, word));
      })();
      assert.deepEqual(await all.deep(later), words);
      let count = 0;
      for await (const inner of await all.streams(1000)) {
        // Of some only the beginning is read, of some nothing.
        if (count % 3 === 0) assert.deepEqual(await collect(inner), Array.from({ length: count }, () => count));
        else if (count % 3 === 1) assert.equal((await inner.next()).value, count);
        if (count % 3 > 0) await inner.return();
        count++;
      }
      assert.equal(count, 1000);
    });

    test('a source that fails ends its stream with the failure', async () => {
      const seen = [];
      await assert.rejects(async () => {
        for await (const chunk of await all.broken()) seen.push(...chunk);
      }, { code: 'provider', message: 'the disk is full' });
      assert.deepEqual(seen, [1]);
      await assert.rejects(async () => await (await all.lost()), { code: 'provider', message: 'never' });
    });

    test('a reader that leaves stops the writer', async () => {
      let stopped;
      const over = new Promise((resolve) => (stopped = resolve));
      const endless = (async function* () {
        try {
          for (let i = 0; ; i++) yield i;
        } finally {
          stopped();
        }
      })();
      for await (const n of await all.doubled(endless)) if (n > 10) break;
      await over;
      assert.equal(await all.u8s(1), 1);
    });

    test('resources: made, used, lent, given and dropped', async () => {
      const { Counter: Remote } = all;
      const a = await Remote.construct(5);
      assert.equal(await a.add(2), 7);
      assert.equal(await Remote.valueOf(a), 7);
      const b = await Remote.construct(100);
      await a.merge(b);
      assert.equal(await a.add(0), 107);
      await assert.rejects(b.add(1), { code: 'bad-handle' });
      assert.equal((await Remote.many(3)).length, 3);
      a[Symbol.dispose]();
      await assert.rejects(a.add(1), { code: 'bad-handle' });
      await assert.rejects(Remote.construct(13), { code: 'provider', message: 'no luck' });
    });

    test('cancel and deadline', async () => {
      const controller = new AbortController();
      const waiting = all.wait({ signal: controller.signal });
      controller.abort();
      await assert.rejects(waiting, { code: 'cancelled' });
      await assert.rejects(all.wait({ deadline: 1 }), { code: 'deadline-exceeded', fields: { seconds: '0.001' } });
      await assert.rejects(all.wait({ signal: AbortSignal.abort() }), { code: 'cancelled' });
      assert.equal(await all.u8s(3), 3);
    });

    test('what is said with a call arrives', async () => {
      const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
      const said = await all.context({ deadline: 60_000, traceparent, identity: 'shop/cart', idempotencyKey: Uint8Array.of(1, 2) });
      assert.deepEqual(JSON.parse(said), {
        deadline: 'number', traceparent, identity: 'shop/cart', key: [1, 2], link: { number: 0, name: 'link 0' },
      });
    });
  });
}

test('a socket is its owner’s alone and is removed on close', async (t) => {
  const path = join(folder(t), 'socket');
  const server = await serve({ wit, provides: { [ALL]: makeAll() }, on: `unix:${path}` });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await assert.rejects(serve({ wit, provides: { [ALL]: makeAll() }, on: `unix:${path}` }), /in use/);
  await server.close();
  assert.equal(statSync(path, { throwIfNoEntry: false }), undefined);
});

test('nothing leaves the machine unprotected', async () => {
  const options = { wit, provides: { [ALL]: makeAll() } };
  await assert.rejects(serve({ ...options, on: 'tcp://0.0.0.0:0' }), /reached from other machines; give `tls`/);
  await assert.rejects(serve({ ...options, on: 'tcp://0.0.0.0:0', token: 'x' }), /give `tls` with key/);
  await assert.rejects(serve({ ...options, on: 'tcp://0.0.0.0:0', tls: {} }), /give `tls` a ca.*token/);
  await assert.rejects(connect('tcp://192.0.2.1:1', { wit, imports: [ALL] }), /leaves this machine/);
  await assert.rejects(serve({ ...options, on: 'http://x' }), /no address; write stdio:/);
});

test('TLS with a client certificate refuses whoever has none', async (t) => {
  const { server: tls, ca } = certificates(folder(t));
  const server = await serve({ wit, provides: { [ALL]: makeAll() }, on: 'tcp://localhost:0', tls });
  t.after(() => server.close());
  await assert.rejects(connect(server.address, { wit, imports: [ALL], tls: { ca } }));
});

test('dropped proxies let their resources go, and so does the end', async (t) => {
  const { client, close } = await peers.unix(t);
  const { Counter: Remote } = client.imports[ALL];
  const before = Counter.live;
  const made = await Remote.construct(1);
  await Remote.construct(2);
  assert.equal(Counter.live, before + 2);
  made[Symbol.dispose]();
  await until(() => Counter.live === before + 1);
  await close();
  assert.equal(Counter.live, before);
  await assert.rejects(made.add(1), Failure);
});
