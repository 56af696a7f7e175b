import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sessionClient } from '../dist/connect.js';
import { connect, Failure, parseWit, serve } from '../dist/index.js';
import { Kind } from '../dist/frames.js';
import { readOutcome, writeLink } from '../dist/messages.js';
import { Reader } from '../dist/bytes.js';
import { Wire } from '../dist/wire.js';
import { ALL, call, collect, Counter, folder, makeAll, ManualClock, RawPeer, turn, until, wit } from './support.js';

async function pair(t, more = {}, seen = {}, connecting = {}) {
  const path = join(folder(t), 'socket');
  const server = await serve({ wit, provides: { [ALL]: makeAll(seen) }, on: `unix:${path}`, ...more });
  const client = await connect(server.address, { wit, imports: [ALL], ...connecting });
  t.after(async () => {
    await client.close(0);
    await server.close();
  });
  return { path, server, client, all: client.imports[ALL] };
}

test('a slow reader holds the writer within the window', async (t) => {
  const window = 64 * 1024;
  let release;
  const seen = { hold: (resolve) => (release = resolve) };
  const { all } = await pair(t, { limits: { window } }, seen);
  let given = 0;
  const source = (async function* () {
    for (let i = 0; i < 100; i++) {
      given += 10_000;
      yield new Uint8Array(10_000);
    }
  })();
  const total = all.hold(source);
  await until(() => release !== undefined && given > 40_000);
  for (let i = 0; i < 200; i++) await turn();
  assert.ok(given <= window + 30_000, `${given} bytes were drawn while nobody read`);
  release();
  assert.equal(await total, 1_000_000);
});

test('a slow reader of a result holds its provider, items and bytes', async (t) => {
  let made = 0;
  const more = {
    numbered: async function* () {
      for (let i = 0; i < 200_000; i++) {
        made++;
        yield i;
      }
    },
    broken: async function* () {
      for (let i = 0; i < 200; i++) {
        made += 10_000;
        yield new Uint8Array(10_000);
      }
    },
  };
  const { all } = await pair(t, {}, { more }, { limits: { window: 50_000 } });
  const numbers = await all.numbered(0);
  for (let i = 0; i < 200; i++) await turn();
  assert.ok(made < 70_000, `${made} items were drawn while nobody read`);
  assert.equal((await collect(numbers)).length, 200_000);
  made = 0;
  const bytes = await all.broken();
  for (let i = 0; i < 200; i++) await turn();
  assert.ok(made <= 80_000, `${made} bytes were drawn while nobody read`);
  assert.equal((await collect(bytes)).reduce((sum, chunk) => sum + chunk.length, 0), 2_000_000);
});

test('tiny windows only make it slow', async (t) => {
  const limits = { window: 64, connection: 300 };
  const { all } = await pair(t, { limits }, {}, { limits });
  const data = Uint8Array.from({ length: 5000 }, (_, i) => i);
  const back = await collect(await all.pipe([data]));
  assert.deepEqual(Buffer.concat(back), Buffer.from(data));
  assert.deepEqual(await collect(await all.doubled([1, 2, 3])), [2, 4, 6]);
  assert.equal(await all.texts(['x'.repeat(1000), 'y']), 1001);
  assert.equal(await all.strings('z'.repeat(2000)), 'z'.repeat(2000));
  const many = await Promise.all(Array.from({ length: 50 }, (_, i) => all.strings(`${i} ${'-'.repeat(i * 7)}`)));
  assert.ok(many.every((text, i) => text.startsWith(`${i} `)));
});

test('callers wait where the peer takes no more calls', async (t) => {
  const waiting = [];
  const { all } = await pair(t, { limits: { calls: 2 } }, { waiting: (signal) => waiting.push(signal) });
  const controllers = Array.from({ length: 4 }, () => new AbortController());
  const calls = controllers.map(({ signal }) => assert.rejects(all.wait({ signal }), { code: 'cancelled' }));
  await until(() => waiting.length === 2);
  for (let i = 0; i < 20; i++) await turn();
  assert.equal(waiting.length, 2);
  for (const controller of controllers) controller.abort();
  await Promise.all(calls);
  assert.equal(await all.u8s(1), 1);
});

