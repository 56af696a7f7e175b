// What the engine of a world is built from: takes up the code that it is given when something of it is first needed, and
// answers as that does. `loop dev` puts what the world imports and exports in place of the two lines in capitals.

import { given } from "loop:devserver/source@0.1.0-dev";
import { packages } from "loop:packages";

const PREFIX = "(function (module, exports, require) {";
const MODULES = new Map();
let app = null;
let taking = false;
let map = null;

/** Code is evaluated when a component is built, where nothing answers its imports: it may not call them here either. */
function guarded(name, namespace) {
  const module = { __esModule: true };
  for (const [key, value] of Object.entries(namespace)) {
    // resources are classes, and named as such
    const isFunction = typeof value === "function" && !/^[A-Z]/.test(key);
    module[key] = !isFunction ? value : (...values) => {
      if (taking) throw new Error(`${name}#${key} is called while the code is loaded; call it where something is asked for`);
      return value(...values);
    };
  }
  return module;
}

function require(name) {
  const module = MODULES.get(name) ?? packages[name];
  if (module === undefined) throw new Error(`there is no module ${name}`);
  return module;
}

function load() {
  if (app !== null) return app;
  const { text, sourceMap: lines } = given();
  map = lines;
  const module = { exports: {} };
  taking = true;
  try {
    (0, eval)(`${PREFIX}${text}\n})`)(module, module.exports, require);
  } finally {
    taking = false;
  }
  app = module.exports;
  return app;
}

function member(path) {
  const value = path.reduce((object, key) => object?.[key], load());
  if (value === undefined) throw new Error(`the code exports no ${path.join(".")}`);
  return value;
}

/** An interface that the code exports; whatever is asked of it is asked of the code. */
const face = (name) => new Proxy({}, { get: (_, key) => member([name, key]) });
/** A function that the code exports itself. */
const call = (name) => (...values) => member([name])(...values);

// Errors tell places in the code as it was given; whoever wrote it knows others.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The parts of each line, [column, source, line, column there]. */
function decode({ mappings }) {
  let source = 0, line = 0, there = 0;
  return mappings.split(";").map((row) => {
    let column = 0;
    return row.split(",").filter(Boolean).map((part) => {
      const numbers = [];
      for (let at = 0; at < part.length; ) {
        let value = 0, shift = 0, digit;
        do {
          digit = DIGITS.indexOf(part[at++]);
          value += (digit & 31) << shift;
          shift += 5;
        } while (digit & 32);
        numbers.push(value & 1 ? -(value >> 1) : value >> 1);
      }
      column += numbers[0];
      source += numbers[1] ?? 0;
      line += numbers[2] ?? 0;
      there += numbers[3] ?? 0;
      return [column, source, line, there];
    });
  });
}

function place(line, column) {
  if (typeof map === "string") map = map === "" ? null : JSON.parse(map);
  if (map === null) return null;
  map.rows ??= decode(map);
  const at = column - 1 - (line === 1 ? PREFIX.length : 0);
  const found = map.rows[line - 1]?.findLast(([from]) => from <= at) ?? map.rows[line - 1]?.[0];
  return found && `${map.sources[found[1]]}:${found[2] + 1}:${found[3] + 1}`;
}

Error.prepareStackTrace = (_, frames) =>
  frames
    .map((frame) => {
      const file = frame.getFileName() ?? "native";
      const known = file === "<input>" ? place(frame.getLineNumber(), frame.getColumnNumber()) : null;
      return `    at ${frame.getFunctionName() || "<anonymous>"} (${known ?? `${file}:${frame.getLineNumber()}`})\n`;
    })
    .join("");

export const hot = {
  accept() {
    try {
      load();
    } catch (error) {
      throw error instanceof Error ? `${error}\n${error.stack}` : String(error);
    }
  },
};
IMPORTS;
EXPORTS;
