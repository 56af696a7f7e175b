import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serves, type Func, type Interface, type Resource, type Type } from './types.js';
import { WitError } from './wit-lexer.js';
import { isResource, Parser, type InterfaceText, type LazyFunc, type PackageText, type Scope } from './wit-parser.js';

export { WitError } from './wit-lexer.js';

/** The interfaces of some WIT packages. Made by {@link loadWit} or {@link parseWit}. */
export class Wit {
  readonly #packages = new Map<string, PackageText>();
  readonly #resolved = new Map<string, Interface>();
  readonly #busy = new Set<string>();
  readonly #resources = new Map<string, Resource>();

  /** @internal */
  constructor(files: readonly (readonly PackageText[])[]) {
    for (const part of files.flat()) {
      const name = part.name ?? '';
      const known = this.#packages.get(name);
      if (known === undefined) this.#packages.set(name, part);
      for (const [face, text] of known ? part.interfaces : []) known?.interfaces.set(face, text);
      for (const [alias, path] of known ? part.aliases : []) known?.aliases.set(alias, path);
    }
  }

  /** The names of all interfaces. */
  get names(): string[] {
    return [...this.#packages].flatMap(([name, part]) => [...part.interfaces.keys()].map((face) => full(name, face)));
  }

  /**
   * The interface of a name. A version may be left out where only one fits.
   * @throws WitError where there is none, or where its text refers to what is not there.
   */
  interface(name: string): Interface {
    const fits = this.names.filter((one) => one === name);
    const found = fits[0] ?? this.names.find((one) => serves(one, name) === 'yes');
    if (found === undefined) {
      const offered = this.names.join(', ') || 'none at all';
      throw new WitError(`no interface ${name} in the WIT, which has ${offered}; is its package below deps/?`);
    }
    return this.#resolve(found);
  }

  #resolve(name: string): Interface {
    const done = this.#resolved.get(name);
    if (done) return done;
    if (this.#busy.has(name)) throw new WitError(`interface ${name} uses itself`);
    this.#busy.add(name);
    const [, text] = this.#locate(name);
    const types = new Map<string, Type>();
    const open = new Set<string>();
    const scope: Scope = {
      lookup: (wanted) => {
        const known = types.get(wanted);
        if (known) return known;
        if (text.resources.has(wanted)) return this.#resource(name, wanted);
        const use = text.uses.get(wanted);
        const found = use ? this.#used(name, use) : this.#declared(name, text, wanted, open, scope);
        if (found && !isResource(found)) types.set(wanted, found);
        return found;
      },
    };
    for (const declared of [...text.types.keys(), ...text.uses.keys()]) scope.lookup(declared);
    const functions = text.functions.map((func) => resolveFunc(func, scope));
    const resources = [...text.resources].map((resource) => this.#resource(name, resource));
    const face: Interface = { name, functions, resources, types };
    this.#busy.delete(name);
    this.#resolved.set(name, face);
    return face;
  }

  #declared(name: string, text: InterfaceText, wanted: string, open: Set<string>, scope: Scope): Type | undefined {
    if (open.has(wanted)) throw new WitError(`${name}: type \`${wanted}\` contains itself`);
    open.add(wanted);
    const found = text.types.get(wanted)?.(scope);
    open.delete(wanted);
    return found;
  }

  #used(user: string, use: { path: string; name: string }): Type | Resource {
    const pack = packageOf(user);
    const alias = this.#packages.get(pack)?.aliases.get(use.path) ?? use.path;
    const path = alias.includes('/') ? alias : full(pack, alias);
    const target = this.names.find((one) => one === path) ?? this.names.find((one) => serves(one, path) === 'yes');
    if (target === undefined) throw new WitError(`${user} uses ${path}, which is in no package here or below deps/`);
    const [, text] = this.#locate(target);
    // A resource needs no look at the rest, so that two interfaces may name each other's.
    if (text.resources.has(use.name)) return this.#resource(target, use.name);
    const further = text.uses.get(use.name);
    if (further) return this.#used(target, further);
    const found = this.#resolve(target).types.get(use.name);
    if (found === undefined) throw new WitError(`${user} uses \`${use.name}\` of ${target}, which has no such type`);
    return found;
  }

