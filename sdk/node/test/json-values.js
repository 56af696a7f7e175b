// Between the JSON form of values in tests/data/wrpc-vectors.json (see its `format`) and the SDK's own.
import { camel } from '../dist/types.js';

const FLOATS = { nan: NaN, inf: Infinity, '-inf': -Infinity, '-0': -0 };

/** A value of the JSON form as the SDK takes it. */
export function fromJson(type, json) {
  switch (type.kind) {
    case 'u64':
    case 's64':
      return BigInt(json);
    case 'f32':
    case 'f64':
      return typeof json === 'string' ? FLOATS[json] : json;
    case 'list': {
      const items = json.map((item) => fromJson(type.element, item));
      return type.element.kind === 'u8' ? Uint8Array.from(items) : items;
    }
    case 'tuple':
      return json.map((item, index) => fromJson(type.items[index], item));
    case 'record':
      return Object.fromEntries(type.fields.map(({ name, type: of }) => [camel(name), fromJson(of, json[name])]));
    case 'variant': {
      const of = type.cases.find((one) => one.name === json.case).type;
      return of ? { tag: json.case, val: fromJson(of, json.value) } : { tag: json.case };
    }
    case 'option':
      if (type.some.kind === 'option') {
        return json === null ? { tag: 'none' } : { tag: 'some', val: fromJson(type.some, json.some) };
      }
      return json === null ? undefined : fromJson(type.some, json.some);
    case 'result': {
      const tag = 'ok' in json ? 'ok' : 'err';
      return { tag, val: type[tag] ? fromJson(type[tag], json[tag]) : undefined };
    }
    case 'flags':
      return Object.fromEntries(type.names.map((name) => [camel(name), json.includes(name)]));
    case 'own':
    case 'borrow':
      return new Uint8Array(Buffer.from(json.handle, 'hex'));
    case 'stream':
      return (async function* () {
        for (const chunk of json.stream) {
          const items = chunk.map((item) => fromJson(type.element, item));
          if (type.element.kind === 'u8') yield Uint8Array.from(items);
          else yield* items;
        }
      })();
    case 'future':
      return Promise.resolve(json.future).then((value) => fromJson(type.element, value));
    default:
      return json;
  }
}

/** What the SDK gives for a value, plainly comparable: typed arrays of floats as arrays. */
export function plain(type, value) {
  if (type.kind === 'list' && value instanceof Uint8Array === false) {
    return Array.from(value, (item) => plain(type.element, item));
  }
  return value;
}
