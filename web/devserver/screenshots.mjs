// Takes the pictures of docs/dev-page.md: of a made-up workspace, in light and in dark.
//
//     tools/system_packages chromium pngquant && node web/devserver/screenshots.mjs
//
// Inter and JetBrains Mono are used where the system has them (Debian: fonts-inter, fonts-jetbrains-mono).

import { execFileSync } from "node:child_process";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";

import { ROOT, Workspace, launch } from "../../tests/browser/dev-support.mjs";

const OUTPUT = join(ROOT, "docs", "dev-page");
const MOST = 200_000;

const browser = await launch();
const shop = await Workspace.start("--live");
await mkdir(OUTPUT, { recursive: true });

async function pictures(colorScheme, names) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 760 }, deviceScaleFactor: 1.5, colorScheme });
  const page = await context.newPage();
  const view = (name) => page.getByRole("navigation", { name: "Views" }).getByRole("button", { name: new RegExp(`^${name}`) }).click();
  await page.goto(shop.url);
  // rates are of some seconds
  await page.waitForTimeout(6_000);
  const steps = {
    graph: async () => {},
    member: async () => {
      await page.locator('[data-node="catalog"]').click();
      await page.mouse.move(640, 740);
    },
    logs: async () => {
      await view("Logs");
      await page.locator(".row.level-warn").last().click();
    },
    traces: async () => {
      await view("Traces");
      await page.locator("li.failed").first().click();
      await page.locator(".span").nth(7).click();
    },
    latency: async () => {
      await view("Latency");
      await page.locator(".bars li").nth(2).scrollIntoViewIfNeeded();
    },
    metrics: async () => {
      await view("Metrics");
      await page.getByRole("heading", { name: "Processes" }).evaluate((it) => it.scrollIntoView({ block: "start" }));
      await page.getByRole("region", { name: "Metrics" }).evaluate((it) => it.scrollBy(0, -24));
    },
    grants: () => view("Grants"),
    swap: async () => {
      await view("Graph");
      await page.locator('[data-node="catalog"]').click();
      await page.getByRole("button", { name: "Swap…" }).click();
      await page.getByRole("combobox", { name: "use" }).fill("remote:quic://catalog.lan:7000");
      await page.keyboard.press("Enter");
      await page.getByText("2 changes").waitFor();
    },
    build: async () => {
      await view("Graph");
      await shop.tell("fail", "checkout");
      await page.getByRole("alertdialog").waitFor();
    },
  };
  for (const name of names) {
    await steps[name]();
    await page.waitForTimeout(400);
    const path = join(OUTPUT, `${name}-${colorScheme}.png`);
    await page.screenshot({ path });
    execFileSync("pngquant", ["--force", "--strip", "--speed", "1", "--quality", "60-95", "--output", path, path]);
    const { size } = await stat(path);
    console.log(`${path}: ${size} bytes`);
    if (size > MOST) process.exitCode = 1;
  }
  await context.close();
}

try {
  await pictures("light", ["graph", "member", "traces", "metrics", "grants"]);
  await pictures("dark", ["graph", "logs", "latency", "swap"]);
  await pictures("light", ["build"]);
} finally {
  await browser.close();
  await shop.kill();
}
