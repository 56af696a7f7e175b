import { Proxy } from './handles.js';
import type { Link } from './links.js';
import type { CallOptions } from './outbound.js';
import { Signature } from './signature.js';
import { pascal, type Func, type Interface, type Resource } from './types.js';

/** What calls go through: a caller, or plain connections. */
export interface Caller {
  call(link: Link, signature: Signature, args: readonly unknown[], options?: CallOptions): Promise<unknown>;
}

type ProxyClass = { new (): Proxy; prototype: Proxy & Record<string, unknown> } & Record<string, unknown>;

/** Classes of proxies, one of each resource of an interface for each link. */
const classes = new WeakMap<Link, Map<Resource, ProxyClass>>();
const made = new WeakMap<Link, Readonly<Record<string, unknown>>>();
const signatures = new WeakMap<Func, Signature>();

function signatureOf(face: Interface, func: Func): Signature {
  let signature = signatures.get(func);
  if (signature === undefined) signatures.set(func, (signature = new Signature(face.name, func)));
  return signature;
}

/** The functions of imported interfaces, called through one link, by the names of the interfaces. */
export function makeImports(caller: Caller, link: Link, wants: readonly Interface[]): Readonly<Record<string, unknown>> {
  let imports = made.get(link);
  if (imports === undefined) {
    imports = Object.fromEntries(wants.map((face) => [face.name, makeInterface(caller, link, face)]));
    made.set(link, imports);
  }
  return imports;
}

function makeInterface(caller: Caller, link: Link, face: Interface): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  for (const func of face.functions) {
    if (func.kind === 'function') object[func.js] = sender(caller, link, face, func);
  }
  for (const resource of face.resources) object[pascal(resource.name)] = classOf(caller, link, face, resource);
  return object;
}

/** A function that sends its arguments; one more than it has parameters are its {@link CallOptions}. */
function sender(caller: Caller, link: Link, face: Interface, func: Func) {
  const signature = signatureOf(face, func);
  const n = signature.arity;
  return (...args: unknown[]): Promise<unknown> =>
    caller.call(link, signature, args, args.length > n ? (args[n] as CallOptions | undefined) : undefined);
}

export function classOf(caller: Caller, link: Link, face: Interface, resource: Resource): ProxyClass {
  let known = classes.get(link);
  if (known === undefined) classes.set(link, (known = new Map()));
  const there = known.get(resource);
  if (there) return there;
  const name = pascal(resource.name);
  const made = { [name]: class extends Proxy {} }[name] as unknown as ProxyClass;
  known.set(resource, made);
  for (const func of face.functions.filter((one) => one.resource === resource)) {
    const call = sender(caller, link, face, func);
    if (func.kind !== 'method') {
      made[func.js] = call;
      continue;
    }
    Object.defineProperty(made.prototype, func.js, {
      value(this: Proxy, ...args: unknown[]) {
        return call(this, ...args);
      },
    });
  }
  return made;
}

/** An instance of a resource's class that stands for nothing yet. */
export function makeProxy(caller: Caller, link: Link, resource: Resource, wants: readonly Interface[]): Proxy {
  const face = wants.find((one) => one.name === resource.interface);
  return face ? new (classOf(caller, link, face, resource))() : new Proxy();
}
