import { endianness } from 'node:os';
import type { Reader, Writer } from './bytes.js';
import { unfit, WireError, within } from './errors.js';
import { PRIMITIVES } from './scalars.js';
import { camel, hasChannels, type Type } from './types.js';

/** Writes one value of a type. Throws {@link WireError} where the value does not fit it. */
export type Encode = (writer: Writer, value: unknown) => void;

/** Reads one value of a type. Throws {@link WireError} where the bytes are none. */
export type Decode = (reader: Reader) => unknown;

/** Both directions of one type. */
export interface Codec {
  readonly encode: Encode;
  readonly decode: Decode;
  /** The fewest bytes that a value takes. */
  readonly least: number;
}

const LITTLE = endianness() === 'LE';
const compiled = new WeakMap<Type, Codec>();

/** The codec of a type; made once for each type object. */
export function codecOf(type: Type): Codec {
  let codec = compiled.get(type);
  if (codec === undefined) {
    codec = compile(type);
    compiled.set(type, codec);
  }
  return codec;
}

function object(expected: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw unfit(expected, value);
  return value as Record<string, unknown>;
}

function compile(type: Type): Codec {
  switch (type.kind) {
    case 'list':
      return list(type.element, type.length);
    case 'record': {
      const names = type.fields.map((field) => camel(field.name));
      const part = parts(type.fields.map((field) => field.type), names);
      return {
        ...part,
        encode: (w, v) => part.encode(w, object('a record', v)),
        decode: (r) => part.decode(r, {}),
      };
    }
    case 'tuple': {
      const part = parts(type.items, type.items.map((_, index) => index));
      return {
        ...part,
        encode: (w, v) => {
          if (!Array.isArray(v) || v.length !== type.items.length) throw unfit(`a tuple of ${type.items.length}`, v);
          part.encode(w, v as unknown as Record<string, unknown>);
        },
        decode: (r) => part.decode(r, [] as unknown as Record<string, unknown>),
      };
    }
    case 'variant':
      return variant(type.cases);
    case 'enum':
      return enumeration(type.names);
    case 'flags':
      return flags(type.names);
    case 'option':
      return option(type.some);
    case 'result': {
      const cases = [
        { name: 'ok', ...(type.ok ? { type: type.ok } : {}) },
        { name: 'err', ...(type.err ? { type: type.err } : {}) },
      ];
      return variant(cases, true);
    }
    case 'own':
    case 'borrow': {
      const { resource } = type;
      const owned = type.kind === 'own';
      return {
        least: 1,
        encode: (w, v) => {
          if (!w.lowering) throw unfit('no handle outside of a call', v);
          w.bytes(w.lowering.lowerHandle(resource, v, owned));
        },
        decode: (r) => {
          const handle = r.bytes('bytes of a handle');
          if (handle.length > 64) throw new WireError('overflow', `a handle of ${handle.length} bytes, 64 are allowed`);
          return r.lifting ? r.lifting.liftHandle(resource, handle, owned) : handle;
        },
      };
    }
    case 'stream':
    case 'future':
      return channel(type);
    default:
      return PRIMITIVES[type.kind];
  }
}

/** Values one after another, each under its name or number. */
function parts(types: readonly Type[], names: readonly (string | number)[]) {
  const encoders = types.map((type) => codecOf(type).encode);
  const decoders = types.map((type) => codecOf(type).decode);
  const pathed = types.map(hasChannels);
  const any = pathed.includes(true);
  const n = types.length;
  return {
    least: types.reduce((sum, type) => sum + codecOf(type).least, 0),
    encode(w: Writer, value: Record<string | number, unknown>): void {
      let i = 0;
      try {
        for (; i < n; i++) {
          if (any && pathed[i]) w.path.push(i);
          (encoders[i] as Encode)(w, value[names[i] as string]);
          if (any && pathed[i]) w.path.pop();
        }
      } catch (error) {
        throw within(error, names[i] as string);
      }
    },
    decode(r: Reader, into: Record<string | number, unknown>): unknown {
      let i = 0;
      try {
        for (; i < n; i++) {
          if (any && pathed[i]) r.path.push(i);
          into[names[i] as string] = (decoders[i] as Decode)(r);
          if (any && pathed[i]) r.path.pop();
        }
      } catch (error) {
        throw within(error, names[i] as string);
      }
      return into;
    },
  };
}

