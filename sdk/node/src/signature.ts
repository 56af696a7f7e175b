import type { Reader, Writer } from './bytes.js';
import { codecOf, type Decode, type Encode } from './codec.js';
import { Failure, ResultError, within } from './errors.js';
import { hasChannels, hasHandles, type Func, type Type } from './types.js';

/** A function with the codecs of its parameters and its result. */
export class Signature {
  readonly func: Func;
  /** The interface it belongs to. */
  readonly interface: string;
  /** Whether streams or futures go with its calls. */
  readonly channels: boolean;
  /** Whether its result holds streams or futures. */
  readonly returnsChannels: boolean;
  /** Whether its result holds handles. */
  readonly gives: boolean;
  /** Whether its result as a whole is a future, so that a returned Promise is the value itself. */
  readonly future: boolean;
  readonly #encoders: Encode[];
  readonly #decoders: Decode[];
  readonly #pathed: boolean[];
  readonly #result: Type | undefined;

  constructor(face: string, func: Func) {
    const types = func.params.map((param) => param.type);
    this.func = func;
    this.interface = face;
    this.channels = [...types, ...(func.result ? [func.result] : [])].some(hasChannels);
    this.returnsChannels = func.result !== undefined && hasChannels(func.result);
    this.gives = func.result !== undefined && hasHandles(func.result);
    this.future = func.result?.kind === 'future';
    this.#encoders = types.map((type) => codecOf(type).encode);
    this.#decoders = types.map((type) => codecOf(type).decode);
    this.#pathed = types.map(hasChannels);
    this.#result = func.result;
  }

  /** How many parameters it has, with a method's `self`. */
  get arity(): number {
    return this.#encoders.length;
  }

  encodeParams(writer: Writer, args: readonly unknown[]): void {
    writer.path.length = 0;
    const n = this.#encoders.length;
    let i = 0;
    try {
      for (; i < n; i++) {
        if (this.#pathed[i]) writer.path[0] = i;
        (this.#encoders[i] as Encode)(writer, args[i]);
      }
    } catch (error) {
      throw within(error, this.#param(i));
    }
  }

  /** The arguments; the array has room for one more, the context. */
  decodeParams(reader: Reader): unknown[] {
    reader.path.length = 0;
    const args: unknown[] = [];
    const n = this.#decoders.length;
    let i = 0;
    try {
      for (; i < n; i++) {
        if (this.#pathed[i]) reader.path[0] = i;
        args.push((this.#decoders[i] as Decode)(reader));
      }
      reader.finish();
    } catch (error) {
      throw within(error, this.#param(i));
    }
    return args;
  }

  #param(index: number): string {
    return this.func.params[index]?.name ?? 'parameters';
  }

  /** Writes what a provider returned. */
  encodeResult(writer: Writer, value: unknown): void {
    const type = this.#result;
    if (type === undefined) return;
    writer.path.length = 0;
    writer.path.push(0);
    try {
      if (type.kind !== 'result') return codecOf(type).encode(writer, value);
      writer.byte(0);
      writer.path.push(0);
      if (type.ok) codecOf(type.ok).encode(writer, value);
    } catch (error) {
      throw within(error, 'result');
    }
  }

  /** Writes the error that a provider threw; false where its type has none. */
  encodeError(writer: Writer, error: ResultError): boolean {
    const type = this.#result;
    if (type?.kind !== 'result') return false;
    writer.path.length = 0;
    writer.path.push(0, 1);
    writer.byte(1);
    try {
      if (type.err) codecOf(type.err).encode(writer, error.payload);
    } catch (cause) {
      throw within(cause, 'error');
    }
    return true;
  }

  /**
   * What the call returned.
   * @throws ResultError where it returned its error.
   */
  decodeResult(reader: Reader): unknown {
    const type = this.#result;
    let value: unknown;
    if (type !== undefined) {
      reader.path.length = 0;
      reader.path.push(0);
      try {
        value = codecOf(type).decode(reader);
      } catch (error) {
        throw within(error, 'result');
      }
    }
    reader.finish();
    if (type?.kind !== 'result') return value;
    const { tag, val } = value as { tag: 'ok' | 'err'; val: unknown };
    if (tag === 'err') throw new ResultError(val);
    return val;
  }

  /** That there is no such function. */
  static missing(face: string, name: string): Failure {
    return new Failure('no-such-function', `${face} has no function ${name}; do both sides have the same WIT?`, {
      fields: { interface: face, function: name },
    });
  }
}
