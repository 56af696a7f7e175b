import { createHash } from 'node:crypto';

/** Types without parts. */
export type Primitive =
  | 'bool' | 'u8' | 'u16' | 'u32' | 'u64' | 's8' | 's16' | 's32' | 's64'
  | 'f32' | 'f64' | 'char' | 'string' | 'error-context';

/** A resource type; one object stands for it wherever it is named. */
export interface Resource {
  readonly name: string;
  /** The interface that declares it, as `acme:kv/store@0.1.0`. */
  readonly interface: string;
}

/** `stream<T>` or `future<T>`; without `element` it carries no values, only their number or moment. */
export type ChannelType = { readonly kind: 'stream' | 'future'; readonly element?: Type };

/** A WIT type with all its names resolved. */
export type Type =
  | { readonly kind: Primitive }
  | { readonly kind: 'list'; readonly element: Type; readonly length?: number }
  | { readonly kind: 'record'; readonly fields: readonly { readonly name: string; readonly type: Type }[] }
  | { readonly kind: 'tuple'; readonly items: readonly Type[] }
  | { readonly kind: 'variant'; readonly cases: readonly { readonly name: string; readonly type?: Type }[] }
  | { readonly kind: 'enum'; readonly names: readonly string[] }
  | { readonly kind: 'flags'; readonly names: readonly string[] }
  | { readonly kind: 'option'; readonly some: Type }
  | { readonly kind: 'result'; readonly ok?: Type; readonly err?: Type }
  | { readonly kind: 'own' | 'borrow'; readonly resource: Resource }
  | ChannelType;

/** A function of an interface or of one of its resources. */
export interface Func {
  /** As on the wire: `get`, `[constructor]bucket`, `[method]bucket.get`, `[static]bucket.open`. */
  readonly name: string;
  readonly kind: 'function' | 'constructor' | 'method' | 'static';
  /** Its name in JavaScript, without its resource's. */
  readonly js: string;
  readonly resource?: Resource;
  readonly async: boolean;
  readonly params: readonly { readonly name: string; readonly type: Type }[];
  readonly result?: Type;
}

/** An interface with all its types resolved. */
export interface Interface {
  /** `acme:kv/store@0.1.0` */
  readonly name: string;
  readonly functions: readonly Func[];
  readonly resources: readonly Resource[];
  /** Its named types, and those it uses from elsewhere under the names it uses. */
  readonly types: ReadonlyMap<string, Type>;
}

/** A function's name in plain mode, which lacks the kind that WIT puts before it: `bucket.get`, `bucket`. */
export function spoken(name: string): string {
  return name.replace(/^\[(constructor|method|static)\]/, '');
}

