import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as netConnect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, serve } from '../dist/index.js';
import { Kind, MORE, PREFACE } from '../dist/frames.js';
import { Reader } from '../dist/bytes.js';
import { MAX_HANDLES } from '../dist/handles.js';
import { MAX_LINKS } from '../dist/link-book.js';
import { readFailure, readOutcome, writeFailure, writeLink } from '../dist/messages.js';
import { Failure } from '../dist/errors.js';
import { ALL, call, Counter, folder, frame, makeAll, ManualClock, numberOf, RawPeer, turn, until, wit } from './support.js';

async function start(t, more = {}, seen = {}) {
  const path = join(folder(t), 'socket');
  const server = await serve({ wit, provides: { [ALL]: makeAll(seen) }, on: `unix:${path}`, ...more });
  t.after(() => server.close());
  return { path, server };
}

/** The server still serves. */
async function alive(path) {
  const client = await connect(`unix:${path}`, { wit, imports: [ALL] });
  assert.equal(await client.imports[ALL].u8s(7), 7);
  await client.close();
}

async function begun(t, limits = {}, more = {}) {
  const { path, server } = await start(t, more);
  const peer = await RawPeer.connect(path);
  await peer.hello([ALL], limits);
  return { path, peer, server };
}

const good = {
  call: frame(Kind.CALL, 1, call('strings', (w) => w.string('hello'))),
  stream: frame(Kind.CALL, 1, call('texts', (w) => w.byte(0))),
};

test('a session cut anywhere harms nobody', async (t) => {
  const { path } = await start(t);
  const peer = await RawPeer.connect(path);
  await peer.hello([ALL]);
  peer.socket.destroy();
  for (let n = 1; n < good.call.length; n++) {
    const cut = await RawPeer.connect(path);
    await cut.hello([ALL]);
    cut.raw(good.call.subarray(0, n));
    cut.socket.end();
    await cut.over;
  }
  for (let n = 1; n < PREFACE.length; n++) {
    const cut = await RawPeer.connect(path);
    cut.raw(PREFACE.subarray(0, n));
    cut.socket.end();
    await cut.over;
  }
  await alive(path);
});

test('frames may come in any pieces', async (t) => {
  const { peer } = await begun(t);
  for (const byte of good.call) {
    peer.raw(Buffer.of(byte));
    await turn();
  }
  const { kind, payload } = await peer.next();
  assert.deepEqual([kind, payload.toString('hex')], [Kind.RESULT, '000568656c6c6f']);
});

