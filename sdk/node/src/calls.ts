import { Reader, Writer, type Lowering } from './bytes.js';
import type { Assembler, Unfinished } from './assembler.js';
import { isIterable } from './codec.js';
import { Failure, protocolError } from './errors.js';
import { readPath, type Exchange } from './exchange.js';
import { Kind, MAX_FRAME } from './frames.js';
import { dispose } from './handles.js';
import { deadlineExceeded, InboundCall, type CallExtras } from './inbound.js';
import type { Link } from './links.js';
import { readFailure } from './messages.js';
import { OutboundCall, type CallOptions } from './outbound.js';
import type { Session } from './session.js';
import { Signature } from './signature.js';
import { readTraceparent, writeTraceparent } from './trace.js';

const DEADLINE = 0x01;
const TRACE = 0x02;
const IDENTITY = 0x04;
const KEY = 0x08;
const TIMES = 0x10;

/** The calls of a session, both ways. */
export class Calls {
  readonly #session: Session;
  readonly #assembler: Assembler;
  /** Calls of the peer that are not over. */
  readonly #in = new Map<number, InboundCall>();
  readonly #out = new Map<number, OutboundCall>();
  readonly #waiting: OutboundCall[] = [];
  /** A call that waits for credit holds back those after it, for their numbers must be higher. */
  #held = false;
  #next: number;
  #last = 0;
  readonly #parity: number;
  #most = 0;
  #mostMessage = 0;

  constructor(session: Session, assembler: Assembler, connects: boolean) {
    this.#session = session;
    this.#assembler = assembler;
    this.#next = connects ? 1 : 2;
    this.#parity = connects ? 0 : 1;
  }

  /** What the peer takes at once, and in one message. */
  allow(calls: number, message: number): void {
    this.#most = calls;
    this.#mostMessage = message;
    this.#startWaiting();
  }

  get drained(): boolean {
    return this.#in.size === 0 && this.#out.size === 0;
  }

  checkSize(size: number): void {
    if (size <= this.#mostMessage) return;
    throw new Failure('overloaded', `a message of ${size} bytes, the peer takes ${this.#mostMessage}; use a stream`, {
      fields: { limit: String(this.#mostMessage) },
    });
  }

  /** Handles a frame that belongs to a call. */
  frame(kind: number, stream: number, reader: Reader, more: boolean): void {
    const message = kind === Kind.CALL || kind === Kind.RESULT || kind === Kind.DATA;
    if (message) {
      const unfinished = this.#assembler.get(stream);
      if (more || unfinished) return this.#part(kind, stream, reader, more, unfinished);
    } else if (more) {
      throw protocolError(`a frame of kind ${kind} that goes on`);
    }
    switch (kind) {
      case Kind.CALL:
        this.#checkNew(stream);
        this.#charge(reader.left);
        this.#session.port.refund(reader.left);
        return this.#onCall(stream, reader);
      case Kind.RESULT:
        return this.#onResult(stream, reader);
      case Kind.FAIL:
        return this.#onFail(stream, readFailure(reader));
      case Kind.CANCEL:
        return this.#onCancel(stream);
      case Kind.DATA: {
        const cost = reader.left;
        this.#charge(cost);
        return this.#onData(stream, reader, cost);
      }
      case Kind.CREDIT:
        return this.#onCredit(stream, readPath(reader), reader.uleb());
      case Kind.STOP:
        return this.#exchange(stream)?.stop(readPath(reader));
      case Kind.LOST: {
        const key = readPath(reader);
        return this.#exchange(stream)?.lose(key, readFailure(reader));
      }
    }
  }

  #checkNew(stream: number): void {
    if (stream === 0 || stream % 2 !== this.#parity || !after(stream, this.#last) || this.#in.has(stream)) {
      throw protocolError(`a call with number ${stream} after ${this.#last}`);
    }
    this.#last = stream;
  }

  #charge(size: number): void {
    const { port } = this.#session;
    port.credit -= size;
    if (port.credit < 0) throw protocolError('more bytes on their way than the connection has credit for');
  }

  #part(kind: number, stream: number, reader: Reader, more: boolean, open: Unfinished | undefined): void {
    const { port } = this.#session;
    const cost = reader.left;
    if (open && open.kind !== kind) throw protocolError(`kind ${kind} on stream ${stream} within a message of kind ${open.kind}`);
    if (kind !== Kind.RESULT) this.#charge(cost);
    const unfinished = open ?? this.#begin(kind, stream, reader);
    // The rest of a message whose reader has left takes no credit of the channel.
    if (unfinished.channel && !unfinished.channel.exchange.isReading(unfinished.channel.inlet.key)) {
      delete unfinished.channel;
      this.#assembler.abandon(stream);
    }
    const { channel } = unfinished;
    if (channel) this.#spend(channel.inlet.credit -= cost, channel.inlet.key);
    const part = reader.buf.subarray(reader.pos, reader.end);
    const whole = this.#assembler.add(stream, unfinished, part, more);
    // What has been put together makes room for the rest; of a chunk only the last part waits for its reader.
    if (kind === Kind.CALL || (kind === Kind.DATA && !channel)) port.refund(cost);
    else if (channel && (more || !whole)) port.taken(channel.exchange, channel.inlet, cost);
    if (whole === undefined) return;
    const all = new Reader(whole);
    if (kind === Kind.CALL) this.#onCall(stream, all);
    else if (kind === Kind.RESULT) this.#onResult(stream, all);
    else if (channel) {
      readPath(all);
      channel.exchange.push(channel.inlet, whole, all.pos, all.end, cost);
    }
  }