/** `some-name` as `someName`. */
export function camel(name: string): string {
  return name.toLowerCase().replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** `some-name` as `SomeName`. */
export function pascal(name: string): string {
  const inner = camel(name);
  return inner.charAt(0).toUpperCase() + inner.slice(1);
}

/** Whether values of the type hold streams or futures. */
export function hasChannels(type: Type): boolean {
  return someType(type, (part) => part.kind === 'stream' || part.kind === 'future');
}

/** How many streams and futures a value of the type may announce; those of a list count once. */
export function countChannels(type: Type): number {
  if (type.kind === 'stream' || type.kind === 'future') return 1;
  const each = partsOf(type).reduce((sum, part) => sum + countChannels(part), 0);
  return type.kind === 'list' ? each * (type.length ?? 1) : each;
}

/** Whether values of the type hold handles. */
export function hasHandles(type: Type): boolean {
  return someType(type, (part) => part.kind === 'own' || part.kind === 'borrow');
}

function someType(type: Type, test: (part: Type) => boolean): boolean {
  return test(type) || partsOf(type).some((part) => someType(part, test));
}

function partsOf(type: Type): readonly Type[] {
  switch (type.kind) {
    case 'list':
      return [type.element];
    case 'record':
      return type.fields.map((field) => field.type);
    case 'tuple':
      return type.items;
    case 'variant':
      return type.cases.flatMap((one) => one.type ?? []);
    case 'option':
      return [type.some];
    case 'result':
      return [...(type.ok ? [type.ok] : []), ...(type.err ? [type.err] : [])];
    case 'stream':
    case 'future':
      return type.element ? [type.element] : [];
    default:
      return [];
  }
}

/** A type in WIT's notation with every named type written out; resources by their names, borrowed ones in `borrow<…>`. */
export function printType(type: Type): string {
  switch (type.kind) {
    case 'list':
      return `list<${printType(type.element)}${type.length === undefined ? '' : `, ${type.length}`}>`;
    case 'record':
      return `record { ${type.fields.map((field) => `${field.name}: ${printType(field.type)}`).join(', ')} }`;
    case 'tuple':
      return `tuple<${type.items.map(printType).join(', ')}>`;
    case 'variant':
      return `variant { ${type.cases
        .map((one) => (one.type ? `${one.name}(${printType(one.type)})` : one.name))
        .join(', ')} }`;
    case 'enum':
    case 'flags':
      return `${type.kind} { ${type.names.join(', ')} }`;
    case 'option':
      return `option<${printType(type.some)}>`;
    case 'result':
      if (type.err) return `result<${type.ok ? printType(type.ok) : '_'}, ${printType(type.err)}>`;
      return type.ok ? `result<${printType(type.ok)}>` : 'result';
    case 'own':
      return type.resource.name;
    case 'borrow':
      return `borrow<${type.resource.name}>`;
    case 'stream':
    case 'future':
      return type.element ? `${type.kind}<${printType(type.element)}>` : type.kind;
    default:
      return type.kind;
  }
}

/** A function's type in WIT's notation: `async func(a: u32) -> string`. */
export function printFunc(func: Func): string {
  return signature(func, func.params.map((param) => `${param.name}: ${printType(param.type)}`).join(', '));
}

function signature(func: Func, params: string): string {
  return `${func.async ? 'async ' : ''}func(${params})${func.result ? ` -> ${printType(func.result)}` : ''}`;
}

/** SHA-256 of a function's type in the canonical form of `docs/wire.md`. */
export function digest(func: Func): Uint8Array {
  const params = func.params.map((param) => printType(param.type)).join(', ');
  return new Uint8Array(createHash('sha256').update(signature(func, params)).digest());
}

interface Parsed {
  base: string;
  version: string | undefined;
}

function split(name: string): Parsed {
  const at = name.indexOf('@');
  return at < 0 ? { base: name, version: undefined } : { base: name.slice(0, at), version: name.slice(at + 1) };
}

/**
 * Whether an interface offered under one name serves one wanted under another: equal but for the version, and the
 * version equal, missing on either side, or a later compatible one as semver says (`0.1.2` serves `0.1.0`).
 * A pre-release serves only itself.
 */
export function serves(offered: string, wanted: string): 'yes' | 'version' | 'no' {
  const ours = split(offered);
  const theirs = split(wanted);
  if (ours.base !== theirs.base) return 'no';
  if (ours.version === undefined || theirs.version === undefined || ours.version === theirs.version) return 'yes';
  const numbers = /^(\d+)\.(\d+)\.(\d+)(?:\+.*)?$/;
  const have = numbers.exec(ours.version)?.slice(1).map(Number);
  const want = numbers.exec(theirs.version)?.slice(1).map(Number);
  if (!have || !want) return 'version';
  // What stands before and at the leftmost number that is not zero must be the same; what follows may be higher.
  const fixed = want.findIndex((number) => number !== 0);
  for (let i = 0; i < 3; i++) {
    const more = (have[i] as number) - (want[i] as number);
    if (more === 0) continue;
    return more > 0 && fixed >= 0 && i > fixed ? 'yes' : 'version';
  }
  return 'yes';
}
