// The provider that `loop conform` expects, in JavaScript.
import { fileURLToPath } from 'node:url';
import { Failure, ResultError, serve } from '../dist/index.js';

const wit = fileURLToPath(new URL('../../../python/loop_kit/conform/wit', import.meta.url));
const echoed = ['Bool', 'U8', 'S8', 'U16', 'S16', 'U32', 'S32', 'U64', 'S64', 'F32', 'F64', 'Char', 'String', 'Bytes', 'Numbers', 'Doubles',
  'Strings', 'Fixed', 'Tuple', 'Point', 'Shape', 'Color', 'Rights', 'Nine', 'Option', 'Nested', 'Results', 'Units', 'Everything'];

const values = {
  ...Object.fromEntries(echoed.map((type) => [`echo${type}`, (v) => v])),
  nothing() {},
  two: (a, b) => `${b}${a}`,
};

/** Calls that wait for keys. */
class Waiting {
  #keys = new Map();

  get size() {
    return [...this.#keys.values()].reduce((sum, waiting) => sum + waiting.size, 0);
  }

  async wait(key, signal) {
    const all = this.#keys.get(key) ?? new Set();
    this.#keys.set(key, all);
    let mine;
    try {
      await new Promise((resolve, reject) => {
        all.add((mine = resolve));
        signal.addEventListener('abort', () => reject(signal.reason));
      });
    } finally {
      all.delete(mine);
    }
  }

  release(key) {
    for (const resolve of this.#keys.get(key) ?? []) resolve();
  }
}

async function* each(items, of) {
  for await (const item of items) yield of(item);
}

function channels() {
  const held = new Waiting();
  let drawn = 0n;
  return {
    count: (upto) => (function* () {
      for (let i = 0; i < upto; i++) yield i;
    })(),
    words: (text) => text.split(/\s+/),
    pipe: (data) => data,
    points: (items) => items,
    async sum(items) {
      let total = 0n;
      for await (const item of items) total += item;
      return total;
    },
    later: async (text) => `${await text}!`,
    inner: (items) => items,
    each: (items) => each(items, async (text) => `${await text}!`),
    both([items, more]) {
      let settle;
      const total = new Promise((resolve) => (settle = resolve));
      const raised = async function* () {
        const by = await more;
        let sum = 0;
        for await (const item of items) {
          sum += item + by;
          yield item + by;
        }
        settle(sum);
      };
      return { total, items: raised() };
    },
    async *broken() {
      yield 1;
      throw new Error('broken on purpose');
    },
    lost: () => Promise.reject(new Error('lost on purpose')),
    endless: (chunk) => (function* () {
      for (;;) {
        drawn += BigInt(chunk);
        yield new Uint8Array(chunk);
      }
    })(),
    drawn: () => drawn,
    async hold(data, key, { signal }) {
      const first = await data.next();
      let length = first.value.length;
      await held.wait(key, signal);
      for await (const part of data) length += part.length;
      return BigInt(length);
    },
    letGo: (key) => held.release(key),
  };
}

function resources() {
  let live = 0;
  class Counter {
    #value;

    constructor(start) {
      this.#value = start;
      live++;
    }

    add(n) {
      return (this.#value += n);
    }

    value() {
      return this.#value;
    }

    merge(other) {
      const sum = this.add(other.#value);
      other[Symbol.dispose]();
      return sum;
    }

    static make(n) {
      return Array.from({ length: n }, (_, i) => new Counter(i));
    }

    static total(of) {
      return of.reduce((sum, counter) => sum + counter.#value, 0);
    }

    [Symbol.dispose]() {
      live--;
    }
  }
  return { Counter, live: () => live };
}

let generation = 0;
let breaks = false;

function calls({ grant, config }) {
  if (grant?.refuse) throw new Failure('not-granted', 'this grant is refused on purpose');
  const waiting = new Waiting();
  let cancelled = 0;
  const json = (value) => (value === undefined ? '' : JSON.stringify(value));
  return {
    add: (a, b) => a + b,
    check(text) {
      if (text === '') throw new ResultError({ tag: 'missing' });
      if (text.length > 10) throw new ResultError({ tag: 'too-long', val: text.length });
      return text.length;
    },
    refuse() {
      throw new ResultError();
    },
    fail(message) {
      throw new Error(message);
    },
    async wait(key, { signal }) {
      try {
        await waiting.wait(key, signal);
      } catch (error) {
        cancelled++;
        throw error;
      }
      return 1;
    },
    release: (key) => waiting.release(key),
    waiting: () => waiting.size,
    cancelled: () => cancelled,
    linked: () => ({ grant: json(grant), config: json(config) }),
    generation: () => generation,
    breakReload() {
      breaks = true;
    },
  };
}

const at = (name) => `loop:conform/${name}@0.1.0`;
const provides = { [at('values')]: () => values, [at('channels')]: channels, [at('resources')]: resources, [at('calls')]: calls };

const server = await serve({
  wit,
  provides,
  signals: true,
  reload() {
    if (breaks) {
      breaks = false;
      throw new Error('this reload fails on purpose');
    }
    generation++;
    return provides;
  },
});
await server.closed;
process.exit(0);
