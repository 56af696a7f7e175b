// A component that exports all kinds, typed by what `loop bind --guest` made.

import type { Color, CounterProvider, KindsProvider, Point, Rights, Shape } from 'acme:all/kinds@0.1.0';

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
  await(text: string): string {
    if (text === '') throw 'dark-green' satisfies Color;
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

export const kinds: KindsProvider = {
  Counter,
  echoPoint(v: Point): Point {
    if (typeof v.import !== 'number' || typeof v.x !== 'number') throw new Error(`no number: ${v.import}`);
    if (v.class !== null && typeof v.class !== 'string') throw new Error(`no option: ${v.class}`);
    if (!(v.bytes instanceof Uint8Array) || !Array.isArray(v.ids)) throw new Error('other lists');
    return { x: v.x, class: v.class, import: v.import, ids: [...v.ids], bytes: v.bytes };
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
  echoIds: (v: number[]) => v,
  echoFloats: (v: number[]) => v,
  echoWide: (v: number[]) => v.map((each) => each + 0),
  echoMany: (v: Point[][]) => v,
  bytes: (list: Uint8Array, str: string) => [...list, ...[...str].map((each) => each.charCodeAt(0))],
  list: () => [['a', 0.5]],
  type(from: string, lambda: boolean): string {
    if (lambda) throw { tag: 'circle', val: 2 } satisfies Shape;
    return from;
  },
  none() {},
  look: (v) => (v as Counter).n || null,
};
