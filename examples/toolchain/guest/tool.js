// `loop:toolchain` by sucrase: one file at a time it takes types out, and turns modules into functions to bundle them.

import { transform } from "sucrase";

import { link, Unresolved } from "./link.js";
import { decode, encode } from "./text.js";

export { run } from "./run.js";

const ENDS = { ".ts": ".js", ".tsx": ".js", ".jsx": ".js", ".mts": ".mjs", ".js": ".js", ".mjs": ".mjs" };

const end = (path) => path.slice(path.lastIndexOf("."));
const text = (file) => decode(file.contents);
const file = (path, code) => ({ path, contents: encode(code) });
const problem = (message, path, line = 0, column = 0) => ({ message, path, line, column });

function transforms(path, jsx) {
  const found = [];
  if (/\.m?tsx?$/.test(path)) found.push("typescript");
  if (/\.[jt]sx$/.test(path)) found.push("jsx");
  return { transforms: found, jsxRuntime: jsx ? "classic" : "preserve", production: true, disableESTransforms: true };
}

// What the interface says where sucrase throws.
function attempt(path, work) {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof SyntaxError) && !error.loc) throw error;
    const message = error.message.replace(/^Error transforming [^:]*: /, "").replace(/ \(\d+:\d+\)$/, "");
    throw [problem(message, path, error.loc?.line ?? 0, error.loc?.column ?? 0)];
  }
}

export const compile = {
  compile(source, options) {
    const made = ENDS[end(source.path)];
    if (made === undefined) throw [problem(`${source.path}: sucrase compiles ${Object.keys(ENDS).join(", ")}`, source.path)];
    const code = attempt(source.path, () => transform(text(source), transforms(source.path, options.jsx)).code);
    return { files: [file(source.path.slice(0, -end(source.path).length) + made, code)], warnings: [] };
  },
};

export const bundle = {
  bundle(files, options) {
    const known = new Map(files.map((each) => [each.path, each]));
    if (!known.has(options.entry)) throw [problem(`the entry ${options.entry} is not among the files`, options.entry)];
    const translate = (path) => {
      const source = text(known.get(path));
      if (path.endsWith(".json")) {
        const value = attempt(path, () => JSON.stringify(JSON.parse(source)));
        return `Object.defineProperty(exports, "__esModule", {value: true}); exports.default = ${value};`;
      }
      const how = transforms(path, true);
      return attempt(path, () => transform(source, { ...how, transforms: [...how.transforms, "imports"] }).code);
    };
    try {
      return { files: [file(options.output, link(options.entry, known, translate, options.format))], warnings: [] };
    } catch (error) {
      if (!(error instanceof Unresolved)) throw error;
      throw error.missing.map(([path, name]) => problem(`Could not resolve ${JSON.stringify(name)}`, path));
    }
  },
};
