import type { Reader, Writer } from './bytes.js';
import { systemClock } from './clock.js';
import { Failure, WireError } from './errors.js';
import { bindProxy, handleOf, Proxy } from './handles.js';
import { DEFAULT_LIMITS } from './hello.js';
import { deadlineExceeded } from './inbound.js';
import { classOf, type Caller } from './imports.js';
import type { Link } from './links.js';
import type { CallOptions } from './outbound.js';
import { PlainConnection, PLAIN, type PlainUser } from './plain.js';
import type { Signature } from './signature.js';
import { spoken, type Interface, type Resource } from './types.js';
import type { Wire } from './wire.js';

/** Calls over plain wRPC: each opens a connection of its own. */
export class PlainCaller implements Caller {
  readonly #open: () => Promise<Wire>;
  readonly #wants: readonly Interface[];

  constructor(open: () => Promise<Wire>, wants: readonly Interface[]) {
    this.#open = open;
    this.#wants = wants;
  }

  /**
   * Calls a function of the peer.
   * Rejects with a ResultError where the function returned its error, with a Failure `provider-gone` where the peer
   * closed without a result, which is all that wRPC can say of any failure.
   */
  async call(link: Link, signature: Signature, args: readonly unknown[], options: CallOptions = {}): Promise<unknown> {
    const { signal, deadline } = options;
    if (signal?.aborted) throw new Failure('cancelled', 'the call was cancelled', { cause: signal.reason });
    let wire: Wire;
    try {
      wire = await this.#open();
    } catch (error) {
      throw new Failure('provider-gone', `no connection: ${(error as Error).message}`, { retryable: true, cause: error });
    }
    return new Promise((resolve, reject) => {
      const call = new PlainOutbound(wire, this, link, signature, resolve, reject, this.#wants);
      const cancel = (): void => call.close(new Failure('cancelled', 'the call was cancelled', { cause: signal?.reason }));
      signal?.addEventListener('abort', cancel, { once: true });
      const stop = deadline === undefined ? undefined
        : systemClock.after(deadline, () => call.close(deadlineExceeded(deadline / 1000)));
      call.settled = () => {
        stop?.();
        signal?.removeEventListener('abort', cancel);
      };
      call.send(args);
    });
  }
}

class PlainOutbound implements PlainUser {
  settled: () => void = () => undefined;
  readonly #connection: PlainConnection;
  readonly #caller: Caller;
  readonly #link: Link;
  readonly #signature: Signature;
  readonly #resolve: (value: unknown) => void;
  readonly #reject: (error: unknown) => void;
  readonly #wants: readonly Interface[];
  #outcome: (() => void) | undefined;
  #sent = false;

  constructor(
    wire: Wire,
    caller: Caller,
    link: Link,
    signature: Signature,
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
    wants: readonly Interface[],
  ) {
    this.#caller = caller;
    this.#link = link;
    this.#signature = signature;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#wants = wants;
    const { channels, connection, message } = DEFAULT_LIMITS;
    const bounds = { called: false, message: Number(message), channels, connection, clock: systemClock, handshake: 0 };
    this.#connection = new PlainConnection(wire, this, bounds);
  }

  send(args: readonly unknown[]): void {
    const { interface: instance, func } = this.#signature;
    const header = (writer: Writer): void => {
      writer.byte(PLAIN);
      writer.string(instance);
      writer.string(spoken(func.name));
    };
    try {
      this.#sent = true;
      this.#connection.sendRoot(header, (writer) => this.#signature.encodeParams(writer, args));
    } catch (error) {
      this.#reject(error);
      this.settled();
      this.#connection.close();
    }
  }

  close(failure: Failure): void {
    this.#connection.close(failure);
  }

  root(reader: Reader): void {
    try {
      const value = this.#signature.decodeResult(reader);
      this.#outcome = () => this.#resolve(value);
    } catch (error) {
      if (error instanceof WireError) throw error;
      this.#outcome = () => this.#reject(error);
    }
  }

  begin(): void {
    this.#outcome?.();
    this.settled();
  }

  idle(): void {
    const { sending, receiving } = this.#connection;
    if (this.#sent && sending.open === 0) this.#connection.finish();
    if (receiving.ready && receiving !== sending && receiving.open === 0) this.#connection.close();
  }

  fail(failure: Failure): void {
    this.#reject(failure);
    this.settled();
  }

  lowerHandle(resource: Resource, value: unknown, owned: boolean): Uint8Array {
    return handleOf(value, this.#link, resource, owned);
  }

  liftHandle(resource: Resource, handle: Uint8Array): unknown {
    const face = this.#wants.find((one) => one.name === resource.interface);
    const proxy = face ? new (classOf(this.#caller, this.#link, face, resource))() : new Proxy();
    bindProxy(proxy, this.#link, resource, handle, false);
    return proxy;
  }
}