const breaks = {
  'an oversized frame': (p) => p.raw(Buffer.from('ffffff1001000000', 'hex')),
  'an unknown kind from 80 up': (p) => p.send(0xf0, 0),
  'a FAIL that goes on': (p) => p.send(Kind.FAIL | MORE, 1),
  'a call with an even number': (p) => p.send(Kind.CALL, 2, call('nothing')),
  'a call on stream 0': (p) => p.send(Kind.CALL, 0, call('nothing')),
  'a number used again': (p) => p.raw(frame(Kind.CALL, 3, call('nothing')), frame(Kind.CALL, 3, call('nothing'))),
  'a lower number': (p) => p.raw(frame(Kind.CALL, 3, call('nothing')), frame(Kind.CALL, 1, call('nothing'))),
  'a call cut short': (p) => p.send(Kind.CALL, 1, (w) => w.byte(0x80)),
  'unknown flags of a call': (p) => p.send(Kind.CALL, 1, (w) => w.raw(Uint8Array.of(0, 0, 0x20))),
  'an identity that is too long': (p) => p.send(Kind.CALL, 1, (w) => { w.raw(Uint8Array.of(0, 0, 4)); w.string('x'.repeat(257)); }),
  'a key that is too long': (p) => p.send(Kind.CALL, 1, (w) => { w.raw(Uint8Array.of(0, 0, 8)); w.bytes(new Uint8Array(65)); }),
  'a result of nothing': (p) => p.send(Kind.RESULT, 2, (w) => w.byte(0)),
  'a failure of nothing': (p) => p.send(Kind.FAIL, 2, (w) => writeFailure(w, new Failure('provider', ''))),
  'a cancel of nothing': (p) => p.send(Kind.CANCEL, 7),
  'data of nothing': (p) => p.send(Kind.DATA, 7, (w) => w.raw(Uint8Array.of(1, 0, 0))),
  'data for a path that is not open': (p) => p.raw(good.stream, frame(Kind.DATA, 1, (w) => w.raw(Uint8Array.of(1, 3, 0)))),
  'a path that is too long': (p) => p.raw(good.stream, frame(Kind.DATA, 1, (w) => w.raw(new Uint8Array(40).fill(33)))),
  'data after the end': (p) => p.raw(good.stream, frame(Kind.DATA, 1, (w) => w.raw(Uint8Array.of(1, 0, 0))), frame(Kind.DATA, 1, (w) => w.raw(Uint8Array.of(1, 0, 0)))) ,
  'a message that goes on after its size': (p) => p.raw(frame(Kind.CALL | MORE, 1, (w) => { w.uleb(3); w.raw(new Uint8Array(3)); }), frame(Kind.CALL, 1, (w) => w.byte(1))),
  'two messages at once on a stream': (p) => p.raw(good.stream, frame(Kind.DATA | MORE, 1, (w) => { w.uleb(9); w.raw(Uint8Array.of(1, 0)); }), frame(Kind.RESULT, 1, (w) => w.byte(1))),
  'a second HELLO': (p) => p.send(Kind.HELLO, 0),
  'a PING of seven bytes': (p) => p.send(Kind.PING, 0, (w) => w.raw(new Uint8Array(7))),
  'a PING on a stream': (p) => p.send(Kind.PING, 1, (w) => w.raw(new Uint8Array(8))),
  'a LINK of 0': (p) => p.send(Kind.LINK, 0, (w) => writeLink(w, { number: 0, name: '', grant: '', config: '' })),
  'a drop of no resource': (p) => p.send(Kind.DROP, 0, (w) => { w.uleb(0); w.uleb(9); w.bytes(new Uint8Array(4)); }),
  'an answer for a link that was not asked for': (p) => p.send(Kind.LINKED, 0, (w) => w.raw(Uint8Array.of(1, 0))),
  'an answer to a RELOAD that is cut short': (p) => p.send(Kind.RELOADED, 0, (w) => w.raw(Uint8Array.of(1, 1, 0))),
  'an answer to a RELOAD with more behind it': (p) => p.send(Kind.RELOADED, 0, (w) => w.raw(Uint8Array.of(1, 0, 0))),
  'an answer to a RELOAD on a stream': (p) => p.send(Kind.RELOADED, 1, (w) => w.raw(Uint8Array.of(1, 0))),
  'a LINK that is not UTF-8': (p) => p.send(Kind.LINK, 0, (w) => w.raw(Uint8Array.of(1, 1, 0xff, 0, 0))),
};

for (const [name, break_] of Object.entries(breaks)) {
  test(`${name} ends the session as protocol`, async (t) => {
    const { path, peer } = await begun(t);
    break_(peer);
    assert.equal((await peer.failure()).code, 'protocol');
    await peer.over;
    await alive(path);
  });
}

test('kinds below 80 that are not known are ignored', async (t) => {
  const { peer } = await begun(t);
  peer.raw(frame(0x7f, 99, (w) => w.raw(new Uint8Array(100))), frame(0x2f, 0), good.call);
  assert.equal((await peer.next()).kind, Kind.RESULT);
});

test('calls that cannot be served fail alone', async (t) => {
  const { peer } = await begun(t);
  const fails = [
    ['no-such-function', (w) => w.raw(Uint8Array.of(200, 1, 0, 0))],
    ['not-granted', call('nothing', undefined, 5)],
    ['bad-value', call('bools', (w) => w.byte(2))],
    ['bad-value', call('bools', (w) => w.raw(Uint8Array.of(1, 1)))],
    ['bad-value', call('strings', (w) => w.raw(Uint8Array.of(200, 1)))],
    ['bad-handle', (w) => { w.uleb(numberOf('[method]counter.add')); w.raw(Uint8Array.of(0, 0)); w.bytes(new Uint8Array(4)); w.byte(1); }],
    ['bad-handle', (w) => { w.uleb(numberOf('[method]counter.add')); w.raw(Uint8Array.of(0, 0)); w.bytes(new Uint8Array(9)); w.byte(1); }],
  ];
  let stream = 1;
  for (const [code, write] of fails) {
    peer.send(Kind.CALL, stream, write);
    assert.equal((await peer.failure()).code, code);
    stream += 2;
  }
  peer.send(Kind.CALL, stream, call('nothing'));
  assert.equal((await peer.next()).kind, Kind.RESULT);
});

