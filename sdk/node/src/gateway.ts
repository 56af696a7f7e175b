import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { hostSays } from './sidecar.js';
import { listen, type Asked, type Listener } from './transports.js';
import type { Wire } from './wire.js';

/** The descriptor at which the gateway says that it is ready. */
const READY = 3;

/**
 * Takes connections of a transport that is not spoken here, by way of the host's gateway: a process that hands the
 * frames of every connection on to a socket of this process. The gateway is told what must be shown; it is not trusted
 * with who may call, since the session is with this process.
 * Rejects where the gateway cannot listen there.
 */
export async function listenThrough(
  gateway: readonly string[],
  address: string,
  known: boolean,
  onWire: (wire: Wire) => void,
): Promise<Listener> {
  const folder = mkdtempSync(join(tmpdir(), 'loop-'));
  const path = join(folder, 'socket');
  const asked: Asked = { known };
  const inner = await listen({ kind: 'unix', path }, asked, onWire);
  const [program = '', ...words] = gateway;
  const child = spawn(program, [...words, '--on', address, '--to', `unix:${path}`], {
    env: { ...process.env, LOOP_PROVIDER_READY: String(READY), LOOP_PROVIDER_TOKEN: hostSays.token ?? '' },
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  const ended = once(child, 'exit').then(() => undefined);
  const close = async (): Promise<void> => {
    child.kill();
    await ended.catch(() => undefined);
    await inner.close();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    return { address: await ready(child, ended), close, ended };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Where it listens, once it does. */
async function ready(child: ChildProcess, ended: Promise<void>): Promise<string> {
  const said = createInterface({ input: child.stdio[READY] as Readable });
  const line = await Promise.race([once(said, 'line').then(([text]) => String(text)), ended]);
  if (line === undefined) throw new Error('the gateway ended before it listened; it has said why');
  return line;
}
