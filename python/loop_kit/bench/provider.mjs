// What the benchmark calls, in JavaScript: `node provider.mjs SDK`, SDK being the module of the provider SDK.
const { loadWit, serve } = await import(process.argv[2]);

const CHUNK = new Uint8Array(64 << 10);

async function* source(size) {
  for (let left = Number(size); left > 0; left -= CHUNK.length) yield CHUNK.subarray(0, Math.min(left, CHUNK.length));
}

await serve({
  wit: loadWit(new URL('wit', import.meta.url)),
  provides: {
    'loop:bench/echo@0.1.0': { small: (a, b) => (a + b) >>> 0, echo: (data) => data, typed: (value) => value },
    'loop:bench/streams@0.1.0': { source },
  },
});
