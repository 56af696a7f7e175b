import { Reader, Writer } from './bytes.js';
import { Assembler } from './assembler.js';
import { Calls } from './calls.js';
import { systemClock, type Clock } from './clock.js';
import { Failure, protocolError, WireError } from './errors.js';
import { Exchange, type Handles } from './exchange.js';
import type { Exports } from './exports.js';
import { FrameReader, Kind, MAX_FRAME, MORE, PREFACE } from './frames.js';
import type { Proxy } from './handles.js';
import { checkHello, DEFAULT_LIMITS, helloOf, Offered, type Introduction } from './hello.js';
import type { InboundCall } from './inbound.js';
import { makeImports, makeProxy } from './imports.js';
import type { Link } from './links.js';
import { LinkBook } from './link-book.js';
import { readFailure, readHello, readOutcome, writeFailure, writeHello, writeOutcome, type Hello, type Limits } from './messages.js';
import { Output } from './output.js';
import type { CallOptions } from './outbound.js';
import { SessionPort } from './session-port.js';
import { Signature } from './signature.js';
import type { Interface, Resource } from './types.js';
import type { Wire } from './wire.js';

/** How long preface, HELLO and WELCOME may take, in milliseconds. */
export const HANDSHAKE = 10_000;
/** How long a side that was told to close may take, in milliseconds. */
const LINGER = 2_000;

/** What a session is made of. */
export interface SessionOptions extends Introduction {
  /** Which side this is. */
  readonly role: 'connect' | 'accept';
  readonly exports: Exports;
  /** What this side means to call. */
  readonly wants: readonly Interface[];
  readonly limits?: Partial<Limits> | undefined;
  readonly clock?: Clock | undefined;
  /** Whether link 0 is served. */
  readonly open?: boolean | undefined;
  /** Whether a peer that says this of itself may go on. */
  readonly authenticate?: ((hello: Hello) => boolean) | undefined;
  /** Reads code or configuration again. */
  readonly reload?: (() => Promise<void>) | undefined;
  /** The end of what the peer sends does not end the calls it sent before. */
  readonly drainOnEnd?: boolean | undefined;
}

type State = 'handshake' | 'open' | 'closed';

/** One connection between loop-kit peers, with calls both ways. */
export class Session {
  exports: Exports;
  readonly clock: Clock;
  readonly limits: Limits;
  /** @internal */
  readonly output: Output;
  /** @internal */
  readonly port: SessionPort;
  /** @internal */
  readonly links: LinkBook;
  /** Settles once both sides have agreed, or with the reason why they did not. */
  readonly ready: Promise<Hello>;
  /** Settles once the session is over; never fails. */
  readonly closed: Promise<Failure>;
  /** A relay is between that is to be told by DONE when a call from here is over. */
  relayed = false;
  /** Why nothing new is begun, once it is so. */
  leaving: Failure | undefined;
  readonly #wire: Wire;
  readonly #options: SessionOptions;
  readonly #frames: FrameReader;
  readonly #reader = new Reader(Buffer.alloc(0));
  readonly #calls: Calls;
  readonly #assembler: Assembler;
  #state: State = 'handshake';
  #offered: Offered | undefined;
  /** RELOADs that were sent and are not answered yet, by their numbers. */
  readonly #reloads = new Map<number, { resolve(): void; reject(failure: Failure): void }>();
  #lastReload = 0;
  #timer: () => void;
  #heard = true;
  #silent = 0;
  #written = 0;
  #onReady!: { resolve(hello: Hello): void; reject(error: Failure): void };
  #onClosed!: (failure: Failure) => void;

