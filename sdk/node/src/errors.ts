/** Why bytes or a value were refused. */
export type WireErrorKind =
  | 'truncated'
  | 'overflow'
  | 'too-long'
  | 'invalid-utf8'
  | 'invalid-value'
  | 'invalid-discriminant';

/** Bytes that do not decode, or a value that does not fit its type. */
export class WireError extends Error {
  override readonly name = 'WireError';
  readonly kind: WireErrorKind;
  /** What the type wanted. */
  readonly expected: string;
  /** What was there instead. */
  readonly got: string;
  readonly #steps: string[] = [];
  readonly #what: string;

  constructor(kind: WireErrorKind, what: string, expected = what, got = kind as string) {
    super(`${kind}: ${what}`);
    this.kind = kind;
    this.expected = expected;
    this.got = got;
    this.#what = what;
  }

  /** Where in the value, for instance `params.0.name`; empty: at its root. */
  get path(): string {
    return this.#steps.join('.');
  }

  /** @internal Says which part of a value the error was in; called from the inside out. */
  within(step: string | number): this {
    this.#steps.unshift(String(step));
    this.message = `${this.kind} at ${this.path}: ${this.#what}`;
    return this;
  }
}

/** @internal A value that its type does not have. */
export function unfit(expected: string, value: unknown): WireError {
  const got = brief(value);
  return new WireError('invalid-value', `${expected} wanted, ${got} given`, expected, got);
}

/** Adds a step to the path of a {@link WireError}; other errors pass unchanged. */
export function within(error: unknown, step: string | number): unknown {
  return error instanceof WireError ? error.within(step) : error;
}

/**
 * The `err` of a function whose WIT type is `result<T, E>`: a provider throws it, a caller catches it.
 * The payload has the shape of `E` (leave it out where the type is `result<T>`).
 */
export class ResultError<E = unknown> extends Error {
  override readonly name = 'ResultError';
  readonly payload: E;

  constructor(payload?: E) {
    super(`the function answered with its error: ${brief(payload)}`);
    this.payload = payload as E;
  }
}

/** All reasons for which a call can fail outside of what its WIT type says, in the order of their numbers. */
export const CODES = [
  'provider',
  'not-granted',
  'no-such-interface',
  'no-such-function',
  'version-mismatch',
  'bad-value',
  'bad-handle',
  'deadline-exceeded',
  'cancelled',
  'provider-gone',
  'overloaded',
  'protocol',
  'guest-trap',
  'unauthenticated',
] as const;

/** One of {@link CODES}. */
export type Code = (typeof CODES)[number];

/**
 * A call, or a whole session, that failed. A provider may throw one to choose its code;
 * whatever else a provider throws arrives as the code `provider`.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly code: Code;
  /** Nothing was done, or it may be done again. */
  readonly retryable: boolean;
  /** Details by name, as `docs/wire.md` lists them for the code. */
  readonly fields: Readonly<Record<string, string>>;

  constructor(
    code: Code,
    message: string,
    options: { retryable?: boolean; fields?: Record<string, string>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.fields = options.fields ?? {};
  }
}

/** What of any thrown thing is told to the peer; `at` names the call. */
export function failureOf(error: unknown, at: { interface: string; function: string }): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof WireError) {
    return new Failure('bad-value', `${at.interface} ${at.function}: ${error.message}`, {
      fields: { path: error.path, expected: error.expected, got: error.got },
      cause: error,
    });
  }
  const type = error instanceof Error ? error.name : typeof error;
  const message = error instanceof Error ? error.message : brief(error);
  return new Failure('provider', message, { fields: { type, ...at }, cause: error });
}

/** A rule of the wire that the peer broke; the session ends with it. */
export function protocolError(message: string): Failure {
  return new Failure('protocol', message);
}

/** A value in few words, for messages. */
export function brief(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value)) return `array of ${value.length}`;
  const name = (value as { constructor?: { name?: string } }).constructor?.name;
  if (name !== undefined && name !== 'Object') return name;
  return `{${Object.keys(value).slice(0, 6).join(', ')}}`;
}
