// What the tests share: an interface with every type, what serves it, and peers that speak raw frames.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as netConnect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writer, Reader } from '../dist/bytes.js';
import { Exports } from '../dist/exports.js';
import { FrameReader, Kind, PREFACE } from '../dist/frames.js';
import { DEFAULT_LIMITS, helloOf } from '../dist/hello.js';
import { ResultError } from '../dist/index.js';
import { readFailure, readHello, writeHello } from '../dist/messages.js';
import { parseWit } from '../dist/wit.js';

export const ALL = 'test:all/all@0.1.0';
export const wit = parseWit(`
  package test:all@0.1.0;
  interface shapes {
    record point { x: s32, y-axis: option<f64> }
    variant shape { dot, circle(f32), poly(list<point>) }
    enum color { red, dark-green }
    flags rights { can-read, can-write }
  }
  interface all {
    use shapes.{point, shape, color, rights};
    type maybe = option<option<string>>;
    resource counter {
      constructor(start: u32);
      add: func(n: u32) -> u32;
      merge: func(other: counter);
      value-of: static func(c: borrow<counter>) -> u32;
      many: static func(n: u32) -> list<counter>;
    }
    bools: func(v: bool) -> bool;
    u8s: func(v: u8) -> u8;
    u16s: func(v: u16) -> u16;
    u32s: func(v: u32) -> u32;
    u64s: func(v: u64) -> u64;
    s8s: func(v: s8) -> s8;
    s16s: func(v: s16) -> s16;
    s32s: func(v: s32) -> s32;
    s64s: func(v: s64) -> s64;
    f32s: func(v: f32) -> f32;
    f64s: func(v: f64) -> f64;
    chars: func(v: char) -> char;
    strings: func(v: string) -> string;
    bytes: func(v: list<u8>) -> list<u8>;
    numbers: func(v: list<u32>) -> list<u32>;
    doubles: func(v: list<f64>) -> list<f64>;
    fixed: func(v: list<u16, 3>) -> list<u16, 3>;
    points: func(v: list<point>) -> list<point>;
    tuples: func(v: tuple<u8, string, tuple<bool>>) -> tuple<u8, string, tuple<bool>>;
    shaped: func(v: shape) -> shape;
    colors: func(v: color) -> color;
    right: func(v: rights) -> rights;
    options: func(v: option<u32>) -> option<u32>;
    nested: func(v: maybe) -> maybe;
    results: func(v: list<result<u8, string>>) -> list<result<u8, string>>;
    errors: func(v: error-context) -> error-context;
    checked: func(v: u32) -> result<u32, shape>;
    unit-error: func() -> result;
    nothing: func();
    two: func(a: u32, b: string) -> string;
    fails: func(message: string);
    wrong: func() -> u32;
    wait: async func();
    context: func() -> string;
    numbered: func(n: u32) -> stream<u32>;
    doubled: func(v: stream<u32>) -> stream<u32>;
    pipe: func(v: stream<u8>) -> stream<u8>;
    texts: func(v: stream<string>) -> u32;
    ticks: func(v: stream) -> u32;
    hold: async func(v: stream<u8>) -> u32;
    broken: func() -> stream<u8>;
    later: func(v: future<string>) -> future<string>;
    lost: func() -> future<string>;
    deep: func(v: stream<future<string>>) -> list<string>;
    streams: func(n: u32) -> stream<stream<u32>>;
    both: func(v: tuple<stream<u32>, future<u32>>) -> record-of;
    record record-of { sum: future<u32>, items: stream<u32> }
  }
`);

export class Counter {
  static live = 0;
  constructor(start) {
    if (start === 13) throw new Error('no luck');
    this.value = start;
    Counter.live++;
  }
  add(n) {
    return (this.value += n);
  }
  merge(other) {
    this.value += other.value;
    other[Symbol.dispose]();
  }
  static valueOf(counter) {
    return counter.value;
  }
  static many(n) {
    return Array.from({ length: n }, (_, i) => new Counter(i % 13));
  }
  [Symbol.dispose]() {
    Counter.live--;
  }
}

const same = (v) => v;

