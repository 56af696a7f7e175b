import { Failure, brief } from './errors.js';
import type { InterfaceOffer, LinkRequest } from './messages.js';
import { Signature } from './signature.js';
import { digest, pascal, serves, type Interface, type Resource } from './types.js';
import type { Wit } from './wit.js';

/** A link as a provider sees it. */
export interface LinkInfo {
  /** 0 where the caller was served without binding a link. */
  readonly number: number;
  /** `component/interface`, for messages. */
  readonly name: string;
  /** What the manifest grants, parsed; undefined on link 0. */
  readonly grant: unknown;
  /** How the link is configured, parsed; undefined on link 0. */
  readonly config: unknown;
}

/** What serves an interface: an object with its functions, or a function that makes one for each link. */
export type Implementation = object | ((link: LinkInfo) => object | Promise<object>);

/** Implementations by the names of their interfaces. */
export type Provides = Readonly<Record<string, Implementation>>;

/** One exported function. */
export interface Target {
  readonly signature: Signature;
  /** Number of its interface, into what a link is bound to. */
  readonly face: number;
}

type Members = Record<string, unknown>;
type Method = (...args: unknown[]) => unknown;
type Class = new (...args: unknown[]) => object;

/** What one side offers: interfaces of the WIT and what implements them. */
export class Exports {
  readonly interfaces: readonly Interface[];
  /** As calls number them. */
  readonly functions: readonly Target[];
  /** As drops number them. */
  readonly resources: readonly Resource[];
  /** Whether no implementation needs a link. */
  readonly plain: boolean;
  readonly #implementations: readonly Implementation[];

  /** @throws TypeError where an implementation lacks a function, WitError where the WIT lacks an interface. */
  constructor(wit: Wit, provides: Provides) {
    this.interfaces = Object.keys(provides).map((name) => wit.interface(name));
    this.#implementations = Object.values(provides);
    this.plain = this.#implementations.every((one) => typeof one !== 'function');
    this.functions = this.interfaces.flatMap((face, number) =>
      face.functions.map((func) => ({ signature: new Signature(face.name, func), face: number })),
    );
    this.resources = this.interfaces.flatMap((face) => face.resources);
    this.#implementations.forEach((one, index) => {
      if (typeof one !== 'function') this.#check(one, this.interfaces[index] as Interface);
    });
  }

  /** Whether the interface is served here. */
  has(face: string): boolean {
    return this.interfaces.some((one) => one.name === face);
  }

  /** What serves a link, in the order of the interfaces; at once where nothing has to be waited for. */
  bind(link: LinkInfo): object[] | Promise<object[]> {
    const made = this.#implementations.map((one) => (typeof one === 'function' ? (one as Method)(link) : one));
    const check = (objects: unknown[]): object[] =>
      objects.map((object, index) => this.#check(object, this.interfaces[index] as Interface));
    if (made.some((one) => one instanceof Promise)) return Promise.all(made).then(check);
    return check(made);
  }

  #check(object: unknown, face: Interface): object {
    if (typeof object !== 'object' || object === null) {
      throw new TypeError(`${face.name} is to be served by an object, not by ${brief(object)}`);
    }
    const missing = face.functions.filter((func) => {
      if (func.kind === 'function') return typeof (object as Members)[func.js] !== 'function';
      const owner = (object as Members)[pascal((func.resource as Resource).name)] as Class | undefined;
      if (typeof owner !== 'function') return true;
      if (func.kind === 'constructor') return false;
      const holder = func.kind === 'static' ? owner : (owner.prototype as unknown);
      return typeof (holder as Members)[func.js] !== 'function';
    });
    if (missing.length === 0) return object;
    const names = missing.map((func) => `${func.name} (${where(func)})`);
    throw new TypeError(`what serves ${face.name} lacks ${names.join(', ')}`);
  }
}

function where(func: { kind: string; js: string; resource?: Resource }): string {
  if (func.resource === undefined) return `as ${func.js}()`;
  const owner = pascal(func.resource.name);
  if (func.kind === 'constructor') return `as class ${owner}`;
  return func.kind === 'static' ? `as ${owner}.${func.js}()` : `as ${owner}'s method ${func.js}()`;
}

/** Calls a provider's function. The last of `args` is the context. */
export function invoke(object: object, target: Target, args: unknown[]): unknown {
  const { func } = target.signature;
  if (func.kind === 'function') return ((object as Members)[func.js] as Method).apply(object, args);
  if (func.kind === 'method') {
    const self = args.shift() as Members;
    return (self[func.js] as Method).apply(self, args);
  }
  const owner = (object as Members)[pascal((func.resource as Resource).name)] as Class & Members;
  if (func.kind === 'constructor') return new owner(...args);
  return (owner[func.js] as Method).apply(owner, args);
}

/** How interfaces are named to the peer. */
export function offersOf(interfaces: readonly Interface[]): InterfaceOffer[] {
  return interfaces.map((face) => ({
    name: face.name,
    functions: face.functions.map((func) => func.name),
    types: face.functions.map(digest),
    resources: face.resources.map((resource) => resource.name),
  }));
}

/**
 * The offer that serves a wanted interface: that of its very name, else the first whose version does.
 * @throws Failure `no-such-interface` or `version-mismatch` where none does.
 */
export function findOffer(offers: readonly InterfaceOffer[], wanted: InterfaceOffer): InterfaceOffer {
  const fits = offers.filter((offer) => serves(offer.name, wanted.name) === 'yes');
  const offer = fits.find((one) => one.name === wanted.name) ?? fits[0];
  if (offer === undefined) {
    const other = offers.find((one) => serves(one.name, wanted.name) === 'version');
    if (other) throw mismatch(wanted.name, other.name, 'the versions do not go together');
    const offered = offers.map((one) => one.name).join(', ');
    throw new Failure('no-such-interface', `no ${wanted.name} here; offered: ${offered || 'nothing'}`, {
      fields: { interface: wanted.name, offered },
    });
  }
  const lacking = wanted.functions.filter((name) => !offer.functions.includes(name));
  if (lacking.length > 0) throw mismatch(wanted.name, offer.name, `it lacks ${lacking.join(', ')}`);
  const others = wanted.functions.filter((name, at) =>
    differ(wanted.types[at], offer.types[offer.functions.indexOf(name)]),
  );
  if (others.length > 0) {
    throw mismatch(wanted.name, offer.name, `it has other types of ${others.join(', ')}, as the WIT differs`);
  }
  return offer;
}

/** Whether two types of a function are known and not the same. */
function differ(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  return Boolean(one?.length && other?.length) && Buffer.compare(one as Uint8Array, other as Uint8Array) !== 0;
}

function mismatch(wanted: string, offered: string, why: string): Failure {
  return new Failure('version-mismatch', `${wanted} is wanted, ${offered} is offered: ${why}`, {
    fields: { interface: wanted, ours: offered, theirs: wanted },
  });
}

/**
 * A link from what the caller sent.
 * @throws Failure `bad-value` where its grant or configuration is no JSON.
 */
export function linkInfo(request: LinkRequest): LinkInfo {
  const { number, name } = request;
  return { number, name, grant: json(request.grant, 'grant'), config: json(request.config, 'config') };
}

function json(text: string, path: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new Failure('bad-value', `the link's ${path} is no JSON: ${(error as Error).message}`, {
      fields: { path, expected: 'JSON', got: brief(text) },
    });
  }
}
