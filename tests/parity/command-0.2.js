// A command of WASI 0.2. Its first argument says what it does with the rest.

import environment from "wasi:cli/environment@0.2.12";
import exit from "wasi:cli/exit@0.2.12";
import stderr from "wasi:cli/stderr@0.2.12";
import stdin from "wasi:cli/stdin@0.2.12";
import stdout from "wasi:cli/stdout@0.2.12";
import monotonic from "wasi:clocks/monotonic-clock@0.2.12";
import wall from "wasi:clocks/wall-clock@0.2.12";
import preopens from "wasi:filesystem/preopens@0.2.12";
import random from "wasi:random/random@0.2.12";

const CHUNK = 4096; // what WASI takes in one blocking write

const encode = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0)); // ASCII is enough here

function write(output, bytes) {
  for (let at = 0; at < bytes.length; at += CHUNK) output.blockingWriteAndFlush(bytes.slice(at, at + CHUNK));
}

const print = (value) => write(stdout.getStdout(), encode(`${JSON.stringify(value)}\n`));

function* chunks(input) {
  try {
    for (;;) yield input.blockingRead(65536);
  } catch (error) {
    if (error.payload?.tag !== "closed") throw error;
  }
}

/** Prints what the action returns, or the error code that it is refused with. */
function attempt(action) {
  try {
    print(action(preopens.getDirectories()[0][0]));
  } catch (error) {
    print({ refused: error.payload?.tag ?? error.payload });
  }
}

const does = {
  args: () => print(environment.getArguments()),
  env: () => print(environment.getEnvironment()),
  stderr: () => write(stderr.getStderr(), encode("to stderr\n")),
  cat: () => {
    for (const chunk of chunks(stdin.getStdin())) write(stdout.getStdout(), chunk);
  },
  clock: () => print([wall.now().seconds > 1_600_000_000, monotonic.now() <= monotonic.now()]),
  random: () => print([random.getRandomBytes(16).length, random.getRandomU64() !== random.getRandomU64()]),
  dirs: () => print(preopens.getDirectories().map(([, path]) => path)),
  read: (path) => attempt((dir) => String.fromCharCode(...dir.openAt({}, path, {}, { read: true }).read(100, 0)[0])),
  write: (path) => attempt((dir) => dir.openAt({}, path, { create: true }, { write: true }).write(encode("new"), 0)),
  fail: () => {
    throw undefined; // the error of a `result` without a value
  },
  exit: (tag) => exit.exit({ tag }),
  code: (code) => exit.exitWithCode(Number(code)),
  trap: () => {
    print("before");
    throw new Error("on purpose");
  },
};

export const run = {
  run() {
    const [, what, ...rest] = environment.getArguments();
    does[what](...rest);
  },
};
