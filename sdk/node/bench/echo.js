// Two processes, one socket: how long a typed call takes alone, and how many a second with 32 in flight.
//   node bench/echo.js [unix|stdio] [calls]
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect, parseWit, serve } from '../dist/index.js';
import { sessionClient } from '../dist/connect.js';
import { Wire } from '../dist/wire.js';

const NAME = 'bench:echo/echo@0.1.0';
const wit = parseWit(`
  package bench:echo@0.1.0;
  interface echo {
    record item { id: u32, name: string, tags: list<string>, score: option<f64> }
    echo: func(text: string) -> string;
    add: func(a: u32, b: u32) -> u32;
    items: func(item: item) -> item;
  }
`);

if (process.argv[2] === 'serve') {
  const provides = { [NAME]: { echo: (text) => text, add: (a, b) => (a + b) >>> 0, items: (item) => item } };
  const server = await serve({ wit, provides, on: process.argv[3], signals: true });
  process.stderr.write(`at ${server.address}\n`);
} else {
  await main(process.argv[2] ?? 'unix', Number(process.argv[3] ?? 200_000));
}

async function main(kind, calls) {
  const folder = mkdtempSync(join(tmpdir(), 'loop-bench-'));
  const address = kind === 'stdio' ? 'stdio:' : `unix:${join(folder, 's')}`;
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'serve', address], { stdio: ['pipe', 'pipe', 'pipe'] });
  await new Promise((resolve) => child.stderr.once('data', resolve));
  const client = kind === 'stdio'
    ? await sessionClient(new Wire(child.stdout, child.stdin, 'child'), { imports: [NAME] }, wit, [wit.interface(NAME)])
    : await connect(address, { wit, imports: [NAME] });
  const { echo, add, items } = client.imports[NAME];
  const item = { id: 7, name: 'seven', tags: ['odd', 'prime'], score: 0.5 };
  const cases = { echo: () => echo('hello, provider'), add: () => add(1, 2), record: () => items(item) };
  const results = {};
  for (const [name, call] of Object.entries(cases)) {
    await inFlight(call, calls / 10, 32);
    const p50 = await alone(call, calls / 20);
    const began = performance.now();
    const usage = process.cpuUsage();
    await inFlight(call, calls, 32);
    const seconds = (performance.now() - began) / 1000;
    const cpu = process.cpuUsage(usage);
    results[name] = {
      p50: Number(p50.toFixed(1)),
      rate: Math.round(calls / seconds),
      client_cpu_us: Number(((cpu.user + cpu.system) / calls).toFixed(2)),
    };
  }
  console.log(JSON.stringify({ kind, calls, unit: { p50: 'µs', rate: 'calls/s, 32 in flight' }, ...results }));
  await client.close();
  child.kill();
  rmSync(folder, { recursive: true });
}

async function alone(call, n) {
  const times = [];
  for (let i = 0; i < n; i++) {
    const began = performance.now();
    await call();
    times.push((performance.now() - began) * 1000);
  }
  return times.sort((a, b) => a - b)[Math.floor(n / 2)];
}

async function inFlight(call, n, at) {
  let left = n;
  const worker = async () => {
    while (left-- > 0) await call();
  };
  await Promise.all(Array.from({ length: at }, worker));
}
