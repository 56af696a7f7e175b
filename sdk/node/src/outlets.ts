import { Writer, type Lowering } from './bytes.js';
import { codecOf, isThenable, type Encode } from './codec.js';
import { WireError } from './errors.js';
import { countChannels, hasChannels, type ChannelType } from './types.js';

/** What a writing end sends through: the call it belongs to. */
export interface OutletOwner extends Lowering {
  /** How many bytes of data may go on this channel now; where it is too few, `kick` follows when there may be more. */
  room(outlet: Outlet): number;
  /** How many bytes of data one frame of this channel may ever have. */
  most(outlet: Outlet): number;
  /** Sends at most `room` bytes: a count, unless it is -1, and what follows it. */
  send(outlet: Outlet, count: number, data: Uint8Array): void;
  /** Sends more than `most` bytes in parts, then calls `done`; until then `room` is 0. */
  sendLong(outlet: Outlet, data: Buffer, done: () => void): void;
  /** Calls `flush` at the end of this turn. */
  soon(outlet: Outlet): void;
  /** The channel has ended: properly, or because its source failed. */
  ended(outlet: Outlet, error?: { cause: unknown }): void;
  /** A message that was longer than one frame is on its way. */
  written(outlet: Outlet): void;
  /** What the peer has not heard of is given up. */
  unannounced(outlet: Outlet): void;
  /** Whether so many more may be announced; where not, `kick` follows when there may be room. */
  hasRoom(outlet: Outlet, channels: number): boolean;
  /** The channels that were lowered since it was asked last. */
  made(): Outlet[];
}

/** Items are gathered up to this before the source is asked for more. */
const GATHER = 16 * 1024;
/** The largest piece of a byte stream in one frame. */
const PIECE = 64 * 1024;
const END = new Uint8Array(0);
const ITEM_COUNT = 5;

/** The writing end of a stream or future: draws from its source as the reader takes. */
export class Outlet {
  readonly key: string;
  readonly path: readonly number[];
  /** The path as it stands in frames. */
  readonly pathBytes: Uint8Array;
  readonly type: ChannelType;
  /** Bytes that may still be sent. */
  credit: number;
  over = false;
  readonly #owner: OutletOwner;
  readonly #source: unknown;
  #iterator: AsyncIterator<unknown> | Iterator<unknown> | undefined;
  #wake: (() => void) | undefined;
  readonly #items = new Writer(64);
  #count = 0;
  #total = 0;
  #queued = false;
  #inner: Outlet[] = [];
  /** More than one frame's worth is on its way. */
  #long = false;

  constructor(owner: OutletOwner, type: ChannelType, path: readonly number[], source: unknown, credit: number) {
    this.#owner = owner;
    this.#source = source;
    this.type = type;
    this.path = path;
    this.key = path.join('.');
    this.credit = credit;
    const writer = new Writer(16);
    writer.uleb(path.length);
    for (const step of path) writer.uleb(step);
    this.pathBytes = writer.copy();
  }