/** Writes items one after another; `from` is the path number of the first, where items hold channels. */
export function encodeItems(w: Writer, element: Type, items: ArrayLike<unknown>, from = 0): void {
  const { encode } = codecOf(element);
  const pathed = hasChannels(element);
  let i = 0;
  try {
    for (; i < items.length; i++) {
      if (pathed) w.path.push(from + i);
      encode(w, items[i]);
      if (pathed) w.path.pop();
    }
  } catch (error) {
    throw within(error, from + i);
  }
}

/** Reads `n` items; `from` is the path number of the first, where items hold channels. */
export function decodeItems(r: Reader, element: Type, n: number, from = 0): unknown[] {
  const { decode } = codecOf(element);
  const pathed = hasChannels(element);
  const items: unknown[] = [];
  try {
    while (items.length < n) {
      if (pathed) r.path.push(from + items.length);
      items.push(decode(r));
      if (pathed) r.path.pop();
    }
  } catch (error) {
    throw within(error, from + items.length);
  }
  return items;
}

function list(element: Type, fixed: number | undefined): Codec {
  const { least } = codecOf(element);
  const what = fixed === undefined ? 'a list' : `a list of ${fixed}`;
  const check = (v: unknown): ArrayLike<unknown> => {
    const good = Array.isArray(v) || (ArrayBuffer.isView(v) && !(v instanceof DataView));
    if (!good) throw unfit(what, v);
    const items = v as ArrayLike<unknown>;
    if (fixed !== undefined && items.length !== fixed) throw unfit(what, v);
    return items;
  };
  const count = (r: Reader): number => {
    if (fixed === undefined) return r.count(least, what);
    if (fixed * least > r.left) throw new WireError('truncated', `the bytes end within ${what}`);
    return fixed;
  };
  const size = fixed === undefined ? 1 : fixed * least;
  const bulk = element.kind === 'u8' ? BYTES : element.kind === 'f32' ? FLOATS : element.kind === 'f64' ? DOUBLES : undefined;
  return {
    least: size,
    encode: (w, v) => {
      const items = check(v);
      if (fixed === undefined) w.uleb(items.length);
      if (bulk?.encode(w, items)) return;
      encodeItems(w, element, items);
    },
    decode: bulk ? (r) => bulk.decode(r, count(r)) : (r) => decodeItems(r, element, count(r)),
  };
}

interface Bulk {
  /** Whether it could write them. */
  encode(w: Writer, items: ArrayLike<unknown>): boolean;
  decode(r: Reader, n: number): unknown;
}

const BYTES: Bulk = {
  encode(w, items) {
    if (items instanceof Uint8Array) w.raw(items);
    return items instanceof Uint8Array;
  },
  decode: (r, n) => r.raw(n),
};

function floats(size: 4 | 8): Bulk {
  const Array = size === 4 ? Float32Array : Float64Array;
  const canonical = size === 4 ? [0x7fc00000] : [0, 0x7ff80000];
  return {
    encode(w, items) {
      if (!LITTLE || !(items instanceof Array)) return false;
      const copy = items.slice();
      const bits = new Uint32Array(copy.buffer);
      for (let i = 0; i < copy.length; i++) if (copy[i] !== copy[i]) bits.set(canonical, (i * size) / 4);
      w.raw(new Uint8Array(copy.buffer));
      return true;
    },
    decode(r, n) {
      const values = new Array(n);
      if (LITTLE) new Uint8Array(values.buffer).set(r.raw(n * size));
      else for (let i = 0; i < n; i++) values[i] = size === 4 ? r.f32() : r.f64();
      return values;
    },
  };
}

const FLOATS = floats(4);
const DOUBLES = floats(8);

function variant(cases: readonly { name: string; type?: Type }[], valAlways = false): Codec {
  const numbers = new Map(cases.map((one, index) => [one.name, index]));
  const codecs = cases.map((one) => one.type && codecOf(one.type));
  const pathed = cases.map((one) => one.type !== undefined && hasChannels(one.type));
  const expected = `one of ${cases.map((one) => one.name).join(', ')}`;
  return {
    least: 1 + Math.min(...codecs.map((codec) => codec?.least ?? 0)),
    encode: (w, v) => {
      const { tag, val } = object(`a variant {tag, val}`, v);
      const number = numbers.get(tag as string);
      if (number === undefined) throw unfit(expected, tag);
      w.uleb(number);
      const codec = codecs[number];
      if (codec === undefined) return;
      try {
        if (pathed[number]) w.path.push(number);
        codec.encode(w, val);
        if (pathed[number]) w.path.pop();
      } catch (error) {
        throw within(error, tag as string);
      }
    },
    decode: (r) => {
      const number = discriminant(r, cases.length);
      const tag = (cases[number] as { name: string }).name;
      const codec = codecs[number];
      if (codec === undefined) return valAlways ? { tag, val: undefined } : { tag };
      try {
        if (pathed[number]) r.path.push(number);
        const val = codec.decode(r);
        if (pathed[number]) r.path.pop();
        return { tag, val };
      } catch (error) {
        throw within(error, tag);
      }
    },
  };
}