test('more calls than allowed are refused', async (t) => {
  const { peer } = await begun(t, {}, { limits: { calls: 4 } });
  for (let i = 0; i < 5; i++) peer.send(Kind.CALL, 1 + 2 * i, call('wait'));
  const failure = await peer.failure();
  assert.deepEqual([failure.code, failure.retryable, failure.fields], ['overloaded', true, { limit: '4' }]);
});

test('a session has as many links as it may, and no more until one is unbound', async (t) => {
  const { peer } = await begun(t);
  const link = (number) => peer.send(Kind.LINK, 0, (w) => writeLink(w, { number, name: 'a/all', grant: '', config: '' }));
  const outcome = async () => {
    const reader = new Reader((await peer.next()).payload);
    return [reader.uleb(), readOutcome(reader)];
  };
  for (let number = 1; number <= MAX_LINKS; number++) link(number);
  for (let number = 1; number <= MAX_LINKS; number++) assert.deepEqual(await outcome(), [number, undefined]);
  link(MAX_LINKS + 1);
  const [number, refusal] = await outcome();
  assert.deepEqual([number, refusal.code, refusal.fields], [MAX_LINKS + 1, 'overloaded', { limit: '4096' }]);
  peer.send(Kind.CALL, 1, call('nothing', undefined, MAX_LINKS + 1));
  assert.equal((await peer.failure()).code, 'not-granted');
  peer.send(Kind.UNLINK, 0, (w) => w.uleb(7));
  link(MAX_LINKS + 2);
  assert.deepEqual(await outcome(), [MAX_LINKS + 2, undefined]);
  peer.send(Kind.CALL, 3, call('nothing', undefined, MAX_LINKS + 2));
  assert.equal((await peer.next()).kind, Kind.RESULT);
});

test('a link number is bound once, and 0 never', async (t) => {
  for (const numbers of [[0], [1, 1]]) {
    const { peer } = await begun(t);
    for (const number of numbers) {
      peer.send(Kind.LINK, 0, (w) => writeLink(w, { number, name: 'a/all', grant: '', config: '' }));
    }
    assert.equal((await peer.failure()).code, 'protocol');
    await peer.over;
  }
});

test('a link holds as many handles as it may, and room is made by dropping one', async (t) => {
  const { peer } = await begun(t);
  const many = (stream, n) => peer.send(Kind.CALL, stream, call('[static]counter.many', (w) => w.uleb(n)));
  many(1, MAX_HANDLES);
  // The list is longer than a frame: before the result stands the size of the whole.
  const first = await peer.next();
  assert.equal(first.kind, Kind.RESULT | MORE, first.kind === Kind.FAIL ? readFailure(new Reader(first.payload)).message : '');
  const reader = new Reader(first.payload);
  assert.ok(reader.size() > MAX_HANDLES * 5);
  assert.deepEqual([reader.byte(), reader.uleb()], [0, MAX_HANDLES]);
  const handle = reader.bytes();
  while ((await peer.next()).kind !== Kind.RESULT);
  many(3, 1);
  const failure = await peer.failure();
  assert.deepEqual([failure.code, failure.fields], ['overloaded', { limit: '65536' }]);
  peer.send(Kind.DROP, 0, (w) => { w.uleb(0); w.uleb(0); w.bytes(handle); });
  // What does not fit as a whole is dropped as a whole: the one of two that there was room for.
  const before = Counter.live;
  many(5, 2);
  assert.equal((await peer.failure()).code, 'overloaded');
  // Less the one above, and one more that was made and found no room.
  assert.equal(Counter.live, before);
  many(7, 1);
  assert.equal((await peer.next()).kind, Kind.RESULT);
});

test('call numbers go round', async (t) => {
  const { peer } = await begun(t);
  for (const stream of [0x7fffffff, 0xfffffffd]) {
    peer.send(Kind.CALL, stream, call('nothing'));
    assert.equal((await peer.next()).kind, Kind.RESULT);
  }
  peer.send(Kind.CALL, 0xffffffff, call('wait'));
  peer.send(Kind.CALL, 1, call('nothing'));
  assert.deepEqual(await peer.next().then(({ kind, stream }) => [kind, stream]), [Kind.RESULT, 1]);
  peer.send(Kind.CALL, 0xffffffff, call('nothing'));
  assert.equal((await peer.failure()).code, 'protocol');
});

