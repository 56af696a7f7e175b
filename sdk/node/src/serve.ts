import { timingSafeEqual } from 'node:crypto';
import { systemClock, type Clock } from './clock.js';
import { witOf } from './connect.js';
import { Failure } from './errors.js';
import { Exports, type Provides } from './exports.js';
import { DEFAULT_LIMITS } from './hello.js';
import type { Hello, Limits } from './messages.js';
import { PLAIN, PlainHandles } from './plain.js';
import { PlainCall, type PlainServing } from './plain-server.js';
import { PREFACE } from './frames.js';
import { listenThrough } from './gateway.js';
import { announce, hostSays } from './sidecar.js';
import { HANDSHAKE, Session, type SessionOptions } from './session.js';
import { listen, parseAddress, type Listener, type TlsOptions } from './transports.js';
import type { Wire } from './wire.js';
import type { Wit } from './wit.js';

/** What to serve, and where. */
export interface ServeOptions {
  /** A WIT file or folder, or what `loadWit` or `parseWit` made of one. */
  readonly wit: string | URL | Wit;
  /** What serves each interface. */
  readonly provides: Provides;
  /** `stdio:`, `unix:/path` or `tcp://host:port`; the default is what the host says that started this process, else `stdio:`. */
  readonly on?: string;
  /** Interfaces of the caller that this provider calls; its functions find them as `imports` in their context. */
  readonly imports?: readonly string[];
  /**
   * Whether calls are served for which no link was bound, so without a grant. The default is yes where every
   * implementation is an object, no where one of them is a function.
   */
  readonly open?: boolean;
  /** Whether plain wRPC is answered as well, where calls without a link are; the default is yes. */
  readonly plain?: boolean;
  /** Whether plain calls may return resources, which then live until the server closes; the default is no. */
  readonly plainHandles?: boolean;
  readonly identity?: string;
  /** What a peer must show to be served; the default is what the host says that started this process. */
  readonly token?: string | Uint8Array;
  readonly tls?: TlsOptions;
  /** JSON Schema of what a link may configure. */
  readonly configSchema?: object;
  /** Gives other implementations of the same interfaces when the host asks to reload. */
  readonly reload?: () => Provides | Promise<Provides>;
  /** Whether SIGTERM and SIGINT close the server, and SIGHUP reloads it; the default is yes on stdio. */
  readonly signals?: boolean;
  /** How long calls may go on once the server is told to close, in milliseconds; the default is 10,000. */
  readonly grace?: number;
  readonly limits?: Partial<Limits>;
  readonly clock?: Clock;
}

const LONG = 1 << 30;

/** A provider at work. */
export interface ServerHandle extends AsyncDisposable {
  /** Where it is reached, with the port that was chosen where 0 was given. */
  readonly address: string;
  /**
   * Asks all who are connected to exchange this provider for a new one, its code read anew; calls that have begun end here.
   * Settles once all have taken that up: what a host cannot start it logs, and this one serves on. Rejects with the Failure
   * of the first that refuses, such as `overloaded` of one that was asked a moment ago, or with `provider-gone` where
   * nobody is connected, or whoever was asked leaves before it has answered.
   */
  askExchange(): Promise<void>;
  /** Takes nothing new, answers what was begun, then closes. */
  close(): Promise<void>;
  /** Settles once it has closed: by `close`, by a signal, or on stdio because its peer has gone. */
  readonly closed: Promise<void>;
}

/**
 * Serves interfaces until it is closed.
 * Rejects with a TypeError where an implementation lacks a function or the address may not be used, with a WitError
 * where the WIT lacks an interface.
 */
export async function serve(options: ServeOptions): Promise<ServerHandle> {
  const server = new Serving(options);
  await server.listen();
  return server;
}

