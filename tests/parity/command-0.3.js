// A command of WASI 0.3. Its first argument says what it does with the rest.

import environment from "wasi:cli/environment@0.3.0";
import exit from "wasi:cli/exit@0.3.0";
import stderr from "wasi:cli/stderr@0.3.0";
import stdin from "wasi:cli/stdin@0.3.0";
import stdout from "wasi:cli/stdout@0.3.0";
import monotonic from "wasi:clocks/monotonic-clock@0.3.0";
import system from "wasi:clocks/system-clock@0.3.0";
import preopens from "wasi:filesystem/preopens@0.3.0";
import random from "wasi:random/random@0.3.0";

const encode = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0)); // ASCII is enough here

async function write(output, pieces) {
  const { readable, completion } = wit.Stream.from(pieces, wit.Stream.U8);
  const written = output.writeViaStream(readable);
  await completion;
  await written.read();
}

const print = (value) => write(stdout, [encode(`${JSON.stringify(value)}\n`)]);

const does = {
  args: () => print(environment.getArguments()),
  env: () => print(environment.getEnvironment()),
  stderr: () => write(stderr, [encode("to stderr\n")]),
  cat: () => write(stdout, stdin.readViaStream()[0]),
  clock: () => print([system.now().seconds > 1_600_000_000, monotonic.now() <= monotonic.now()]),
  random: () => print([random.getRandomBytes(16).length, random.getRandomU64() !== random.getRandomU64()]),
  dirs: () => print(preopens.getDirectories().map(([, path]) => path)),
  fail: () => {
    throw undefined; // the error of a `result` without a value
  },
  exit: (tag) => exit.exit({ tag }),
  code: (code) => exit.exitWithCode(Number(code)),
  trap: async () => {
    await print("before");
    throw new Error("on purpose");
  },
};

export const run = {
  async run() {
    const [, what, ...rest] = environment.getArguments();
    await does[what](...rest);
  },
};