test('a message over the limit fails its call, and its rest is skipped', async (t) => {
  const { peer } = await begun(t, {}, { limits: { message: 1000n } });
  peer.send(Kind.CALL | MORE, 1, (w) => { w.uleb(5000); w.raw(new Uint8Array(900)); });
  assert.deepEqual((await peer.failure()).fields, { limit: '1000' });
  for (let i = 0; i < 4; i++) peer.send(Kind.CALL | (i < 3 ? MORE : 0), 1, (w) => w.raw(new Uint8Array(1000)));
  peer.send(Kind.CALL, 3, call('nothing'));
  assert.equal((await peer.next()).kind, Kind.RESULT);
});

test('a cancel in the middle of a long call ends it', async (t) => {
  const { peer } = await begun(t);
  peer.send(Kind.CALL | MORE, 1, (w) => { w.uleb(5000); w.raw(new Uint8Array(10)); });
  peer.send(Kind.CANCEL, 1);
  assert.equal((await peer.failure()).code, 'cancelled');
  peer.send(Kind.CALL, 1, (w) => w.raw(new Uint8Array(10)));
  peer.send(Kind.CALL, 3, call('nothing'));
  assert.equal((await peer.next()).kind, Kind.RESULT);
});

test('a sender that oversteps the credit of a channel is cut off', async (t) => {
  const { peer } = await begun(t, {}, { limits: { window: 1000 } });
  peer.send(Kind.CALL, 1, call('hold', (w) => w.byte(0)));
  // The provider reads the first and no more.
  for (let i = 0; i < 6; i++) peer.send(Kind.DATA, 1, (w) => { w.raw(Uint8Array.of(1, 0)); w.bytes(new Uint8Array(400)); });
  const failure = await peer.failure();
  assert.equal(failure.code, 'protocol');
  assert.match(failure.message, /credit/);
});

test('the rest of a message whose reader has left takes no credit of the channel', async (t) => {
  let release;
  const texts = async (v) => {
    for await (const _ of v) break;
    await new Promise((resolve) => (release = resolve));
    return 7;
  };
  const { path } = await start(t, { limits: { window: 1000, connection: 3000 } }, { more: { texts } });
  const peer = await RawPeer.connect(path);
  await peer.hello([ALL]);
  const data = (size, more, write) => frame(Kind.DATA | more, 1, (w) => { write(w); w.raw(new Uint8Array(size)); });
  const first = (w) => { w.uleb(2 + 5000); w.raw(Uint8Array.of(1, 0)); };
  peer.raw(
    frame(Kind.CALL, 1, call('texts', (w) => w.byte(0))),
    frame(Kind.DATA, 1, (w) => w.raw(Uint8Array.of(1, 0, 1, 1, 0x61))),
    data(500, MORE, first),
  );
  const seen = [await peer.next(), await peer.next()];
  assert.ok(seen.some(({ kind }) => kind === Kind.STOP), JSON.stringify(seen));
  for (let i = 0; i < 9; i++) peer.raw(data(500, i < 8 ? MORE : 0, () => undefined));
  release();
  for (;;) {
    const { kind, stream, payload } = await peer.next();
    if (kind === Kind.CREDIT) continue;
    assert.deepEqual([kind, stream, payload.toString('hex')], [Kind.RESULT, 1, '0007']);
    break;
  }
});

test('a sender that oversteps the credit of the connection is cut off', async (t) => {
  const seen = { hold: () => undefined };
  const { path } = await start(t, { limits: { connection: 2000 } }, seen);
  const peer = await RawPeer.connect(path);
  await peer.hello([ALL]);
  for (let i = 0; i < 8; i++) {
    peer.send(Kind.CALL, 1 + 2 * i, call('hold', (w) => w.byte(0)));
    for (let n = 0; n < 3; n++) peer.send(Kind.DATA, 1 + 2 * i, (w) => { w.raw(Uint8Array.of(1, 0)); w.bytes(new Uint8Array(400)); });
  }
  assert.match((await peer.failure()).message, /credit/);
});

test('a flood of streams within a stream is cut off', async (t) => {
  const { peer } = await begun(t);
  peer.send(Kind.CALL, 1, call('deep', (w) => w.byte(0)));
  peer.send(Kind.DATA, 1, (w) => { w.raw(Uint8Array.of(1, 0)); w.uleb(1000); w.raw(new Uint8Array(1000)); });
  const failure = await peer.failure();
  assert.equal(failure.code, 'protocol');
  assert.match(failure.message, /256 streams/);
});

