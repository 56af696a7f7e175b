// Where the nodes of the graph lie: in layers, importers left of what they import. The same graph lies the same way.

export interface Edge {
  id: string;
  from: string;
  to: string;
}

export interface Placed {
  x: number;
  y: number;
}

export interface Layout {
  nodes: Map<string, Placed>;
  /** Where a line passes through the layers between its ends: heights, from left to right, by the edge's id. */
  through: Map<string, Placed[]>;
  width: number;
  height: number;
}

export const NODE = { width: 212, height: 62 };
/** What a line takes that passes a layer. */
const LANE = 12;
const GAP = { x: 172, y: 20 };
const MARGIN = 30;
const SWEEPS = 8;

/** `nodes` in any order; `first` says which begin, and do not only provide. */
export function layout(nodes: readonly string[], edges: readonly Edge[], first: (node: string) => boolean): Layout {
  const names = [...nodes].sort();
  const known = new Set(names);
  const used = edges.filter(({ from, to }) => known.has(from) && known.has(to) && from !== to);
  used.sort((a, b) => (a.id < b.id ? -1 : 1));
  const depths = depth(names, used, first);
  const layers: string[][] = [];
  for (const name of names) (layers[depths.get(name)!] ??= []).push(name);
  for (let index = 0; index < layers.length; index++) layers[index] ??= [];

  // A line that is longer has a lane in each layer that it passes, so that it goes around nodes and not under them.
  const near = new Map<string, string[]>();
  const note = (a: string, b: string): void => void (near.get(a) ?? near.set(a, []).get(a)!).push(b);
  const lanes = new Map<string, string[]>();
  for (const { id, from, to } of used) {
    const own: string[] = [];
    for (let index = depths.get(from)! + 1; index < depths.get(to)!; index++) {
      const lane = `\0${id}\0${index}`;
      layers[index]!.push(lane);
      own.push(lane);
    }
    lanes.set(id, own);
    const way = [from, ...own, to];
    for (let step = 1; step < way.length; step++) {
      note(way[step - 1]!, way[step]!);
      note(way[step]!, way[step - 1]!);
    }
  }
  order(layers, near);
  const middles = settle(layers, near);
  const top = Math.min(0, ...[...middles].map(([name, y]) => y - size(name) / 2)) - MARGIN;
  const bottom = Math.max(0, ...[...middles].map(([name, y]) => y + size(name) / 2)) + MARGIN;
  const x = (name: string): number => MARGIN + layers.findIndex((layer) => layer.includes(name)) * (NODE.width + GAP.x);
  const at = (name: string): Placed => ({ x: x(name), y: middles.get(name)! - top });
  return {
    nodes: new Map(names.map((name) => [name, { x: x(name), y: at(name).y - NODE.height / 2 }])),
    through: new Map([...lanes].map(([id, own]) => [id, own.map(at)])),
    width: MARGIN * 2 + Math.max(1, layers.length) * (NODE.width + GAP.x) - GAP.x,
    height: bottom - top,
  };
}

const size = (name: string): number => (name.startsWith("\0") ? LANE : NODE.height);

/** The longest way from whoever nobody imports; a link that closes a circle does not count. */
function depth(names: string[], edges: Edge[], first: (node: string) => boolean): Map<string, number> {
  const into = new Map<string, string[]>(names.map((name) => [name, []]));
  for (const { from, to } of edges) into.get(to)!.push(from);
  const depths = new Map<string, number>();
  const within = new Set<string>();
  const find = (name: string): number => {
    const known = depths.get(name);
    if (known !== undefined) return known;
    within.add(name);
    const above = into.get(name)!.filter((other) => !within.has(other)).map(find);
    within.delete(name);
    const found = above.length ? Math.max(...above) + 1 : first(name) ? 0 : 1;
    depths.set(name, found);
    return found;
  };
  names.forEach(find);
  const least = Math.min(...depths.values());
  return new Map([...depths].map(([name, value]) => [name, value - least]));
}

