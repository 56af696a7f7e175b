import type { Clock } from './clock.js';
import { Exports, type Provides } from './exports.js';
import { makeImports } from './imports.js';
import { Link } from './links.js';
import type { Limits } from './messages.js';
import { PlainCaller } from './plain-client.js';
import { Session } from './session.js';
import { connectWire, parseAddress, type TlsOptions } from './transports.js';
import type { Interface } from './types.js';
import type { Wire } from './wire.js';
import { loadWit, type Wit } from './wit.js';

/** How to reach a provider. */
export interface ConnectOptions {
  /** A WIT file or folder, or what `loadWit` or `parseWit` made of one. */
  readonly wit: string | URL | Wit;
  /** The interfaces to be called. */
  readonly imports: readonly string[];
  /** What the provider may call here. */
  readonly provides?: Provides;
  /** `plain` speaks wRPC with any server of it, one connection for each call; the default is `session`. */
  readonly mode?: 'session' | 'plain';
  /** Binds the first link with this; without it, link 0 is used, which providers may refuse to serve. */
  readonly link?: LinkOptions;
  readonly identity?: string;
  /** Proof for a provider that asks for one. */
  readonly token?: string | Uint8Array;
  readonly tls?: TlsOptions;
  readonly limits?: Partial<Limits>;
  readonly clock?: Clock;
}

/** What a link is bound with. */
export interface LinkOptions {
  /** `component/interface`, for messages. */
  readonly name?: string;
  /** Anything that JSON can say. */
  readonly grant?: unknown;
  /** Anything that JSON can say. */
  readonly config?: unknown;
}

/** Imported functions, by the full names of their interfaces as they were asked for. */
export type Imports = Readonly<Record<string, ImportedInterface>>;

/**
 * An interface of the other side: an async function for each of its functions, under its camelCase name, and a class
 * for each resource. The class has `construct` for the constructor, and its static functions and methods. After the
 * arguments, each takes `CallOptions`.
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- its functions are known from the WIT alone
export type ImportedInterface = Readonly<Record<string, any>>;

/** A connection to a provider. */
export interface Client extends AsyncDisposable {
  readonly imports: Imports;
  /** Binds a further link, with functions of its own. Rejects with the provider's Failure. */
  link(options: LinkOptions): Promise<{ readonly imports: Imports; unlink(): void }>;
  /** Ends the connection once what was begun is answered, or after `grace` milliseconds. */
  close(grace?: number): Promise<void>;
  /** Settles once the connection is over, with the reason. */
  readonly closed: Promise<Error>;
  /** @internal */
  readonly session?: Session;
}

/**
 * Connects to a provider.
 * Rejects with a Failure where the provider refuses or does not fit, with the system's error where it is not there.
 */
export async function connect(address: string, options: ConnectOptions): Promise<Client> {
  const wit = witOf(options.wit);
  const wants = options.imports.map((name) => wit.interface(name));
  const where = parseAddress(address);
  if (options.mode === 'plain') return plainClient(() => connectWire(where, options.tls), options, wants);
  return sessionClient(await connectWire(where, options.tls), options, wit, wants);
}

/** A client over a connection that is there. */
export async function sessionClient(
  wire: Wire,
  options: ConnectOptions,
  wit: Wit,
  wants: readonly Interface[],
): Promise<Client> {
  const { identity, token, limits, clock } = options;
  const session = new Session(wire, {
    role: 'connect',
    exports: new Exports(wit, options.provides ?? {}),
    wants,
    identity,
    token: typeof token === 'string' ? Buffer.from(token) : token,
    limits,
    clock,
  });
  await session.ready;
  const link = async ({ name = 'client', grant, config }: LinkOptions): Promise<Link> => session.links.link(name, grant, config);
  const first = options.link ? await link(options.link) : session.links.zero;
  const close = (grace?: number): Promise<void> => session.leave('the client is done', grace);
  return {
    imports: named(options, wants, makeImports(session, first, wants)),
    link: async (about) => {
      const bound = await link(about);
      const imports = named(options, wants, makeImports(session, bound, wants));
      return { imports, unlink: () => session.links.unlink(bound) };
    },
    close,
    closed: session.closed,
    session,
    [Symbol.asyncDispose]: () => close(),
  };
}

function plainClient(open: () => Promise<Wire>, options: ConnectOptions, wants: readonly Interface[]): Client {
  const info = { number: 0, name: 'plain', grant: undefined, config: undefined };
  const link = new Link({ ended: false, drop: () => undefined }, info, []);
  return {
    imports: named(options, wants, makeImports(new PlainCaller(open, wants), link, wants)),
    link: () => Promise.reject(new TypeError('plain wRPC has no links')),
    close: () => Promise.resolve(),
    closed: new Promise(() => undefined),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function named(options: ConnectOptions, wants: readonly Interface[], made: Readonly<Record<string, unknown>>): Imports {
  return Object.fromEntries(
    options.imports.map((name, index) => [name, made[(wants[index] as Interface).name] as ImportedInterface]),
  );
}

export function witOf(wit: string | URL | Wit): Wit {
  return typeof wit === 'string' || wit instanceof URL ? loadWit(wit) : wit;
}

