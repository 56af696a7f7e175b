import { randomUUID } from 'node:crypto';
import { Failure, protocolError } from './errors.js';
import { findOffer, offersOf, type Exports } from './exports.js';
import type { Hello, InterfaceOffer, Limits } from './messages.js';
import type { Interface } from './types.js';

/** The bounds of `docs/wire.md`. */
export const DEFAULT_LIMITS: Limits = {
  message: BigInt(64 * 1024 * 1024 + 64 * 1024),
  calls: 1024,
  channels: 256,
  window: 1024 * 1024,
  connection: 16 * 1024 * 1024,
  idle: 30_000,
};

const SOFTWARE = 'loop-kit-node/0.1.0';
const INSTANCE = randomUUID();

/** What this side says of itself. */
export interface Introduction {
  identity?: string | undefined;
  token?: Uint8Array | undefined;
  generation?: number | undefined;
  /** JSON Schema of what a link may configure. */
  configSchema?: object | undefined;
  /** Further addresses of this side. */
  transports?: readonly string[] | undefined;
}

export function helloOf(about: Introduction, exports: Exports, imports: readonly Interface[], limits: Limits): Hello {
  return {
    protocol: 1,
    software: SOFTWARE,
    identity: about.identity ?? '',
    token: about.token ?? new Uint8Array(0),
    instance: INSTANCE,
    generation: BigInt(about.generation ?? 1),
    exports: offersOf(exports.interfaces),
    imports: offersOf(imports),
    limits,
    configSchema: about.configSchema === undefined ? '' : JSON.stringify(about.configSchema),
    transports: [...(about.transports ?? [])],
    resume: new Uint8Array(0),
  };
}

/**
 * Whether two sides go together.
 * @throws Failure that says why they do not.
 */
export function checkHello(theirs: Hello, exports: Exports): void {
  if (theirs.protocol !== 1) {
    throw new Failure('version-mismatch', `the peer speaks protocol ${theirs.protocol}, this is 1; update the older of the two`, {
      fields: { ours: '1', theirs: String(theirs.protocol) },
    });
  }
  if (Buffer.byteLength(theirs.identity) > 256) throw protocolError('an identity of more than 256 bytes');
  const ours = offersOf(exports.interfaces);
  for (const wanted of theirs.imports) findOffer(ours, wanted);
}

/** Where in the peer's numbering what we import is. */
export class Offered {
  readonly #functions = new Map<string, number>();
  readonly #resources = new Map<string, number>();

  /** @throws Failure where an import is not among the offers. */
  constructor(offers: readonly InterfaceOffer[], imports: readonly Interface[]) {
    const wanted = offersOf(imports).map((want) => ({ want: want.name, offer: findOffer(offers, want) }));
    let functions = 0;
    let resources = 0;
    for (const offer of offers) {
      for (const { want } of wanted.filter((one) => one.offer === offer)) {
        offer.functions.forEach((name, index) => this.#functions.set(`${want} ${name}`, functions + index));
        offer.resources.forEach((name, index) => this.#resources.set(`${want} ${name}`, resources + index));
      }
      functions += offer.functions.length;
      resources += offer.resources.length;
    }
  }

  func(face: string, name: string): number | undefined {
    return this.#functions.get(`${face} ${name}`);
  }

  resource(face: string, name: string): number | undefined {
    return this.#resources.get(`${face} ${name}`);
  }
}
