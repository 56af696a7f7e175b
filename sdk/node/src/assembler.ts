import { Reader } from './bytes.js';
import { protocolError } from './errors.js';
import type { Exchange } from './exchange.js';
import { Gather } from './frames.js';
import type { Inlet } from './inlets.js';

/** How many bytes the unfinished messages of a session may hold together. */
export const TOGETHER = 256 * 1024 * 1024;

/** A message that comes in parts. */
export interface Unfinished {
  readonly kind: number;
  readonly total: number;
  readonly gather: Gather;
  /** It is too large: its parts are thrown away. */
  skip: boolean;
  /** The channel that a DATA is for. */
  channel?: { readonly exchange: Exchange; readonly inlet: Inlet };
}

/** Puts messages of several frames together, one at a time for each stream. */
export class Assembler {
  readonly #open = new Map<number, Unfinished>();
  readonly #most: number;
  #held = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get(stream: number): Unfinished | undefined {
    return this.#open.size === 0 ? undefined : this.#open.get(stream);
  }

  /** Begins a message with the first part's size; its rest is to be added. */
  begin(kind: number, stream: number, reader: Reader): Unfinished {
    const total = reader.size();
    const skip = total > this.#most || this.#held + total > TOGETHER;
    const unfinished: Unfinished = { kind, total, gather: new Gather(), skip };
    this.#open.set(stream, unfinished);
    return unfinished;
  }

  /** Adds a part; with the last one it returns the whole message. */
  add(stream: number, unfinished: Unfinished, part: Uint8Array, more: boolean): Buffer | undefined {
    const { gather, total, skip } = unfinished;
    if (!more) this.#open.delete(stream);
    if (skip) return undefined;
    if (gather.size + part.length > total) {
      throw protocolError(`a message of ${total} bytes goes on after ${gather.size + part.length}`);
    }
    gather.add(part);
    this.#held += part.length;
    if (more) return undefined;
    this.#held -= gather.size;
    return gather.take();
  }

  /** Throws away what has come of a message, and what is still to come. */
  abandon(stream: number): void {
    const unfinished = this.get(stream);
    if (unfinished === undefined) return;
    this.#held -= unfinished.gather.take().length;
    unfinished.skip = true;
  }
}
