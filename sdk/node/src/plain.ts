import { randomBytes } from 'node:crypto';
import { Reader, Writer, type Lifting } from './bytes.js';
import { codecOf, decodeItems } from './codec.js';
import type { Clock } from './clock.js';
import { Failure, protocolError, WireError } from './errors.js';
import { Exchange, MAX_PATH, type Handles, type Port } from './exchange.js';
import { Gather } from './frames.js';
import { badHandle } from './handles.js';
import type { Inlet } from './inlets.js';
import type { Outlet } from './outlets.js';
import type { ChannelType, Resource } from './types.js';
import type { Wire } from './wire.js';

const MAX_NAME = 1024;
const MAX_PATHS = 1024;
const HIGH = 1024 * 1024;
const PIECE = 64 * 1024;
/** Decoding is tried as parts of a message come; all tries together may read this many times the largest message. */
const TRIES = 8;
/** How long a peer that has all its results may keep the connection, in milliseconds. */
const LINGER = 10_000;

/** The first byte of an invocation. */
export const PLAIN = 0x00;

/** Resources that plain calls hold: until the server closes, since wRPC has no drop. */
export class PlainHandles {
  readonly #held = new Map<string, { resource: Resource; value: object }>();

  add(resource: Resource, value: object, handle: Uint8Array = randomBytes(16)): Uint8Array {
    this.#held.set(Buffer.from(handle).toString('hex'), { resource, value });
    return handle;
  }

  get(resource: Resource, handle: Uint8Array): object {
    const held = this.#held.get(Buffer.from(handle).toString('hex'));
    if (held?.resource !== resource) throw badHandle(resource.name);
    return held.value;
  }

  forget(handle: Uint8Array): void {
    this.#held.delete(Buffer.from(handle).toString('hex'));
  }
}

/** What one side of an invocation makes of its frames. */
export interface PlainUser extends Handles {
  /** The first bytes of the root: reads it all, or throws WireError `truncated` until it is there. */
  root(reader: Reader, exchange: Exchange): void;
  /** The header came; only on the side that was called. */
  header?(instance: string, name: string): void;
  /** The root has been read; its channels may be. */
  begin(): void;
  /** No channel is open in one of the directions any more. */
  idle(): void;
  /** It broke off. */
  fail(error: Failure): void;
}

const SKIP: Lifting = { liftHandle: () => undefined, liftChannel: () => undefined };

/** One invocation of plain wRPC on a connection of its own. */
export class PlainConnection implements Port {
  readonly mostIns: number;
  readonly mostOuts: number;
  readonly tells = false;
  readonly readWindow = Number.MAX_SAFE_INTEGER;
  readonly writeWindow = Number.MAX_SAFE_INTEGER;
  readonly #wire: Wire;
  readonly #user: PlainUser;
  readonly #message: number;
  readonly #window: number;
  readonly #pending = new Gather();
  readonly #root = new Gather();
  readonly #paths = new Map<string, Gather>();
  readonly #stalled = new Set<Outlet>();
  readonly #stop: () => void;
  readonly #clock: Clock;
  readonly #onOver: () => void;
  #headed: boolean;
  /** Channels of what this side sends. */
  readonly sending: Exchange;
  /** Channels of what it receives; made anew for each try to decode the root. */
  receiving: Exchange;
  #rooted = false;
  #unread = 0;
  #tried = 0;
  #over = false;
  #ended = false;
  #finishing = false;
  #finished = false;