test('a chunk that does not decode fails its stream alone', async (t) => {
  const { peer } = await begun(t);
  peer.send(Kind.CALL, 1, call('texts', (w) => w.byte(0)));
  peer.send(Kind.DATA, 1, (w) => w.raw(Uint8Array.of(1, 0, 1, 2, 0xff, 0xff)));
  assert.equal((await peer.next()).kind, Kind.STOP);
  assert.equal((await peer.failure()).code, 'bad-value');
  peer.send(Kind.CALL, 3, call('nothing'));
  assert.equal((await peer.next()).kind, Kind.RESULT);
});

const prefaces = { 'another version': '4c4f4f5002', 'something else': '4c4f4f4b01' };
for (const [name, hex] of Object.entries(prefaces)) {
  test(`a preface of ${name} is refused`, async (t) => {
    const { path } = await start(t);
    const peer = await RawPeer.connect(path);
    peer.raw(Buffer.from(hex, 'hex'));
    assert.equal((await peer.failure()).code, 'protocol');
    await peer.over;
  });
}

test('a first byte of neither protocol closes the connection', async (t) => {
  const { path } = await start(t);
  const socket = netConnect(path);
  socket.on('error', () => undefined);
  socket.write('GET / HTTP/1.1\r\n\r\n');
  await once(socket, 'close');
  await alive(path);
});

test('frames before the handshake, and a HELLO that is none, are refused', async (t) => {
  const { path } = await start(t);
  for (const bytes of [frame(Kind.PING, 0, (w) => w.raw(new Uint8Array(8))), frame(Kind.HELLO, 0, (w) => w.byte(1)), frame(Kind.HELLO, 1)]) {
    const peer = await RawPeer.connect(path);
    peer.raw(PREFACE, bytes);
    assert.equal((await peer.failure()).code, 'protocol');
    await peer.over;
  }
});

test('whoever is slow to shake hands is cut off', async (t) => {
  const clock = new ManualClock();
  const { path } = await start(t, { clock });
  const peers = await Promise.all(['', '4c', '4c4f4f5001', '4c4f4f5001ff000001', '0001'].map(async (hex) => {
    const peer = await RawPeer.connect(path);
    peer.raw(Buffer.from(hex, 'hex'));
    return peer;
  }));
  await until(() => clock.pending >= peers.length);
  for (let i = 0; i < 20; i++) await turn();
  clock.pass(10_001);
  await Promise.all(peers.map((peer) => peer.over));
});

test('a silent peer is asked, then given up', async (t) => {
  const clock = new ManualClock();
  const { peer } = await begun(t, {}, { clock });
  peer.send(Kind.PING, 0, (w) => w.raw(Buffer.from('8bytes!!')));
  const pong = await peer.next();
  assert.deepEqual([pong.kind, pong.payload.toString()], [Kind.PONG, '8bytes!!']);
  for (let i = 0; i < 4; i++) clock.pass(10_000);
  assert.equal((await peer.next()).kind, Kind.PING);
  await peer.over;
});

test('a session that is refused says why', async (t) => {
  const { path } = await start(t, { token: 'secret' });
  await assert.rejects(connect(`unix:${path}`, { wit, imports: [ALL] }), { code: 'unauthenticated' });
  await assert.rejects(connect(`unix:${path}`, { wit, imports: [ALL], token: 'guess' }), { code: 'unauthenticated' });
  await (await connect(`unix:${path}`, { wit, imports: [ALL], token: 'secret' })).close();
  const peer = await RawPeer.connect(path);
  await assert.rejects(peer.hello([], {}, { protocol: 2 }), { code: 'version-mismatch', fields: { ours: '1', theirs: '2' } });
});

test('output that nobody takes stops the reading', async (t) => {
  const { peer, path } = await begun(t);
  peer.socket.pause();
  const big = new Uint8Array(250_000);
  let sent = 0;
  // Each call is answered by as much; the peer takes none of it, so that in the end the server stops reading.
  while (sent < 2000) {
    const bytes = frame(Kind.CALL, 1 + 2 * sent++, call('bytes', (w) => w.bytes(big)));
    if (peer.socket.write(bytes)) continue;
    let turns = 0;
    while (peer.socket.writableNeedDrain && turns++ < 200) await turn();
    if (peer.socket.writableNeedDrain) break;
  }
  assert.ok(sent < 2000, 'the server went on reading');
  peer.socket.destroy();
  await alive(path);
});
