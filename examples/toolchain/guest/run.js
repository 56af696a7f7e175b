// `loop:toolchain/run` by QuickJS itself: each call has an instance of its own, so that a script may leave what it likes.

import { decode } from "./text.js";

const MOST = 16 << 20;

const problem = (message, path, line = 0, column = 0) => ({ message, path, line, column });

function shown(error) {
  try {
    return String(error);
  } catch {
    return "an error";
  }
}

export const run = {
  run(program, options) {
    const { path } = program;
    if (!path.endsWith(".js")) throw [problem(`${path}: QuickJS runs .js`, path)];
    const code = decode(program.contents);
    try {
      new Function(code); // parses it
    } catch (error) {
      throw [problem(String(error), path)];
    }
    const said = { output: "", problems: "" };
    const to =
      (where) =>
      (...values) => {
        said[where] += `${values.map(String).join(" ")}\n`;
        if (said[where].length > MOST) throw new RangeError(`it has written more than ${MOST} characters`);
      };
    const [output, problems] = [to("output"), to("problems")];
    globalThis.console = { log: output, info: output, debug: output, warn: problems, error: problems };
    globalThis.scriptArgs = options.arguments;
    try {
      globalThis.eval(code);
      return { code: 0, ...said };
    } catch (error) {
      return { code: 1, output: said.output, problems: `${said.problems}${shown(error)}\n` };
    }
  },
};
