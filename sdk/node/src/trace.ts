import type { Reader, Writer } from './bytes.js';
import { WireError } from './errors.js';

const FORM = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** Writes a W3C `traceparent` of version 00. */
export function writeTraceparent(writer: Writer, text: string): void {
  const parts = FORM.exec(text);
  if (!parts) throw new WireError('invalid-value', 'a traceparent', '00-(32 hex)-(16 hex)-(2 hex)', text.slice(0, 60));
  writer.raw(Buffer.from(parts.slice(1).join(''), 'hex'));
}

export function readTraceparent(reader: Reader): string {
  const hex = (bytes: number): string => Buffer.from(reader.raw(bytes, 'bytes of a trace context')).toString('hex');
  return `00-${hex(16)}-${hex(8)}-${hex(1)}`;
}
