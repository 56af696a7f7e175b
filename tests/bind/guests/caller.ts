// A component that calls all kinds, typed by what `loop bind --guest` made.

import kinds, { Counter, echoPoint } from 'acme:all/kinds@0.1.0';
import type { Color, Point, Shape } from 'acme:all/kinds@0.1.0';
import type { RootProvider } from 'acme:all/calling@0.1.0';

const POINT: Point = { x: -1, class: 'a', import: 2 ** 40, ids: [1, 2], bytes: new Uint8Array([7]) };
const SHAPES: Shape[] = [
  { tag: 'none' },
  { tag: 'circle', val: 1.5 },
  { tag: 'many', val: [POINT, POINT] },
  { tag: 'nested', val: { tag: 'none' } },
  { tag: 'nested', val: { tag: 'some', val: null } },
  { tag: 'nested', val: { tag: 'some', val: 7 } },
  { tag: 'outcome', val: { tag: 'ok' } },
  { tag: 'outcome', val: { tag: 'err', val: 'red' } },
];

function text(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) => (inner instanceof Uint8Array ? [...inner] : (inner ?? null)));
}

function same(what: string, one: unknown, other: unknown): void {
  if (text(one) !== text(other)) throw new Error(`${what}: ${text(one)} is not ${text(other)}`);
}

function all(): void {
  const point: Point = echoPoint(POINT);
  same('point', point, POINT);
  same('no class', kinds.echoPoint({ ...POINT, class: null }).class, null);
  for (const shape of SHAPES) same('shape', { val: null, ...kinds.echoShape(shape) }.tag, shape.tag);
  const color: Color = kinds.echoColor('dark-green');
  same('color', color, 'dark-green');
  const { read, write, lambda } = kinds.echoRights({ write: true, lambda: true });
  same('rights', [read, write, lambda], [false, true, true]);
  const nested = kinds.echoNested({ tag: 'some', val: 'x' });
  same('nested', nested.tag === 'some' && nested.val, 'x');
  const results = kinds.echoResults([{ tag: 'ok', val: 1 }, { tag: 'err', val: 'no' }]);
  same('results', results.map((each): string | number => each.val), [1, 'no']);
  const wide: number[] = kinds.echoWide([-1, 2 ** 40]);
  same('wide', wide, [-1, 2 ** 40]);
  const bytes: Uint8Array = kinds.bytes([97], 'b');
  same('bytes', bytes instanceof Uint8Array && [...bytes], [97, 98]);
  same('list', kinds.list()[0]?.[0], 'a');
  try {
    kinds.type('t', true);
    throw new Error('it was to fail');
  } catch (error) {
    same('error', (error as { payload: Shape }).payload, { tag: 'circle', val: 2 } satisfies Shape);
  }
  const counter = new Counter(1);
  same('added', counter.add(2), 3);
  same('awaited', counter.await('n'), 'n3');
  const merged = kinds.Counter.merge(new Counter(0), counter);
  same('looked', kinds.look(merged), 3);
  same('nothing', kinds.look(new Counter(0)), null);
  counter[Symbol.dispose]();
}

export const tryAll: RootProvider['tryAll'] = () => {
  try {
    all();
    return '';
  } catch (error) {
    return String(error);
  }
};
