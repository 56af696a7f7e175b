import { protocolError } from './errors.js';

/** The kinds of frames. */
export const Kind = {
  HELLO: 0x01,
  WELCOME: 0x02,
  REFUSE: 0x03,
  CALL: 0x10,
  RESULT: 0x11,
  FAIL: 0x12,
  CANCEL: 0x13,
  DATA: 0x14,
  CREDIT: 0x15,
  STOP: 0x16,
  LOST: 0x17,
  DONE: 0x18,
  PING: 0x20,
  PONG: 0x21,
  GOAWAY: 0x22,
  RELOAD: 0x23,
  RELOADED: 0x24,
  LINK: 0x25,
  LINKED: 0x26,
  UNLINK: 0x27,
  DROP: 0x28,
} as const;

/** On a kind: the message goes on in the next frame of the same stream and kind. */
export const MORE = 0x80;
export const HEADER = 8;
/** The largest payload of a frame, in bytes. */
export const MAX_FRAME = 256 * 1024;
/** The largest payload of HELLO, WELCOME and REFUSE, in bytes. */
export const MAX_HELLO = 1024 * 1024;
/** What the side that connects sends first: `LOOP`, version 1. */
export const PREFACE = Buffer.from([0x4c, 0x4f, 0x4f, 0x50, 0x01]);

/** Bytes that come in parts; its memory follows what has come, never what was announced. */
export class Gather {
  #buf = Buffer.allocUnsafe(1024);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(part: Uint8Array): void {
    const size = this.#size + part.length;
    if (size > this.#buf.length) {
      const next = Buffer.allocUnsafeSlow(Math.max(size, this.#buf.length * 2));
      next.set(this.#buf.subarray(0, this.#size));
      this.#buf = next;
    }
    this.#buf.set(part, this.#size);
    this.#size = size;
  }

  /** All bytes so far. The memory is the caller's from here on. */
  take(): Buffer {
    const all = this.#buf.subarray(0, this.#size);
    this.#buf = Buffer.allocUnsafe(1024);
    this.#size = 0;
    return all;
  }

  peek(): Buffer {
    return this.#buf.subarray(0, this.#size);
  }
}

/** Gets each frame where it lies: `payload` is `buf` from `pos` to `end`. */
export type OnFrame = (kind: number, stream: number, buf: Buffer, pos: number, end: number) => void;

/** Cuts a byte stream into frames. Frames that lie whole in what was read are not copied. */
export class FrameReader {
  readonly #onFrame: OnFrame;
  readonly #partial = new Gather();
  /** The rest of the preface that must come before any frame. */
  #preface: Buffer | undefined;
  /** Set where no frame may be handled any more, or not now. */
  #stopped = false;
  #held: Buffer | undefined;

  constructor(onFrame: OnFrame, preface: boolean) {
    this.#onFrame = onFrame;
    if (preface) this.#preface = PREFACE;
  }

  /** No frame is handed out from here on. */
  stop(): void {
    this.#stopped = true;
  }

  /** Hands out no frame until `resume`; what has been read is kept. */
  pause(): void {
    this.#held ??= Buffer.alloc(0);
  }

  resume(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined && held.length > 0) this.push(held);
  }

  get paused(): boolean {
    return this.#held !== undefined;
  }

  /** @throws Failure `protocol` where the bytes are no frames. */
  push(chunk: Buffer): void {
    if (this.#held !== undefined) {
      this.#held = Buffer.concat([this.#held, chunk]);
      return;
    }
    let pos = this.#preface ? this.#takePreface(chunk) : 0;
    if (this.#partial.size > 0) pos = this.#complete(chunk, pos);
    while (!this.#stopped && this.#held === undefined && chunk.length - pos >= HEADER) {
      const length = lengthAt(chunk, pos);
      const end = pos + HEADER + length;
      if (end > chunk.length) break;
      const start = pos + HEADER;
      pos = end;
      this.#onFrame(chunk[start - 5] as number, chunk.readUInt32LE(start - 4), chunk, start, end);
    }
    if (this.#stopped || pos === chunk.length) return;
    if (this.#held !== undefined) this.#held = chunk.subarray(pos);
    else this.#partial.add(chunk.subarray(pos));
  }

  #takePreface(chunk: Buffer): number {
    const want = this.#preface as Buffer;
    const n = Math.min(want.length, chunk.length);
    if (want.compare(chunk, 0, n, 0, n) !== 0) {
      throw protocolError('the peer does not begin as a loop-kit session of version 1 does');
    }
    this.#preface = n < want.length ? want.subarray(n) : undefined;
    return n;
  }

  /** Adds to the frame that was begun, and hands it out once it is whole. */
  #complete(chunk: Buffer, from: number): number {
    const partial = this.#partial;
    let pos = from;
    while (!this.#stopped) {
      const need = partial.size < HEADER ? HEADER : HEADER + lengthAt(partial.peek(), 0);
      if (partial.size === need) break;
      const n = Math.min(need - partial.size, chunk.length - pos);
      partial.add(chunk.subarray(pos, pos + n));
      pos += n;
      if (partial.size < need) return pos;
    }
    const frame = partial.take();
    this.#onFrame(frame[3] as number, frame.readUInt32LE(4), frame, HEADER, frame.length);
    return pos;
  }
}

function lengthAt(buf: Buffer, pos: number): number {
  const length = buf.readUIntLE(pos, 3);
  const kind = buf[pos + 3] as number;
  const most = kind >= Kind.HELLO && kind <= Kind.REFUSE ? MAX_HELLO : MAX_FRAME;
  if (length > most) throw protocolError(`a frame of ${length} bytes, at most ${most} are allowed`);
  return length;
}