class Serving implements ServerHandle {
  address = '';
  readonly closed: Promise<void>;
  readonly #options: ServeOptions;
  readonly #wit: Wit;
  readonly #clock: Clock;
  readonly #plain: PlainServing;
  readonly #sessions = new Set<Session>();
  readonly #calls = new Set<PlainCall>();
  readonly #waiting = new Set<Wire>();
  readonly #token: Buffer | undefined;
  readonly #onSignal = (): void => void this.close();
  readonly #onHangup = (): void => {
    this.#reload().catch((error: unknown) => console.error('the reload failed, the old code goes on:', error));
  };
  #exports: Exports;
  #generation = 1;
  #stopListening: () => Promise<void> = () => Promise.resolve();
  #closing: Promise<void> | undefined;
  #onClosed!: () => void;

  constructor(options: ServeOptions) {
    this.#options = options;
    this.#wit = witOf(options.wit);
    this.#clock = options.clock ?? systemClock;
    this.#exports = new Exports(this.#wit, options.provides);
    const token = options.token ?? hostSays.token;
    this.#token = token === undefined ? undefined : Buffer.from(token);
    this.closed = new Promise((resolve) => {
      this.#onClosed = resolve;
    });
    this.#plain = {
      exports: this.#exports,
      objects: undefined,
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      clock: this.#clock,
      handles: new PlainHandles(),
      giveHandles: options.plainHandles ?? false,
    };
  }

  async listen(): Promise<void> {
    await this.#bindPlain(this.#exports);
    const on = this.#options.on ?? hostSays.address ?? 'stdio:';
    const only = on === 'stdio:';
    const listener = await this.#listener(on, (wire) => this.#accept(wire, only));
    this.address = listener.address;
    this.#stopListening = () => listener.close();
    void listener.ended?.then(() => this.close());
    if (this.#options.signals ?? only) {
      process.once('SIGTERM', this.#onSignal);
      process.once('SIGINT', this.#onSignal);
      if (this.#options.reload) process.on('SIGHUP', this.#onHangup);
    }
    announce(this.address);
  }

  #listener(on: string, onWire: (wire: Wire) => void): Promise<Listener> {
    const known = this.#token !== undefined;
    const { gateway } = hostSays;
    if (gateway && /^(quic|http2|ws|nats):/.test(on)) return listenThrough(gateway, on, known, onWire);
    const listening = listen(parseAddress(on), { tls: this.#options.tls, known }, onWire);
    return on.startsWith('shm:') ? listening.then((listener) => ({ ...listener, address: on })) : listening;
  }

  /** What plain calls are served by; they have no link, so only where those are open. */
  async #bindPlain(exports: Exports): Promise<void> {
    const { plain = true, open = exports.plain } = this.#options;
    if (!plain || !open) return;
    const link = { number: 0, name: 'plain', grant: undefined, config: undefined };
    Object.assign(this.#plain, { exports, objects: await exports.bind(link) });
  }

  /** The first byte says which of the two ways a peer speaks. */
  #accept(wire: Wire, only: boolean): void {
    const drop = (): void => {
      stop();
      this.#waiting.delete(wire);
      wire.destroy();
      if (only) void this.close();
    };
    const stop = this.#clock.after(HANDSHAKE, drop);
    this.#waiting.add(wire);
    wire.use({
      data: (chunk) => {
        stop();
        this.#waiting.delete(wire);
        if (chunk[0] === PREFACE[0]) this.#session(wire, only).feed(chunk);
        else if (chunk[0] === PLAIN && this.#servesPlain) this.#call(wire, only).feed(chunk);
        else drop();
      },
      end: drop,
      drain: () => undefined,
      close: drop,
    });
  }

  /** Plain mode has no room for a token: where one is asked for, only a verified certificate does. */
  get #servesPlain(): boolean {
    return this.#options.plain !== false && (this.#token === undefined || this.#options.tls?.ca !== undefined);
  }

  #session(wire: Wire, only: boolean): Session {
    const session = new Session(wire, this.#sessionOptions(only));
    this.#sessions.add(session);
    void session.closed.then(() => {
      this.#sessions.delete(session);
      if (only) void this.close();
    });
    return session;
  }

  #sessionOptions(only: boolean): SessionOptions {
    const { identity, configSchema, imports = [], limits, open } = this.#options;
    return {
      role: 'accept',
      exports: this.#exports,
      wants: imports.map((name) => this.#wit.interface(name)),
      identity,
      configSchema,
      limits,
      open,
      clock: this.#clock,
      generation: this.#generation,
      drainOnEnd: only,
      ...(this.#token ? { authenticate: (hello: Hello) => this.#knows(hello.token) } : {}),
      ...(this.#options.reload ? { reload: () => this.#reload() } : {}),
    };
  }

  #knows(token: Uint8Array): boolean {
    const wanted = this.#token as Buffer;
    return token.length === wanted.length && timingSafeEqual(token, wanted);
  }

  #call(wire: Wire, only: boolean): PlainCall {
    const call = new PlainCall(wire, this.#plain, () => {
      this.#calls.delete(call);
      if (only) void this.close();
    });
    this.#calls.add(call);
    return call;
  }

  async #reload(): Promise<void> {
    const provides = await (this.#options.reload as () => Provides | Promise<Provides>)();
    const names = Object.keys(provides).join(', ');
    const before = this.#exports.interfaces.map((face) => face.name).join(', ');
    const next = new Exports(this.#wit, provides);
    if (next.interfaces.map((face) => face.name).join(', ') !== before) {
      throw new TypeError(`the new code provides ${names}, the old ${before}; restart the provider to change that`);
    }
    const commits = await Promise.all([...this.#sessions].map((session) => session.prepare(next)));
    await this.#bindPlain(next);
    for (const commit of commits) commit();
    this.#exports = next;
    this.#generation++;
  }

  async askExchange(): Promise<void> {
    const sessions = [...this.#sessions].filter((session) => session.open);
    if (sessions.length === 0) throw new Failure('provider-gone', 'nobody is connected who could exchange this provider');
    await Promise.all(sessions.map((session) => session.reload()));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    process.off('SIGTERM', this.#onSignal);
    process.off('SIGINT', this.#onSignal);
    process.off('SIGHUP', this.#onHangup);
    const { grace = 10_000 } = this.#options;
    // A connection whose peer has sent its last keeps no process, yet its call is still to be answered.
    const hold = setInterval(() => undefined, LONG);
    const stopped = this.#stopListening();
    for (const wire of this.#waiting) wire.destroy();
    const calls = [...this.#calls].map((call) => call.over);
    const stop = this.#clock.after(grace, () => [...this.#calls].forEach((call) => call.close()));
    await Promise.all([...[...this.#sessions].map((session) => session.leave('the provider is closing', grace)), ...calls]);
    stop();
    await stopped;
    clearInterval(hold);
    this.#onClosed();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
