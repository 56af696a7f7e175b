import { Writer } from './bytes.js';
import { HEADER, Kind, MAX_FRAME, MORE } from './frames.js';
import type { Outlet } from './outlets.js';
import type { Wire } from './wire.js';

/** Streams and long messages wait while more than this is not taken, in bytes. */
const HIGH = 1024 * 1024;
/** Reading stops while more than this is not taken, in bytes. */
const FULL = 64 * 1024 * 1024;
const FRESH = 64 * 1024;
/** Room for the size of a message in its first part. */
const SIZE = 10;

/** A message of more than one frame, or one that waits for credit. */
export interface Long {
  readonly kind: number;
  readonly body: Buffer;
  /** Its number; called when its first bytes go out. */
  stream(): number;
  /** The channel that it belongs to, of a DATA. */
  readonly outlet?: Outlet;
  /** Its last bytes have gone out. */
  done(): void;
  at?: number;
}

/** Everything on its way to the peer: joins the frames of a turn into one write. */
export class Output {
  readonly writer = new Writer(FRESH);
  /** Bytes of CALL and DATA that the peer will still take, and what it took at first. */
  credit = 0;
  connection = 0;
  /** What the peer takes on a channel at first. */
  window = 0;
  readonly #wire: Wire;
  readonly #onFlushed: () => void;
  readonly #dirty: Outlet[] = [];
  readonly #longs: Long[] = [];
  #freeBytes = 0;
  #scheduled = false;
  #closed = false;
  readonly #tick = (): void => process.nextTick(this.#flushTick);
  readonly #flushTick = (): void => this.flush();

  constructor(wire: Wire, onFlushed: () => void) {
    this.#wire = wire;
    this.#onFlushed = onFlushed;
  }

  /** Begins a frame; what follows goes to `writer`, up to `end`. */
  begin(kind: number, stream: number): number {
    const { writer } = this;
    writer.reserve(HEADER);
    const { buf, pos } = writer;
    buf[pos + 3] = kind;
    buf[pos + 4] = stream & 0xff;
    buf[pos + 5] = (stream >>> 8) & 0xff;
    buf[pos + 6] = (stream >>> 16) & 0xff;
    buf[pos + 7] = stream >>> 24;
    writer.pos = pos + HEADER;
    return pos;
  }

  /** Bytes of payload since `begin`. */
  size(start: number): number {
    return this.writer.pos - start - HEADER;
  }

  /** Ends a frame whose payload fits one. */
  end(start: number): void {
    const { buf, pos } = this.writer;
    const size = pos - start - HEADER;
    buf[start] = size & 0xff;
    buf[start + 1] = (size >>> 8) & 0xff;
    buf[start + 2] = size >>> 16;
    if (!this.#scheduled) this.schedule();
  }

  /** Takes back a frame that was begun. */
  undo(start: number): void {
    this.writer.pos = start;
  }

  /** The payload since `begin`, which is taken back. */
  cut(start: number): Buffer {
    const body = this.writer.copy(start + HEADER);
    this.writer.pos = start;
    return body;
  }

  /** A whole frame. */
  frame(kind: number, stream: number, write?: (writer: Writer) => void): void {
    const start = this.begin(kind, stream);
    write?.(this.writer);
    this.end(start);
  }

  long(long: Long): void {
    this.#longs.push(long);
    if (long.kind === Kind.RESULT) this.#freeBytes += long.body.length;
    this.schedule();
  }

  /** Forgets long messages that have not begun. */
  unqueue(match: (long: Long) => boolean): void {
    for (let i = this.#longs.length - 1; i >= 0; i--) {
      const long = this.#longs[i] as Long;
      if (long.at === undefined && match(long)) this.#longs.splice(i, 1);
    }
  }

  soon(outlet: Outlet): void {
    this.#dirty.push(outlet);
    this.schedule();
  }

  get congested(): boolean {
    return this.#wire.pending + this.writer.pos > HIGH;
  }

  /** Whether so much is waiting that nothing more may be read. */
  get full(): boolean {
    return this.#wire.pending + this.writer.pos + this.#freeBytes > FULL;
  }

  /** Flushes when all that this turn does has been done, in promises too. */
  schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    queueMicrotask(this.#tick);
  }

  flush(): void {
    this.#scheduled = false;
    if (this.#closed) return;
    for (const outlet of this.#dirty.splice(0)) outlet.flush();
    const more = this.#pump();
    this.#write();
    if (more && !this.congested) setImmediate(() => this.schedule());
    this.#onFlushed();
  }

  #write(): void {
    const { writer } = this;
    if (writer.pos === 0) return;
    this.#wire.write(writer.buf.subarray(0, writer.pos));
    // The stream keeps the buffer until it has been taken.
    if (this.#wire.pending > 0 || writer.buf.length > 4 * HIGH) writer.buf = Buffer.allocUnsafeSlow(FRESH);
    writer.pos = 0;
  }

  /** Sends parts of long messages in turn; whether there are more that could go. */
  #pump(): boolean {
    const longs = this.#longs;
    let stuck = 0;
    while (stuck < longs.length && !this.congested) {
      const long = longs.shift() as Long;
      const sent = this.#part(long);
      stuck = sent ? 0 : stuck + 1;
      if (long.at !== long.body.length) longs.push(long);
      else long.done();
    }
    return stuck < longs.length;
  }

  #part(long: Long): boolean {
    const { body, outlet } = long;
    const free = long.kind === Kind.RESULT;
    const begun = long.at !== undefined;
    const at = long.at ?? 0;
    const rest = body.length - at;
    const room = free ? MAX_FRAME : Math.min(MAX_FRAME, this.credit, outlet?.credit ?? MAX_FRAME);
    const whole = !begun && rest <= room;
    // Credit comes back before half of it is used up, so anything smaller goes in one frame sooner or later.
    if (!whole && !begun && !outlet && rest <= Math.min(MAX_FRAME, this.connection >>> 1)) return false;
    const size = whole ? rest : Math.min(rest, room - (begun ? 0 : SIZE));
    const least = Math.min(4096, this.connection >>> 2, outlet ? this.window >>> 2 : 4096);
    if (size <= 0 || (size < rest && size < least)) return false;
    const start = this.begin(long.kind | (size < rest ? MORE : 0), long.stream());
    if (!whole && !begun) this.writer.uleb64(BigInt(body.length));
    this.writer.raw(body.subarray(at, at + size));
    if (free) this.#freeBytes -= size;
    else this.charge(this.size(start), outlet);
    this.end(start);
    long.at = at + size;
    return true;
  }

  charge(size: number, outlet?: Outlet): void {
    this.credit -= size;
    if (outlet) outlet.credit -= size;
  }

  /** Writes what there is, and nothing after it. */
  close(): void {
    if (this.#closed) return;
    this.#write();
    this.#closed = true;
    this.#longs.length = 0;
    this.#dirty.length = 0;
  }
}
