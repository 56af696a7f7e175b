// The commands of a real workspace, in the palette of the page that `loop dev` serves: by keys alone.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import axe from "axe-core";

import { PATIENCE, ROOT, launch, open } from "./dev-support.mjs";

const BIN = join(ROOT, ".venv", "bin");
let browser, folder, host, url;

before(
  async () => {
    folder = await mkdtemp(join(tmpdir(), "loop-commands-"));
    execFileSync(join(BIN, "python"), ["-m", "tests.commands.workspaces", folder], { cwd: ROOT });
    const env = { ...process.env, XDG_STATE_HOME: join(folder, "state"), XDG_RUNTIME_DIR: join(folder, "run") };
    host = spawn(join(BIN, "loop"), ["dev", "--page", "127.0.0.1:0"], { cwd: folder, env, stdio: ["ignore", "pipe", "inherit"] });
    [browser, url] = await Promise.all([launch(), printed(host, /^page at (\S+)/)]);
  },
  { timeout: 2 * PATIENCE },
);

after(async () => {
  await browser?.close();
  if (host && host.exitCode === null) {
    host.kill("SIGTERM");
    await once(host, "exit");
  }
  await rm(folder, { recursive: true });
});

async function printed(process_, wanted) {
  for await (const line of createInterface({ input: process_.stdout })) {
    const found = wanted.exec(line);
    if (found) return found[1];
  }
  throw new Error("it ended without saying so");
}

/** Opens the palette, and chooses a command by its name. */
async function choose(page, name) {
  await page.keyboard.press("Control+k");
  const palette = page.getByRole("dialog", { name: "Command palette" });
  await page.keyboard.type(name);
  await palette.getByRole("option", { name: new RegExp(`^${name}`), selected: true }).waitFor();
  await page.keyboard.press("Enter");
  return palette;
}

test("a command of a component asks for its arguments, and its output comes in a dialog", { timeout: PATIENCE }, async (t) => {
  const { page } = await open(t, browser, url);
  const palette = await choose(page, "echo");
  await palette.getByText("Arguments of echo: [WORD].... Enter runs it.").waitFor();
  await page.keyboard.type('12 "red pears"');
  await page.keyboard.press("Enter");
  const output = page.getByRole("dialog", { name: "Output" });
  await output.getByText("said 2: 12|red pears").waitFor();
  await output.getByText("done").waitFor();
  await page.keyboard.press("Escape");
  await output.waitFor({ state: "hidden" });

  await choose(page, "fail"); // it takes none
  await output.getByText("exit code 3").waitFor();
  await output.getByText("it did not work").waitFor();
  await page.keyboard.press("Escape");

  await choose(page, "refuse"); // its usage is a control character, shown as such
  await page.keyboard.press("Enter");
  await page.getByText("refuse did not run: refuse is not for today").waitFor();
});

test("a command that ships with loop-kit, and one of loop's own", { timeout: PATIENCE }, async (t) => {
  const { page } = await open(t, browser, url, { bypassCSP: true });
  await choose(page, "tree");
  await page.keyboard.press("Enter"); // without arguments
  const output = page.getByRole("dialog", { name: "Output" });
  await output.getByText("└─ tools  component, ready").waitFor();
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
  assert.deepEqual(violations.map((it) => it.id), []);
  await page.keyboard.press("Escape");
  await choose(page, "ps");
  await output.getByText("MEMBER").waitFor();
  assert.match(await output.locator("pre").innerText(), /^shop up for [\s\S]*^tools +component +ready/m);
});

test("the page goes on while a command hangs, which is ended at its deadline", { timeout: PATIENCE }, async (t) => {
  const { page, view } = await open(t, browser, url);
  await choose(page, "hang");
  await page.getByText("hang runs…").waitFor();
  await view("Logs").click();
  await page.getByRole("log").waitFor();
  await page.getByRole("dialog", { name: "Output" }).getByText("exit code 124").waitFor();
});

test("what the manifest names from now on is in the palette", { timeout: PATIENCE }, async (t) => {
  const { page } = await open(t, browser, url);
  const manifest = join(folder, "loop.toml");
  await writeFile(manifest, `${await readFile(manifest, "utf8")}tree = "tools"\n`);
  const output = page.getByRole("dialog", { name: "Output" });
  for (;;) {
    const palette = await choose(page, "tree");
    const asked = palette.getByText("Arguments of tree"); // by the shipped one, not by that of tools
    await asked.or(output).first().waitFor();
    if (await asked.isVisible()) await page.keyboard.press("Enter");
    await output.waitFor();
    const said = await output.locator("pre").innerText();
    await page.keyboard.press("Escape");
    if (/said a tree of its own/.test(said)) break; // it takes the place of the shipped one
  }
});