/** Serves `all`; `seen` gets what tests want to look at. */
export function makeAll(seen = {}) {
  const echoes = ['bools', 'u8s', 'u16s', 'u32s', 'u64s', 's8s', 's16s', 's32s', 's64s', 'f32s', 'f64s', 'chars', 'strings',
    'bytes', 'numbers', 'doubles', 'fixed', 'points', 'tuples', 'shaped', 'colors', 'right', 'options', 'nested', 'results', 'errors'];
  return {
    ...Object.fromEntries(echoes.map((name) => [name, same])),
    Counter,
    checked(v) {
      if (v > 9) throw new ResultError({ tag: 'circle', val: 1.5 });
      return v;
    },
    unitError() {
      throw new ResultError();
    },
    nothing() {},
    two: async (a, b) => `${b}${a}`,
    fails(message) {
      throw new RangeError(message);
    },
    wrong: () => 'not a number',
    async wait({ signal }) {
      seen.waiting?.(signal);
      await new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => {
          seen.aborted?.(signal.reason);
          reject(signal.reason);
        });
      });
    },
    context: ({ deadline, traceparent, identity, idempotencyKey, link }) => JSON.stringify({ deadline: typeof deadline, traceparent, identity,
      key: idempotencyKey && [...idempotencyKey], link }),
    async *numbered(n) {
      for (let i = 0; i < n; i++) yield i;
    },
    async *doubled(v) {
      for await (const n of v) yield n * 2;
    },
    pipe: (v) => v,
    async texts(v) {
      let n = 0;
      for await (const text of v) n += text.length;
      return n;
    },
    async ticks(v) {
      let n = 0;
      for await (const _ of v) n++;
      return n;
    },
    async hold(v) {
      const first = await v.next();
      await new Promise((resolve) => seen.hold?.(resolve));
      let n = first.value.length;
      for await (const chunk of v) n += chunk.length;
      return n;
    },
    async *broken() {
      yield Uint8Array.of(1);
      throw new Error('the disk is full');
    },
    later: async (v) => `${await v}!`,
    lost: () => Promise.reject(new Error('never')),
    async deep(v) {
      const all = [];
      for await (const future of v) all.push(future);
      return Promise.all(all);
    },
    async *streams(n) {
      for (let i = 0; i < n; i++) yield Array.from({ length: i }, () => i);
    },
    both([numbers, more]) {
      const list = [];
      let finish;
      const sum = new Promise((resolve) => (finish = resolve));
      const items = (async function* () {
        let total = await more;
        for await (const n of numbers) {
          list.push(n);
          total += n;
          yield n + 1;
        }
        finish(total);
      })();
      return { sum, items };
    },
    ...seen.more,
  };
}

export function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'loop-node-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export async function collect(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

/** Time that passes only when told to. */
export class ManualClock {
  #now = 0;
  #timers = new Set();
  now() {
    return this.#now;
  }
  after(ms, then) {
    const timer = { at: this.#now + ms, then };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }
  get pending() {
    return this.#timers.size;
  }
  pass(ms) {
    this.#now += ms;
    for (const timer of [...this.#timers].sort((a, b) => a.at - b.at)) {
      if (timer.at > this.#now || !this.#timers.delete(timer)) continue;
      timer.then();
    }
  }
}

/** A turn of the event loop, so that what was written is read. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Waits until a condition holds, by turns rather than by time. */
export async function until(condition) {
  while (!(await condition())) await turn();
}

/** A peer that sends whatever bytes a test wants. */
export class RawPeer {
  constructor(socket) {
    this.socket = socket;
    this.frames = [];
    this.waiting = [];
    this.reader = new FrameReader((kind, stream, buf, pos, end) => this.got({ kind, stream, payload: Buffer.from(buf.subarray(pos, end)) }), false);
    socket.on('data', (chunk) => this.reader.push(chunk));
    socket.on('error', () => undefined);
    this.over = once(socket, 'close').catch(() => undefined);
  }
  static async connect(path) {
    const socket = netConnect(path);
    await once(socket, 'connect');
    return new RawPeer(socket);
  }
  got(frame) {
    const waiter = this.waiting.shift();
    if (waiter) waiter(frame);
    else this.frames.push(frame);
  }
  next() {
    if (this.frames.length > 0) return Promise.resolve(this.frames.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }
  raw(...parts) {
    this.socket.write(Buffer.concat(parts));
    return this;
  }
  send(kind, stream, write = () => undefined) {
    return this.raw(frame(kind, stream, write));
  }
  /** Shakes hands as one that imports what is given. */
  async hello(imports = [], limits = {}, more = {}) {
    const hello = { ...helloOf({}, new Exports(wit, {}), imports.map((name) => wit.interface(name)), { ...DEFAULT_LIMITS, ...limits }), ...more };
    this.raw(PREFACE);
    this.send(Kind.HELLO, 0, (writer) => writeHello(writer, hello));
    const answer = await this.next();
    if (answer.kind === Kind.REFUSE) throw readFailure(new Reader(answer.payload));
    return readHello(new Reader(answer.payload));
  }
  /** The failure of the next GOAWAY, REFUSE or FAIL. */
  async failure() {
    for (;;) {
      const { kind, payload } = await this.next();
      if ([Kind.GOAWAY, Kind.REFUSE, Kind.FAIL].includes(kind)) return readFailure(new Reader(payload));
    }
  }
}

export function frame(kind, stream, write = () => undefined) {
  const writer = new Writer();
  write(writer);
  const payload = writer.copy();
  const head = Buffer.alloc(8);
  head.writeUIntLE(payload.length, 0, 3);
  head[3] = kind;
  head.writeUInt32LE(stream, 4);
  return Buffer.concat([head, payload]);
}

/** The number of a function of `all`. */
export const numberOf = (name) => wit.interface(ALL).functions.findIndex((func) => func.name === name);

/** The payload of a plain CALL. */
export const call = (name, params = () => undefined, link = 0) => (writer) => {
  writer.uleb(numberOf(name));
  writer.uleb(link);
  writer.byte(0);
  params(writer);
};
