// Builds build/site.wasm: one bundle of JavaScript, and QuickJS to run it, as a WebAssembly component.

import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { componentize } from "componentize-qjs";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const repository = join(here, "..", "..");

// Where the packages live that wit/world.wit names. They are gathered for each build, so that no copy can go stale.
const packages = [
  "python/loop_kit/capabilities/core/wit",
  "python/loop_kit/capabilities/fsx/wit",
  "wit/deps/wasi-0.3",
];

async function gatherWit(folder) {
  await cp(join(here, "wit"), folder, { recursive: true });
  await mkdir(join(folder, "deps"), { recursive: true });
  for (const from of packages.map((path) => join(repository, path))) {
    for (const file of await readdir(from)) await cp(join(from, file), join(folder, "deps", file));
  }
}

const bundle = {
  absWorkingDir: here,
  entryPoints: ["src/component.js"],
  format: "esm",
  target: "es2023",
  external: ["loop:*", "wasi:*"],
  loader: { ".css": "text" },
  // The code is compiled while building, so only the time of this step would be saved by more.
  minifySyntax: true,
};

// For `loop dev`, which gives the bundle to an engine that it builds once.
export const dev = { bundle, wit: gatherWit };

async function buildAll() {
  const scratch = await mkdtemp(join(tmpdir(), "site-"));
  try {
    await gatherWit(join(scratch, "wit"));
    const made = await build({ ...bundle, bundle: true, write: false });
    const { component } = await componentize({
      witPath: join(scratch, "wit"),
      jsSource: made.outputFiles[0].text,
    });
    await mkdir(join(here, "build"), { recursive: true });
    await writeFile(join(here, "build", "site.wasm"), component);
    console.log(`build/site.wasm: ${(component.length / 1e6).toFixed(1)} MB`);
  } finally {
    await rm(scratch, { recursive: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildAll();
