// Light syntax highlighting: comments, strings, numbers and words that the language knows. It never has to be right
// about a language's grammar, only never wrong about the text: every character comes out, escaped, in its place.

import { escape } from "./html.js";

const words = (text) => text.trim().split(/\s+/);

const lineSlashes = String.raw`\/\/.*`;
const blockSlashes = String.raw`\/\*[^]*?(?:\*\/|$)`;
const lineHash = String.raw`(?<![^\s])#.*`;
const doubled = String.raw`"(?:\\[^]|[^"\\\n])*"?`;
const single = String.raw`'(?:\\[^]|[^'\\\n])*'?`;
const backticked = "`(?:\\\\[^]|[^`\\\\])*`?";
const number = String.raw`(?<![\w.])(?:0[xob][\da-f_]+|\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?)\w*`;

const c = { comment: [lineSlashes, blockSlashes], string: [doubled, single], number: [number] };
const hash = { comment: [lineHash], string: [doubled, single], number: [number] };

const javascript = {
  ...c,
  string: [doubled, single, backticked],
  words: words(`as async await break case catch class const continue default delete do else export extends false finally
    for from function if import in instanceof interface let new null of return static super switch this throw true try
    type typeof undefined var void while yield`),
};

const languages = {
  c: {
    ...c,
    words: words(`auto bool break case char const continue default do double else enum extern false float for goto if
      include int long NULL return short signed sizeof static struct switch true typedef union unsigned void while`),
  },
  css: { comment: [blockSlashes], string: [doubled, single], key: [String.raw`(?<=[{;]\s*)[\w-]+(?=\s*:)`], number: [number] },
  diff: { inserted: [String.raw`^\+.*`], deleted: [String.raw`^-.*`], comment: [String.raw`^@@.*`] },
  go: {
    ...c,
    string: [doubled, single, backticked],
    words: words(`break case chan const continue default defer else fallthrough false for func go goto if import
      interface map nil package range return select struct switch true type var`),
  },
  html: {
    comment: [String.raw`<!--[^]*?(?:-->|$)`],
    word: [String.raw`<\/?[\w:-]+|\/?>`],
    key: [String.raw`[\w:-]+(?==["'])`],
    string: [doubled, single],
  },
  javascript,
  json: { key: [String.raw`"(?:\\.|[^"\\\n])*"(?=\s*:)`], string: [doubled], number: [number], words: words("true false null") },
  python: {
    ...hash,
    string: [String.raw`[rbfu]*(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$))`, `[rbfuRBFU]*${doubled}`, single],
    key: [String.raw`(?<=^\s*)@[\w.]+`],
    words: words(`and as assert async await break class continue def del elif else except False finally for from global
      if import in is lambda match None nonlocal not or pass raise return True try while with yield`),
  },
  rust: {
    ...c,
    string: [doubled, String.raw`'(?:\\.[^']*|[^'\\])'`],
    key: [String.raw`#!?\[[^\]]*\]`],
    words: words(`as async await break const continue crate dyn else enum extern false fn for if impl in let loop match
      mod move mut pub ref return Self self static struct super trait true type unsafe use where while`),
  },
  shell: {
    prompt: [String.raw`^\$(?= )`],
    comment: [lineHash],
    string: [doubled, single],
    key: [String.raw`(?<=\s)--?[A-Za-z][\w-]*`, String.raw`\$\w+|\$\{[^}]*\}`],
    words: words("case do done elif else esac export fi for function if in return then while"),
  },
  toml: {
    ...hash,
    word: [String.raw`^\s*\[.*\]`],
    key: [String.raw`(?<=^\s*|[{,]\s*)(?:[\w.-]+|"[^"\n]*")+(?=\s*=)`],
    words: words("true false"),
  },
  wit: {
    comment: [lineSlashes, blockSlashes],
    number: [String.raw`@\d[\w.-]*`],
    words: words(`async as bool borrow char constructor enum export f32 f64 flags func future import include interface
      list option own package record resource result s16 s32 s64 s8 static stream string tuple type u16 u32 u64 u8 use
      variant with world`),
  },
  yaml: { ...hash, key: [String.raw`(?<=^[\s-]*)[\w./-]+(?=:(?:\s|$))`], words: words("true false null") },
};

const aliases = {
  bash: "shell",
  console: "shell",
  cpp: "c",
  js: "javascript",
  jsonc: "javascript",
  jsx: "javascript",
  mjs: "javascript",
  py: "python",
  rs: "rust",
  sh: "shell",
  svg: "html",
  ts: "javascript",
  tsx: "javascript",
  typescript: "javascript",
  xml: "html",
  yml: "yaml",
};

// One expression a language: the alternatives are tried in this order, and the group that matched names the class.
const order = ["comment", "prompt", "inserted", "deleted", "key", "string", "number", "word"];

function compile(language) {
  const known = language.words ? [String.raw`(?<![\w-])(?:${language.words.join("|")})(?![\w-])`] : [];
  const parts = { ...language, word: [...(language.word ?? []), ...known] };
  const groups = order.filter((name) => parts[name]?.length).map((name) => `(?<${name}>${parts[name].join("|")})`);
  return new RegExp(groups.join("|"), "gm");
}

const compiled = new Map(Object.entries(languages).map(([name, language]) => [name, compile(language)]));

/** The code as HTML; plain text if the language is not known. */
export function highlight(code, name) {
  const expression = compiled.get(name.toLowerCase()) ?? compiled.get(aliases[name.toLowerCase()]);
  if (!expression) return escape(code);
  let out = "";
  let at = 0;
  for (const match of code.matchAll(expression)) {
    const kind = order.find((group) => match.groups[group] !== undefined);
    out += `${escape(code.slice(at, match.index))}<span class="${kind}">${escape(match[0])}</span>`;
    at = match.index + match[0].length;
  }
  return out + escape(code.slice(at));
}
