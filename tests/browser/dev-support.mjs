// The dev server's page of a made-up workspace, in the system's Chromium, for the tests beside.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
// How long any step may take on a busy machine.
export const PATIENCE = 60_000;

export function launch() {
  const executablePath = process.env.PATH.split(":").map((folder) => join(folder, "chromium")).find(existsSync);
  return chromium.launch({ executablePath, timeout: PATIENCE });
}

/** What closes the pages of each test. */
const pages = new WeakMap();

/** A process that serves the page, as `tests/devserver/serve.py` says. */
export class Workspace {
  static async start(...args) {
    const process_ = spawn(join(ROOT, ".venv", "bin", "python"), ["-m", "tests.devserver.serve", ...args], {
      cwd: ROOT,
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
    const { value } = await lines.next();
    if (!value) throw new Error("the workspace ended without printing a URL");
    return new Workspace(process_, lines, value);
  }

  constructor(process_, lines, url) {
    Object.assign(this, { process: process_, lines, url, address: new URL(url).host, origin: new URL(url).origin });
  }

  /** Has something happen, and returns what was asked for until then. */
  async tell(...line) {
    this.process.stdin.write(`${JSON.stringify(line)}\n`);
    return JSON.parse((await this.lines.next()).value);
  }

  /** One for a test alone, which changes it. */
  static async own(t, ...args) {
    const workspace = await Workspace.start(...args);
    t.after(async () => {
      for (const close of pages.get(t) ?? []) await close(); // before what they look at goes
      await workspace.kill();
    });
    return workspace;
  }

  async kill() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill("SIGKILL");
    await once(this.process, "exit");
  }
}

/** A page in a browser that knows nothing yet. What it complains of fails the test. */
export async function open(t, browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 820 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  pages.set(t, [...(pages.get(t) ?? []), () => context.close()]);
  t.after(async () => {
    await context.close();
    if (complaints.length) throw new Error(`the page complained: ${complaints.join("; ")}`);
  });
  if (url) {
    await page.goto(url);
    await page.locator("[data-node]").first().waitFor();
  }
  return { page, complaints, view: (name) => page.getByRole("navigation", { name: "Views" }).getByRole("button", { name: new RegExp(`^${name}`) }) };
}