  constructor(wire: Wire, options: SessionOptions) {
    this.#wire = wire;
    this.#options = options;
    this.exports = options.exports;
    this.clock = options.clock ?? systemClock;
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.ready = new Promise((resolve, reject) => {
      this.#onReady = { resolve, reject };
    });
    this.ready.catch(() => undefined);
    this.closed = new Promise((resolve) => {
      this.#onClosed = resolve;
    });
    this.output = new Output(wire, () => this.#flushed());
    this.port = new SessionPort(this.output, this.limits, (exchange) => this.#calls.idle(exchange));
    this.#assembler = new Assembler(Number(this.limits.message));
    this.links = new LinkBook(this, options.open ?? options.exports.plain);
    this.#calls = new Calls(this, this.#assembler, options.role === 'connect');
    this.#frames = new FrameReader((...frame) => this.#onFrame(...frame), options.role === 'accept');
    this.#timer = this.clock.after(HANDSHAKE, () => this.#fail(protocolError(`no handshake within ${HANDSHAKE / 1000} s`)));
    wire.use({
      data: (chunk) => this.feed(chunk),
      end: () => this.#onEnd(),
      drain: () => {
        this.#flushed();
        this.output.schedule();
      },
      close: (error) => {
        const reason = gone(`the connection to ${wire.peer} broke off`, error);
        this.#shut(reason);
        this.#onClosed(reason);
      },
    });
    if (options.role === 'connect') {
      this.output.writer.raw(PREFACE);
      this.#introduce(Kind.HELLO);
    }
  }

  get ended(): boolean {
    return this.#state === 'closed';
  }

  /** Whether both sides have agreed, and neither is leaving. */
  get open(): boolean {
    return this.#state === 'open' && this.leaving === undefined;
  }

  /** @internal Takes bytes that came. */
  feed(chunk: Buffer): void {
    this.#heard = true;
    try {
      this.#frames.push(chunk);
    } catch (error) {
      this.#fail(error);
    }
  }

  #introduce(kind: number): void {
    const hello = helloOf(this.#options, this.exports, this.#options.wants, this.limits);
    this.output.frame(kind, 0, (writer) => writeHello(writer, hello));
  }

  #onFrame(byte: number, stream: number, buf: Buffer, pos: number, end: number): void {
    if (this.#state === 'closed') return;
    const reader = this.#reader.over(buf, pos, end);
    if (this.#state === 'handshake') return this.#handshake(byte, stream, reader);
    const kind = byte & ~MORE;
    if (kind >= Kind.CALL && kind <= Kind.LOST) this.#calls.frame(kind, stream, reader, byte !== kind);
    else if (byte !== kind) throw protocolError(`a frame of kind ${byte}, which is not known`);
    else this.#control(kind, stream, reader);
    if (this.output.full) this.#hold();
  }

  #handshake(kind: number, stream: number, reader: Reader): void {
    const accepts = this.#options.role === 'accept';
    if (stream === 0 && kind === Kind.REFUSE && !accepts) {
      const refusal = readFailure(reader);
      this.#onReady.reject(refusal);
      this.#shut(refusal);
    } else if (stream === 0 && kind === (accepts ? Kind.HELLO : Kind.WELCOME)) {
      const hello = readHello(reader);
      reader.finish();
      this.#meet(hello, accepts);
    } else {
      throw protocolError(`a frame of kind ${kind} before the handshake was through`);
    }
  }

  #meet(theirs: Hello, accepts: boolean): void {
    checkHello(theirs, this.exports);
    if (this.#options.authenticate?.(theirs) === false) {
      throw new Failure('unauthenticated', 'the peer did not prove who it is; give it the token that is asked for here');
    }
    this.relayed = theirs.transports.includes('done:');
    this.#offered = new Offered(theirs.exports, this.#options.wants);
    const { window, connection, channels, calls, message } = theirs.limits;
    Object.assign(this.output, { window, credit: connection, connection });
    Object.assign(this.port, { writeWindow: window, mostOuts: channels });
    this.#calls.allow(calls, Number(message));
    if (accepts) this.#introduce(Kind.WELCOME);
    this.#state = 'open';
    this.#timer();
    this.#keepAlive();
    this.#onReady.resolve(theirs);
  }

  #control(kind: number, stream: number, reader: Reader): void {
    if (stream !== 0) {
      if (Object.values<number>(Kind).includes(kind)) throw protocolError(`a frame of kind ${kind} on stream ${stream}`);
      return;
    }
    switch (kind) {
      case Kind.PING: {
        if (reader.left !== 8) throw protocolError('a PING is of 8 bytes');
        const bytes = reader.raw(8);
        return this.output.frame(Kind.PONG, 0, (writer) => writer.raw(bytes));
      }
      case Kind.GOAWAY:
        return this.#onGoaway(readFailure(reader));
      case Kind.RELOAD:
        return this.#onReload(reader.uleb());
      case Kind.RELOADED:
        return this.#onReloaded(reader);
      case Kind.LINK:
        return this.links.onLink(reader);
      case Kind.LINKED:
        return this.links.onLinked(reader.uleb(), readOutcome(reader));
      case Kind.UNLINK:
        return this.links.onUnlink(reader.uleb());
      case Kind.DROP:
        return this.links.onDrop(reader.uleb(), reader.uleb(), reader.bytes('bytes of a handle'));
      case Kind.HELLO:
      case Kind.WELCOME:
      case Kind.REFUSE:
        throw protocolError(`a frame of kind ${kind} after the handshake`);
    }
  }