  /** Begins to draw; called once what announced the channel is on its way. */
  start(): void {
    this.#run().then(
      () => this.#end(),
      (cause: unknown) => this.#end({ cause }),
    );
  }

  /** The reader has gone, or the call has: nothing more is sent, and the source is told. */
  drop(): void {
    if (this.over) return;
    this.over = true;
    for (const inner of this.#inner) {
      this.#owner.unannounced(inner);
      inner.drop();
    }
    this.#wakeUp();
    // A source that fails while it ends has nobody left to tell.
    const ending = (this.#iterator ?? this.#unread())?.return?.();
    if (isThenable(ending)) ending.then(undefined, () => undefined);
  }

  /** What the source is before anything was drawn; a promise is only kept from failing unheard. */
  #unread(): AsyncIterator<unknown> | Iterator<unknown> | undefined {
    if (this.type.kind === 'stream') return iteratorOf(this.#source);
    if (isThenable(this.#source)) this.#source.then(undefined, () => undefined);
    return undefined;
  }

  /** Whether a message of it has begun and is not all sent. */
  get isWriting(): boolean {
    return this.#long;
  }

  /** There may be more room. */
  kick(): void {
    this.flush();
    this.#wakeUp();
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #end(error?: { cause: unknown }): void {
    if (this.over) return;
    this.over = true;
    this.#owner.ended(this, error);
  }

  async #run(): Promise<void> {
    if (this.type.kind === 'future') return this.#future();
    this.#iterator = iteratorOf(this.#source);
    if (this.type.element?.kind === 'u8') await this.#bytes(this.#iterator);
    else await this.#values(this.#iterator);
    while (!this.over && this.#owner.room(this) < 1) await this.#wait();
    if (!this.over) this.#owner.send(this, 0, END);
  }

  async #future(): Promise<void> {
    const value = await (this.#source as PromiseLike<unknown>);
    if (this.over) return;
    this.#encode(value, []);
    this.#count = -1;
    this.flush();
    while ((this.#count !== 0 || this.#long) && !this.over) await this.#wait();
  }

  async #bytes(iterator: AsyncIterator<unknown> | Iterator<unknown>): Promise<void> {
    for (;;) {
      const next = iterator.next();
      const step = isThenable(next) ? await next : next;
      if (step.done === true || this.over) return;
      const bytes = bytesOf(step.value);
      for (let at = 0; at < bytes.length; ) {
        const room = Math.min(this.#owner.room(this) - ITEM_COUNT, bytes.length - at, PIECE);
        if (room > 0) {
          this.#owner.send(this, room, bytes.subarray(at, at + room));
          at += room;
        } else {
          await this.#wait();
          if (this.over) return;
        }
      }
    }
  }

  async #values(iterator: AsyncIterator<unknown> | Iterator<unknown>): Promise<void> {
    try {
      await this.#draw(iterator);
    } finally {
      // What came before a source failed reaches its reader all the same.
      this.flush();
      while ((this.#count > 0 || this.#long) && !this.over) await this.#wait();
    }
  }

  async #draw(iterator: AsyncIterator<unknown> | Iterator<unknown>): Promise<void> {
    const enough = Math.min(GATHER, this.#owner.most(this) >> 1);
    const channels = this.type.element ? countChannels(this.type.element) : 0;
    for (;;) {
      const next = iterator.next();
      const step = isThenable(next) ? await next : next;
      if (step.done === true || this.over) return;
      while (channels > 0 && !this.#owner.hasRoom(this, channels)) {
        await this.#wait();
        if (this.over) return;
      }
      this.#encode(step.value, [this.#total++]);
      this.#count++;
      if (!this.#queued) {
        this.#queued = true;
        this.#owner.soon(this);
      }
      // Items without bytes are counted, so that no chunk claims millions of them.
      while (!this.over && (this.#items.pos >= enough || this.#count >= GATHER)) await this.#wait();
    }
  }

  #encode(value: unknown, steps: number[]): void {
    const { element } = this.type;
    if (element === undefined) return;
    const items = this.#items;
    const before = items.pos;
    items.lowering = this.#owner;
    if (hasChannels(element)) items.path = [...this.path, ...steps];
    try {
      (codecOf(element).encode as Encode)(items, value);
    } catch (error) {
      items.pos = before;
      for (const inner of this.#owner.made()) {
        this.#owner.unannounced(inner);
        inner.drop();
      }
      throw error;
    }
    this.#inner.push(...this.#owner.made());
  }

  /** Sends what was gathered, as far as there is room for it. */
  flush(): void {
    this.#queued = false;
    if (this.over || this.#long || this.#count === 0) return;
    const count = this.#count;
    const size = this.#items.pos + (count < 0 ? 0 : ITEM_COUNT);
    const room = this.#owner.room(this);
    if (size <= room) {
      this.#owner.send(this, count, this.#items.buf.subarray(0, this.#items.pos));
    } else if (size > this.#owner.most(this) && room > 0) {
      const whole = new Writer(size);
      if (count > 0) whole.uleb(count);
      whole.raw(this.#items.buf.subarray(0, this.#items.pos));
      this.#long = true;
      this.#owner.sendLong(this, whole.copy(), () => {
        this.#long = false;
        this.kick();
        this.#owner.written(this);
      });
    } else {
      return;
    }
    this.#items.pos = 0;
    this.#count = 0;
    for (const inner of this.#inner.splice(0)) {
      // A stream that is the value of this future goes on in the same channel, with what is left of its credit.
      if (inner.key === this.key) inner.credit = this.credit;
      inner.start();
    }
    this.#wakeUp();
  }
}

function iteratorOf(source: unknown): AsyncIterator<unknown> | Iterator<unknown> {
  const iterable = source as Partial<AsyncIterable<unknown> & Iterable<unknown>>;
  const iterator = iterable[Symbol.asyncIterator]?.() ?? iterable[Symbol.iterator]?.();
  if (iterator === undefined) throw new TypeError('a stream needs an AsyncIterable or an Iterable');
  return iterator;
}

function bytesOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255) return Uint8Array.of(value);
  if (Array.isArray(value)) return Uint8Array.from(value as number[]);
  throw new WireError('invalid-value', 'a stream<u8> takes Uint8Array', 'Uint8Array', typeof value);
}
