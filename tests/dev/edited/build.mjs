// Builds app.wasm of the workspace that is edited, which stands in a folder of its own.

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { componentize } from "componentize-qjs";
import { build } from "esbuild";

const bundle = { entryPoints: ["src/app.js"], format: "esm", target: "es2023", loader: { ".css": "text" } };
const options = { optSize: true };
export const dev = { bundle, wit: "wit", componentize: options };

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const made = await build({ ...bundle, bundle: true, write: false, external: ["loop:*", "wasi:*", "test:*"] });
  const { component } = await componentize({ ...options, witPath: "wit", jsSource: made.outputFiles[0].text });
  await writeFile("app.wasm", component);
}
