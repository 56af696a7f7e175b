import { camel, type Primitive, type Resource, type Type } from './types.js';
import { Lexer, type WitError } from './wit-lexer.js';

/** What a name means; throws where it means nothing. */
export interface Scope {
  lookup(name: string): Type | Resource | undefined;
}

/** A type whose names are looked up when it is asked for. */
export type Lazy = (scope: Scope) => Type;

export interface LazyFunc {
  readonly name: string;
  readonly kind: 'function' | 'constructor' | 'method' | 'static';
  readonly js: string;
  readonly resource?: string;
  readonly async: boolean;
  readonly params: readonly { readonly name: string; readonly type: Lazy }[];
  readonly result?: Lazy;
}

/** An interface as written. */
export interface InterfaceText {
  readonly types: Map<string, Lazy>;
  readonly resources: Set<string>;
  readonly functions: LazyFunc[];
  /** Names taken from another interface: where it is, and what it is called there. */
  readonly uses: Map<string, { readonly path: string; readonly name: string }>;
}

/** What one file says of one package; `name` is undefined where it leaves that to its folder's other files. */
export interface PackageText {
  readonly name: string | undefined;
  readonly interfaces: Map<string, InterfaceText>;
  /** `use acme:kv/store as kv;` outside of any interface. */
  readonly aliases: Map<string, string>;
}

const PRIMITIVES = new Set<string>([
  'bool', 'u8', 'u16', 'u32', 'u64', 's8', 's16', 's32', 's64', 'f32', 'f64', 'char', 'string', 'error-context',
] satisfies Primitive[]);

/** `name` of `resource` if it is one. */
export function isResource(found: Type | Resource): found is Resource {
  return !('kind' in found);
}

/** Reads WIT. With `anonymous`, records and the like may stand wherever a type may, as in the canonical form. */
export class Parser {
  readonly #lex: Lexer;
  readonly #anonymous: boolean;

  constructor(text: string, file: string, anonymous = false) {
    this.#lex = new Lexer(text, file);
    this.#anonymous = anonymous;
  }