test('a cancel reaches the provider as its signal', async (t) => {
  let reason;
  const seen = { aborted: (why) => (reason = why) };
  const { all } = await pair(t, {}, seen);
  const controller = new AbortController();
  const waiting = assert.rejects(all.wait({ signal: controller.signal }), { code: 'cancelled' });
  await until(() => true);
  setImmediate(() => controller.abort());
  await waiting;
  await until(() => reason !== undefined);
  assert.equal(reason.code, 'cancelled');
});

test('both ends keep the deadline, each by its own clock', async (t) => {
  const clock = new ManualClock();
  let signal;
  const { all } = await pair(t, { clock }, { waiting: (one) => (signal = one) });
  const waiting = assert.rejects(all.wait({ deadline: 3_600_000 }), { code: 'deadline-exceeded' });
  await until(() => signal !== undefined);
  assert.equal(signal.aborted, false);
  clock.pass(3_600_001);
  assert.equal(signal.reason.code, 'deadline-exceeded');
  await waiting;
});

test('peer death in the middle of calls', async (t) => {
  const child = spawn(process.execPath, [fileURLToPath(new URL('serve-all.js', import.meta.url))], { stdio: ['pipe', 'pipe', 'ignore'] });
  const client = await sessionClient(new Wire(child.stdout, child.stdin, 'child'), { imports: [ALL] }, wit, [wit.interface(ALL)]);
  const all = client.imports[ALL];
  const counter = await all.Counter.construct(1);
  const stream = await all.pipe((async function* () {
    yield Uint8Array.of(1);
    await new Promise(() => undefined);
  })());
  await stream.next();
  const calls = [all.wait(), all.wait(), stream.next()];
  await all.nothing();
  child.kill('SIGKILL');
  for (const outcome of await Promise.allSettled(calls)) {
    assert.equal(outcome.reason?.code, 'provider-gone');
    assert.equal(outcome.reason.retryable, false);
  }
  await assert.rejects(all.nothing(), { code: 'provider-gone', retryable: true });
  await assert.rejects(counter.add(1), { code: 'provider-gone' });
  await client.closed;
});

test('a caller that dies aborts its calls and drops its handles', async (t) => {
  let signal;
  const { path } = await pair(t, {}, { waiting: (one) => (signal = one) });
  const client = await connect(`unix:${path}`, { wit, imports: [ALL] });
  const before = Counter.live;
  await client.imports[ALL].Counter.construct(1);
  const waiting = assert.rejects(client.imports[ALL].wait(), { code: 'provider-gone' });
  await until(() => signal !== undefined);
  client.session.destroy();
  await waiting;
  await until(() => signal.aborted && Counter.live === before);
  assert.equal(signal.reason.code, 'provider-gone');
});

test('closing lets what was begun end, and takes nothing new', async (t) => {
  let finish;
  const more = { two: () => new Promise((resolve) => (finish = resolve)) };
  const { server, all } = await pair(t, {}, { more });
  const answer = all.two(1, 'a');
  await until(() => finish !== undefined);
  const closing = server.close();
  await until(async () => {
    const late = await all.nothing().catch((error) => error);
    return late?.code === 'provider-gone' && late.retryable;
  });
  finish('done');
  assert.equal(await answer, 'done');
  await closing;
});

const KV = 'acme:kv/store@0.1.2';
const kv = parseWit(`
  package acme:kv@0.1.2;
  interface store {
    resource bucket { constructor(); name: func() -> string; }
    get: func(key: string) -> option<string>;
    take: func(b: bucket);
    show: func(b: borrow<bucket>) -> string;
    fail: func();
  }
  interface host { ask: func(q: string) -> string; resource note { constructor(text: string); text: func() -> string; } give: func() -> note; }
  interface calling { use host.{note}; relay: async func(q: string) -> string; read: async func(n: borrow<note>) -> string; keep: async func(n: note) -> string; }
`);

