// A component with commands for the tests, good and bad ones.

const about = (name, summary = "", usage = "") => ({ name, summary, usage });

export const command = {
  commands: async () => [
    about("echo", "Say what it is given.\nNothing else.", "[WORD]..."),
    about("fail"),
    about("refuse", "\x1b[2J never", "\x07"),
    ...["hang", "trap", "deep", "flood", "escape", "undeclared", "tree"].map((name) => about(name)),
  ],
  run: async (name, args) => {
    switch (name) {
      case "echo":
        return [0, `GREETING ${args.length}: ${args.join("|")}`];
      case "tree":
        return [0, "GREETING a tree of its own\n"];
      case "fail":
        return [259, "it did not work\n"];
      case "hang":
        for (;;);
      case "trap":
        return "which is no tuple";
      case "deep":
        return deep(1);
      case "flood":
        return [0, "é".repeat(5_000_000)];
      case "escape":
        return [0, "\x1b]0;owned\x07red\tand\nblue\r\u009b"];
    }
    throw `${name} is not for today`;
  },
};

function deep(at) {
  const held = new Uint8Array(16 << 20).fill(at);
  return deep(held[0]) + held[1];
}