  #locate(name: string): [PackageText, InterfaceText] {
    const part = this.#packages.get(packageOf(name)) as PackageText;
    const face = (name.split('/').at(-1) as string).split('@')[0] as string;
    return [part, part.interfaces.get(face) as InterfaceText];
  }

  #resource(face: string, name: string): Resource {
    const key = `${face}.${name}`;
    let resource = this.#resources.get(key);
    if (resource === undefined) this.#resources.set(key, (resource = { name, interface: face }));
    return resource;
  }
}

function full(pack: string, face: string): string {
  const [name, version] = pack.split('@');
  return `${name === '' ? '' : `${name}/`}${face}${version === undefined ? '' : `@${version}`}`;
}

function packageOf(name: string): string {
  const slash = name.indexOf('/');
  if (slash < 0) return '';
  const [, version] = name.split('@');
  return `${name.slice(0, slash)}${version === undefined ? '' : `@${version}`}`;
}

function resolveFunc(func: LazyFunc, scope: Scope): Func {
  const { name, kind, js, async } = func;
  const resource = func.resource === undefined ? undefined : (scope.lookup(func.resource) as Resource);
  const params = func.params.map((param) => ({ name: param.name, type: param.type(scope) }));
  const result = func.result?.(scope);
  return { name, kind, js, async, params, ...(resource ? { resource } : {}), ...(result ? { result } : {}) };
}

/**
 * Reads a WIT file, or a folder with its `deps` below it.
 * @throws WitError with file, line and column where the text is not WIT.
 */
export function loadWit(path: string | URL): Wit {
  const place = path instanceof URL ? fileURLToPath(path) : path;
  let folder: boolean;
  try {
    folder = statSync(place).isDirectory();
  } catch (error) {
    throw new WitError(`no WIT at ${place}: ${(error as Error).message}; name a .wit file or its folder`);
  }
  return new Wit(folder ? readFolder(place) : [parseFile(place)]);
}

/** Reads WIT from a string. */
export function parseWit(text: string, file = 'wit'): Wit {
  return new Wit([new Parser(text, file).file()]);
}

/**
 * A type written out, as in the canonical form; resources are made up as they are named.
 * @internal
 */
export function parseType(text: string): Type {
  return new Parser(text, 'type', true).wholeType()(freshScope());
}

/**
 * A function's type written out, named `name`.
 * @internal
 */
export function parseFunc(name: string, text: string): Func {
  const signature = new Parser(text, 'function', true).wholeSignature();
  return resolveFunc({ name, kind: 'function', js: name, ...signature }, freshScope());
}

function freshScope(): Scope {
  const made = new Map<string, Resource>();
  return {
    lookup: (name) => {
      if (!made.has(name)) made.set(name, { name, interface: '' });
      return made.get(name);
    },
  };
}

function parseFile(file: string): PackageText[] {
  return new Parser(readFileSync(file, 'utf8'), file).file();
}

/** The files of a folder are one package, named in at least one of them, unless they name several. */
function readFolder(folder: string): PackageText[][] {
  const entries = readdirSync(folder, { withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.wit')).map((entry) => entry.name);
  const parsed = files.sort().map((file) => parseFile(join(folder, file)));
  const name = parsed.map(([own]) => own?.name).find((own) => own !== undefined);
  const named = parsed.map(([own, ...nested]) => [{ ...(own as PackageText), name: own?.name ?? name }, ...nested]);
  const deps = entries.filter((entry) => entry.name === 'deps').flatMap(() => readDeps(join(folder, 'deps')));
  return [...named, ...deps];
}

function readDeps(deps: string): PackageText[][] {
  return readdirSync(deps, { withFileTypes: true }).flatMap((entry) => {
    const place = join(deps, entry.name);
    if (statSync(place).isDirectory()) return readFolder(place);
    return entry.name.endsWith('.wit') ? [parseFile(place)] : [];
  });
}
