import type { Lifting, Lowering, Reader, Writer } from './bytes.js';
import { WireError, type Failure } from './errors.js';
import type { Exchange, Handles } from './exchange.js';
import { bindProxy, dispose, handleOf } from './handles.js';
import type { Link } from './links.js';
import type { Session } from './session.js';
import type { Signature } from './signature.js';
import type { ChannelType, Resource } from './types.js';

/** What may be said with a call. */
export interface CallOptions {
  /** Cancels the call; it then fails with the code `cancelled`. */
  signal?: AbortSignal;
  /** Milliseconds from now after which the call fails with the code `deadline-exceeded`. */
  deadline?: number;
  /** A W3C trace context, `00-…-…-01`. */
  traceparent?: string;
  /** On whose behalf the call is made; at most 256 bytes. */
  identity?: string;
  /** The same for a call that is made again; at most 64 bytes. */
  idempotencyKey?: Uint8Array;
}

/** A call to the peer. */
export class OutboundCall implements Handles, Lowering, Lifting {
  readonly signature: Signature;
  readonly number: number;
  readonly args: readonly unknown[];
  readonly options: CallOptions | undefined;
  readonly link: Link;
  /** Its number on the connection; 0: not sent yet. */
  stream = 0;
  exchange: Exchange | undefined;
  /** Its user has an answer. */
  settled = false;
  /** The peer has answered. */
  answered = false;
  /** When its deadline passes, on the session's clock. */
  due: number | undefined;
  readonly #session: Session;
  readonly #resolve: (value: unknown) => void;
  readonly #reject: (error: unknown) => void;
  #timer: (() => void) | undefined;
  #unlisten: (() => void) | undefined;
  #lent: Uint8Array[] | undefined;
  #discarding = false;

  constructor(
    session: Session,
    signature: Signature,
    number: number,
    link: Link,
    args: readonly unknown[],
    options: CallOptions | undefined,
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
  ) {
    this.#session = session;
    this.signature = signature;
    this.number = number;
    this.link = link;
    this.args = args;
    this.options = options;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** Listens for what may end it early; false where it has ended already. */
  watch(onAbort: () => void, onDeadline: () => void): boolean {
    const { signal, deadline } = this.options ?? {};
    if (signal?.aborted) {
      onAbort();
      return false;
    }
    if (signal) {
      signal.addEventListener('abort', onAbort, { once: true });
      this.#unlisten = () => signal.removeEventListener('abort', onAbort);
    }
    if (deadline !== undefined) {
      this.due = this.#session.clock.now() + deadline;
      this.#timer = this.#session.clock.after(deadline, onDeadline);
    }
    return true;
  }

  get coding(): Lowering & Lifting {
    return this.exchange ?? this;
  }

  encode(writer: Writer): void {
    writer.lowering = this.coding;
    this.signature.encodeParams(writer, this.args);
  }

  /** The peer's answer has come. */
  answer(reader: Reader): void {
    this.answered = true;
    this.#discarding = this.settled;
    reader.lifting = this.coding;
    try {
      const value = this.signature.decodeResult(reader);
      this.settle(() => this.#resolve(value));
    } catch (error) {
      if (error instanceof WireError) this.#undo();
      this.settle(() => this.#reject(error));
    }
    if (this.#discarding) this.exchange?.stopIns(false);
  }

  #undo(): void {
    this.exchange?.stopIns(false);
  }

  fail(error: unknown): void {
    this.settle(() => this.#reject(error));
  }

  /** The peer has refused or failed it: nothing of it is left. */
  end(failure: Failure): void {
    this.answered = true;
    this.fail(failure);
    this.exchange?.failIns(failure);
    this.exchange?.dropOuts();
  }

  settle(then: () => void): void {
    if (this.answered) for (const handle of this.#lent?.splice(0) ?? []) this.link.handles.forget(handle);
    if (this.settled) return;
    this.settled = true;
    this.#timer?.();
    this.#unlisten?.();
    then();
  }

  lowerHandle(resource: Resource, value: unknown, owned: boolean): Uint8Array {
    if (this.#session.imports(resource)) return handleOf(value, this.link, resource, owned);
    const handle = this.link.handles.add(resource, value);
    if (!owned) (this.#lent ??= []).push(handle);
    return handle;
  }

  liftHandle(resource: Resource, handle: Uint8Array, owned: boolean): unknown {
    if (!this.#session.imports(resource)) {
      const instance = this.link.handles.get(resource, handle, owned);
      if (this.#discarding && owned) dispose(instance);
      return instance;
    }
    const proxy = this.#session.proxy(this.link, resource);
    bindProxy(proxy, this.link, resource, handle, owned);
    if (this.#discarding && owned) proxy[Symbol.dispose]();
    return proxy;
  }

  lowerChannel(_: ChannelType): void {
    throw new TypeError('a function without channels cannot send one');
  }

  liftChannel(_: ChannelType): unknown {
    throw new TypeError('a function without channels cannot receive one');
  }
}
