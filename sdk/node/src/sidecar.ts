import { closeSync, writeSync } from 'node:fs';

/** What the host that started this process says about where and for whom to serve; `docs/sidecars.md` lists it. */
export const hostSays = {
  get address(): string | undefined {
    return process.env['LOOP_PROVIDER_ADDRESS'] || undefined;
  },
  get token(): string | undefined {
    return process.env['LOOP_PROVIDER_TOKEN'] || undefined;
  },
  /** The program, with its arguments, that reaches this process over transports that are not spoken here. */
  get gateway(): readonly string[] | undefined {
    const said = process.env['LOOP_PROVIDER_GATEWAY'];
    return said ? (JSON.parse(said) as string[]) : undefined;
  },
};

/** Tells that host where this process really listens; once, and nothing where there is none. */
export function announce(address: string): void {
  const said = process.env['LOOP_PROVIDER_READY'];
  delete process.env['LOOP_PROVIDER_READY'];
  if (said === undefined || !/^\d+$/.test(said)) return;
  writeSync(Number(said), `${address}\n`);
  closeSync(Number(said));
}
