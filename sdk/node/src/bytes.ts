import { WireError } from './errors.js';
import type { ChannelType, Resource } from './types.js';

/** What gives handles, streams and futures their bytes while a message is written. */
export interface Lowering {
  /** The bytes of a handle for `value`. */
  lowerHandle(resource: Resource, value: unknown, owned: boolean): Uint8Array;
  /** Takes charge of a pending stream or future that stands at `path`. */
  lowerChannel(type: ChannelType, path: readonly number[], value: unknown): void;
}

/** What makes values of handles, streams and futures while a message is read. */
export interface Lifting {
  liftHandle(resource: Resource, handle: Uint8Array, owned: boolean): unknown;
  /** An AsyncIterable or a Promise for the pending channel at `path`. */
  liftChannel(type: ChannelType, path: readonly number[]): unknown;
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Below this a `list<u8>` is copied out of what was read, above it is a view: a small value that is kept must not
 * hold a whole read buffer of the socket in memory.
 */
const COPY_BELOW = 4096;

/** A buffer that grows, with the wire's basic encodings. */
export class Writer {
  buf: Buffer;
  pos = 0;
  lowering: Lowering | undefined;
  /** Path of the value being written; kept only within types that hold channels. */
  path: number[] = [];

  constructor(size = 1024) {
    this.buf = Buffer.allocUnsafeSlow(size);
  }

  /** Makes room for `n` further bytes. */
  reserve(n: number): void {
    if (this.pos + n > this.buf.length) this.#grow(n);
  }

  #grow(n: number): void {
    const next = Buffer.allocUnsafeSlow(Math.max(this.buf.length * 2, this.pos + n));
    next.set(this.buf.subarray(0, this.pos));
    this.buf = next;
  }

  byte(value: number): void {
    if (this.pos === this.buf.length) this.#grow(1);
    this.buf[this.pos++] = value;
  }

  /** Unsigned LEB128 of an integer of up to 53 bits. */
  uleb(value: number): void {
    if (this.pos + 8 > this.buf.length) this.#grow(8);
    const { buf } = this;
    let { pos } = this;
    while (value > 0x7fffffff) {
      buf[pos++] = (value % 128) | 0x80;
      value = Math.floor(value / 128);
    }
    while (value > 0x7f) {
      buf[pos++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    buf[pos++] = value;
    this.pos = pos;
  }

  /** Signed LEB128 of a 32-bit integer. */
  sleb(value: number): void {
    if (this.pos + 5 > this.buf.length) this.#grow(5);
    const { buf } = this;
    while (value < -64 || value > 63) {
      buf[this.pos++] = (value & 0x7f) | 0x80;
      value >>= 7;
    }
    buf[this.pos++] = value & 0x7f;
  }

  /** Unsigned LEB128 of a 64-bit integer. */
  uleb64(value: bigint): void {
    if (value <= 0x1fffffffffffffn) return this.uleb(Number(value));
    this.#groups(Number(BigInt.asUintN(28, value)));
    this.uleb(Number(value >> 28n));
  }

  /** Signed LEB128 of a 64-bit integer. */
  sleb64(value: bigint): void {
    while (value < -0x80000000n || value > 0x7fffffffn) {
      this.#groups(Number(BigInt.asUintN(28, value)));
      value >>= 28n;
    }
    this.sleb(Number(value));
  }

  /** Four bytes of a longer LEB128, from the low 28 bits. */
  #groups(bits: number): void {
    this.reserve(4);
    for (let i = 0; i < 4; i++, bits >>>= 7) this.buf[this.pos++] = (bits & 0x7f) | 0x80;
  }

  /** The length of some bytes, then the bytes. */
  bytes(value: Uint8Array): void {
    this.uleb(value.length);
    this.raw(value);
  }

  raw(value: Uint8Array): void {
    const n = value.length;
    this.reserve(n);
    if (n > 24) this.buf.set(value, this.pos);
    else for (let i = 0; i < n; i++) this.buf[this.pos + i] = value[i] as number;
    this.pos += n;
  }

  /** @throws WireError where the string holds half of a surrogate pair, which UTF-8 cannot say. */
  string(value: string): void {
    const n = value.length;
    if (n < 48 && this.#ascii(value, n)) return;
    if (!value.isWellFormed()) {
      throw new WireError('invalid-value', 'a string with half of a surrogate pair', 'a Unicode string', 'a lone surrogate');
    }
    const size = Buffer.byteLength(value);
    this.uleb(size);
    this.reserve(size);
    this.buf.write(value, this.pos, 'utf8');
    this.pos += size;
  }

  /** Short strings are mostly ASCII, and for those a loop is quicker than a call out of JavaScript. */
  #ascii(value: string, n: number): boolean {
    this.reserve(n + 1);
    const { buf } = this;
    const start = this.pos + 1;
    for (let i = 0; i < n; i++) {
      const unit = value.charCodeAt(i);
      if (unit > 0x7f) return false;
      buf[start + i] = unit;
    }
    buf[this.pos] = n;
    this.pos = start + n;
    return true;
  }

  f32(value: number): void {
    this.reserve(4);
    this.pos = this.buf.writeFloatLE(value, this.pos);
  }

  f64(value: number): void {
    this.reserve(8);
    this.pos = this.buf.writeDoubleLE(value, this.pos);
  }

  /** A copy of what was written from `start` on. */
  copy(start = 0): Buffer {
    return Buffer.from(this.buf.subarray(start, this.pos));
  }
}

function truncated(what: string): WireError {
  return new WireError('truncated', `the bytes end within ${what}`, what, 'the end of the bytes');
}

/** Reads the wire's basic encodings from part of a buffer. */
export class Reader {
  buf: Buffer;
  pos: number;
  end: number;
  lifting: Lifting | undefined;
  /** Path of the value being read; kept only within types that hold channels. */
  path: number[] = [];
  /** How many items without bytes one list may claim. */
  mostEmpty: number;

