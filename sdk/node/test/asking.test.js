import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { test } from 'node:test';
import { Reader } from '../dist/bytes.js';
import { connect, Failure, serve } from '../dist/index.js';
import { Kind } from '../dist/frames.js';
import { Exports } from '../dist/exports.js';
import { writeFailure, writeOutcome } from '../dist/messages.js';
import { Session } from '../dist/session.js';
import { Wire } from '../dist/wire.js';
import { ALL, call, folder, frame, makeAll, RawPeer, until, wit } from './support.js';

async function start(t, more = {}) {
  const path = join(folder(t), 'socket');
  const server = await serve({ wit, provides: { [ALL]: makeAll() }, on: `unix:${path}`, ...more });
  t.after(() => server.close());
  return { path, server };
}

/** A host by hand that the server waits for. */
async function host(path) {
  const peer = await RawPeer.connect(path);
  await peer.hello([ALL]);
  return peer;
}

/** The number of the RELOAD that comes next. */
async function asked(peer) {
  const { kind, stream, payload } = await peer.next();
  assert.deepEqual([kind, stream], [Kind.RELOAD, 0]);
  const reader = new Reader(payload);
  const number = reader.uleb();
  reader.finish();
  return number;
}

const answer = (peer, number, failure) =>
  peer.send(Kind.RELOADED, 0, (writer) => {
    writer.uleb(number);
    writeOutcome(writer, failure);
  });

/** What has come of a promise by now. */
function watched(promise) {
  const seen = { state: 'pending' };
  promise.then(() => (seen.state = 'done'), (error) => (seen.state = error.code));
  return seen;
}

/** Has the server answer a call, so that it has read what came before that. */
async function served(peer, stream) {
  peer.send(Kind.CALL, stream, call('nothing'));
  const { kind } = await peer.next();
  assert.equal(kind, Kind.RESULT);
}

test('all who are connected are asked, and all must take it up', async (t) => {
  const { path, server } = await start(t);
  const [one, other] = [await host(path), await host(path)];
  const asking = server.askExchange();
  const seen = watched(asking);
  answer(one, await asked(one));
  await served(one, 1);
  assert.equal(seen.state, 'pending');
  answer(other, await asked(other));
  await asking;
});

test('several may be open, each with a number of its own', async (t) => {
  const { path, server } = await start(t);
  const peer = await host(path);
  const [first, second] = [server.askExchange(), server.askExchange()];
  const numbers = [await asked(peer), await asked(peer)];
  assert.notEqual(numbers[0], numbers[1]);
  const seen = watched(first);
  answer(peer, numbers[1]);
  await second;
  assert.equal(seen.state, 'pending');
  const refused = assert.rejects(first, { name: 'Failure', code: 'overloaded' });
  answer(peer, numbers[0], new Failure('overloaded', 'it asked a moment ago'));
  await refused;
  const third = server.askExchange();
  const number = await asked(peer);
  assert.ok(!numbers.includes(number));
  answer(peer, number);
  await third;
});

test('the first that refuses says why', async (t) => {
  const { path, server } = await start(t);
  const peers = [await host(path), await host(path), await host(path)];
  const asking = server.askExchange();
  const [silent, first, later] = await Promise.all(peers.map(asked));
  const refused = assert.rejects(asking, {
    name: 'Failure', code: 'provider', message: 'this host does not exchange it', retryable: true, fields: { of: 'near' },
  });
  answer(peers[1], first, new Failure('provider', 'this host does not exchange it', { retryable: true, fields: { of: 'near' } }));
  await refused;
  // what the others say is no longer waited for, and harms nothing
  answer(peers[2], later, new Failure('overloaded', 'a moment ago'));
  answer(peers[0], silent);
  for (const peer of peers) await served(peer, 1);
});

test('a client exchanges nobody, and says so', async (t) => {
  const { server } = await start(t);
  const client = await connect(server.address, { wit, imports: [ALL] });
  await assert.rejects(server.askExchange(), { code: 'provider', message: 'it is reached by a client, which exchanges nobody' });
  await client.close();
});

