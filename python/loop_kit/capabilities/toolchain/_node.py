"""`loop:toolchain/run` by Node.js, where that is installed."""

from __future__ import annotations

import json
import shutil
from typing import Any

from loop_kit._types import Err
from loop_kit.capabilities.toolchain._program import SECONDS, problem, ran
from loop_kit.provider import provider

__all__ = ["Node"]

_MOST_BYTES = 16 << 20
"""Of a program, and of all that it writes."""

# The script is given nothing that is made outside of its own context, through which it could reach Node.js.
_RUNNER = """
const vm = require("node:vm");
const { path, code, args, most } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const end = (ended) => process.stdout.write(JSON.stringify(ended));
let script;
try {
  script = new vm.Script(code, { filename: path });
} catch (error) {
  const line = /:(\\d+)\\n/.exec(String(error.stack));
  end({ message: String(error), line: line === null ? 0 : Number(line[1]) });
  return;
}
const context = vm.createContext(Object.create(null));
const told = vm.runInContext(`(args, most) => {
  const said = { output: "", problems: "" };
  const to = (where) => (...values) => {
    said[where] += values.map(String).join(" ") + "\\\\n";
    if (said[where].length > most) throw new RangeError("it has written more than " + most + " characters");
  };
  const [output, problems] = [to("output"), to("problems")];
  globalThis.console = { log: output, info: output, debug: output, warn: problems, error: problems };
  globalThis.scriptArgs = JSON.parse(args);
  return said;
}`, context)(JSON.stringify(args), most);
const shown = vm.runInContext("(error) => { try { return String(error); } catch { return 'an error'; } }", context);
let failed = false;
try {
  script.runInContext(context);
} catch (error) {
  failed = true;
  told.problems += shown(error) + "\\n";
}
end({ code: failed ? 1 : 0, output: told.output, problems: told.problems });
"""


@provider("loop:toolchain/run@0.1.0", wit="wit")
class Node:
    """Serves `loop:toolchain`: `run`, of scripts.

    A script sees the language alone. That is no protection from one that means harm: a component runs those.
    """

    async def run(self, program: Any, options: Any) -> Any:
        """Runs a script."""
        if not program.path.endswith(".js"):
            raise Err([problem(f"{program.path}: node runs .js", program.path)])
        if len(program.contents) > _MOST_BYTES:
            raise Err([problem(f"more than {_MOST_BYTES} bytes", program.path)])
        node = shutil.which("node")
        if node is None:
            raise Err([problem("there is no program node in PATH: install Node.js 20 or newer")])
        try:
            code = program.contents.decode()
        except UnicodeDecodeError as error:
            raise Err([problem(f"it is no UTF-8: {error}", program.path)]) from None
        given = {"path": program.path, "code": code, "args": list(options.arguments), "most": _MOST_BYTES}
        command = [node, "-e", f"(() => {{{_RUNNER}}})()"]
        try:
            said, _, ended = await ran(command, given=json.dumps(given).encode())
        except TimeoutError:
            raise Err([problem(f"it was not done after {SECONDS:.0f} seconds")]) from None
        try:
            told = json.loads(said)
        except ValueError:
            raise Err([problem(f"node has ended with {ended}", program.path)]) from None
        if "message" in told:
            raise Err([problem(told["message"], program.path, told["line"])])
        return {"code": told["code"], "output": told["output"], "problems": told["problems"]}
