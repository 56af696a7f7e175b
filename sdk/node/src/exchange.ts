import type { Lifting, Reader } from './bytes.js';
import { Failure, protocolError, WireError, failureOf } from './errors.js';
import { InFuture, InStream, type Inlet, type InletOwner } from './inlets.js';
import { Outlet, type OutletOwner } from './outlets.js';
import type { ChannelType, Resource } from './types.js';

/** The longest path, in steps. */
export const MAX_PATH = 32;

/** The connection that the channels of calls share. */
export interface Port {
  readonly channelLimit: number;
  /** Credit that a channel begins with: for what we read, for what we write. */
  readonly readWindow: number;
  readonly writeWindow: number;
  room(exchange: Exchange, outlet: Outlet): number;
  most(outlet: Outlet): number;
  send(exchange: Exchange, outlet: Outlet, count: number, data: Uint8Array): void;
  sendLong(exchange: Exchange, outlet: Outlet, data: Buffer, done: () => void): void;
  soon(outlet: Outlet): void;
  /** Tells the peer that a stream or future of ours will not end properly. */
  lost(exchange: Exchange, outlet: Outlet, failure: Failure): void;
  taken(exchange: Exchange, inlet: Inlet, bytes: number): void;
  stopped(exchange: Exchange, inlet: Inlet): void;
  /** No channel is open any more. */
  idle(exchange: Exchange): void;
}

/** The handles of the call whose channels these are. */
export interface Handles {
  lowerHandle(resource: Resource, value: unknown, owned: boolean): Uint8Array;
  liftHandle(resource: Resource, handle: Uint8Array, owned: boolean): unknown;
}

/** The streams and futures of one call, both ways. */
export class Exchange implements InletOwner, OutletOwner, Lifting {
  /** The call's number on its connection. */
  stream: number;
  /** Whether what announces our channels has been sent, so that they may follow. */
  ready = false;
  /** A long message of this call is on its way; others must wait. */
  busy = false;
  readonly #port: Port;
  readonly #handles: Handles;
  readonly #ins = new Map<string, Inlet>();
  readonly #outs = new Map<string, Outlet>();
  /** Channels that were stopped: what still comes for them, or for channels within them, is no error. */
  readonly #stopped = new Set<string>();
  #made: Outlet[] = [];

  constructor(port: Port, stream: number, handles: Handles) {
    this.#port = port;
    this.stream = stream;
    this.#handles = handles;
  }

  get open(): number {
    return this.#ins.size + this.#outs.size;
  }

  lowerHandle(resource: Resource, value: unknown, owned: boolean): Uint8Array {
    return this.#handles.lowerHandle(resource, value, owned);
  }

  liftHandle(resource: Resource, handle: Uint8Array, owned: boolean): unknown {
    return this.#handles.liftHandle(resource, handle, owned);
  }