test('where nobody is connected, nobody can exchange it', async (t) => {
  const { path, server } = await start(t);
  const nobody = () => assert.rejects(server.askExchange(), { name: 'Failure', code: 'provider-gone', message: /nobody is connected/ });
  await nobody();
  const stranger = await RawPeer.connect(path); // it has not shaken hands
  stranger.raw(Buffer.from('LOOP\x01', 'latin1'));
  const plain = await connect(server.address, { wit, imports: [ALL], mode: 'plain' });
  assert.equal(await plain.imports[ALL].u8s(1), 1);
  await nobody();
  const leaving = await host(path);
  leaving.raw(frame(Kind.CALL, 1, call('wait')), frame(Kind.GOAWAY, 0, (w) => writeFailure(w, new Failure('provider-gone', 'the host ends'))));
  leaving.send(Kind.PING, 0, (w) => w.raw(new Uint8Array(8)));
  assert.equal((await leaving.next()).kind, Kind.PONG);
  await nobody();
  const staying = await host(path);
  const asking = server.askExchange();
  answer(staying, await asked(staying));
  await asking;
  assert.deepEqual([stranger.frames, leaving.frames], [[], []]);
  for (const peer of [stranger, leaving]) {
    peer.socket.destroy();
    await peer.over;
  }
});

test('whoever leaves before it has answered takes nothing up', async (t) => {
  const { path, server } = await start(t);
  const [one, other] = [await host(path), await host(path)];
  const asking = server.askExchange();
  answer(one, await asked(one));
  await asked(other);
  const refused = assert.rejects(asking, { code: 'provider-gone' });
  other.socket.destroy();
  await refused;
  const again = server.askExchange();
  await asked(one);
  const ended = assert.rejects(again, { code: 'provider-gone', message: /the provider is closing/ });
  await server.close();
  await ended;
  await assert.rejects(server.askExchange(), { code: 'provider-gone' });
});

test('a host on stdio that sends nothing more takes nothing up, though calls are answered', async () => {
  const [there, back] = [new PassThrough(), new PassThrough()];
  let finish;
  const more = { two: () => new Promise((resolve) => (finish = resolve)) };
  const session = new Session(new Wire(there, back, 'the host'), {
    role: 'accept', exports: new Exports(wit, { [ALL]: makeAll({ more }) }), wants: [], drainOnEnd: true,
  });
  await assert.rejects(session.reload(), { code: 'provider-gone', message: /has not begun/ });
  const peer = new RawPeer(Duplex.from({ readable: back, writable: there }));
  await peer.hello([ALL]);
  peer.send(Kind.CALL, 1, call('two', (w) => { w.uleb(1); w.string('a'); }));
  await until(() => finish !== undefined);
  const refused = assert.rejects(session.reload(), { code: 'provider-gone', message: /closed the connection/ });
  await asked(peer);
  peer.socket.end();
  await refused;
  finish('done');
  assert.equal((await peer.next()).kind, Kind.RESULT);
  await session.closed;
});

test('an answer that nobody asked for is ignored', async (t) => {
  const { path, server } = await start(t);
  const peer = await host(path);
  answer(peer, 1);
  answer(peer, 7, new Failure('provider', 'why'));
  await served(peer, 1);
  const asking = server.askExchange();
  const number = await asked(peer);
  answer(peer, number + 1, new Failure('provider', 'of another'));
  answer(peer, number);
  answer(peer, number, new Failure('provider', 'once more'));
  await asking;
  await served(peer, 3);
});

test('a provider asks from within a call', async (t) => {
  let server;
  const more = {
    two: async (n, text) => {
      await server.askExchange();
      return `${n}${text}`;
    },
  };
  const started = await start(t, { provides: { [ALL]: makeAll({ more }) } });
  server = started.server;
  const peer = await host(started.path);
  peer.send(Kind.CALL, 1, call('two', (w) => { w.uleb(4); w.string('ever'); }));
  answer(peer, await asked(peer));
  const { kind, payload } = await peer.next();
  assert.deepEqual([kind, payload.subarray(2).toString()], [Kind.RESULT, '4ever']);
});

test('a client asks a provider to read its code anew by the same frame', async (t) => {
  let failing = false;
  const reload = () => {
    if (failing) throw new Error('no such code');
    return { [ALL]: makeAll({ more: { context: () => 'new' } }) };
  };
  const { server } = await start(t, { reload });
  const client = await connect(server.address, { wit, imports: [ALL] });
  t.after(() => client.close());
  await client.session.reload();
  assert.equal(await client.imports[ALL].context(), 'new');
  failing = true;
  await assert.rejects(client.session.reload(), { code: 'provider', message: /the old code goes on: Error: no such code/ });
  assert.equal(await client.imports[ALL].context(), 'new');
  await client.close();
  await assert.rejects(client.session.reload(), { code: 'provider-gone' });
});