/** Has lines cross less: each goes to where its neighbours are, layer by layer, there and back. */
function order(layers: string[][], near: Map<string, string[]>): void {
  const rows = new Map<string, number>();
  const number = (layer: string[]): void => layer.forEach((name, row) => rows.set(name, (row + 0.5) / layer.length));
  layers.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (let step = 0; step < layers.length; step++) {
      const layer = layers[sweep % 2 ? layers.length - 1 - step : step]!;
      const wanted = new Map(layer.map((name) => [name, mean(near.get(name), rows) ?? rows.get(name)!]));
      layer.sort((a, b) => wanted.get(a)! - wanted.get(b)! || (a < b ? -1 : 1));
      number(layer);
    }
  }
}

/** The middle of each: as near to its neighbours as those beside it in its layer let it. */
function settle(layers: string[][], near: Map<string, string[]>): Map<string, number> {
  const middles = new Map<string, number>();
  const space = (a: string, b: string): number => (size(a) + size(b)) / 2 + GAP.y;
  for (const layer of layers) {
    let y = 0;
    layer.forEach((name, row) => middles.set(name, (y += row ? space(layer[row - 1]!, name) : 0)));
    const half = y / 2;
    for (const name of layer) middles.set(name, middles.get(name)! - half);
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (let step = 0; step < layers.length; step++) {
      const layer = layers[sweep % 2 ? layers.length - 1 - step : step]!;
      const wanted = layer.map((name) => mean(near.get(name), middles) ?? middles.get(name)!);
      const down = [...wanted];
      const up = [...wanted];
      for (let row = 1; row < layer.length; row++) {
        down[row] = Math.max(down[row]!, down[row - 1]! + space(layer[row - 1]!, layer[row]!));
        const back = layer.length - 1 - row;
        up[back] = Math.min(up[back]!, up[back + 1]! - space(layer[back]!, layer[back + 1]!));
      }
      // Both keep the distances, and so does what lies between them.
      layer.forEach((name, row) => middles.set(name, (down[row]! + up[row]!) / 2));
    }
  }
  return close(middles);
}

/** Leaves no more room between parts of the graph than there is within them. */
function close(middles: Map<string, number>): Map<string, number> {
  const down = [...middles].sort(([a, x], [b, y]) => x - size(a) / 2 - (y - size(b) / 2) || (a < b ? -1 : 1));
  let [bottom, taken] = [-Infinity, 0];
  return new Map(down.map(([name, y]) => {
    const top = y - size(name) / 2;
    if (top - bottom > 2 * GAP.y && bottom !== -Infinity) taken += top - bottom - 2 * GAP.y;
    bottom = Math.max(bottom, y + size(name) / 2);
    return [name, y - taken];
  }));
}

function mean(names: string[] | undefined, values: Map<string, number>): number | null {
  return names?.length ? names.reduce((sum, name) => sum + values.get(name)!, 0) / names.length : null;
}

/** What a name begins with, by which many of a kind are shown as one: `worker-07` is of `worker`. */
export function family(name: string): string {
  return /^(.+?)[-_.:/ ]?\d+$/.exec(name)?.[1] ?? /^([^-_.:/ ]+)[-_.:/ ]/.exec(name)?.[1] ?? name;
}

export type Point = [x: number, y: number];

/** A line through points: curves between layers, straight within one. Points come in pairs, one curve each. */
export function path(points: Point[]): string {
  let d = "";
  for (let at = 0; at + 1 < points.length; at += 2) {
    const [[x1, y1], [x2, y2]] = [points[at]!, points[at + 1]!];
    const bend = bending(x1, x2);
    d += `${at ? "L" : "M"}${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  }
  return d;
}

/** A point of the curve from one to another, `t` from 0 to 1. */
export function along([x1, y1]: Point, [x2, y2]: Point, t: number): Point {
  const bend = bending(x1, x2);
  const [a, b, c, d] = [(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t ** 3];
  return [a * x1 + b * (x1 + bend) + c * (x2 - bend) + d * x2, (a + b) * y1 + (c + d) * y2];
}

const bending = (x1: number, x2: number): number => Math.max(50, Math.abs(x2 - x1) / 2);