function discriminant(r: Reader, cases: number): number {
  const number = r.uleb();
  if (number >= cases) {
    throw new WireError('invalid-discriminant', `case ${number} of ${cases}`, `less than ${cases}`, String(number));
  }
  return number;
}

function enumeration(names: readonly string[]): Codec {
  const numbers = new Map(names.map((name, index) => [name, index]));
  return {
    least: 1,
    encode: (w, v) => {
      const number = numbers.get(v as string);
      if (number === undefined) throw unfit(`one of ${names.join(', ')}`, v);
      w.uleb(number);
    },
    decode: (r) => names[discriminant(r, names.length)],
  };
}

function flags(names: readonly string[]): Codec {
  const fields = names.map(camel);
  const size = Math.ceil(names.length / 8);
  return {
    least: size,
    encode: (w, v) => {
      const set = object('an object of flags', v);
      for (let i = 0; i < size; i++) {
        let byte = 0;
        for (let bit = 0; bit < 8; bit++) if (i * 8 + bit < fields.length && set[fields[i * 8 + bit] as string]) byte |= 1 << bit;
        w.byte(byte);
      }
    },
    decode: (r) => {
      const set: Record<string, boolean> = {};
      let byte = 0;
      for (let i = 0; i < fields.length; i++) {
        if (i % 8 === 0) byte = r.byte('flags');
        set[fields[i] as string] = ((byte >> i % 8) & 1) === 1;
      }
      return set;
    },
  };
}

function option(some: Type): Codec {
  const codec = codecOf(some);
  const pathed = hasChannels(some);
  const nested = some.kind === 'option';
  return {
    least: 1,
    encode: (w, v) => {
      let value = v;
      if (nested) {
        const { tag, val } = object(`an option {tag: 'some' | 'none', val}`, v);
        if (tag !== 'some' && tag !== 'none') throw unfit('tag some or none', tag);
        if (tag === 'none') return w.byte(0);
        value = val;
      } else if (v === undefined || v === null) {
        return w.byte(0);
      }
      w.byte(1);
      if (pathed) w.path.push(1);
      codec.encode(w, value);
      if (pathed) w.path.pop();
    },
    decode: (r) => {
      if (discriminant(r, 2) === 0) return nested ? { tag: 'none' } : undefined;
      if (pathed) r.path.push(1);
      const val = codec.decode(r);
      if (pathed) r.path.pop();
      return nested ? { tag: 'some', val } : val;
    },
  };
}

function channel(type: Type & { kind: 'stream' | 'future' }): Codec {
  const { element, kind } = type;
  const codec = element && codecOf(element);
  // Items stand below their stream, each at its number; the value of a future stands where the future does.
  const items = codecOf({ kind: 'list', element: element ?? { kind: 'tuple', items: [] } });
  const ready = (r: Reader): unknown => {
    if (kind === 'stream') {
      const all = items.decode(r);
      return whole(element?.kind === 'u8' ? [all] : (all as Iterable<unknown>));
    }
    return Promise.resolve(codec?.decode(r));
  };
  return {
    least: 1,
    encode: (w, v) => {
      if (!w.lowering) throw unfit(`no ${kind} outside of a call`, v);
      if (kind === 'future' && !isThenable(v)) {
        w.byte(1);
        return codec?.encode(w, v);
      }
      if (kind === 'stream' && !isIterable(v)) throw unfit('an AsyncIterable or Iterable', v);
      w.byte(0);
      w.lowering.lowerChannel(type, [...w.path], v);
    },
    decode: (r) => {
      if (discriminant(r, 2) === 1) return ready(r);
      return r.lifting ? r.lifting.liftChannel(type, [...r.path]) : undefined;
    },
  };
}

/** A stream whose items came all at once. */
async function* whole(items: Iterable<unknown>): AsyncGenerator<unknown, void> {
  yield* items;
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (typeof value === 'object' || typeof value === 'function') &&
    value !== null &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}

export function isIterable(value: unknown): value is AsyncIterable<unknown> | Iterable<unknown> {
  return typeof value === 'object' && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value);
}