  constructor(buf: Buffer, pos = 0, end = buf.length, mostEmpty = 1 << 26) {
    this.buf = buf;
    this.pos = pos;
    this.end = end;
    this.mostEmpty = mostEmpty;
  }

  /** Turns to other bytes, so that one reader serves for all frames. */
  over(buf: Buffer, pos: number, end: number): this {
    this.buf = buf;
    this.pos = pos;
    this.end = end;
    return this;
  }

  get left(): number {
    return this.end - this.pos;
  }

  byte(what = 'a byte'): number {
    if (this.pos >= this.end) throw truncated(what);
    return this.buf[this.pos++] as number;
  }

  /** Unsigned LEB128 of at most `bits` bits, 16 or 32. */
  uleb(bits = 32): number {
    const { buf, end } = this;
    let { pos } = this;
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      if (pos >= end) throw truncated(`a u${bits}`);
      const byte = buf[pos++] as number;
      const room = bits - shift;
      if (room < 7) {
        if (byte > 0x7f) throw new WireError('too-long', `a u${bits} of more than ${Math.ceil(bits / 7)} bytes`);
        if (byte >>> room !== 0) throw new WireError('overflow', `a number that does not fit u${bits}`);
      }
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        this.pos = pos;
        return value >>> 0;
      }
    }
  }

  /** Signed LEB128 of at most `bits` bits, 16 or 32. */
  sleb(bits = 32): number {
    const { buf, end } = this;
    let { pos } = this;
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      if (pos >= end) throw truncated(`an s${bits}`);
      const byte = buf[pos++] as number;
      const room = bits - shift;
      if (room < 7) {
        if (byte > 0x7f) throw new WireError('too-long', `an s${bits} of more than ${Math.ceil(bits / 7)} bytes`);
        // The bits beyond the type must repeat its sign.
        const above = byte >> (room - 1);
        if (above !== 0 && above !== 0x7f >> (room - 1)) {
          throw new WireError('overflow', `a number that does not fit s${bits}`);
        }
      }
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        this.pos = pos;
        const unused = 32 - shift - 7;
        return unused > 0 ? (value << unused) >> unused : value;
      }
    }
  }

  uleb64(): bigint {
    const n = this.#long('a u64');
    if (n === 10 && (this.buf[this.pos - 1] as number) > 1) {
      throw new WireError('overflow', 'a number that does not fit u64');
    }
    return this.#bits(n);
  }

  sleb64(): bigint {
    const n = this.#long('an s64');
    const last = this.buf[this.pos - 1] as number;
    if (n === 10 && last !== 0 && last !== 0x7f) throw new WireError('overflow', 'a number that does not fit s64');
    return BigInt.asIntN(Math.min(64, n * 7), this.#bits(n));
  }

  /** A u64 as a number, for sizes and times; beyond 2^53 it loses precision. */
  size(): number {
    return Number(this.uleb64());
  }

  /** Steps over a LEB128 of at most ten bytes and says how many it has. */
  #long(what: string): number {
    const { buf, end, pos } = this;
    for (let n = 0; n < 10; n++) {
      if (pos + n >= end) throw truncated(what);
      if ((buf[pos + n] as number) < 0x80) {
        this.pos = pos + n + 1;
        return n + 1;
      }
    }
    throw new WireError('too-long', `${what} of more than 10 bytes`);
  }

  /** The bits of the last `n` bytes, seven of each. */
  #bits(n: number): bigint {
    const start = this.pos - n;
    let low = 0;
    let high = 0;
    for (let i = Math.min(n, 4) - 1; i >= 0; i--) low = low * 128 + ((this.buf[start + i] as number) & 0x7f);
    if (n <= 4) return BigInt(low);
    for (let i = n - 1; i >= 4; i--) high = high * 128 + ((this.buf[start + i] as number) & 0x7f);
    return n <= 7 ? BigInt(high * 0x10000000 + low) : (BigInt(high) << 28n) | BigInt(low);
  }

  /** The number of the items that follow, each of at least `least` bytes. */
  count(least: number, what: string): number {
    const n = this.uleb();
    if (least > 0 ? n * least > this.end - this.pos : n > this.mostEmpty) throw truncated(`${what} of ${n} items`);
    return n;
  }

  /** `n` bytes: a copy where they are few, else a view of what was read. */
  raw(n: number, what = 'bytes'): Uint8Array {
    if (n > this.end - this.pos) throw truncated(`${n} ${what}`);
    const { buf, pos } = this;
    this.pos += n;
    if (n >= COPY_BELOW) return new Uint8Array(buf.buffer, buf.byteOffset + pos, n);
    const copy = new Uint8Array(n);
    if (n > 24) copy.set(buf.subarray(pos, pos + n));
    else for (let i = 0; i < n; i++) copy[i] = buf[pos + i] as number;
    return copy;
  }

  bytes(what = 'bytes'): Uint8Array {
    return this.raw(this.uleb(), what);
  }

  string(): string {
    const n = this.uleb();
    if (n > this.end - this.pos) throw truncated(`a string of ${n} bytes`);
    const { buf, pos } = this;
    const end = pos + n;
    this.pos = end;
    const text = buf.toString('utf8', pos, end);
    // The lenient decoder marks what is wrong by this character; only text that holds it is looked at again.
    if (!text.includes('\ufffd')) return text;
    try {
      return strict.decode(buf.subarray(pos, end));
    } catch {
      throw new WireError('invalid-utf8', 'a string', 'UTF-8', 'other bytes');
    }
  }

  char(): string {
    const first = this.byte('a char');
    if (first < 0x80) return String.fromCharCode(first);
    const more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4) throw badChar();
    let point = first & (0x3f >> more);
    for (let i = 0; i < more; i++) {
      const next = this.byte('a char');
      if ((next & 0xc0) !== 0x80) throw badChar();
      point = (point << 6) | (next & 0x3f);
    }
    const least = more === 1 ? 0x80 : more === 2 ? 0x800 : 0x10000;
    if (point < least || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) throw badChar();
    return String.fromCodePoint(point);
  }

  f32(): number {
    if (this.pos + 4 > this.end) throw truncated('an f32');
    this.pos += 4;
    return this.buf.readFloatLE(this.pos - 4);
  }

  f64(): number {
    if (this.pos + 8 > this.end) throw truncated('an f64');
    this.pos += 8;
    return this.buf.readDoubleLE(this.pos - 8);
  }

  /** @throws WireError where bytes are left over. */
  finish(): void {
    if (this.pos !== this.end) {
      throw new WireError('invalid-value', `${this.end - this.pos} bytes too many`, 'the end', 'more bytes');
    }
  }
}

function badChar(): WireError {
  return new WireError('invalid-utf8', 'a char', 'one character in UTF-8', 'other bytes');
}