  constructor(
    wire: Wire,
    user: PlainUser,
    options: { called: boolean; message: number; channels: number; connection: number; clock: Clock; handshake: number },
    onOver: () => void = () => undefined,
  ) {
    this.#onOver = onOver;
    this.#wire = wire;
    this.#user = user;
    this.#headed = !options.called;
    this.#message = options.message;
    this.#window = options.connection;
    this.mostIns = options.channels;
    this.mostOuts = options.channels;
    this.#clock = options.clock;
    this.sending = new Exchange(this, 0, user);
    this.receiving = this.sending;
    this.#stop = options.clock.after(options.handshake, () => {
      if (!this.#headed) this.close(protocolError('no header in time'));
    });
    wire.use({
      data: (chunk) => this.feed(chunk),
      end: () => this.#onEnd(),
      drain: () => this.#kick(),
      close: (error) => this.close(new Failure('provider-gone', `${wire.peer} broke off: ${error?.message ?? 'closed'}`)),
    });
  }

  feed(chunk: Buffer): void {
    if (this.#over) return;
    try {
      this.#feed(chunk);
    } catch (error) {
      this.close(error instanceof Failure ? error : protocolError(`what came does not decode: ${String(error)}`));
    }
  }

  #feed(chunk: Buffer): void {
    let buf = chunk;
    if (this.#pending.size > 0) {
      this.#pending.add(chunk);
      buf = this.#pending.peek();
    }
    const reader = new Reader(buf);
    let done = 0;
    while (!this.#over && this.#step(reader)) done = reader.pos;
    if (this.#over || (done === 0 && buf !== chunk)) return;
    const rest = buf === chunk ? buf.subarray(done) : this.#pending.take().subarray(done);
    this.#pending.add(rest);
  }

  /** Reads the header or one frame; false where it is not all there. */
  #step(reader: Reader): boolean {
    if (reader.left === 0) return false;
    try {
      if (this.#headed) this.#frame(reader);
      else this.#header(reader);
      return true;
    } catch (error) {
      if (error instanceof WireError && error.kind === 'truncated') return false;
      throw error;
    }
  }

  #header(reader: Reader): void {
    const version = reader.byte();
    if (version !== PLAIN) throw protocolError(`framing version ${version} is not known`);
    const name = (): string => {
      const n = new Reader(reader.buf, reader.pos, reader.end).uleb();
      if (n > MAX_NAME) throw protocolError(`a name of ${n} bytes, at most ${MAX_NAME} are allowed`);
      return reader.string();
    };
    const instance = name();
    const func = name();
    this.#headed = true;
    this.#stop();
    this.#user.header?.(instance, func);
  }

  #frame(reader: Reader): void {
    const steps = reader.uleb();
    if (steps > MAX_PATH) throw protocolError(`a path of ${steps} steps, at most ${MAX_PATH} are allowed`);
    const path: number[] = [];
    for (let i = 0; i < steps; i++) path.push(reader.uleb());
    const n = reader.uleb();
    if (n > this.#message) throw protocolError(`a frame of ${n} bytes, at most ${this.#message} are allowed`);
    if (n > reader.left) throw new WireError('truncated', 'a frame');
    const data = reader.buf.subarray(reader.pos, reader.pos + n);
    reader.pos += n;
    if (steps === 0) this.#onRoot(data);
    else this.#onData(path.join('.'), data);
  }

  #onRoot(data: Buffer): void {
    if (this.#rooted) {
      if (data.length > 0) throw protocolError('more bytes than the root has');
      return;
    }
    this.#root.add(data);
    this.#tried += this.#root.size;
    if (this.#root.size > this.#message || this.#tried > TRIES * this.#message) throw protocolError('a root that does not end');
    const exchange = new Exchange(this, 0, this.#user);
    const reader = new Reader(Buffer.from(this.#root.peek()));
    reader.lifting = exchange;
    try {
      this.#user.root(reader, exchange);
    } catch (error) {
      if (error instanceof WireError && error.kind === 'truncated') return;
      throw error;
    }
    this.#rooted = true;
    this.receiving = exchange;
    this.#user.begin();
    for (const key of [...this.#paths.keys()]) this.#drain(key);
    exchange.begin([]);
  }

  #onData(key: string, data: Buffer): void {
    let gather = this.#paths.get(key);
    if (gather === undefined) {
      if (this.#paths.size >= MAX_PATHS) throw protocolError(`more than ${MAX_PATHS} paths`);
      this.#paths.set(key, (gather = new Gather()));
    }
    gather.add(data);
    this.#unread += data.length;
    if (gather.size > this.#message) throw protocolError('a chunk that does not end');
    if (this.#rooted) this.#drain(key);
    if (this.#unread > this.#window) this.#wire.pause();
  }

  /** Hands on the whole chunks that have come for a path. */
  #drain(key: string): void {
    const gather = this.#paths.get(key) as Gather;
    const buf = gather.peek();
    let at = 0;
    while (at < buf.length) {
      const inlet = this.receiving.inlet(key);
      if (inlet === undefined) {
        this.#unread -= buf.length - at;
        at = buf.length;
        break;
      }
      const end = chunkEnd(inlet.type, buf, at);
      if (end === undefined) break;
      const chunk = Buffer.from(buf.subarray(at, end));
      at = end;
      this.receiving.push(inlet, chunk, 0, chunk.length, chunk.length);
    }
    if (at > 0) gather.add(gather.take().subarray(at));
  }

  /** Sends the root, then lets its channels follow. */
  sendRoot(header: (writer: Writer) => void, root: (writer: Writer) => void): void {
    const { sending } = this;
    const body = new Writer();
    body.lowering = sending;
    try {
      root(body);
    } catch (error) {
      sending.unmake();
      throw error;
    }
    const head = new Writer(64);
    header(head);
    head.uleb(0);
    head.bytes(body.copy());
    this.#wire.write(head.copy());
    sending.begin(sending.made());
  }

  room(_: Exchange, outlet: Outlet): number {
    if (this.#wire.pending < HIGH) return PIECE;
    this.#stalled.add(outlet);
    return 0;
  }

  most(): number {
    return PIECE;
  }

  send(_: Exchange, outlet: Outlet, count: number, data: Uint8Array): void {
    const writer = new Writer(data.length + 64);
    const counted = new Writer(8);
    if (count >= 0) counted.uleb(count);
    writer.raw(outlet.pathBytes);
    writer.uleb(counted.pos + data.length);
    writer.raw(counted.buf.subarray(0, counted.pos));
    writer.raw(data);
    this.#wire.write(writer.buf.subarray(0, writer.pos));
  }

  sendLong(exchange: Exchange, outlet: Outlet, data: Buffer, done: () => void): void {
    this.send(exchange, outlet, -1, data);
    queueMicrotask(done);
  }

  soon(outlet: Outlet): void {
    setImmediate(() => outlet.flush());
  }

  /** wRPC has no way to say it. */
  lost(_: Exchange, __: Outlet, failure: Failure): void {
    this.close(failure);
  }

  taken(_: Exchange, __: Inlet, bytes: number): void {
    this.#unread -= bytes;
    if (this.#unread <= this.#window >>> 1) this.#wire.resume();
  }

  stopped(): void {
    this.#wire.resume();
  }

  idle(): void {
    this.#user.idle();
  }

  #kick(): void {
    const stalled = [...this.#stalled];
    this.#stalled.clear();
    for (const outlet of stalled) outlet.kick();
  }

  #onEnd(): void {
    this.#ended = true;
    if (!this.#rooted) return this.close(new Failure('provider-gone', `${this.#wire.peer} closed without a word why`));
    // A channel that has not ended never will.
    this.receiving.failIns(new Failure('provider-gone', `${this.#wire.peer} closed before the stream's end`));
    if (this.#finished) this.close();
  }

  /** Shuts our direction; the connection is over once the peer has shut its own. */
  finish(): void {
    if (this.#finishing || this.#over) return;
    this.#finishing = true;
    this.#wire.end(() => {
      this.#finished = true;
      if (this.#ended) this.close();
    });
    this.#clock.after(LINGER, () => this.close());
  }

  /** Ends it, properly where no failure is given. */
  close(failure?: Failure): void {
    if (this.#over) return;
    this.#over = true;
    this.#stop();
    this.#wire.destroy();
    const reason = failure ?? new Failure('provider-gone', 'the invocation is over');
    this.receiving.failIns(reason);
    this.sending.dropOuts();
    if (failure) this.#user.fail(failure);
    this.#onOver();
  }
}

/** Where the chunk or value that begins at `at` ends; undefined where it is not all there. */
function chunkEnd(type: ChannelType, buf: Buffer, at: number): number | undefined {
  const reader = new Reader(buf, at);
  reader.lifting = SKIP;
  try {
    if (type.kind === 'future') {
      if (type.element) codecOf(type.element).decode(reader);
      return reader.pos;
    }
    const count = reader.count(type.element ? codecOf(type.element).least : 0, 'a chunk');
    if (type.element?.kind === 'u8') reader.pos += count;
    else if (type.element) decodeItems(reader, type.element, count);
    return reader.pos;
  } catch (error) {
    if (error instanceof WireError && error.kind === 'truncated') return undefined;
    throw error;
  }
}
