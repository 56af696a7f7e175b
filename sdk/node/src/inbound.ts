import type { ChannelType, Resource } from './types.js';
import type { Lifting, Lowering, Writer } from './bytes.js';
import { isThenable } from './codec.js';
import { Failure, failureOf, ResultError } from './errors.js';
import type { Exchange, Handles } from './exchange.js';
import { invoke, type LinkInfo, type Target } from './exports.js';
import { Kind } from './frames.js';
import { bindProxy, handleOf, revoke, type Proxy } from './handles.js';
import type { Link } from './links.js';
import type { Session } from './session.js';

/** What a provider's function gets as its last argument. */
export interface CallContext {
  /** Aborted when the caller cancels, its deadline passes, or it has gone. */
  readonly signal: AbortSignal;
  /** When the caller gives up, in milliseconds of `performance.now()`; undefined: never. */
  readonly deadline: number | undefined;
  /** The caller's W3C trace context, `00-…-…-01`; undefined where it sent none. */
  readonly traceparent: string | undefined;
  /** On whose behalf the call is made, as the caller says; proven only as far as the session is. */
  readonly identity: string | undefined;
  /** The same for a call that is made again; empty where the caller sent none. */
  readonly idempotencyKey: Uint8Array | undefined;
  /** The link that the call came through, with its grant. */
  readonly link: LinkInfo;
  /** The functions of the caller that this side imports, by interface. */
  readonly imports: Readonly<Record<string, unknown>>;
}

/** What may stand before the parameters of a CALL. */
export interface CallExtras {
  deadline: number | undefined;
  /** What the caller gave it, of which `deadline` is the end. */
  seconds: number;
  traceparent: string | undefined;
  identity: string | undefined;
  key: Uint8Array | undefined;
  times: boolean;
}

const NO_EXTRAS: CallExtras = {
  deadline: undefined,
  seconds: 0,
  traceparent: undefined,
  identity: undefined,
  key: undefined,
  times: false,
};

/** Six bytes of LEB128 hold the nanoseconds of more than an hour. */
const TIME = 6;

/** A call that came from the peer, and the context that its function gets. */
export class InboundCall implements CallContext, Handles, Lowering, Lifting {
  readonly #session: Session;
  readonly #stream: number;
  readonly #link: Link;
  readonly #target: Target;
  readonly #extras: CallExtras;
  readonly #exchange: Exchange | undefined;
  readonly #arrived: number;
  #began = 0;
  #returned = 0;
  #controller: AbortController | undefined;
  #aborted: Failure | undefined;
  #answered = false;
  /** The function's promise is not settled yet. */
  #running = false;
  #timer: (() => void) | undefined;
  #borrowed: Proxy[] | undefined;
  /** Handles that the result gives to the caller, until it is sent. */
  #given: [Resource, Uint8Array][] = [];

