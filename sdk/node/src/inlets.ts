import { Reader, type Lifting } from './bytes.js';
import { codecOf, decodeItems, type Decode } from './codec.js';
import { failureOf, type Failure } from './errors.js';
import { hasChannels, type ChannelType, type Type } from './types.js';

/** What a reading end tells the call it belongs to. */
export interface InletOwner extends Lifting {
  /** The user has taken what cost `bytes` of credit. */
  taken(inlet: Inlet, bytes: number): void;
  /** The user wants no more. */
  stopped(inlet: Inlet): void;
}

/** The reading end of a stream or future. */
export abstract class Inlet {
  readonly key: string;
  readonly path: readonly number[];
  readonly type: ChannelType;
  /** Bytes that the peer may still send, and bytes that were taken but not granted again. */
  credit: number;
  owed = 0;
  protected readonly owner: InletOwner;
  protected readonly decode: Decode | undefined;

  constructor(owner: InletOwner, type: ChannelType, path: readonly number[], credit: number) {
    this.owner = owner;
    this.type = type;
    this.path = path;
    this.key = path.join('.');
    this.credit = credit;
    this.decode = type.element && codecOf(type.element).decode;
  }

  /** Whether a user has begun to read. */
  abstract readonly begun: boolean;

  /** Takes a chunk or value that came and cost `cost`; true where it was the last. */
  abstract push(buf: Buffer, pos: number, end: number, cost: number): boolean;

  /** Ends it with an error, once what came before has been read. */
  abstract fail(error: Failure): void;
}

interface Entry {
  reader: Reader;
  /** Items left in the current chunk of the entry; -1: its count is not read yet. */
  left: number;
  items: unknown[] | undefined;
  cost: number;
}

interface Waiter {
  resolve(step: IteratorResult<unknown, undefined>): void;
  reject(error: unknown): void;
}

/** Small chunks are copied together up to this, so that many of them do not hold much more memory than credit. */
const TOGETHER = 4096;
const DONE: IteratorResult<unknown, undefined> = { done: true, value: undefined };

/** A stream as its user has it; one that is lost unread is stopped. */
class StreamReader implements AsyncIterableIterator<unknown> {
  readonly #inlet: InStream;

  constructor(inlet: InStream) {
    this.#inlet = inlet;
    lost.register(this, inlet);
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    return this.#inlet.next();
  }

