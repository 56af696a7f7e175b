// A provider of all kinds in Node.js, typed by what `loop bind --lang typescript` made.

import { ResultError } from '@loop-kit/provider';
import type { CallContext } from '@loop-kit/provider';
import type {
  Color, CounterProvider, FlowProvider, Held, KindsProvider, Point, Provides, Rights, Shape,
} from './bindings.js';

class Counter implements CounterProvider {
  #n: number;
  constructor(start: number) {
    this.#n = start;
  }
  get n(): number {
    return this.#n;
  }
  add(n: number): number {
    this.#n += n;
    return this.#n;
  }
  list(): string[] {
    return [String(this.#n)];
  }
  async await(text: string): Promise<string> {
    if (text === '') throw new ResultError('dark-green' satisfies Color);
    return `${text}${this.#n}`;
  }
  static merge(a: Counter, b: Counter): Counter {
    return new Counter(a.n + b.n);
  }
}

function told(shape: Shape): string {
  switch (shape.tag) {
    case 'none':
      return 'none';
    case 'circle':
      return shape.val.toFixed(1);
    case 'many':
      return shape.val.map((point) => point.x).join();
    case 'nested':
      return shape.val.tag === 'some' ? String(shape.val.val ?? 'none') : 'nothing';
    case 'outcome':
      return shape.val.tag === 'err' ? shape.val.val : 'ok';
  }
}

const kinds: KindsProvider = {
  Counter,
  echoPoint(v: Point): Point {
    if (typeof v.import !== 'bigint' || typeof v.x !== 'number') throw new Error(`no number: ${v.import}`);
    if (v.class !== undefined && typeof v.class !== 'string') throw new Error(`no option: ${v.class}`);
    if (!(v.bytes instanceof Uint8Array) || !Array.isArray(v.ids)) throw new Error('other lists');
    return { x: v.x, class: v.class ?? null, import: v.import, ids: [...v.ids], bytes: v.bytes };
  },
  echoShape(v: Shape): Shape {
    told(v);
    return v;
  },
  echoColor: (v: Color): Color => (v === 'red' ? 'red' : v),
  echoRights: ({ read, write, lambda }: Rights): Rights => ({ read, write, lambda }),
  echoChar: (v: string) => v,
  echoNested: (v) => (v.tag === 'none' ? { tag: 'none' } : { tag: 'some', val: v.val }),
  echoResults: (v) => v,
  echoUnits: ([unit, ok, truth]) => [unit.tag === 'ok' ? { tag: 'ok' } : unit, ok, truth],
  echoIds: async (v: number[]) => v,
  echoFloats: (v: Float32Array) => Float64Array.from(v),
  echoWide: (v: bigint[]) => v.map((each) => each + 0n),
  echoMany: (v: Point[][]) => v,
  bytes(list: Uint8Array, str: string, context: CallContext): Uint8Array {
    if (context.signal.aborted) throw new Error('nobody waits');
    return Buffer.concat([list, Buffer.from(str)]);
  },
  list: () => [['a', 0.5]],
  type(from: string, lambda: boolean): string {
    if (lambda) throw new ResultError({ tag: 'circle', val: 2 } satisfies Shape);
    return from;
  },
  none() {},
  look: (v) => (v as Counter).n || undefined,
};

const flow: FlowProvider = {
  echoFixed: (v) => v,
  pump: (v: AsyncIterable<Uint8Array>) => v,
  count: async (upto: number) => Array.from({ length: upto }, (_, i) => i),
  async *places(v: AsyncIterable<Point>) {
    for await (const place of v) yield { ...place, x: place.x + 1 };
  },
  later: async (v: Promise<string>) => `${await v}!`,
  async both([items, later]) {
    const more = await later;
    if (more === undefined) throw new ResultError('nothing to add');
    let sum = more;
    for await (const item of items) sum += item;
    return sum;
  },
  ticks: (n: number) => Array.from({ length: n }, (): [] => []),
  hold(v: Held): Held {
    (v.counter as Counter).add(1);
    return { name: v.name.toUpperCase(), counter: v.counter };
  },
  why: (v: Error) => v.message,
};

export default { 'acme:all/kinds@0.1.0': kinds, 'acme:all/flow@0.1.0': flow } satisfies Provides;
