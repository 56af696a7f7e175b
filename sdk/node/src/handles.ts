import { Failure, WireError, brief } from './errors.js';
import type { Resource } from './types.js';

/** How many handles one link may hold. */
export const MAX_HANDLES = 65536;

interface Held {
  resource: Resource;
  value: object;
}

/** The resources that we implement and that the other side holds, of one link. */
export class HandleTable {
  readonly #held = new Map<number, Held>();
  #next = 1;

  get size(): number {
    return this.#held.size;
  }

  /**
   * A handle for an instance.
   * @throws Failure `overloaded` where the link holds too many.
   */
  add(resource: Resource, value: unknown): Uint8Array {
    if (typeof value !== 'object' || value === null) {
      const expected = `an instance of ${resource.name}`;
      throw new WireError('invalid-value', `${expected} wanted, ${brief(value)} given`, expected, brief(value));
    }
    if (this.#held.size >= MAX_HANDLES) {
      throw new Failure('overloaded', `the link holds ${MAX_HANDLES} handles; drop some first`, {
        fields: { limit: String(MAX_HANDLES) },
      });
    }
    const number = this.#next;
    this.#next = (this.#next + 1) >>> 0 || 1;
    // Numbers come again after four thousand million; one that is still held is passed over.
    if (this.#held.has(number)) return this.add(resource, value);
    this.#held.set(number, { resource, value });
    const handle = new Uint8Array(4);
    new DataView(handle.buffer).setUint32(0, number, true);
    return handle;
  }

  /**
   * The instance of a handle; with `take` it is no longer held.
   * @throws Failure `bad-handle` where the handle is none of this link's.
   */
  get(resource: Resource, handle: Uint8Array, take: boolean): object {
    const number = numberOf(handle);
    const held = number === undefined ? undefined : this.#held.get(number);
    if (held === undefined || held.resource !== resource) throw badHandle(resource.name);
    if (take) this.#held.delete(number as number);
    return held.value;
  }

  /** Lets go of a handle and disposes of its instance, if the handle is one of this link's. */
  drop(resource: Resource, handle: Uint8Array): void {
    const number = numberOf(handle);
    const held = number === undefined ? undefined : this.#held.get(number);
    if (held?.resource !== resource) return;
    this.#held.delete(number as number);
    dispose(held.value);
  }

  /** Forgets a handle that was lent for a call. */
  forget(handle: Uint8Array): void {
    this.#held.delete(numberOf(handle) as number);
  }

  /** Lets go of all of them. */
  clear(): void {
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const { value } of held) dispose(value);
  }
}

function numberOf(handle: Uint8Array): number | undefined {
  if (handle.length !== 4) return undefined;
  return new DataView(handle.buffer, handle.byteOffset, 4).getUint32(0, true);
}

export function badHandle(name: string): Failure {
  return new Failure('bad-handle', `not a handle of ${name} in this link; it was dropped, moved, or made elsewhere`);
}

/** Calls an instance's `[Symbol.dispose]`, if it has one; what it throws is the provider's own affair, on stderr. */
export function dispose(value: object): void {
  try {
    (value as Partial<Disposable>)[Symbol.dispose]?.();
  } catch (error) {
    console.error('a resource failed while it was disposed of:', error);
  }
}

/** The link and session that a proxy belongs to. */
export interface ProxyHome {
  readonly number: number;
  readonly gone: boolean;
  dropHandle(resource: Resource, handle: Uint8Array): void;
}

interface ProxyState {
  readonly home: ProxyHome;
  readonly resource: Resource;
  handle: Uint8Array | undefined;
}

const states = new WeakMap<object, ProxyState>();
const forgotten = new FinalizationRegistry<ProxyState>((state) => letGo(state));

function letGo(state: ProxyState): void {
  const { handle } = state;
  state.handle = undefined;
  if (handle !== undefined && !state.home.gone) state.home.dropHandle(state.resource, handle);
}

/** What stands for a resource that the other side implements. `using` it, or losing it, lets it go. */
export class Proxy {
  /** Tells the other side that this resource is no longer needed. */
  [Symbol.dispose](): void {
    const state = states.get(this);
    if (state !== undefined) letGo(state);
    forgotten.unregister(this);
  }
}

/** Makes `proxy` stand for a handle; an owned one is dropped when it is collected. */
export function bindProxy(proxy: Proxy, home: ProxyHome, resource: Resource, handle: Uint8Array, owned: boolean): void {
  const state: ProxyState = { home, resource, handle };
  states.set(proxy, state);
  if (owned) forgotten.register(proxy, state, proxy);
}

/**
 * The handle of a proxy, to be sent; with `move` the proxy is empty afterwards.
 * @throws Failure `bad-handle` where it is gone or belongs elsewhere, WireError where the value is no proxy.
 */
export function handleOf(value: unknown, home: ProxyHome, resource: Resource, move: boolean): Uint8Array {
  const state = typeof value === 'object' && value !== null ? states.get(value) : undefined;
  if (state === undefined || state.resource !== resource) {
    const expected = `a ${resource.name} that came from the other side`;
    throw new WireError('invalid-value', `${expected} wanted, ${brief(value)} given`, expected, brief(value));
  }
  if (state.home.gone) {
    throw new Failure('provider-gone', `the session that this ${resource.name} came from has ended`);
  }
  const { handle } = state;
  if (handle === undefined || state.home !== home) throw badHandle(resource.name);
  if (move) {
    state.handle = undefined;
    forgotten.unregister(value as object);
  }
  return handle;
}

/** Ends what a proxy of a borrowed handle stands for. */
export function revoke(proxy: Proxy): void {
  const state = states.get(proxy);
  if (state !== undefined) state.handle = undefined;
}