  return(): Promise<IteratorResult<unknown, undefined>> {
    return this.#inlet.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

const lost = new FinalizationRegistry<InStream>((inlet) => void inlet.return());

/** The reading end of a stream. */
export class InStream extends Inlet {
  begun = false;
  readonly #queue: Entry[] = [];
  readonly #waiters: Waiter[] = [];
  readonly #eager: Type | undefined;
  #count = 0;
  #ended = false;
  #error: Failure | undefined;

  constructor(owner: InletOwner, type: ChannelType, path: readonly number[], credit: number) {
    super(owner, type, path, credit);
    // Data of channels within items may come before the user asks for the item.
    if (type.element && hasChannels(type.element)) this.#eager = type.element;
  }

  override push(buf: Buffer, pos: number, end: number, cost: number): boolean {
    const reader = new Reader(buf, pos, end);
    const count = reader.count(this.type.element ? codecOf(this.type.element).least : 0, 'a chunk');
    if (count === 0) {
      reader.finish();
      this.owner.taken(this, cost);
      this.#finish();
      return true;
    }
    if (this.#eager) {
      reader.lifting = this.owner;
      reader.path = [...this.path];
      const items = decodeItems(reader, this.#eager, count, this.#count);
      reader.finish();
      this.#count += count;
      this.#queue.push({ reader, left: count, items, cost });
    } else {
      this.#keep(buf, pos, end, cost);
    }
    this.#serve();
    return false;
  }

  #keep(buf: Buffer, pos: number, end: number, cost: number): void {
    const size = end - pos;
    const tail = this.#queue.at(-1);
    if (tail !== undefined && size < 4096 && tail.reader.left + size <= TOGETHER) {
      const { reader } = tail;
      const joined = Buffer.concat([reader.buf.subarray(reader.pos, reader.end), buf.subarray(pos, end)]);
      reader.over(joined, 0, joined.length);
      tail.cost += cost;
      return;
    }
    const own = size < 4096 ? Buffer.from(buf.subarray(pos, end)) : buf.subarray(pos, end);
    this.#queue.push({ reader: new Reader(own), left: -1, items: undefined, cost });
  }

  override fail(error: Failure): void {
    if (this.#ended) return;
    this.#error = error;
    this.#finish();
  }

  #finish(): void {
    this.#ended = true;
    this.#serve();
  }

  /** Answers those who wait. */
  #serve(): void {
    while (this.#waiters.length > 0 && (this.#queue.length > 0 || this.#ended)) {
      const { resolve, reject } = this.#waiters.shift() as Waiter;
      try {
        resolve(this.#take());
      } catch (error) {
        reject(error);
      }
    }
  }

  /** The next item, the end, or what went wrong; only where one of them is there. */
  #take(): IteratorResult<unknown, undefined> {
    const entry = this.#queue[0];
    if (entry === undefined) {
      const error = this.#error;
      this.#error = undefined;
      if (error) throw error;
      return DONE;
    }
    let value: unknown;
    try {
      value = this.#item(entry);
    } catch (error) {
      const failure = failureOf(error, { interface: 'stream', function: this.key });
      void this.return();
      throw failure;
    }
    const through = entry.items ? entry.left === 0 : entry.left === 0 && entry.reader.left === 0;
    if (through) {
      this.#queue.shift();
      this.owner.taken(this, entry.cost);
    }
    return { done: false, value };
  }

  #item(entry: Entry): unknown {
    const { reader } = entry;
    if (entry.items) return entry.items[entry.items.length - entry.left--];
    if (entry.left <= 0) entry.left = reader.count(0, 'a chunk');
    if (this.type.element?.kind === 'u8') {
      const bytes = reader.raw(entry.left, 'bytes of a chunk');
      entry.left = 0;
      return bytes;
    }
    entry.left--;
    const value = this.decode?.(reader);
    return value;
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    this.begun = true;
    if (this.#queue.length > 0 || this.#ended) {
      try {
        return Promise.resolve(this.#take());
      } catch (error) {
        return Promise.reject(error as Error);
      }
    }
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** Ends the reading; the writer finds the stream dropped. */
  return(): Promise<IteratorResult<unknown, undefined>> {
    this.begun = true;
    const unread = this.#queue.splice(0).reduce((sum, entry) => sum + entry.cost, 0);
    if (unread > 0) this.owner.taken(this, unread);
    if (!this.#ended) {
      this.#ended = true;
      this.owner.stopped(this);
    }
    this.#error = undefined;
    this.#serve();
    return Promise.resolve(DONE);
  }

  /** What the user gets. Nothing else may hold it, so that its loss is noticed. */
  reader(): AsyncIterableIterator<unknown> {
    return new StreamReader(this);
  }
}

/** The reading end of a future; its user has the `promise`. */
export class InFuture extends Inlet {
  readonly begun = true;
  readonly promise: Promise<unknown>;
  #resolve!: (value: unknown) => void;
  #reject!: (error: Failure) => void;

  constructor(owner: InletOwner, type: ChannelType, path: readonly number[], credit: number) {
    super(owner, type, path, credit);
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // A future that nobody asks about may fail without ending the process.
    this.promise.catch(() => undefined);
  }

  override push(buf: Buffer, pos: number, end: number, cost: number): boolean {
    const reader = new Reader(buf, pos, end);
    reader.lifting = this.owner;
    reader.path = [...this.path];
    try {
      const value = this.decode?.(reader);
      reader.finish();
      this.#resolve(value);
    } catch (error) {
      this.#reject(failureOf(error, { interface: 'future', function: this.key }));
    }
    this.owner.taken(this, cost);
    return true;
  }

  override fail(error: Failure): void {
    this.#reject(error);
  }
}
