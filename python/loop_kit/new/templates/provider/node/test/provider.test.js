import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, serve } from '@loop-kit/provider';
import provides from '../src/provider.js';

const STORE = 'acme:kv/store@0.1.0';
const wit = new URL('../wit', import.meta.url);

/** Starts the provider, connects to it as a host does, and gives the functions of a link. */
async function link(t, grant, config) {
  const folder = mkdtempSync(join(tmpdir(), 'provider-'));
  const server = await serve({ wit, provides, on: `unix:${join(folder, 'socket')}` });
  const client = await connect(server.address, { wit, imports: [STORE], link: { name: 'test/store', grant, config } });
  t.after(async () => {
    await client.close();
    await server.close();
    rmSync(folder, { recursive: true });
  });
  return client.imports[STORE];
}

test('what was set is got, and listed in order', async (t) => {
  const store = await link(t);
  await store.set('b', '2');
  await store.set('a', '1');
  assert.equal(await store.get('a'), '1');
  assert.equal(await store.get('c'), undefined);
  const keys = [];
  for await (const key of await store.keys()) keys.push(key);
  assert.deepEqual(keys, ['a', 'b']);
});

test('a grant is kept to', async (t) => {
  const store = await link(t, { prefix: 'cart/' });
  await store.set('cart/1', 'apple');
  await assert.rejects(store.get('orders/1'), { name: 'ResultError', payload: { tag: 'denied' } });
});

test('a full store says so', async (t) => {
  const store = await link(t, undefined, { most: 1 });
  await store.set('a', '1');
  await assert.rejects(store.set('b', '2'), { payload: { tag: 'full', val: 1 } });
});