const makeStore = (link) => {
  if (link.grant?.bad) throw new Failure('not-granted', 'a grant without a prefix', { fields: { link: link.name } });
  const made = link.config?.slow ? new Promise((resolve) => setImmediate(resolve)) : undefined;
  const store = {
    Bucket: class {
      name() {
        return link.name;
      }
    },
    get: (key) => (key.startsWith(link.grant.prefix) ? `${link.number}:${key}` : undefined),
    take: () => undefined,
    show: (bucket) => bucket.name(),
    fail: () => undefined,
  };
  return made ? made.then(() => store) : store;
};

async function linked(t, link = { name: 'a/kv', grant: { prefix: 'a' } }) {
  const server = await serve({ wit: kv, provides: { [KV]: makeStore }, on: `unix:${join(folder(t), 's')}` });
  const client = await connect(server.address, { wit: kv, imports: [KV], ...(link ? { link } : {}) });
  t.after(async () => {
    await client.close(0);
    await server.close();
  });
  return { server, client, store: client.imports[KV] };
}

test('a factory serves each link by its grant, and nothing without one', async (t) => {
  const { client, store } = await linked(t);
  assert.equal(await store.get('abc'), '1:abc');
  assert.equal(await store.get('xyz'), undefined);
  const other = await client.link({ name: 'x/kv', grant: { prefix: 'x' }, config: { slow: true } });
  assert.equal(await other.imports[KV].get('xyz'), '2:xyz');
  await assert.rejects(client.link({ grant: { bad: true } }), { code: 'not-granted', message: /without a prefix/ });
  const none = await linked(t, null);
  await assert.rejects(none.store.get('a'), { code: 'not-granted', fields: { link: '0' } });
});

test('handles are good for their own link alone', async (t) => {
  const { client, store } = await linked(t);
  const other = (await client.link({ name: 'b/kv', grant: { prefix: 'b' } })).imports[KV];
  const mine = await store.Bucket.construct();
  await assert.rejects(other.show(mine), { code: 'bad-handle' });
  assert.equal(await store.show(mine), 'a/kv');
  await store.take(mine);
  await assert.rejects(store.show(mine), { code: 'bad-handle' });
  await assert.rejects(store.show({}), { name: 'WireError', message: /a bucket that came from the other side/ });
});

test('the wire keeps links apart as well', async (t) => {
  const { server } = await linked(t);
  const peer = await RawPeer.connect(server.address.slice('unix:'.length));
  await peer.hello();
  const link = (number, grant = '{"prefix":"a"}') => peer.send(Kind.LINK, 0, (w) => writeLink(w, { number, name: `l${number}`, grant, config: '' }));
  const linkedAs = async () => {
    const { kind, payload } = await peer.next();
    assert.equal(kind, Kind.LINKED);
    const reader = new Reader(payload);
    return [reader.uleb(), readOutcome(reader)?.code];
  };
  link(1);
  link(2);
  link(3, '{not json');
  assert.deepEqual([await linkedAs(), await linkedAs(), await linkedAs()], [[1, undefined], [2, undefined], [3, 'bad-value']]);
  const names = kv.interface(KV).functions.map((func) => func.name);
  const send = (stream, name, number, params = () => undefined) => peer.send(Kind.CALL, stream, (w) => {
    w.uleb(names.indexOf(name));
    w.uleb(number);
    w.byte(0);
    params(w);
  });
  send(1, '[constructor]bucket', 1);
  const made = await peer.next();
  const handle = made.payload.subarray(1);
  send(3, '[method]bucket.name', 2, (w) => w.raw(handle));
  assert.equal((await peer.failure()).code, 'bad-handle');
  peer.send(Kind.DROP, 0, (w) => { w.uleb(2); w.uleb(0); w.raw(handle); });
  send(5, '[method]bucket.name', 1, (w) => w.raw(handle));
  assert.equal((await peer.next()).kind, Kind.RESULT);
  peer.send(Kind.UNLINK, 0, (w) => w.uleb(1));
  send(7, '[method]bucket.name', 1, (w) => w.raw(handle));
  assert.equal((await peer.failure()).code, 'not-granted');
});