  #onGoaway(reason: Failure): void {
    this.#refuseNew(new Failure('provider-gone', `the peer is leaving: ${reason.message}`, { retryable: true }));
  }

  #refuseNew(reason: Failure): void {
    this.leaving ??= reason;
    this.#calls.refuseWaiting(reason);
    this.checkDrained();
  }

  #onReload(number: number): void {
    const { reload } = this.#options;
    const answer = (outcome: Failure | undefined): void => {
      if (this.ended) return;
      this.output.frame(Kind.RELOADED, 0, (writer) => {
        writer.uleb(number);
        writeOutcome(writer, outcome);
      });
    };
    const failed = (message: string): void => answer(new Failure('provider', message));
    if (!reload && this.#options.role === 'connect') return failed('it is reached by a client, which exchanges nobody');
    if (!reload) return failed('this provider cannot reload; restart it');
    reload().then(
      () => answer(undefined),
      (error: unknown) => failed(`the reload failed, the old code goes on: ${String(error)}`),
    );
  }

  /**
   * Asks the peer to read its code anew, where it is a provider, or to exchange this side for another one of its kind,
   * where it is a host. Settles once it says that it has taken that up; rejects with the Failure that it answers.
   */
  reload(): Promise<void> {
    if (!this.open) return Promise.reject(this.leaving ?? gone('the session has not begun'));
    this.#lastReload = (this.#lastReload + 1) >>> 0;
    const number = this.#lastReload;
    return new Promise((resolve, reject) => {
      this.#reloads.set(number, { resolve, reject });
      this.output.frame(Kind.RELOAD, 0, (writer) => writer.uleb(number));
    });
  }

  #onReloaded(reader: Reader): void {
    const number = reader.uleb();
    const outcome = readOutcome(reader);
    reader.finish();
    const asked = this.#reloads.get(number);
    this.#reloads.delete(number);
    if (outcome) asked?.reject(outcome);
    else asked?.resolve();
  }

  /** Nothing more comes from the peer. */
  #failReloads(reason: Failure): void {
    for (const { reject } of this.#reloads.values()) reject(reason);
    this.#reloads.clear();
  }

  /** Lets new calls be served by other code of the same interfaces, from when the returned function is called. */
  async prepare(next: Exports): Promise<() => void> {
    const commit = await this.links.rebind(next);
    return () => {
      commit();
      this.exports = next;
    };
  }

  /**
   * Ends the session in order: nothing new is begun, what was begun is answered.
   * After `grace` milliseconds the rest is cut off.
   */
  async leave(message = 'this side is closing', grace = 10_000): Promise<void> {
    if (this.#state === 'handshake') this.#shut(gone(message));
    if (this.ended) return;
    const reason = new Failure('provider-gone', message, { retryable: true });
    this.output.frame(Kind.GOAWAY, 0, (writer) => writeFailure(writer, reason));
    const stop = this.clock.after(grace, () => this.#shut(reason));
    this.#refuseNew(reason);
    await this.closed;
    stop();
  }

  /** @internal Closes a session that is leaving once its last call is through. */
  checkDrained(): void {
    if (this.leaving && this.#state === 'open' && this.#calls.drained) this.#shut(this.leaving);
  }

  /** Ends the session at once. */
  destroy(reason: Failure = gone('the session was ended on this side')): void {
    this.#shut(reason);
  }

  #onEnd(): void {
    const reason = gone(`${this.#wire.peer} closed the connection`);
    if (this.#options.drainOnEnd && this.#state === 'open') {
      this.#calls.failOutbound(reason);
      this.#failReloads(reason);
      this.#refuseNew(reason);
    } else {
      this.#shut(reason);
    }
  }

  #fail(error: unknown): void {
    if (this.ended) return;
    const failure =
      error instanceof WireError ? protocolError(`a frame that does not decode: ${error.message}`) : (error as Failure);
    const kind = this.#state === 'open' || this.#options.role === 'connect' ? Kind.GOAWAY : Kind.REFUSE;
    if (!(failure instanceof Failure)) {
      this.#shut(gone('this side failed', failure));
      throw failure;
    }
    this.output.frame(kind, 0, (writer) => writeFailure(writer, failure));
    this.#onReady.reject(failure);
    this.#shut(failure);
  }

  #shut(failure: Failure): void {
    if (this.ended) return;
    this.#state = 'closed';
    this.leaving ??= failure;
    this.#frames.stop();
    this.#timer();
    this.#onReady.reject(failure);
    this.#calls.end(failure);
    this.#failReloads(failure);
    this.links.end();
    this.output.close();
    // A peer that reads no more must not keep the connection.
    const stop = this.clock.after(LINGER, () => this.#wire.destroy());
    this.#wire.end(() => {
      stop();
      this.#wire.destroy();
      this.#onClosed(failure);
    });
  }

  /** Too much waits for the peer to take it: nothing more is read until it has. */
  #hold(): void {
    this.#frames.pause();
    this.#wire.pause();
  }

  #flushed(): void {
    if (this.ended) return;
    if (this.#frames.paused && !this.output.full) {
      this.#wire.resume();
      try {
        this.#frames.resume();
      } catch (error) {
        this.#fail(error);
      }
    }
    if (!this.output.congested) this.port.kick();
  }

  #keepAlive(): void {
    this.#timer = this.clock.after(this.limits.idle / 3, () => {
      // While reading is held, the peer shows that it lives by taking what waits for it.
      const moved = this.#frames.paused && this.#wire.pending !== this.#written;
      this.#written = this.#wire.pending;
      this.#silent = this.#heard || moved ? 0 : this.#silent + 1;
      this.#heard = false;
      if (this.#silent >= 3) return this.#shut(gone(`nothing was heard of ${this.#wire.peer} for ${this.limits.idle} ms`));
      if (this.#silent > 0) this.output.frame(Kind.PING, 0, (writer) => writer.raw(new Uint8Array(8)));
      this.#keepAlive();
    });
  }

  /**
   * Calls a function of the peer.
   * Rejects with a ResultError where the function returned its error, else with a Failure.
   */
  call(link: Link, signature: Signature, args: readonly unknown[], options?: CallOptions): Promise<unknown> {
    const number = this.#offered?.func(signature.interface, signature.func.name);
    if (number === undefined) return Promise.reject(Signature.missing(signature.interface, signature.func.name));
    return this.#calls.call(link, signature, number, args, options);
  }

  /** @internal Whether calls of the resource go to the peer. */
  imports(resource: Resource): boolean {
    return this.#options.wants.some((face) => face.name === resource.interface);
  }

  /** @internal */
  importsOf(link: Link): Readonly<Record<string, unknown>> {
    return makeImports(this, link, this.#options.wants);
  }

  /** @internal */
  proxy(link: Link, resource: Resource): Proxy {
    return makeProxy(this, link, resource, this.#options.wants);
  }

  /** @internal */
  exchange(stream: number, handles: Handles): Exchange {
    return new Exchange(this.port, stream, handles);
  }

  /** @internal Tells the peer that one of its resources is no longer needed here. */
  drop(link: number, resource: Resource, handle: Uint8Array): void {
    const number = this.#offered?.resource(resource.interface, resource.name);
    if (number === undefined || this.ended) return;
    this.output.frame(Kind.DROP, 0, (writer) => {
      writer.uleb(link);
      writer.uleb(number);
      writer.bytes(handle);
    });
  }

  /** @internal */
  checkSize(size: number): void {
    this.#calls.checkSize(size);
  }

  /** @internal Sends the RESULT that was begun at `start`, in parts if need be; then calls `then`. */
  sendResult(start: number, stream: number, then: () => void): void {
    if (this.output.size(start) <= MAX_FRAME) {
      this.output.end(start);
      then();
    } else {
      this.output.long({ kind: Kind.RESULT, body: this.output.cut(start), stream: () => stream, done: then });
    }
  }

  /** @internal */
  sendFail(stream: number, failure: Failure): void {
    if (!this.ended) this.output.frame(Kind.FAIL, stream, (writer) => writeFailure(writer, failure));
  }

  /** @internal */
  keep(stream: number, call: InboundCall): void {
    this.#calls.keep(stream, call);
  }

  /** @internal */
  settled(stream: number, call: InboundCall): void {
    this.#calls.settled(stream, call);
  }

  /** @internal Encodes what nobody waits for, so that its handles and streams are let go of. */
  discard(encode: (writer: Writer) => void): void {
    this.#calls.discard(encode);
  }
}

/** That the other side is not there any more. */
export function gone(message: string, cause?: Error): Failure {
  const text = cause === undefined ? message : `${message}: ${cause.message}`;
  return new Failure('provider-gone', text, cause === undefined ? {} : { cause });
}
