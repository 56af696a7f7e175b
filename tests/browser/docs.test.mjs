// The site of the docs as its readers see it: in the system's Chromium, without a display.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import axe from "axe-core";

import { PATIENCE, ROOT, launch } from "./dev-support.mjs";

const FOLDER = join(ROOT, "web", "docs", "build", "site");
const LOOP = join(ROOT, ".venv", "bin", "loop");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

let browser, server, url;

before(
  async () => {
    execFileSync(LOOP, ["task", "docs:build"], { cwd: ROOT, stdio: "pipe" });
    server = spawn(LOOP, ["serve", FOLDER, "--addr", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: server.stdout })) {
      url = /http:\S+/.exec(line)?.[0];
      if (url) break;
    }
    browser = await launch();
  },
  { timeout: 2 * PATIENCE },
);

after(async () => {
  await browser?.close();
  server?.kill("SIGKILL");
});

/** A page in a browser that knows nothing yet; what it complains of fails the test. */
async function open(t, path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  // what a page that is left has not loaded yet is given up
  page.on("requestfailed", (request) => {
    const why = request.failure().errorText;
    if (why !== "net::ERR_ABORTED") complaints.push(`${request.url()}: ${why}`);
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, []);
  });
  await page.goto(path.includes(":") ? path : url + path);
  return page;
}

async function problems(page) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate((runOnly) => window.axe.run(document, { runOnly }), RULES);
  return violations.flatMap((it) => it.nodes.map((one) => `${it.id}: ${one.html.slice(0, 160)} ${one.any.map((why) => why.message).join("; ")}`));
}

const focused = (page) => page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.tagName);
const scheme = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

for (const [colorScheme, width, paths] of [
  ["light", 1280, ["", "tasks.html", "dev-page.html", "wit/loop-toolchain.html", "adr/"]],
  ["dark", 1280, ["", "tasks.html", "wit/loop-toolchain.html"]],
  ["light", 390, ["", "tasks.html"]],
])
  test(`pages can be read by anyone, in ${colorScheme} and ${width} pixels`, { timeout: 2 * PATIENCE }, async (t) => {
    // what is added to the page to look at it may run
    const page = await open(t, "", { colorScheme, bypassCSP: true, viewport: { width, height: 820 } });
    for (const path of paths) {
      await page.goto(url + path);
      assert.deepEqual(await problems(page), [], path);
    }
    await page.keyboard.press("/");
    await page.keyboard.type("grant");
    await page.getByRole("option").first().waitFor();
    assert.deepEqual(await problems(page), [], "the search");
  });

test("no page is wider than a small screen", { timeout: PATIENCE }, async (t) => {
  const page = await open(t, "", { viewport: { width: 360, height: 740 } });
  for (const path of ["", "manifest.html", "cli.html", "transports.html", "changelog.html", "capabilities/netx.html"]) {
    await page.goto(url + path);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, path);
  }
});

test("keys are enough", { timeout: PATIENCE }, async (t) => {
  const page = await open(t, "hosting.html");
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "Skip to the text");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");

  await page.keyboard.press("/");
  const field = page.getByRole("combobox", { name: "Search the docs" });
  await field.waitFor();
  await page.keyboard.type("cancellation");
  const options = page.getByRole("option");
  await options.nth(1).waitFor();
  assert.equal(await page.locator("[aria-selected=true]").count(), 1);
  await page.keyboard.press("ArrowDown");
  assert.equal(await options.nth(1).getAttribute("aria-selected"), "true");
  assert.equal(await field.getAttribute("aria-activedescendant"), await options.nth(1).getAttribute("id"));
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  assert.equal(await options.last().getAttribute("aria-selected"), "true");
  await page.keyboard.press("Escape");
  await field.waitFor({ state: "hidden" });

  await page.keyboard.press("Control+k");
  await page.keyboard.type("compile cach"); // the beginning of a word is enough, and the old words are gone
  await options.first().waitFor();
  const href = await options.first().getAttribute("href");
  await page.keyboard.press("Enter");
  await page.waitForURL(`**/${href}`);
  assert.equal(await page.getByRole("dialog").count(), 0);
});

test("a search finds the section by its heading, on pages in folders too", { timeout: PATIENCE }, async (t) => {
  const page = await open(t, "adr/018-page.html");
  await page.getByRole("button", { name: "Search" }).click();
  await page.keyboard.type("remote providers");
  const found = page.getByRole("option").filter({ hasText: "The manifest" }).first();
  await found.click();
  await page.waitForURL("**/manifest.html#remote-providers");
  assert.equal(await page.locator("#remote-providers").evaluate((it) => it.getBoundingClientRect().top >= 58), true, "it lies below the bar");
  await page.keyboard.press("/");
  await page.keyboard.type("xyzzyx");
  await page.getByText("0 sections").waitFor();
});

test("light and dark are chosen, and kept", { timeout: PATIENCE }, async (t) => {
  const page = await open(t, "hosting.html", { colorScheme: "light" });
  const light = await scheme(page);
  await page.getByRole("button", { name: "Light or dark" }).click();
  const dark = await scheme(page);
  assert.notEqual(dark, light);
  await page.goto(`${url}values.html`);
  assert.equal(await scheme(page), dark);
  await page.getByRole("button", { name: "Light or dark" }).click();
  assert.equal(await scheme(page), light);
});

test("of commands, those that are typed are copied", { timeout: PATIENCE }, async (t) => {
  const page = await open(t, "tasks.html", { permissions: ["clipboard-read", "clipboard-write"] });
  const block = page.locator("figure[data-language=console]").first();
  await block.hover();
  await block.getByRole("button", { name: "Copy" }).click();
  await block.getByRole("button", { name: "Copied" }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(copied, /^export LOOP_TASK_CACHE=.*\nloop task check\n/);
  assert.doesNotMatch(copied, /\$ |ran goods/);
});

test("on a small screen the list of pages opens", { timeout: PATIENCE }, async (t) => {
  const page = await open(t, "hosting.html", { viewport: { width: 390, height: 800 } });
  const link = page.getByRole("navigation", { name: "Pages", exact: true }).getByRole("link", { name: "Values", exact: true });
  assert.equal(await link.isVisible(), false);
  await page.getByText("All pages").click();
  await link.click();
  await page.waitForURL("**/values.html");
});

test("without scripts everything is there but the search", { timeout: PATIENCE }, async (t) => {
  const page = await open(t, "hosting.html", { javaScriptEnabled: false });
  assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "Hosting components");
  assert.equal(await page.getByRole("button").filter({ visible: true }).count(), 0);
  await page.getByRole("navigation", { name: "Pages", exact: true }).getByRole("link", { name: "Values", exact: true }).click();
  await page.waitForURL("**/values.html");
});

test("it is read from a folder as well, search and all", { timeout: PATIENCE }, async (t) => {
  const page = await open(t, pathToFileURL(join(FOLDER, "adr", "018-page.html")).href);
  assert.notEqual(await page.locator(".top").evaluate((it) => getComputedStyle(it).borderBottomWidth), "0px");
  await page.keyboard.press("/");
  await page.keyboard.type("cancellation");
  await page.getByRole("option").first().click();
  await page.waitForURL("file:**.html#*");
});

test("an address without a page leads on, wherever it is", { timeout: PATIENCE }, async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const answer = await page.goto(`${url}a/b/none.html`);
  assert.equal(answer.status(), 404);
  assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "There is no such page");
  await page.getByRole("link", { name: "All pages" }).click();
  await page.waitForURL(url + "index.html");
});
