import type { Readable, Writable } from 'node:stream';

/** What a connection tells whoever uses it. */
export interface WireEvents {
  data(chunk: Buffer): void;
  /** The peer will send no more. */
  end(): void;
  /** What was written has been taken. */
  drain(): void;
  /** It is over, by an error if one is given. */
  close(error?: Error): void;
}

/** A byte stream both ways: a socket, or a pair of pipes. */
export class Wire {
  /** Where the peer is, for messages. */
  readonly peer: string;
  readonly #readable: Readable;
  readonly #writable: Writable;
  #events: WireEvents | undefined;
  #error: Error | undefined;
  #closed = false;

  constructor(readable: Readable, writable: Writable, peer: string) {
    this.#readable = readable;
    this.#writable = writable;
    this.peer = peer;
    const open = new Set<Readable | Writable>([readable, writable]);
    for (const end of [...open]) {
      end.on('error', (error: Error) => {
        this.#error ??= error;
        this.#over();
      });
      // Of a pair of pipes each closes by itself.
      end.on('close', () => {
        open.delete(end);
        if (open.size === 0) this.#over();
      });
    }
  }

  #over(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.destroy();
    this.#events?.close(this.#error);
  }

  /** Begins to read, or hands over to another user. */
  use(events: WireEvents): void {
    const first = this.#events === undefined;
    this.#events = events;
    if (!first) return;
    this.#writable.on('drain', () => this.#events?.drain());
    this.#readable.on('end', () => this.#events?.end());
    this.#readable.on('data', (chunk: Buffer) => this.#events?.data(chunk));
  }

  /** Bytes that were written but not taken. */
  get pending(): number {
    return this.#writable.writableLength;
  }

  write(bytes: Uint8Array): void {
    if (this.#writable.writable) this.#writable.write(bytes);
  }

  pause(): void {
    this.#readable.pause();
  }

  resume(): void {
    this.#readable.resume();
  }

  /** Shuts our direction once everything has been taken. */
  end(then?: () => void): void {
    if (this.#writable.writable) this.#writable.end(then);
    else then?.();
  }

  destroy(): void {
    this.#readable.destroy();
    this.#writable.destroy();
  }
}
