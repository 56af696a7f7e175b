// Bundles the page into python/loop_kit/dev/page/files, and what pages of components load in `loop dev` into
// python/loop_kit/dev/live/files; both are committed and part of the wheel.
//
//     node web/devserver/build.mjs           writes it
//     node web/devserver/build.mjs --check   exits with 1 where it is not what its sources make

import { copyFile, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const SOURCE = fileURLToPath(new URL("src", import.meta.url));
const OUTPUTS = ["page", "live"].map((name) => [name, fileURLToPath(new URL(`../../python/loop_kit/dev/${name}/files`, import.meta.url))]);
// The script before it is compressed: it is sent as it is, from this machine to itself.
const MOST = 100_000;

async function bundle(names, folder) {
  await build({
    entryPoints: names.map((name) => join(SOURCE, name)),
    outdir: folder,
    bundle: true,
    minify: true,
    format: "iife",
    target: ["chrome125", "firefox128", "safari17.5"],
    legalComments: "none",
    logLevel: "warning",
  });
}

async function make(folder) {
  await bundle(["page.ts", "page.css"], join(folder, "page"));
  for (const name of ["index.html", "icon.svg"]) await copyFile(join(SOURCE, name), join(folder, "page", name));
  await bundle(["live.ts"], join(folder, "live"));
}

async function contents(folder) {
  const files = {};
  for (const name of (await readdir(folder)).sort()) files[name] = await readFile(join(folder, name), "utf8");
  return files;
}

const check = process.argv.includes("--check");
const folder = await mkdtemp(join(tmpdir(), "loop-page-"));
try {
  await make(folder);
  for (const [what, output] of OUTPUTS) {
    const made = await contents(join(folder, what));
    for (const [name, text] of Object.entries(made))
      if (text.length > MOST) throw new Error(`${name} has ${text.length} bytes, and may have ${MOST}`);
    if (!check) {
      for (const name of Object.keys(made)) await copyFile(join(folder, what, name), join(output, name));
      for (const [name, text] of Object.entries(made)) console.log(`${name}: ${Buffer.byteLength(text)} bytes`);
    } else if (JSON.stringify(made) !== JSON.stringify(await contents(output))) {
      console.error(`web/devserver: what is in ${output} is not of these sources; node web/devserver/build.mjs makes it`);
      process.exitCode = 1;
    }
  }
} finally {
  await rm(folder, { recursive: true });
}