  #begin(kind: number, stream: number, reader: Reader): Unfinished {
    if (kind === Kind.CALL) this.#checkNew(stream);
    if (kind === Kind.RESULT && !this.#out.has(stream)) throw protocolError(`a result for ${stream}, which is no open call`);
    const unfinished = this.#assembler.begin(kind, stream, reader);
    if (kind === Kind.DATA) {
      const exchange = this.#exchange(stream);
      const inlet = exchange?.inlet(readPath(new Reader(reader.buf, reader.pos, reader.end)));
      if (exchange && inlet) unfinished.channel = { exchange, inlet };
      else unfinished.skip = true;
    }
    if (!unfinished.skip) return unfinished;
    const failure = new Failure('overloaded', `a message of ${unfinished.total} bytes is too large here`, {
      fields: { limit: String(this.#session.limits.message) },
    });
    if (kind === Kind.CALL) this.#session.sendFail(stream, failure);
    else if (kind === Kind.RESULT) this.#over(stream, failure);
    else if (unfinished.channel) {
      const { exchange, inlet } = unfinished.channel;
      delete unfinished.channel;
      inlet.fail(failure);
      exchange.stopped(inlet);
    }
    return unfinished;
  }

  #spend(left: number, key: string): void {
    if (left < 0) throw protocolError(`more bytes on their way on path ${key} than it has credit for`);
  }

  #onCall(stream: number, reader: Reader): void {
    const session = this.#session;
    const number = reader.uleb();
    const linkNumber = reader.uleb();
    const flags = reader.byte('the flags of a call');
    const extras = flags === 0 ? undefined : this.#extras(flags, reader);
    const target = session.exports.functions[number];
    if (target === undefined) return session.sendFail(stream, Signature.missing('this side', `number ${number}`));
    const link = session.links.find(linkNumber);
    if (link === undefined) {
      const message = `link ${linkNumber} is not bound here; the host binds a link, with its grant, before it calls`;
      return session.sendFail(stream, new Failure('not-granted', message, { fields: { link: String(linkNumber) } }));
    }
    if (session.leaving) return session.sendFail(stream, leaving(session.leaving));
    if (this.#in.size >= session.limits.calls) {
      const failure = new Failure('overloaded', `${session.limits.calls} calls are open`, {
        retryable: true,
        fields: { limit: String(this.#session.limits.calls) },
      });
      return session.sendFail(stream, failure);
    }
    const call = new InboundCall(session, stream, target, link, extras);
    if (call.exchange) this.#in.set(stream, call);
    let args: unknown[];
    try {
      reader.lifting = call.coding;
      args = target.signature.decodeParams(reader);
    } catch (error) {
      if (error instanceof Failure && error.code === 'protocol') throw error;
      return call.fail(error);
    }
    if (extras?.deadline !== undefined && extras.deadline <= session.clock.now()) return call.fail(deadlineExceeded(extras.seconds));
    call.run(args);
  }

  #extras(flags: number, reader: Reader): CallExtras {
    if (flags > 0x1f) throw protocolError(`a call with flags ${flags}, which are not known`);
    const micros = flags & DEADLINE ? reader.size() : undefined;
    const deadline = micros === undefined ? undefined : this.#session.clock.now() + micros / 1000;
    const traceparent = flags & TRACE ? readTraceparent(reader) : undefined;
    const identity = flags & IDENTITY ? reader.string() : undefined;
    const key = flags & KEY ? reader.bytes('bytes of a key') : undefined;
    if (identity !== undefined && Buffer.byteLength(identity) > 256) throw protocolError('an identity of more than 256 bytes');
    if (key !== undefined && key.length > 64) throw protocolError('a key of more than 64 bytes');
    return { deadline, seconds: (micros ?? 0) / 1e6, traceparent, identity, key, times: (flags & TIMES) !== 0 };
  }

  #onResult(stream: number, reader: Reader): void {
    const call = this.#out.get(stream);
    if (call === undefined || call.answered) throw protocolError(`a result for ${stream}, which is no open call`);
    const flags = reader.byte('the flags of a result');
    if (flags > 1) throw protocolError(`a result with flags ${flags}, which are not known`);
    if (flags === 1) for (let i = 0; i < 4; i++) reader.uleb64();
    call.answer(reader);
    if (!call.exchange || call.exchange.open === 0) this.#over(stream);
  }

