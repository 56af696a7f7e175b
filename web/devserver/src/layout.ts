// Where the nodes of the graph lie: in layers, importers left of what they import. The same graph lies the same way.

export interface Edge {
  from: string;
  to: string;
}

export interface Placed {
  x: number;
  y: number;
  layer: number;
}

export interface Layout {
  nodes: Map<string, Placed>;
  layers: string[][];
  width: number;
  height: number;
}

export const NODE = { width: 212, height: 62 };
const GAP = { x: 168, y: 20 };
const MARGIN = 28;
const SWEEPS = 6;

/** `nodes` in any order; `first` says which have no place of their own among the providers. */
export function layout(nodes: readonly string[], edges: readonly Edge[], first: (node: string) => boolean): Layout {
  const names = [...nodes].sort();
  const known = new Set(names);
  const used = edges.filter(({ from, to }) => known.has(from) && known.has(to) && from !== to);
  const layers = order(split(names, used, first), used);
  const tallest = Math.max(1, ...layers.map((layer) => layer.length));
  const height = MARGIN * 2 + tallest * (NODE.height + GAP.y) - GAP.y;
  const placed = new Map<string, Placed>();
  layers.forEach((layer, index) => {
    const own = layer.length * (NODE.height + GAP.y) - GAP.y;
    layer.forEach((name, row) => {
      placed.set(name, {
        x: MARGIN + index * (NODE.width + GAP.x),
        y: (height - own) / 2 + row * (NODE.height + GAP.y),
        layer: index,
      });
    });
  });
  const width = MARGIN * 2 + Math.max(1, layers.length) * (NODE.width + GAP.x) - GAP.x;
  return { nodes: placed, layers, width, height };
}

/** The longest way from whoever nobody imports; a link that closes a circle does not count. */
function split(names: string[], edges: Edge[], first: (node: string) => boolean): string[][] {
  const into = new Map<string, string[]>(names.map((name) => [name, []]));
  for (const { from, to } of edges) into.get(to)!.push(from);
  const depths = new Map<string, number>();
  const within = new Set<string>();
  const depth = (name: string): number => {
    const known = depths.get(name);
    if (known !== undefined) return known;
    within.add(name);
    const above = into.get(name)!.filter((other) => !within.has(other)).map(depth);
    within.delete(name);
    const found = above.length ? Math.max(...above) + 1 : first(name) ? 0 : 1;
    depths.set(name, found);
    return found;
  };
  const layers: string[][] = [];
  for (const name of names) (layers[depth(name)] ??= []).push(name);
  return [...layers].map((layer) => layer ?? []).filter((layer) => layer.length);
}

/** Has lines cross less: each node goes to where its neighbours are, layer by layer, there and back. */
function order(layers: string[][], edges: Edge[]): string[][] {
  const near = new Map<string, string[]>();
  const note = (a: string, b: string): void => void (near.get(a) ?? near.set(a, []).get(a)!).push(b);
  for (const { from, to } of edges) {
    note(from, to);
    note(to, from);
  }
  const rows = new Map<string, number>();
  const number = (layer: string[]): void =>
    layer.forEach((name, row) => rows.set(name, (row + 0.5) / layer.length));
  layers.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const indices = layers.map((_, index) => (sweep % 2 ? layers.length - 1 - index : index));
    for (const index of indices) {
      const layer = layers[index]!;
      const own = new Set(layer);
      const middle = (name: string): number => {
        const others = (near.get(name) ?? []).filter((other) => !own.has(other));
        if (!others.length) return rows.get(name)!;
        return others.reduce((sum, other) => sum + rows.get(other)!, 0) / others.length;
      };
      const wanted = new Map(layer.map((name) => [name, middle(name)]));
      layer.sort((a, b) => wanted.get(a)! - wanted.get(b)! || (a < b ? -1 : 1));
      number(layer);
    }
  }
  return layers;
}

/** What a name begins with, by which many of a kind are shown as one: `worker-07` is of `worker`. */
export function family(name: string): string {
  return /^(.+?)[-_.:/ ]?\d+$/.exec(name)?.[1] ?? /^([^-_.:/ ]+)[-_.:/ ]/.exec(name)?.[1] ?? name;
}
