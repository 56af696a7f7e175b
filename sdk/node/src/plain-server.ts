import type { Clock } from './clock.js';
import { isThenable } from './codec.js';
import { Failure, ResultError } from './errors.js';
import { invoke, type Exports, type LinkInfo, type Target } from './exports.js';
import { HANDSHAKE } from './session.js';
import type { CallContext } from './inbound.js';
import type { Limits } from './messages.js';
import { PlainConnection, type PlainHandles, type PlainUser } from './plain.js';
import type { Reader, Writer } from './bytes.js';
import { serves, spoken, type Resource } from './types.js';
import type { Wire } from './wire.js';

/** What plain invocations are served with. */
export interface PlainServing {
  exports: Exports;
  /** What serves link 0, in the order of the interfaces; undefined: nothing does. */
  readonly objects: readonly object[] | undefined;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly handles: PlainHandles;
  /** Whether functions may return resources, which plain wRPC cannot drop. */
  readonly giveHandles: boolean;
}

const LINK: LinkInfo = { number: 0, name: 'plain', grant: undefined, config: undefined };

/** Serves one plain invocation. Whatever goes wrong, all that wRPC can say is a connection closed without a result. */
export class PlainCall implements PlainUser, CallContext {
  readonly deadline = undefined;
  readonly traceparent = undefined;
  readonly identity = undefined;
  readonly idempotencyKey = undefined;
  readonly link = LINK;
  readonly imports = {};
  readonly #serving: PlainServing;
  readonly #controller = new AbortController();
  readonly #connection: PlainConnection;
  #target: Target | undefined;
  #args: unknown[] = [];
  #moved: Uint8Array[] = [];
  #answered = false;

  /** Settles once nothing is left of it. */
  readonly over: Promise<void>;

  constructor(wire: Wire, serving: PlainServing, onOver: () => void = () => undefined) {
    this.#serving = serving;
    let settle!: () => void;
    this.over = new Promise((resolve) => {
      settle = resolve;
    });
    const { limits, clock } = serving;
    const { channels, connection } = limits;
    const bounds = { called: true, message: Number(limits.message), channels, connection, clock, handshake: HANDSHAKE };
    this.#connection = new PlainConnection(wire, this, bounds, () => {
      settle();
      onOver();
    });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  feed(chunk: Buffer): void {
    this.#connection.feed(chunk);
  }

  close(): void {
    this.#connection.close();
    this.#controller.abort();
  }

  header(instance: string, name: string): void {
    const { exports, objects, giveHandles } = this.#serving;
    const target = exports.functions.find(
      ({ signature }) => spoken(signature.func.name) === spoken(name) && serves(signature.interface, instance) === 'yes',
    );
    if (target === undefined) throw new Failure('no-such-function', `no ${instance} ${name} here`);
    if (objects === undefined) throw new Failure('not-granted', 'this provider serves only links with a grant');
    if (target.signature.gives && !giveHandles) {
      throw new Failure('not-granted', `${name} returns a resource, which plain wRPC cannot drop; allow plainHandles`);
    }
    this.#target = target;
  }

  root(reader: Reader): void {
    this.#moved = [];
    this.#args = (this.#target as Target).signature.decodeParams(reader);
  }

  begin(): void {
    for (const handle of this.#moved) this.#serving.handles.forget(handle);
    const target = this.#target as Target;
    const object = (this.#serving.objects as readonly object[])[target.face] as object;
    this.#args.push(this);
    let value: unknown;
    try {
      value = invoke(object, target, this.#args);
    } catch (error) {
      return this.#threw(error);
    }
    if (!isThenable(value) || target.signature.future) return this.#answer(value);
    value.then(
      (result) => this.#answer(result),
      (error: unknown) => this.#threw(error),
    );
  }

  #answer(value: unknown): void {
    this.#send((writer) => (this.#target as Target).signature.encodeResult(writer, value));
  }

  #threw(error: unknown): void {
    const { signature } = this.#target as Target;
    if (error instanceof ResultError && signature.func.result?.kind === 'result') {
      return this.#send((writer) => void signature.encodeError(writer, error));
    }
    console.error(`${signature.interface} ${signature.func.name} failed, which plain wRPC cannot tell its caller:`, error);
    this.close();
  }

  #send(root: (writer: Writer) => void): void {
    try {
      this.#answered = true;
      this.#connection.sendRoot(() => undefined, root);
      if (!(this.#target as Target).signature.returnsChannels) this.#connection.receiving.stopIns(true);
    } catch (error) {
      this.#threw(error);
    }
  }

  idle(): void {
    const { sending } = this.#connection;
    if (this.#answered && sending.open === 0) this.#connection.finish();
  }

  fail(failure: Failure): void {
    this.#controller.abort(failure);
  }

  lowerHandle(resource: Resource, value: unknown): Uint8Array {
    return this.#serving.handles.add(resource, value as object);
  }

  liftHandle(resource: Resource, handle: Uint8Array, owned: boolean): unknown {
    if (owned) this.#moved.push(handle);
    return this.#serving.handles.get(resource, handle);
  }
}