test('versions go together as semver says, and both sides are named where not', async (t) => {
  const { server } = await linked(t);
  const at = (version, extra = '') => parseWit(`package acme:kv@${version}; interface store { get: func(key: string) -> option<string>; ${extra} }`);
  const reach = (text, version) => connect(server.address, { wit: text, imports: [`acme:kv/store@${version}`], link: { grant: { prefix: 'k' } } });
  const older = await reach(at('0.1.0'), '0.1.0');
  assert.equal(await older.imports['acme:kv/store@0.1.0'].get('k'), '1:k');
  await older.close();
  await assert.rejects(reach(at('0.2.0'), '0.2.0'), { code: 'version-mismatch', fields: { interface: 'acme:kv/store@0.2.0', ours: KV, theirs: 'acme:kv/store@0.2.0' } });
  await assert.rejects(reach(at('0.1.3'), '0.1.3'), { code: 'version-mismatch' });
  const part = await reach(at('0.1.2'), '0.1.2'); // of the same version, as a component that imports some of it has it
  assert.equal(await part.imports[KV].get('k'), '1:k');
  await part.close();
  const turned = parseWit('package acme:kv@0.1.2; interface store { get: func(key: string) -> string; }');
  await assert.rejects(reach(turned, '0.1.2'), { code: 'version-mismatch', message: /other types of get/ });
  await assert.rejects(reach(at('0.1.0', 'more: func();'), '0.1.0'), { code: 'version-mismatch', message: /lacks more/ });
  const other = parseWit('package acme:kv@0.1.0; interface other { a: func(); }');
  await assert.rejects(connect(server.address, { wit: other, imports: ['acme:kv/other'] }), { code: 'no-such-interface', fields: { interface: 'acme:kv/other@0.1.0', offered: KV } });
});

test('a provider calls its caller, and the resources of both meet', async (t) => {
  const HOST = 'acme:kv/host@0.1.2';
  const CALLING = 'acme:kv/calling@0.1.2';
  let disposed = 0;
  class Note {
    constructor(text) {
      this.words = text;
    }
    text() {
      return this.words;
    }
    [Symbol.dispose]() {
      disposed++;
    }
  }
  const calling = {
    relay: async (q, { imports }) => `relayed: ${await imports[HOST].ask(q)}`,
    read: async (note) => `read: ${await note.text()}`,
    keep: async (note) => {
      const text = await note.text();
      note[Symbol.dispose]();
      return text;
    },
  };
  const server = await serve({ wit: kv, provides: { [CALLING]: calling }, imports: [HOST], on: `unix:${join(folder(t), 's')}` });
  const host = { ask: (q) => `${q}?`, Note, give: () => new Note('given') };
  const client = await connect(server.address, { wit: kv, imports: [CALLING], provides: { [HOST]: host }, link: { name: 'a/calling' } });
  t.after(async () => {
    await client.close();
    await server.close();
  });
  const { relay, read, keep } = client.imports[CALLING];
  assert.equal(await relay('why'), 'relayed: why?');
  const note = new Note('mine');
  assert.equal(await read(note), 'read: mine');
  assert.equal(await read(note), 'read: mine');
  assert.equal(await keep(note), 'mine');
  await until(() => disposed === 1);
});

