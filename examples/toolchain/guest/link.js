// Puts modules, each as the body of a function with `exports` and `require`, into one file.

const REQUIRED = /\brequire\(\s*(['"])((?:\\.|(?!\1).)*)\1\s*\)/g;
const NAME = "[A-Za-z_$][\\w$]*";
const EXPORTED = new RegExp(
  `\\bexports\\.\\s*(${NAME})\\s*=(?!=)|_createNamedExportFrom\\([^,]+, '(${NAME})'|Object\\.defineProperty\\(exports, ['"](${NAME})['"]`,
  "g",
);
const BOUND = new RegExp(`(${NAME}) = require\\(\\s*(['"])(.*?)\\2\\s*\\)`, "g");
const ALL = new RegExp(`\\b_createStarExport\\((${NAME})\\)`, "g");

export class Unresolved extends Error {
  constructor(missing) {
    super("unresolved");
    this.missing = missing;
  }
}

function normal(path) {
  const parts = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}

// The path of what a module imports by a name; undefined, where there is none.
function resolve(from, name, known) {
  if (!/^\.\.?(\/|$)/.test(name)) return undefined;
  const base = normal(`${from.split("/").slice(0, -1).join("/")}/${name}`);
  const stem = base.replace(/\.(m?)js$/, ".$1ts");
  const tries = [base, ...[".tsx", ".ts", ".jsx", ".js", ".mts", ".mjs", ".json"].map((end) => base + end), stem];
  tries.push(...[".tsx", ".ts", ".jsx", ".js"].map((end) => `${base}/index${end}`));
  return tries.find((path) => known.has(path));
}

export function link(entry, known, translate, format) {
  const modules = new Map();
  const missing = [];
  const waiting = [entry];
  while (waiting.length > 0) {
    const path = waiting.pop();
    if (modules.has(path)) continue;
    const needs = {};
    const code = translate(path);
    for (const [, , name] of code.matchAll(REQUIRED)) {
      const found = resolve(path, name, known);
      if (found === undefined) missing.push([path, name]);
      else waiting.push((needs[name] = found));
    }
    modules.set(path, { code, needs });
  }
  if (missing.length > 0) throw new Unresolved(missing);

  const exported = (path, seen = new Set()) => {
    if (seen.has(path)) return [];
    seen.add(path);
    const { code, needs } = modules.get(path);
    const own = [...code.matchAll(EXPORTED)].map((match) => match[1] ?? match[2] ?? match[3]);
    const bound = new Map([...code.matchAll(BOUND)].map(([, local, , name]) => [local, needs[name]]));
    const others = [...code.matchAll(ALL)].flatMap(([, local]) => (bound.has(local) ? exported(bound.get(local), seen) : []));
    return [...new Set([...own, ...others.filter((name) => name !== "default")])].filter((name) => name !== "__esModule");
  };

  const bodies = [...modules].map(
    ([path, { code, needs }]) =>
      `  ${JSON.stringify(path)}: [${JSON.stringify(needs)}, function (exports, require, module) {\n${code}\n}],\n`,
  );
  const run =
    `const modules = {\n${bodies.join("")}};\n` +
    `const loaded = {};\n` +
    `function load(path) {\n` +
    `  if (loaded[path] !== undefined) return loaded[path].exports;\n` +
    `  const [needs, body] = modules[path];\n` +
    `  const module = (loaded[path] = { exports: {} });\n` +
    `  body.call(undefined, module.exports, (name) => load(needs[name]), module);\n` +
    `  return module.exports;\n` +
    `}\n`;
  const start = `load(${JSON.stringify(entry)})`;
  if (format === "script") return `(() => {\n${run}${start};\n})();\n`;
  const names = exported(entry);
  const locals = names.map((name, number) => `const $${number} = $entry.${name};`);
  const list = names.map((name, number) => `$${number} as ${name}`).join(", ");
  return `${run}const $entry = ${start};\n${locals.join("\n")}\nexport { ${list} };\n`;
}
