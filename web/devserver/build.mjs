// Bundles the page into python/loop_kit/dev/page/files, which is committed and part of the wheel.
//
//     node web/devserver/build.mjs           writes it
//     node web/devserver/build.mjs --check   exits with 1 where it is not what its sources make

import { copyFile, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const SOURCE = fileURLToPath(new URL("src", import.meta.url));
const OUTPUT = fileURLToPath(new URL("../../python/loop_kit/dev/page/files", import.meta.url));
// The script before it is compressed: it is sent as it is, from this machine to itself.
const MOST = 100_000;

async function make(folder) {
  await build({
    entryPoints: [join(SOURCE, "page.ts"), join(SOURCE, "page.css")],
    outdir: folder,
    bundle: true,
    minify: true,
    format: "iife",
    target: ["chrome125", "firefox128", "safari17.5"],
    legalComments: "none",
    logLevel: "warning",
  });
  for (const name of ["index.html", "icon.svg"]) await copyFile(join(SOURCE, name), join(folder, name));
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
  const made = await contents(folder);
  if (made["page.js"].length > MOST) throw new Error(`page.js has ${made["page.js"].length} bytes, and may have ${MOST}`);
  if (!check) {
    for (const name of Object.keys(made)) await copyFile(join(folder, name), join(OUTPUT, name));
    for (const [name, text] of Object.entries(made)) console.log(`${name}: ${Buffer.byteLength(text)} bytes`);
  } else if (JSON.stringify(made) !== JSON.stringify(await contents(OUTPUT))) {
    console.error("web/devserver: the page in python/loop_kit/dev/page/files is not of these sources; node web/devserver/build.mjs makes it");
    process.exitCode = 1;
  }
} finally {
  await rm(folder, { recursive: true });
}