test('what is missing is said when it is served', async () => {
  await assert.rejects(serve({ wit: kv, provides: { [KV]: { get() {}, Bucket: class {} } }, on: 'unix:/nowhere' }),
    /lacks \[method\]bucket.name \(as Bucket's method name\(\)\), take \(as take\(\)\), show \(as show\(\)\), fail/);
  await assert.rejects(serve({ wit: kv, provides: { 'acme:kv/nothing': {} }, on: 'unix:/nowhere' }), /no interface acme:kv\/nothing in the WIT, which has acme:kv\/store@0.1.2/);
  await assert.rejects(serve({ wit: '/nowhere', provides: {} }), /no WIT at \/nowhere/);
});

test('times are told to a caller that wants them', async (t) => {
  const { path } = await pair(t);
  const peer = await RawPeer.connect(path);
  await peer.hello();
  peer.send(Kind.CALL, 1, (w) => {
    call('u8s')(w);
    w.buf[w.pos - 1] = 0x10;
    w.byte(7);
  });
  const reader = new Reader((await peer.next()).payload);
  assert.equal(reader.byte(), 1);
  const times = [reader.size(), reader.size(), reader.size(), reader.size()];
  assert.ok(times.every((time) => time >= 0 && time < 1e12));
  assert.equal(reader.byte(), 7);
  reader.finish();
});

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const moduleText = (version) => `
  console.log('loading');
  const loaded = ${version};
  export default { 'acme:kv/store@0.1.0': { get: async (key, { signal }) => {
    if (key === 'wait') await new Promise((resolve) => globalThis.go = resolve);
    if (key === 'go') globalThis.go();
    return loaded + ':' + key;
  } } };
`;

function project(t) {
  const path = folder(t);
  mkdirSync(join(path, 'wit', 'deps', 'types'), { recursive: true });
  writeFileSync(join(path, 'wit', 'kv.wit'), 'package acme:kv@0.1.0;\ninterface store { use acme:types/t@1.0.0.{key}; get: async func(key: key) -> string; }\n');
  writeFileSync(join(path, 'wit', 'deps', 'types', 't.wit'), 'package acme:types@1.0.0;\ninterface t { type key = string; }\n');
  writeFileSync(join(path, 'provider.js'), moduleText(1));
  writeFileSync(join(path, 'package.json'), '{"type":"module"}');
  return path;
}

async function stdioCli(path, ...more) {
  const child = spawn(process.execPath, [cli, 'provider.js', ...more], { cwd: path, stdio: ['pipe', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const text = parseWit('package acme:kv@0.1.0; interface store { get: async func(key: string) -> string; }');
  const name = 'acme:kv/store@0.1.0';
  const client = await sessionClient(new Wire(child.stdout, child.stdin, 'child'), { imports: [name] }, text, [text.interface(name)]);
  return { child, client, store: client.imports[name], exit: once(child, 'exit'), stderr: () => stderr };
}

test('the command serves a module on stdio, reloads it, and exits 0 when its host has gone', async (t) => {
  const path = project(t);
  const { child, client, store, exit, stderr } = await stdioCli(path, '--wit', 'wit');
  assert.equal(await store.get('a'), '1:a');
  const slow = store.get('wait');
  await store.get('b');
  writeFileSync(join(path, 'provider.js'), moduleText(2));
  await client.session.reload();
  assert.equal(await store.get('c'), '2:c');
  writeFileSync(join(path, 'provider.js'), 'export default {');
  await assert.rejects(client.session.reload(), { code: 'provider', message: /the reload failed, the old code goes on/ });
  assert.equal(await store.get('go'), '2:go');
  assert.equal(await slow, '1:wait');
  child.stdin.end();
  assert.deepEqual(await exit, [0, null]);
  assert.match(stderr(), /^loading\nloading\n/);
});

test('the command answers what was begun before its input ended', async (t) => {
  const { child, store, exit } = await stdioCli(project(t));
  const answers = [store.get('wait'), store.get('x'), store.get('go')];
  await turn();
  child.stdin.end();
  assert.deepEqual(await Promise.all(answers), ['1:wait', '1:x', '1:go']);
  assert.deepEqual(await exit, [0, null]);
});

test('the command drains and exits 0 on SIGTERM', async (t) => {
  const { child, client, store, exit } = await stdioCli(project(t));
  await store.get('a');
  child.kill('SIGTERM');
  assert.deepEqual(await exit, [0, null]);
  await client.closed;
});

test('the command does what a host asks of a sidecar, and reloads on SIGHUP', async (t) => {
  const path = project(t);
  const env = { ...process.env, LOOP_PROVIDER_ADDRESS: 'tcp://127.0.0.1:0', LOOP_PROVIDER_READY: '3', LOOP_PROVIDER_TOKEN: 'secret' };
  const child = spawn(process.execPath, [cli, 'provider.js'], { cwd: path, env, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  const exit = once(child, 'exit');
  let said = '';
  child.stderr.on('data', (chunk) => (said += chunk));
  const address = Buffer.concat(await collect(child.stdio[3])).toString();
  assert.match(address, /^tcp:\/\/127\.0\.0\.1:[1-9]\d*\n$/);
  const text = parseWit('package acme:kv@0.1.0; interface store { get: async func(key: string) -> string; }');
  const options = { wit: text, imports: ['acme:kv/store@0.1.0'] };
  await assert.rejects(connect(address.trim(), options), { code: 'unauthenticated' });
  const { imports } = await connect(address.trim(), { ...options, token: 'secret' });
  const store = imports['acme:kv/store@0.1.0'];
  assert.equal(await store.get('a'), '1:a');
  const plain = await connect(address.trim(), { ...options, mode: 'plain' });
  await assert.rejects(plain.imports['acme:kv/store@0.1.0'].get('a'), { code: 'provider-gone' });
  writeFileSync(join(path, 'provider.js'), moduleText(2));
  child.kill('SIGHUP');
  await until(async () => (await store.get('b')) === '2:b');
  writeFileSync(join(path, 'provider.js'), 'export default {');
  child.kill('SIGHUP');
  await until(() => said.includes('the old code goes on'));
  assert.equal(await store.get('c'), '2:c');
  child.kill('SIGTERM');
  assert.deepEqual(await exit, [0, null]);
});

test('the command takes its address from the environment, and says what is wrong', async (t) => {
  const path = project(t);
  const address = `unix:${join(path, 'socket')}`;
  const child = spawn(process.execPath, [cli, 'provider.js'], { cwd: path, env: { ...process.env, LOOP_PROVIDER_ADDRESS: address }, stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = once(child, 'exit');
  let said = '';
  child.stderr.on('data', (chunk) => (said += chunk));
  await until(() => said.includes('listening'));
  child.kill('SIGTERM');
  assert.deepEqual(await exit, [0, null]);
  const run = async (...args) => {
    const bad = spawn(process.execPath, [cli, ...args], { cwd: path, stdio: ['ignore', 'ignore', 'pipe'] });
    const [text] = await Promise.all([collect(bad.stderr), once(bad, 'exit')]);
    return `${bad.exitCode} ${Buffer.concat(text)}`;
  };
  assert.match(await run(), /^2 usage: loop-provider-node MODULE/);
  assert.match(await run('provider.js', '--on', 'ftp:x'), /^1 [^]*no address; write stdio:/);
  assert.match(await run('missing.js'), /^1 loop-provider-node: .*missing.js/);
});

test('nothing keeps the process once both sides are closed', async () => {
  const text = `
    import { ALL, makeAll, wit } from ${JSON.stringify(new URL('support.js', import.meta.url).href)};
    import { connect, serve } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
    const server = await serve({ wit, provides: { [ALL]: makeAll() }, on: 'tcp://127.0.0.1:0' });
    const client = await connect(server.address, { wit, imports: [ALL] });
    client.imports[ALL].wait().catch(() => undefined);
    client.imports[ALL].wait({ deadline: 1e9 }).catch(() => undefined);
    await client.imports[ALL].nothing();
    client.session.destroy();
    await client.closed;
    await server.close();
    for (let i = 0; i < 5; i++) await new Promise(setImmediate);
    console.log(JSON.stringify(process.getActiveResourcesInfo().filter((name) => /TCP|Timeout|Pipe(?!Wrap)/.test(name))));
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', text], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [chunks, [code]] = await Promise.all([collect(child.stdout), once(child, 'exit')]);
  assert.deepEqual([Buffer.concat(chunks).toString(), code], ['[]\n', 0]);
});