  /** The packages of a file: its own, then nested ones. */
  file(): PackageText[] {
    this.#gates();
    let name: string | undefined;
    const nested: PackageText[] = [];
    if (this.#lex.take('package')) {
      const first = this.#packageName();
      if (this.#lex.peek('{')) nested.push(this.#body(first, nested));
      else {
        this.#lex.expect(';');
        name = first;
      }
    }
    const own = this.#items(name, nested);
    if (!this.#lex.done) throw this.#lex.error('`interface`, `world`, `use` or `package` expected');
    return [own, ...nested];
  }

  #body(name: string, nested: PackageText[]): PackageText {
    this.#lex.expect('{');
    const text = this.#items(name, nested);
    this.#lex.expect('}');
    return text;
  }

  #items(name: string | undefined, nested: PackageText[]): PackageText {
    const lex = this.#lex;
    const found: PackageText = { name, interfaces: new Map(), aliases: new Map() };
    for (;;) {
      this.#gates();
      if (lex.take('interface')) found.interfaces.set(lex.id(), this.#interface());
      else if (lex.take('world')) lex.skipBraces();
      else if (lex.take('package')) nested.push(this.#body(this.#packageName(), nested));
      else if (lex.take('use')) {
        const path = this.#path();
        const short = (path.split('/').at(-1) as string).split('@')[0] as string;
        found.aliases.set(lex.take('as') ? lex.id() : short, path);
        lex.expect(';');
      } else return found;
    }
  }

  /** `@since(version = 0.2.0)` and its like say when something is there; a provider serves what it implements. */
  #gates(): void {
    while (this.#lex.take('@')) {
      this.#lex.id();
      if (!this.#lex.take('(')) continue;
      while (!this.#lex.take(')')) {
        const key = this.#lex.id();
        this.#lex.expect('=');
        if (key === 'version') this.#lex.version();
        else this.#lex.id();
        this.#lex.take(',');
      }
    }
  }

  #packageName(): string {
    let name = this.#lex.id();
    while (this.#lex.take(':')) name += `:${this.#lex.id()}`;
    return this.#lex.take('@') ? `${name}@${this.#lex.version()}` : name;
  }

  /** `store`, or `acme:kv/store@0.1.0`. */
  #path(): string {
    let path = this.#lex.id();
    if (!this.#lex.peek(':')) return path;
    while (this.#lex.take(':')) path += `:${this.#lex.id()}`;
    this.#lex.expect('/');
    path += `/${this.#lex.id()}`;
    return this.#lex.take('@') ? `${path}@${this.#lex.version()}` : path;
  }

  #interface(): InterfaceText {
    const lex = this.#lex;
    const face: InterfaceText = { types: new Map(), resources: new Set(), functions: [], uses: new Map() };
    lex.expect('{');
    for (;;) {
      this.#gates();
      if (lex.take('}')) return face;
      if (lex.take('use')) this.#use(face);
      else if (lex.take('type')) {
        const name = lex.id();
        lex.expect('=');
        face.types.set(name, this.type());
        lex.expect(';');
      } else if (lex.take('resource')) this.#resource(face);
      else {
        const named = (['record', 'variant', 'enum', 'flags'] as const).find((word) => lex.take(word));
        if (named) face.types.set(lex.id(), this.#braced(named));
        else face.functions.push(this.#func(lex.id(), undefined, false));
      }
    }
  }

  #use(face: InterfaceText): void {
    const lex = this.#lex;
    const path = this.#path();
    lex.expect('.');
    lex.expect('{');
    while (!lex.take('}')) {
      const name = lex.id();
      face.uses.set(lex.take('as') ? lex.id() : name, { path, name });
      if (!lex.peek('}')) lex.expect(',');
    }
    lex.expect(';');
  }

  #resource(face: InterfaceText): void {
    const lex = this.#lex;
    const resource = lex.id();
    face.resources.add(resource);
    if (lex.take(';')) return;
    lex.expect('{');
    for (;;) {
      this.#gates();
      if (lex.take('}')) return;
      if (lex.take('constructor')) {
        const own: Lazy = (scope) => handle('own', resource, scope, lex);
        const params = this.#params();
        const result = lex.take('->') ? this.type() : own;
        lex.expect(';');
        const name = `[constructor]${resource}`;
        face.functions.push({ name, kind: 'constructor', js: 'construct', resource, async: false, params, result });
      } else {
        face.functions.push(this.#func(lex.id(), resource, true));
      }
    }
  }

  #func(id: string, resource: string | undefined, statics: boolean): LazyFunc {
    const lex = this.#lex;
    lex.expect(':');
    const fixed = statics && lex.take('static');
    const signature = this.#signature();
    lex.expect(';');
    if (resource === undefined) return { name: id, kind: 'function', js: camel(id), ...signature };
    if (fixed) return { name: `[static]${resource}.${id}`, kind: 'static', js: camel(id), resource, ...signature };
    const self = { name: 'self', type: (scope: Scope) => handle('borrow', resource, scope, lex) };
    const params = [self, ...signature.params];
    return { name: `[method]${resource}.${id}`, kind: 'method', js: camel(id), resource, ...signature, params };
  }

  /** A function's type alone, to the end. */
  wholeSignature(): Pick<LazyFunc, 'async' | 'params' | 'result'> {
    const signature = this.#signature();
    if (!this.#lex.done) throw this.#lex.error('the end of the function type expected');
    return signature;
  }

  #signature(): Pick<LazyFunc, 'async' | 'params' | 'result'> {
    const async = this.#lex.take('async');
    this.#lex.expect('func');
    const params = this.#params();
    return { async, params, ...(this.#lex.take('->') ? { result: this.type() } : {}) };
  }

  #params(): { name: string; type: Lazy }[] {
    const lex = this.#lex;
    const params = [];
    lex.expect('(');
    while (!lex.take(')')) {
      const name = lex.id();
      lex.expect(':');
      params.push({ name, type: this.type() });
      if (!lex.peek(')')) lex.expect(',');
    }
    return params;
  }

  /** A type alone, to the end. */
  wholeType(): Lazy {
    const type = this.type();
    if (!this.#lex.done) throw this.#lex.error('the end of the type expected');
    return type;
  }

  type(): Lazy {
    const lex = this.#lex;
    if (this.#anonymous) {
      const named = (['record', 'variant', 'enum', 'flags'] as const).find((word) => lex.take(word));
      if (named) return this.#braced(named);
    }
    const name = lex.id();
    if (PRIMITIVES.has(name)) return () => ({ kind: name as Primitive });
    switch (name) {
      case 'list': {
        lex.expect('<');
        const element = this.type();
        const length = lex.take(',') ? lex.integer() : undefined;
        lex.expect('>');
        return (scope) => ({ kind: 'list', element: element(scope), ...(length === undefined ? {} : { length }) });
      }
      case 'tuple': {
        const items = this.#angles();
        return (scope) => ({ kind: 'tuple', items: items.map((item) => item(scope)) });
      }
      case 'option': {
        const [some] = this.#angles(1);
        return (scope) => ({ kind: 'option', some: (some as Lazy)(scope) });
      }
      case 'result':
        return this.#result();
      case 'own':
      case 'borrow': {
        lex.expect('<');
        const resource = lex.id();
        lex.expect('>');
        return (scope) => handle(name, resource, scope, lex);
      }
      case 'stream':
      case 'future': {
        const [element] = lex.peek('<') ? this.#angles(1) : [];
        return (scope) => ({ kind: name, ...(element ? { element: element(scope) } : {}) });
      }
      default: {
        const place = lex.error(`there is no type \`${name}\`; declare it, or \`use\` it from its interface`);
        return (scope) => {
          const found = scope.lookup(name);
          if (found === undefined) throw place;
          return isResource(found) ? { kind: 'own', resource: found } : found;
        };
      }
    }
  }

  #angles(exactly?: number): Lazy[] {
    const lex = this.#lex;
    const types = [];
    lex.expect('<');
    while (!lex.take('>')) {
      types.push(this.type());
      if (!lex.peek('>')) lex.expect(',');
    }
    if (types.length !== (exactly ?? types.length)) throw lex.error(`${exactly} type expected in \`<…>\``);
    return types;
  }

  #result(): Lazy {
    const lex = this.#lex;
    let ok: Lazy | undefined;
    let err: Lazy | undefined;
    if (lex.take('<')) {
      if (!lex.take('_')) ok = this.type();
      if (lex.take(',')) err = this.type();
      lex.expect('>');
    }
    return (scope) => ({ kind: 'result', ...(ok ? { ok: ok(scope) } : {}), ...(err ? { err: err(scope) } : {}) });
  }

  /** The body of a record, variant, enum or flags. */
  #braced(kind: 'record' | 'variant' | 'enum' | 'flags'): Lazy {
    const lex = this.#lex;
    const members: { name: string; type?: Lazy }[] = [];
    lex.expect('{');
    for (;;) {
      this.#gates();
      if (lex.take('}')) break;
      const name = lex.id();
      let type: Lazy | undefined;
      if (kind === 'record') {
        lex.expect(':');
        type = this.type();
      } else if (kind === 'variant' && lex.take('(')) {
        type = this.type();
        lex.expect(')');
      }
      members.push({ name, ...(type ? { type } : {}) });
      if (!lex.peek('}')) lex.expect(',');
    }
    if (members.length === 0) throw lex.error(`a ${kind} needs at least one member`);
    if (kind === 'enum' || kind === 'flags') return () => ({ kind, names: members.map((member) => member.name) });
    const resolved = (scope: Scope) =>
      members.map(({ name, type }) => ({ name, ...(type ? { type: type(scope) } : {}) }));
    if (kind === 'variant') return (scope) => ({ kind, cases: resolved(scope) });
    return (scope) => ({ kind, fields: resolved(scope) as { name: string; type: Type }[] });
  }
}

function handle(kind: 'own' | 'borrow', name: string, scope: Scope, lex: Lexer): Type {
  const found = scope.lookup(name);
  if (found !== undefined && isResource(found)) return { kind, resource: found };
  const error: WitError = lex.error(`\`${kind}<${name}>\`: \`${name}\` is no resource`);
  throw error;
}
