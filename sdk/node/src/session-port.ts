import type { Failure } from './errors.js';
import type { Exchange, Port } from './exchange.js';
import { Kind, MAX_FRAME } from './frames.js';
import type { Inlet } from './inlets.js';
import { writeFailure, type Limits } from './messages.js';
import type { Outlet } from './outlets.js';
import type { Output } from './output.js';

/** The streams and futures of a session's calls, with credit. */
export class SessionPort implements Port {
  /** How many bytes of CALL and DATA the peer may still send. */
  credit: number;
  readonly mostIns: number;
  mostOuts = 0;
  readonly tells = true;
  writeWindow = 0;
  readonly readWindow: number;
  readonly #connection: number;
  readonly #output: Output;
  readonly #onIdle: (exchange: Exchange) => void;
  readonly #stalled = new Set<Outlet>();
  #owed = 0;

  constructor(output: Output, limits: Limits, onIdle: (exchange: Exchange) => void) {
    this.#output = output;
    this.readWindow = limits.window;
    this.mostIns = limits.channels;
    this.#connection = limits.connection;
    this.credit = limits.connection;
    this.#onIdle = onIdle;
  }

  room(exchange: Exchange, outlet: Outlet): number {
    const output = this.#output;
    const held = !exchange.ready || exchange.busy || output.congested;
    if (held || output.credit < MAX_FRAME) this.#stalled.add(outlet);
    return held ? 0 : Math.min(outlet.credit, output.credit, MAX_FRAME) - outlet.pathBytes.length;
  }

  most(outlet: Outlet): number {
    const { connection } = this.#output;
    return Math.min(MAX_FRAME, this.writeWindow >>> 1, connection >>> 1) - outlet.pathBytes.length;
  }

  send(exchange: Exchange, outlet: Outlet, count: number, data: Uint8Array): void {
    const output = this.#output;
    const start = output.begin(Kind.DATA, exchange.stream);
    output.writer.raw(outlet.pathBytes);
    if (count >= 0) output.writer.uleb(count);
    output.writer.raw(data);
    output.charge(output.size(start), outlet);
    output.end(start);
  }

  sendLong(exchange: Exchange, outlet: Outlet, data: Buffer, done: () => void): void {
    exchange.busy = true;
    const body = Buffer.concat([outlet.pathBytes, data]);
    const stream = (): number => exchange.stream;
    this.#output.long({
      kind: Kind.DATA,
      body,
      outlet,
      stream,
      done: () => {
        exchange.busy = false;
        done();
        exchange.kick();
      },
    });
  }

  soon(outlet: Outlet): void {
    this.#output.soon(outlet);
  }

  lost(exchange: Exchange, outlet: Outlet, failure: Failure): void {
    const start = this.#output.begin(Kind.LOST, exchange.stream);
    this.#output.writer.raw(outlet.pathBytes);
    writeFailure(this.#output.writer, failure);
    this.#output.end(start);
  }

  taken(exchange: Exchange, inlet: Inlet, bytes: number): void {
    this.refund(bytes);
    inlet.owed += bytes;
    if (inlet.owed < this.readWindow >>> 2 || !exchange.isReading(inlet.key)) return;
    this.#grant(exchange.stream, inlet.path, inlet.owed);
    inlet.credit += inlet.owed;
    inlet.owed = 0;
  }

  /** Gives credit of the connection back. */
  refund(bytes: number): void {
    this.#owed += bytes;
    if (this.#owed < this.#connection >>> 2) return;
    this.#grant(0, [], this.#owed);
    this.credit += this.#owed;
    this.#owed = 0;
  }

  #grant(stream: number, path: readonly number[], bytes: number): void {
    const start = this.#output.begin(Kind.CREDIT, stream);
    this.#writePath(path);
    this.#output.writer.uleb(bytes);
    this.#output.end(start);
  }

  stopped(exchange: Exchange, path: readonly number[]): void {
    const start = this.#output.begin(Kind.STOP, exchange.stream);
    this.#writePath(path);
    this.#output.end(start);
  }

  #writePath(path: readonly number[]): void {
    this.#output.writer.uleb(path.length);
    for (const step of path) this.#output.writer.uleb(step);
  }

  idle(exchange: Exchange): void {
    this.#onIdle(exchange);
  }

  /** There may be more room for channels that wait for the connection. */
  kick(): void {
    if (this.#stalled.size === 0) return;
    const stalled = [...this.#stalled];
    this.#stalled.clear();
    for (const outlet of stalled) outlet.kick();
  }
}
