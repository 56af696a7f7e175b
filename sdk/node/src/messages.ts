import { Reader, Writer } from './bytes.js';
import { codecOf } from './codec.js';
import { CODES, Failure, type Code } from './errors.js';
import { parseType } from './wit.js';

/** An interface as a HELLO or WELCOME names it. */
export interface InterfaceOffer {
  name: string;
  functions: string[];
  /** SHA-256 of the type of each function in canonical form, in the same order; empty: not known. */
  types: Uint8Array[];
  resources: string[];
}

/** How much of everything a peer takes. Sizes in bytes. */
export interface Limits {
  /** Of one message. */
  message: bigint;
  /** Calls at once. */
  calls: number;
  /** Streams and futures of one call at once. */
  channels: number;
  /** Unread bytes of one channel. */
  window: number;
  /** Unread bytes of the whole connection. */
  connection: number;
  /** Milliseconds of silence after which the connection is given up. */
  idle: number;
}

/** What each side says of itself first. */
export interface Hello {
  protocol: number;
  software: string;
  identity: string;
  token: Uint8Array;
  instance: string;
  generation: bigint;
  exports: InterfaceOffer[];
  imports: InterfaceOffer[];
  limits: Limits;
  configSchema: string;
  transports: string[];
  resume: Uint8Array;
}

/** How a caller binds a link. `grant` and `config` are JSON. */
export interface LinkRequest {
  number: number;
  name: string;
  grant: string;
  config: string;
}

const OFFER = 'record { name: string, functions: list<string>, types: list<list<u8>>, resources: list<string> }';
const LIMITS = 'record { message: u64, calls: u32, channels: u32, window: u32, connection: u32, idle: u32 }';
const FAILURE = `record { code: enum { ${CODES.join(', ')} }, retryable: bool, message: string,
  fields: list<tuple<string, string>> }`;

const hello = codecOf(
  parseType(`record { protocol: u32, software: string, identity: string, token: list<u8>, instance: string,
    generation: u64, exports: list<${OFFER}>, imports: list<${OFFER}>, limits: ${LIMITS}, config-schema: string,
    transports: list<string>, resume: list<u8> }`),
);
const link = codecOf(parseType('record { number: u32, name: string, grant: string, config: string }'));
const failure = codecOf(parseType(FAILURE));

export function writeHello(writer: Writer, value: Hello): void {
  hello.encode(writer, value);
}

export function readHello(reader: Reader): Hello {
  return hello.decode(reader) as Hello;
}

export function writeLink(writer: Writer, value: LinkRequest): void {
  link.encode(writer, value);
}

export function readLink(reader: Reader): LinkRequest {
  return link.decode(reader) as LinkRequest;
}

/** Texts of failures come from anywhere; what UTF-8 cannot say in them is replaced, and long ones are cut. */
function tidy(text: string): string {
  return text.slice(0, 8192).toWellFormed();
}

export function writeFailure(writer: Writer, value: Failure): void {
  failure.encode(writer, {
    code: value.code,
    retryable: value.retryable,
    message: tidy(value.message),
    fields: Object.entries(value.fields).map(([name, text]) => [tidy(name), tidy(text)]),
  });
}

export function readFailure(reader: Reader): Failure {
  const read = failure.decode(reader) as {
    code: Code;
    retryable: boolean;
    message: string;
    fields: [string, string][];
  };
  const { code, retryable, message, fields } = read;
  return new Failure(code, message, { retryable, fields: Object.fromEntries(fields) });
}

/** `option<failure>` */
export function writeOutcome(writer: Writer, value: Failure | undefined): void {
  writer.byte(value === undefined ? 0 : 1);
  if (value !== undefined) writeFailure(writer, value);
}

export function readOutcome(reader: Reader): Failure | undefined {
  return reader.byte('an option') === 0 ? undefined : readFailure(reader);
}
