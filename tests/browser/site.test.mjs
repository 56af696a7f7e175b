// The site that `make run` serves, as its readers see it: in the system's Chromium, without a display.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
// How soon Ctrl-C ends a server, by its promise; and how long any other step may take on a busy machine.
const PROMISED = 2_000;
const PATIENCE = 60_000;

let checkout, site, browser;

before(
  async () => {
    checkout = await copy();
    site = await serve();
    const executablePath = process.env.PATH.split(":").map((folder) => join(folder, "chromium")).find(existsSync);
    browser = await chromium.launch({ executablePath, timeout: PATIENCE });
  },
  { timeout: PATIENCE },
);

after(async () => {
  await browser?.close();
  site?.server.kill("SIGKILL");
  await rm(checkout, { recursive: true });
});

/** The example in a folder of its own, as the tests in Python copy it. */
async function copy() {
  const folder = await mkdtemp(join(tmpdir(), "loop-site-"));
  execFileSync(join(ROOT, ".venv", "bin", "python"), ["-m", "tests.checkout", "site", folder], { cwd: ROOT });
  return folder;
}

/** What `make run` does: the server, once it has printed its URL. */
async function serve() {
  const server = spawn(join(ROOT, ".venv", "bin", "loop"), ["run", "examples/site"], {
    cwd: checkout,
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: server.stdout })) {
    const url = /http:\S+/.exec(line)?.[0];
    if (url) return { server, url };
  }
  throw new Error("the server ended without printing a URL");
}

/** A page in a browser that knows nothing yet, and what it complains of meanwhile. */
async function open(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure().errorText}`));
  return { page, complaints };
}

const colour = (element) => element.evaluate((it) => getComputedStyle(it).color);

test("a page has its navigation and its code in colours", { timeout: PATIENCE }, async (t) => {
  const { page, complaints } = await open(t);
  await page.goto(site.url);
  const pages = page.getByRole("navigation", { name: "Pages" }).filter({ visible: true });
  await pages.getByRole("link", { name: "Hosting components" }).click();
  await page.waitForURL("**/hosting");
  assert.equal(await page.getByRole("heading", { level: 1, name: "Hosting components" }).count(), 1);
  assert.equal(await pages.locator("[aria-current=page]").innerText(), "Hosting components");

  const code = page.locator("pre[data-language=python]").first();
  assert.notEqual(await colour(code.locator(".word").first()), await colour(code));

  const contents = page.getByRole("navigation", { name: "On this page" }).getByRole("link").last();
  await contents.click();
  const heading = page.locator(new URL(page.url()).hash);
  assert.equal(await heading.evaluate((it) => it.getBoundingClientRect().top < innerHeight), true);
  assert.deepEqual(complaints, []);
});

test("a search through the form leads to the section that it found", { timeout: PATIENCE }, async (t) => {
  const { page, complaints } = await open(t);
  await page.goto(site.url);
  const field = page.getByRole("searchbox");
  await field.fill("cancellation");
  await field.press("Enter");
  await page.waitForURL("**/search?q=cancellation");
  assert.match(await page.getByRole("status").innerText(), /^\d+ pages? for “cancellation”$/);
  assert.equal(await field.inputValue(), "cancellation");
  const found = page.locator(".results a[href^='/hosting']").first();
  const heading = (await found.innerText()).split(" › ").at(-1);
  await found.click();
  await page.waitForURL("**/hosting*");
  assert.equal(await page.getByRole("heading", { name: heading }).first().isVisible(), true);
  assert.deepEqual(complaints, []);
});

test("an address without a page is a 404 that leads on", { timeout: PATIENCE }, async (t) => {
  const { page, complaints } = await open(t);
  const answer = await page.goto(`${site.url}hostin`);
  assert.equal(answer.status(), 404);
  assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "There is no such page");
  // The browser itself says so of every page that is none.
  assert.deepEqual(complaints.splice(0), ["Failed to load resource: the server responded with a status of 404 (Not Found)"]);
  await page.getByRole("main").getByRole("link", { name: "Hosting components" }).click();
  await page.waitForURL("**/hosting");
  assert.deepEqual(complaints, []);
});

test("Ctrl-C ends the server while a browser keeps its connection", { timeout: PATIENCE }, async (t) => {
  const { server, url } = await serve();
  t.after(() => server.kill("SIGKILL"));
  const { page } = await open(t);
  await page.goto(url);
  assert.notEqual(await established(new URL(url).port), 0, "the browser keeps no connection");

  const began = performance.now();
  server.kill("SIGINT");
  const [code, signal] = await once(server, "exit");
  const took = Math.round(performance.now() - began);
  t.diagnostic(`ended ${took} ms after Ctrl-C`);
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
  assert.ok(took <= PROMISED, `Ctrl-C ends a server within ${PROMISED} ms, and this took ${took} ms`);
});

/** How many connections the server at a port has. */
async function established(port) {
  const local = `:${Number(port).toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = (await readFile("/proc/net/tcp", "utf8")).split("\n").map((line) => line.trim().split(/\s+/));
  return lines.filter(([, address, , state]) => address?.endsWith(local) && state === "01").length;
}