  lowerChannel(type: ChannelType, path: readonly number[], value: unknown): void {
    if (this.#outs.size >= this.#port.channelLimit) {
      throw new Failure('overloaded', `more than ${this.#port.channelLimit} streams and futures of one call at once`, {
        fields: { limit: String(this.#port.channelLimit) },
      });
    }
    const outlet = new Outlet(this, type, path, value, this.#port.writeWindow);
    this.#outs.set(outlet.key, outlet);
    this.#made.push(outlet);
  }

  liftChannel(type: ChannelType, path: readonly number[]): unknown {
    if (path.length > MAX_PATH) throw protocolError(`a path of more than ${MAX_PATH} steps`);
    if (this.#ins.size >= this.#port.channelLimit) {
      throw protocolError(`more than ${this.#port.channelLimit} streams and futures of one call at once`);
    }
    if (type.kind === 'stream') {
      const inlet = new InStream(this, type, path, this.#port.readWindow);
      this.#ins.set(inlet.key, inlet);
      return inlet.reader();
    }
    const inlet = new InFuture(this, type, path, this.#port.readWindow);
    this.#ins.set(inlet.key, inlet);
    return inlet.promise;
  }

  made(): Outlet[] {
    const made = this.#made;
    this.#made = [];
    return made;
  }

  /** Lets our channels follow what announced them. */
  begin(made: readonly Outlet[]): void {
    this.ready = true;
    for (const outlet of made) outlet.start();
    this.#check();
  }

  /** Undoes what a message that failed to be written had announced. */
  unmake(): void {
    for (const outlet of this.made()) this.#drop(outlet);
  }

  room(outlet: Outlet): number {
    return this.#port.room(this, outlet);
  }

  most(outlet: Outlet): number {
    return this.#port.most(outlet);
  }

  send(outlet: Outlet, count: number, data: Uint8Array): void {
    this.#port.send(this, outlet, count, data);
  }

  sendLong(outlet: Outlet, data: Buffer, done: () => void): void {
    this.#port.sendLong(this, outlet, data, done);
  }

  soon(outlet: Outlet): void {
    this.#port.soon(outlet);
  }

  ended(outlet: Outlet, error?: { cause: unknown }): void {
    this.#forget(outlet);
    if (error) this.#port.lost(this, outlet, failureOf(error.cause, { interface: 'stream', function: outlet.key }));
    this.#check();
  }

  taken(inlet: Inlet, bytes: number): void {
    this.#port.taken(this, inlet, bytes);
  }

  stopped(inlet: Inlet): void {
    this.#ins.delete(inlet.key);
    this.#stopped.add(inlet.key);
    this.#port.stopped(this, inlet);
    this.#check();
  }

  /** The reading end at a path; undefined where what comes for it is to be ignored. */
  inlet(key: string): Inlet | undefined {
    const inlet = this.#ins.get(key);
    if (inlet !== undefined || this.isStopped(key)) return inlet;
    throw protocolError(`data for path ${key}, where no stream or future is open`);
  }

  isStopped(key: string): boolean {
    for (let at = key.length; at > 0; at = key.lastIndexOf('.', at - 1)) {
      if (this.#stopped.has(key.slice(0, at))) return true;
    }
    return false;
  }

  /** A chunk or value has come. */
  push(inlet: Inlet, buf: Buffer, pos: number, end: number, cost: number): void {
    try {
      // What the value of a future holds may be at the future's own path.
      if (inlet.push(buf, pos, end, cost) && this.#ins.get(inlet.key) === inlet) this.#ins.delete(inlet.key);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#port.taken(this, inlet, cost);
      inlet.fail(failureOf(error, { interface: 'stream', function: inlet.key }));
      this.stopped(inlet);
      return;
    }
    this.#check();
  }

  /** What we read at a path will not end properly. */
  lose(key: string, failure: Failure): void {
    const inlet = this.#ins.get(key);
    this.#ins.delete(key);
    inlet?.fail(failure);
    this.#check();
  }

  /** The peer's reader at a path has gone. */
  stop(key: string): void {
    const outlet = this.#outs.get(key);
    if (outlet) this.#drop(outlet);
    this.#check();
  }

  outlet(key: string): Outlet | undefined {
    return this.#outs.get(key);
  }

  #drop(outlet: Outlet): void {
    this.#forget(outlet);
    outlet.drop();
  }

  #forget(outlet: Outlet): void {
    if (this.#outs.get(outlet.key) === outlet) this.#outs.delete(outlet.key);
  }

  /** Fails whatever we still read, without a word to the peer. */
  failIns(failure: Failure): void {
    for (const [key, inlet] of [...this.#ins]) {
      this.#ins.delete(key);
      this.#stopped.add(key);
      inlet.fail(failure);
    }
  }

  /** Stops reading: all streams, or only those that nobody has begun to read. */
  stopIns(unread: boolean): void {
    for (const inlet of [...this.#ins.values()]) {
      if (inlet instanceof InStream && (!unread || !inlet.begun)) void inlet.return();
    }
  }

  /** Stops writing; the peer is told where `failure` is given. */
  dropOuts(failure?: Failure): void {
    for (const outlet of [...this.#outs.values()]) {
      this.#drop(outlet);
      if (failure) this.#port.lost(this, outlet, failure);
    }
  }

  /** There may be more room for one channel, or for any. */
  kick(): void {
    for (const outlet of [...this.#outs.values()]) outlet.kick();
  }

  #check(): void {
    if (this.ready && this.open === 0) this.#port.idle(this);
  }
}

/** A path as the key of its channel. */
export function readPath(reader: Reader): string {
  const n = reader.uleb();
  if (n > MAX_PATH) throw protocolError(`a path of ${n} steps, at most ${MAX_PATH} are allowed`);
  let key = '';
  for (let i = 0; i < n; i++) key += i === 0 ? reader.uleb() : `.${reader.uleb()}`;
  return key;
}
