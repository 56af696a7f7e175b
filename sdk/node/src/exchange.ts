import type { Lifting, Reader } from './bytes.js';
import { Failure, protocolError, WireError, failureOf } from './errors.js';
import { InFuture, InStream, type Inlet, type InletOwner } from './inlets.js';
import { Outlet, type OutletOwner } from './outlets.js';
import type { ChannelType, Resource } from './types.js';

/** The longest path, in steps. */
export const MAX_PATH = 32;

/** The connection that the channels of calls share. */
export interface Port {
  /** Streams and futures of one call at once: those we read, those we write. */
  readonly mostIns: number;
  readonly mostOuts: number;
  /** Whether both sides tell when they are done with a channel, so that it counts until then. */
  readonly tells: boolean;
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
  /** Tells the peer that nobody reads a stream or future of its own any more. */
  stopped(exchange: Exchange, path: readonly number[]): void;
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
  /** The same of channels within others, each until its writer says LOST. */
  readonly #left = new Set<string>();
  /** Channels within others that have ended here, each until its reader says STOP. */
  readonly #ended = new Map<string, Ended>();
  /** Keys of the channels that are not within others, of either direction. */
  readonly #inRoots = new Set<string>();
  readonly #outRoots = new Set<string>();
  /** Those that wait until there are fewer channels. */
  readonly #crowded = new Set<Outlet>();
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
    if (this.#outs.size + this.#ended.size >= this.#port.mostOuts) {
      throw new Failure('overloaded', `more than ${this.#port.mostOuts} streams and futures of one call at once`, {
        fields: { limit: String(this.#port.mostOuts) },
      });
    }
    const outlet = new Outlet(this, type, path, value, this.#port.writeWindow);
    if (!isWithin(this.#outRoots, outlet.key)) this.#outRoots.add(outlet.key);
    this.#outs.set(outlet.key, outlet);
    this.#made.push(outlet);
  }

  liftChannel(type: ChannelType, path: readonly number[]): unknown {
    if (path.length > MAX_PATH) throw protocolError(`a path of more than ${MAX_PATH} steps`);
    if (this.#ins.size >= this.#port.mostIns) {
      throw protocolError(`more than ${this.#port.mostIns} streams and futures of one call at once`);
    }
    if (type.kind === 'stream') return this.#opened(new InStream(this, type, path, this.#port.readWindow)).reader();
    return this.#opened(new InFuture(this, type, path, this.#port.readWindow)).promise;
  }

  #opened<T extends Inlet>(inlet: T): T {
    if (!isWithin(this.#inRoots, inlet.key)) this.#inRoots.add(inlet.key);
    this.#ins.set(inlet.key, inlet);
    return inlet;
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
    for (const outlet of this.made()) {
      this.unannounced(outlet);
      outlet.drop();
    }
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
    this.#forget(outlet, error !== undefined);
    if (error) this.#port.lost(this, outlet, failureOf(error.cause, { interface: 'stream', function: outlet.key }));
    this.#check();
  }

  written(outlet: Outlet): void {
    this.#settle(outlet.key);
  }

  unannounced(outlet: Outlet): void {
    if (this.#outs.get(outlet.key) === outlet) this.#outs.delete(outlet.key);
  }

  hasRoom(outlet: Outlet, channels: number): boolean {
    const { mostOuts } = this.#port;
    // More than there will ever be room for is refused, not waited for.
    if (this.#outs.size + this.#ended.size + Math.min(channels, mostOuts - this.#outRoots.size) <= mostOuts) return true;
    this.#crowded.add(outlet);
    return false;
  }

  taken(inlet: Inlet, bytes: number): void {
    this.#port.taken(this, inlet, bytes);
  }

  stopped(inlet: Inlet): void {
    this.#ins.delete(inlet.key);
    this.#leave(inlet);
    this.#check();
  }

  /** Nobody reads it any more: the peer is told, and what still comes is ignored. */
  #leave(inlet: Inlet): void {
    if (this.#port.tells && isWithin(this.#inRoots, inlet.key)) this.#left.add(inlet.key);
    else this.#stopped.add(inlet.key);
    this.#port.stopped(this, inlet.path);
  }

  /** Whether something may come at a path, so that its writer needs credit. */
  isReading(key: string): boolean {
    return this.#ins.has(key);
  }

  /** The reading end at a path; undefined where what comes for it is to be ignored. */
  inlet(key: string): Inlet | undefined {
    const inlet = this.#ins.get(key);
    if (inlet !== undefined || this.#stopped.has(key) || this.#left.has(key)) return inlet;
    if (!this.#isUnread(key)) throw protocolError(`data for path ${key}, where no stream or future is open`);
    if (this.#port.tells) this.#left.add(key);
    this.#port.stopped(this, key.split('.').map(Number));
    return undefined;
  }

  /** Whether it was announced in what came for a channel that was stopped. */
  #isUnread(key: string): boolean {
    return isWithin(this.#stopped, key) || isWithin(this.#left, key);
  }

  /** A chunk or value has come. */
  push(inlet: Inlet, buf: Buffer, pos: number, end: number, cost: number): void {
    try {
      // What the value of a future holds may be at the future's own path.
      if (inlet.push(buf, pos, end, cost) && this.#ins.get(inlet.key) === inlet) {
        this.#ins.delete(inlet.key);
        if (this.#port.tells && isWithin(this.#inRoots, inlet.key)) this.#leave(inlet);
      }
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
    if (this.#left.delete(key)) return;
    const inlet = this.#ins.get(key);
    this.#ins.delete(key);
    inlet?.fail(failure);
    const within = inlet === undefined ? this.#isUnread(key) : isWithin(this.#inRoots, key);
    if (within && this.#port.tells) this.#port.stopped(this, key.split('.').map(Number));
    this.#check();
  }

  /** The peer's reader at a path has gone, or has read it to its end. */
  stop(key: string): void {
    const outlet = this.#outs.get(key);
    if (outlet) this.#drop(outlet);
    const ended = this.#ended.get(key);
    if (ended) ended.stopped = true;
    this.#settle(key);
    this.#check();
  }

  /** Forgets a channel that both sides are done with, after the last of what was announced in it. */
  #settle(key: string): void {
    const ended = this.#ended.get(key);
    if (!ended?.stopped || ended.outlet.isWriting) return;
    for (const other of [...this.#outs.keys(), ...this.#ended.keys()]) if (other.startsWith(`${key}.`)) return;
    this.#ended.delete(key);
    if (!ended.lost) this.#port.lost(this, ended.outlet, new Failure('cancelled', 'its reader has gone'));
    for (let at = key.lastIndexOf('.'); at > 0; at = key.lastIndexOf('.', at - 1)) this.#settle(key.slice(0, at));
    const crowded = [...this.#crowded];
    this.#crowded.clear();
    for (const outlet of crowded) outlet.kick();
  }

  outlet(key: string): Outlet | undefined {
    return this.#outs.get(key);
  }

  #drop(outlet: Outlet): void {
    this.#forget(outlet, false);
    outlet.drop();
  }

  #forget(outlet: Outlet, lost: boolean): void {
    const { key } = outlet;
    if (this.#outs.get(key) !== outlet) return;
    this.#outs.delete(key);
    if (this.#port.tells && isWithin(this.#outRoots, key)) this.#ended.set(key, { outlet, lost, stopped: false });
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
      this.#forget(outlet, failure !== undefined);
      outlet.drop();
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

interface Ended {
  readonly outlet: Outlet;
  /** LOST was said. */
  readonly lost: boolean;
  stopped: boolean;
}

/** Whether a channel was announced in one of those. */
function isWithin(keys: ReadonlySet<string>, key: string): boolean {
  for (let at = key.lastIndexOf('.'); at > 0; at = key.lastIndexOf('.', at - 1)) {
    if (keys.has(key.slice(0, at))) return true;
  }
  return false;
}

/** A path as the key of its channel. */
export function readPath(reader: Reader): string {
  const n = reader.uleb();
  if (n > MAX_PATH) throw protocolError(`a path of ${n} steps, at most ${MAX_PATH} are allowed`);
  let key = '';
  for (let i = 0; i < n; i++) key += i === 0 ? reader.uleb() : `.${reader.uleb()}`;
  return key;
}