  #onFail(stream: number, failure: Failure): void {
    if (!this.#out.has(stream)) throw protocolError(`a failure of ${stream}, which is no open call`);
    this.#over(stream, failure);
  }

  #over(stream: number, failure?: Failure): void {
    const call = this.#out.get(stream);
    this.#out.delete(stream);
    if (this.#session.relayed) this.#session.output.frame(Kind.DONE, stream);
    if (failure) call?.end(failure);
    this.#startWaiting();
    this.#session.checkDrained();
  }

  #onCancel(stream: number): void {
    const failure = new Failure('cancelled', 'the caller cancelled the call', { retryable: true });
    const unfinished = this.#assembler.get(stream);
    if (unfinished?.kind === Kind.CALL && !unfinished.skip) {
      this.#assembler.abandon(stream);
      return this.#session.sendFail(stream, failure);
    }
    const call = this.#in.get(stream);
    if (call) call.abort(failure);
    else if (stream > this.#last) throw protocolError(`a cancel of ${stream}, which was never called`);
  }

  /** The channels of a call; undefined where it is over, so that what comes for it is to be ignored. */
  #exchange(stream: number): Exchange | undefined {
    const theirs = stream % 2 === this.#parity;
    const call = theirs ? this.#in.get(stream) : this.#out.get(stream);
    if (call?.exchange) return call.exchange;
    const known = stream !== 0 && (theirs ? !after(stream, this.#last) : after(this.#next, stream));
    if (!known) throw protocolError(`a frame for stream ${stream}, which no call has opened`);
    return undefined;
  }

  #onData(stream: number, reader: Reader, cost: number): void {
    const key = readPath(reader);
    const exchange = this.#exchange(stream);
    const inlet = exchange?.inlet(key);
    if (!exchange || !inlet) return this.#session.port.refund(cost);
    this.#spend((inlet.credit -= cost), key);
    exchange.push(inlet, reader.buf, reader.pos, reader.end, cost);
  }

