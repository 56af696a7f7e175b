// What the benchmark calls, in JavaScript: `node provider.mjs SDK`, SDK being the module of the provider SDK.
import { closeSync, writeSync } from 'node:fs';

const { loadWit, serve } = await import(process.argv[2]);

const CHUNK = new Uint8Array(64 << 10);

async function* source(size) {
  for (let left = Number(size); left > 0; left -= CHUNK.length) yield CHUNK.subarray(0, Math.min(left, CHUNK.length));
}

const server = await serve({
  wit: loadWit(new URL('wit', import.meta.url)),
  provides: {
    'loop:bench/echo@0.1.0': { small: (a, b) => (a + b) >>> 0, echo: (data) => data, typed: (value) => value },
    'loop:bench/streams@0.1.0': { source },
  },
  on: process.env.LOOP_PROVIDER_ADDRESS,
  token: process.env.LOOP_PROVIDER_TOKEN,
  signals: true,
});

// Tells the host where it listens, unless the SDK has done so and taken the variable away.
const ready = Number(process.env.LOOP_PROVIDER_READY);
if (ready) {
  writeSync(ready, `${server.address}\n`);
  closeSync(ready);
}
