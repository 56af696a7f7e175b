import type { Writer } from './bytes.js';
import type { Codec, Decode } from './codec.js';
import { unfit, WireError } from './errors.js';
import type { Primitive } from './types.js';

function integer(name: string, least: number, most: number, write: (w: Writer, v: number) => void, decode: Decode): Codec {
  return {
    least: 1,
    decode,
    encode: (w, v) => {
      if (typeof v !== 'number' || !Number.isInteger(v) || v < least || v > most) throw unfit(name, v);
      write(w, v);
    },
  };
}

function big(name: string, least: bigint, most: bigint, write: (w: Writer, v: bigint) => void, decode: Decode): Codec {
  return {
    least: 1,
    decode,
    encode: (w, v) => {
      if (typeof v !== 'bigint' || v < least || v > most) throw unfit(`${name} (a bigint)`, v);
      write(w, v);
    },
  };
}

const uleb = (w: Writer, v: number): void => w.uleb(v);
const sleb = (w: Writer, v: number): void => w.sleb(v);

function number(size: 4 | 8): Codec {
  return {
    least: size,
    // JavaScript has one NaN, and Node writes it as the canonical one.
    encode: (w, v) => {
      if (typeof v !== 'number') throw unfit(size === 4 ? 'f32' : 'f64', v);
      const value = v !== v ? NaN : v;
      if (size === 4) w.f32(value);
      else w.f64(value);
    },
    decode: size === 4 ? (r) => r.f32() : (r) => r.f64(),
  };
}

/** The codecs of types without parts. */
export const PRIMITIVES: Readonly<Record<Primitive, Codec>> = {
  bool: {
    least: 1,
    encode: (w, v) => {
      if (typeof v !== 'boolean') throw unfit('bool', v);
      w.byte(v ? 1 : 0);
    },
    decode: (r) => {
      const byte = r.byte('a bool');
      if (byte > 1) throw new WireError('invalid-value', `bool ${byte}`, '0 or 1', String(byte));
      return byte === 1;
    },
  },
  u8: integer('u8', 0, 0xff, (w, v) => w.byte(v), (r) => r.byte('a u8')),
  u16: integer('u16', 0, 0xffff, uleb, (r) => r.uleb(16)),
  u32: integer('u32', 0, 0xffffffff, uleb, (r) => r.uleb(32)),
  u64: big('u64', 0n, 0xffffffffffffffffn, (w, v) => w.uleb64(v), (r) => r.uleb64()),
  s8: integer('s8', -0x80, 0x7f, (w, v) => w.byte(v & 0xff), (r) => (r.byte('an s8') << 24) >> 24),
  s16: integer('s16', -0x8000, 0x7fff, sleb, (r) => r.sleb(16)),
  s32: integer('s32', -0x80000000, 0x7fffffff, sleb, (r) => r.sleb(32)),
  s64: big('s64', -0x8000000000000000n, 0x7fffffffffffffffn, (w, v) => w.sleb64(v), (r) => r.sleb64()),
  f32: number(4),
  f64: number(8),
  char: {
    least: 1,
    encode: (w, v) => {
      const point = typeof v === 'string' ? v.codePointAt(0) : undefined;
      if (point === undefined || (v as string).length !== (point > 0xffff ? 2 : 1) || (point >= 0xd800 && point <= 0xdfff)) {
        throw unfit('one character', v);
      }
      w.raw(Buffer.from(v as string));
    },
    decode: (r) => r.char(),
  },
  string: {
    least: 1,
    encode: (w, v) => {
      if (typeof v !== 'string') throw unfit('string', v);
      w.string(v);
    },
    decode: (r) => r.string(),
  },
  'error-context': {
    least: 1,
    encode: (w, v) => w.string(v instanceof Error ? v.message : String(v)),
    decode: (r) => new Error(r.string()),
  },
};