  constructor(session: Session, stream: number, target: Target, link: Link, extras: CallExtras | undefined) {
    this.#session = session;
    this.#stream = stream;
    this.#target = target;
    this.#link = link;
    this.#extras = extras ?? NO_EXTRAS;
    this.#arrived = this.#extras.times ? performance.now() : 0;
    this.#exchange = target.signature.channels ? session.exchange(stream, this) : undefined;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }

  get deadline(): number | undefined {
    return this.#extras.deadline;
  }

  get traceparent(): string | undefined {
    return this.#extras.traceparent;
  }

  get identity(): string | undefined {
    return this.#extras.identity;
  }

  get idempotencyKey(): Uint8Array | undefined {
    return this.#extras.key;
  }

  get link(): LinkInfo {
    return this.#link.info;
  }

  get imports(): Readonly<Record<string, unknown>> {
    return this.#session.importsOf(this.#link);
  }

  /** What handles and channels of its messages go through. */
  get coding(): Lowering & Lifting {
    return this.#exchange ?? this;
  }

  get exchange(): Exchange | undefined {
    return this.#exchange;
  }

  /** Whether nothing of it is left on this side. */
  get over(): boolean {
    return this.#answered && !this.#running && (this.#exchange?.open ?? 0) === 0;
  }

  lowerHandle(resource: Resource, value: unknown, owned: boolean): Uint8Array {
    if (!this.#session.exports.has(resource.interface)) return handleOf(value, this.#link, resource, owned);
    const handle = this.#link.handles.add(resource, value);
    if (!this.#answered) this.#given.push([resource, handle]);
    return handle;
  }

  liftHandle(resource: Resource, handle: Uint8Array, owned: boolean): unknown {
    if (this.#session.exports.has(resource.interface)) return this.#link.handles.get(resource, handle, owned);
    const proxy = this.#session.proxy(this.#link, resource);
    bindProxy(proxy, this.#link, resource, handle, owned);
    if (!owned) (this.#borrowed ??= []).push(proxy);
    return proxy;
  }

  lowerChannel(_: ChannelType): void {
    throw new TypeError('a function without channels cannot send one');
  }

  liftChannel(_: ChannelType): unknown {
    throw new TypeError('a function without channels cannot receive one');
  }

  /** Runs the function; it answers now or later. */
  run(args: unknown[]): void {
    const { pending } = this.#link;
    if (pending === undefined) return this.#run(args);
    this.#wait(pending.then(() => this.#run(args)), false);
  }

  #run(args: unknown[]): void {
    if (this.#answered) return this.#settle();
    const object = this.#link.objects[this.#target.face] as object;
    args.push(this);
    if (this.#extras.times) this.#began = performance.now();
    let value: unknown;
    try {
      value = invoke(object, this.#target, args);
    } catch (error) {
      return this.#threw(error);
    }
    if (isThenable(value) && !this.#target.signature.future) this.#wait(value, true);
    else this.#answer(value);
  }

  #wait(promise: PromiseLike<unknown>, answers: boolean): void {
    this.#running = true;
    this.#session.keep(this.#stream, this);
    const { deadline } = this.#extras;
    if (deadline !== undefined && this.#timer === undefined) {
      const left = deadline - this.#session.clock.now();
      this.#timer = this.#session.clock.after(left, () => this.abort(deadlineExceeded(this.#extras.seconds)));
    }
    promise.then(
      (value) => answers && this.#answer(value),
      (error: unknown) => this.#threw(error),
    );
  }

  #settle(): void {
    this.#running = false;
    this.#session.settled(this.#stream, this);
  }

  #answer(value: unknown): void {
    this.#running = false;
    if (this.#answered) return this.#discard(value);
    this.#send((writer) => this.#target.signature.encodeResult(writer, value));
  }

  #threw(error: unknown): void {
    this.#running = false;
    if (this.#answered) return this.#settle();
    const { signature } = this.#target;
    if (error instanceof ResultError && signature.func.result?.kind === 'result') {
      this.#send((writer) => void signature.encodeError(writer, error));
    } else {
      this.fail(error);
    }
  }

  #send(encode: (writer: Writer) => void): void {
    const { output } = this.#session;
    const { writer } = output;
    if (this.#extras.times) this.#returned = performance.now();
    const start = output.begin(Kind.RESULT, this.#stream);
    writer.lowering = this.coding;
    try {
      writer.byte(this.#extras.times ? 1 : 0);
      const times = writer.pos;
      if (this.#extras.times) writer.raw(new Uint8Array(4 * TIME));
      encode(writer);
      if (this.#extras.times) this.#writeTimes(writer, times);
      this.#session.checkSize(output.size(start));
    } catch (error) {
      output.undo(start);
      this.#exchange?.unmake();
      // Nobody will ever drop what the caller does not hear of.
      for (const [resource, handle] of this.#given) this.#link.handles.drop(resource, handle);
      return this.fail(error);
    }
    this.#finish();
    const made = this.#exchange?.made() ?? [];
    this.#session.sendResult(start, this.#stream, () => this.#exchange?.begin(made));
    // A stream that nobody has begun to read would hold its writer for nothing, unless what is returned draws on it.
    if (!this.#target.signature.returnsChannels) this.#exchange?.stopIns(true);
    this.#session.settled(this.#stream, this);
  }

  /** Their lengths must be known before they are, so they are written longer than needed. */
  #writeTimes(writer: Writer, at: number): void {
    const now = performance.now();
    const spans = [0, this.#began - this.#arrived, this.#returned - this.#began, now - this.#returned];
    spans.forEach((span, index) => {
      let rest = Math.max(0, Math.round(span * 1e6));
      for (let i = 0; i < TIME; i++) {
        writer.buf[at + index * TIME + i] = (rest % 128) | (i < TIME - 1 ? 0x80 : 0);
        rest = Math.floor(rest / 128);
      }
    });
  }

  /** Answers with a failure. */
  fail(error: unknown): void {
    const failure = failureOf(error, { interface: this.#target.signature.interface, function: this.#target.signature.func.name });
    this.#finish();
    this.#session.sendFail(this.#stream, failure);
    this.#exchange?.failIns(failure);
    this.#exchange?.dropOuts();
    this.#session.settled(this.#stream, this);
  }

  #finish(): void {
    this.#answered = true;
    this.#given = [];
    this.#timer?.();
    for (const proxy of this.#borrowed ?? []) revoke(proxy);
  }

  /** The caller wants no answer any more; it gets this one. */
  abort(failure: Failure): void {
    if (this.#aborted === undefined) {
      this.#aborted = failure;
      this.#controller?.abort(failure);
    }
    this.#exchange?.failIns(failure);
    if (!this.#answered) this.fail(failure);
    else this.#exchange?.dropOuts(failure);
  }

  /** The session has ended. */
  end(failure: Failure): void {
    this.#aborted ??= failure;
    this.#controller?.abort(failure);
    this.#finish();
    this.#exchange?.failIns(failure);
    this.#exchange?.dropOuts();
  }

  /** What comes too late is let go of: handles are dropped, streams ended. */
  #discard(value: unknown): void {
    const { signature } = this.#target;
    if (signature.gives || signature.channels) this.#session.discard((writer) => signature.encodeResult(writer, value));
    this.#settle();
  }
}

export function deadlineExceeded(seconds: number): Failure {
  return new Failure('deadline-exceeded', `no answer within ${seconds} s`, { fields: { seconds: String(seconds) } });
}
