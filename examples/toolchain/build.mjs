// Builds build/sucrase.wasm: sucrase, the bundler in guest/, and QuickJS to run them, as a WebAssembly component.

import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { componentize } from "componentize-qjs";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const wit = join(here, "..", "..", "python/loop_kit/capabilities/toolchain/wit");
const scratch = await mkdtemp(join(tmpdir(), "toolchain-"));
try {
  await cp(join(here, "wit"), join(scratch, "wit"), { recursive: true });
  await cp(wit, join(scratch, "wit/deps/toolchain"), { recursive: true });
  const made = await build({
    absWorkingDir: here,
    entryPoints: ["guest/tool.js"],
    bundle: true,
    format: "esm",
    target: "es2023",
    write: false,
    minifySyntax: true,
  });
  const { component } = await componentize({
    witPath: join(scratch, "wit"),
    jsSource: made.outputFiles[0].text,
    sync: true,
    stubWasi: true,
    optSize: true,
  });
  await mkdir(join(here, "build"), { recursive: true });
  await writeFile(join(here, "build/sucrase.wasm"), component);
  console.log(`build/sucrase.wasm: ${(component.length / 1e6).toFixed(1)} MB`);
} finally {
  await rm(scratch, { recursive: true });
}
