#!/usr/bin/env node
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { Provides } from './exports.js';
import { hostSays } from './sidecar.js';
import { reserveStdout } from './transports.js';
import { serve, type ServeOptions } from './serve.js';

const USAGE = `usage: loop-provider-node MODULE [--wit PATH] [--on ADDRESS] [--open]

Serves the default export of MODULE: an object of implementations by the names of
their interfaces, or options of serve() with such an object as \`provides\`.

  --wit PATH     the WIT file or folder (default: wit)
  --on ADDRESS   stdio:, unix:/path or tcp://host:port
                 (default: $LOOP_PROVIDER_ADDRESS, else stdio:)
  --open         serve calls for which no link was bound

Whoever connects must show $LOOP_PROVIDER_TOKEN, where that is set. SIGHUP and the host's
RELOAD import the module again; SIGTERM answers what was begun and exits with 0.
`;

type Exported = Provides | (Partial<ServeOptions> & { provides: Provides });

/** The module's default export, read afresh each time. */
async function load(url: string, generation: number): Promise<Partial<ServeOptions> & { provides: Provides }> {
  const module = (await import(generation === 0 ? url : `${url}?generation=${generation}`)) as { default?: Exported };
  const exported = module.default;
  if (typeof exported !== 'object' || exported === null) {
    throw new TypeError(`${url} has no default export; export an object of implementations by interface`);
  }
  return 'provides' in exported ? (exported as ServeOptions) : { provides: exported };
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      wit: { type: 'string' },
      on: { type: 'string' },
      open: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [module] = positionals;
  if (values.help || module === undefined || positionals.length > 1) {
    process.stderr.write(USAGE);
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  const asked = values.on ?? hostSays.address;
  // The module may print while it is loaded, and may itself say that it is served on stdio.
  if (asked === undefined || asked === 'stdio:') reserveStdout();
  const url = pathToFileURL(resolve(module)).href;
  let generation = 0;
  const exported = await load(url, generation);
  const on = asked ?? exported.on ?? 'stdio:';
  const server = await serve({
    wit: values.wit ?? exported.wit ?? 'wit',
    signals: true,
    ...(values.open ? { open: true } : {}),
    reload: async () => (await load(url, ++generation)).provides,
    ...exported,
    on,
    ...(values.wit === undefined ? {} : { wit: values.wit }),
  });
  if (on !== 'stdio:') process.stderr.write(`listening on ${server.address}\n`);
  await server.closed;
  // Whatever the module still has open, timers and connections, ends with the provider.
  process.exit(0);
}

main().catch((error: unknown) => {
  process.stderr.write(`loop-provider-node: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