  #onCredit(stream: number, key: string, bytes: number): void {
    const { output, port } = this.#session;
    if (stream === 0) {
      output.credit += bytes;
      this.#startWaiting();
      output.schedule();
      return port.kick();
    }
    const outlet = this.#exchange(stream)?.outlet(key);
    if (!outlet) return;
    outlet.credit += bytes;
    output.schedule();
    outlet.kick();
  }

  call(link: Link, signature: Signature, number: number, args: readonly unknown[], options?: CallOptions): Promise<unknown> {
    const session = this.#session;
    if (session.leaving) return Promise.reject(unsent(session.leaving));
    return new Promise((resolve, reject) => {
      const call = new OutboundCall(session, signature, number, link, args, options, resolve, reject);
      const watched = options === undefined || call.watch(
        () => this.#cancel(call, new Failure('cancelled', 'the call was cancelled', { cause: options.signal?.reason })),
        () => this.#cancel(call, deadlineExceeded((options.deadline ?? 0) / 1000)),
      );
      if (!watched) return;
      if (this.#waiting.length > 0 || !this.#free) this.#waiting.push(call);
      else this.#start(call);
    });
  }

  get #free(): boolean {
    return this.#out.size < this.#most && !this.#held;
  }

  #startWaiting(): void {
    while (this.#waiting.length > 0 && this.#free) this.#start(this.#waiting.shift() as OutboundCall);
  }

  /** The number of the next call; they go round, past 0 and those still in use. */
  #number(): number {
    while (this.#next === 0 || this.#out.has(this.#next)) this.#next = (this.#next + 2) >>> 0;
    return this.#next;
  }

  #start(call: OutboundCall): void {
    const { output } = this.#session;
    const stream = this.#number();
    const start = output.begin(Kind.CALL, stream);
    if (call.signature.channels) call.exchange = this.#session.exchange(stream, call);
    try {
      this.#encode(call, output.writer);
      this.checkSize(output.size(start));
    } catch (error) {
      output.undo(start);
      call.exchange?.unmake();
      call.answered = true;
      return call.fail(error);
    }
    this.#next = (stream + 2) >>> 0;
    call.stream = stream;
    this.#out.set(stream, call);
    const made = call.exchange?.made() ?? [];
    const size = output.size(start);
    if (size <= MAX_FRAME && size <= output.credit) {
      output.charge(size);
      output.end(start);
      return call.exchange?.begin(made);
    }
    this.#held = true;
    let begun = false;
    output.long({
      kind: Kind.CALL,
      body: output.cut(start),
      stream: () => {
        if (!begun) this.#held = false;
        begun = true;
        return stream;
      },
      done: () => {
        call.exchange?.begin(made);
        this.#startWaiting();
      },
    });
  }

  #encode(call: OutboundCall, writer: Writer): void {
    const { options } = call;
    writer.uleb(call.number);
    writer.uleb(call.link.number);
    if (options === undefined) {
      writer.byte(0);
    } else {
      const { traceparent, identity, idempotencyKey: key } = options;
      const has = (value: unknown, flag: number): number => (value === undefined ? 0 : flag);
      writer.byte(has(call.due, DEADLINE) | has(traceparent, TRACE) | has(identity, IDENTITY) | has(key, KEY));
      if (call.due !== undefined) writer.uleb(Math.max(0, Math.round((call.due - this.#session.clock.now()) * 1000)));
      if (traceparent !== undefined) writeTraceparent(writer, traceparent);
      if (identity !== undefined) writer.string(identity);
      if (key !== undefined) writer.bytes(key);
    }
    call.encode(writer);
  }

  #cancel(call: OutboundCall, failure: Failure): void {
    if (call.settled) return;
    if (call.stream === 0) {
      const index = this.#waiting.indexOf(call);
      if (index >= 0) this.#waiting.splice(index, 1);
      return call.fail(failure);
    }
    call.fail(failure);
    call.exchange?.dropOuts(call.exchange.ready ? failure : undefined);
    this.#session.output.frame(Kind.CANCEL, call.stream);
  }

  /** Fails the calls that were not sent. */
  refuseWaiting(reason: Failure): void {
    for (const call of this.#waiting.splice(0)) call.fail(unsent(reason));
  }

  failOutbound(reason: Failure): void {
    this.refuseWaiting(reason);
    const calls = [...this.#out.values()];
    this.#out.clear();
    for (const call of calls) call.end(reason.code === 'provider-gone' ? reason : gone(reason));
  }

  end(reason: Failure): void {
    this.failOutbound(reason);
    const calls = [...this.#in.values()];
    this.#in.clear();
    for (const call of calls) call.end(gone(reason));
  }

  keep(stream: number, call: InboundCall): void {
    this.#in.set(stream, call);
  }

  settled(stream: number, call: InboundCall): void {
    if (!call.over || !this.#in.delete(stream)) return;
    this.#session.checkDrained();
  }

  /** The last channel of a call has ended. */
  idle(exchange: Exchange): void {
    const { stream } = exchange;
    const call = this.#in.get(stream);
    if (call?.exchange === exchange) return this.settled(stream, call);
    const out = this.#out.get(stream);
    if (out?.exchange === exchange && out.answered) this.#over(stream);
  }

  discard(encode: (writer: Writer) => void): void {
    const writer = new Writer();
    writer.lowering = DISCARD;
    try {
      encode(writer);
    } catch {
      // Whatever does not even fit its type holds nothing that the peer could have got.
    }
  }
}

const DISCARD: Lowering = {
  lowerHandle: (_, value, owned) => {
    if (owned && typeof value === 'object' && value !== null) dispose(value);
    return new Uint8Array(0);
  },
  lowerChannel: (_, __, value) => {
    if (isIterable(value) && Symbol.asyncIterator in value) void value[Symbol.asyncIterator]().return?.();
  },
};

/** Whether a call's number comes after another's, on a circle that is gone round for ever. */
function after(stream: number, other: number): boolean {
  return ((stream - other) | 0) > 0;
}

function leaving(reason: Failure): Failure {
  return new Failure('provider-gone', `this side is leaving: ${reason.message}`, { retryable: true });
}

function unsent(reason: Failure): Failure {
  return new Failure('provider-gone', `the call was not sent: ${reason.message}`, { retryable: true, cause: reason });
}

function gone(reason: Failure): Failure {
  return new Failure('provider-gone', `the session ended before the call did: ${reason.message}`, { cause: reason });
}
