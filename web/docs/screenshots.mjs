// Takes the pictures of docs/docs-site.md, in light and in dark.
//
//     tools/system_packages chromium pngquant && .venv/bin/loop task docs:build && node web/docs/screenshots.mjs
//
// Inter and JetBrains Mono are used where the system has them (Debian: fonts-inter, fonts-jetbrains-mono).

import { execFileSync } from "node:child_process";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { ROOT, launch } from "../../tests/browser/dev-support.mjs";

const SITE = join(ROOT, "web", "docs", "build", "site");
const OUTPUT = join(ROOT, "docs", "docs-site");
const MOST = 120_000;

const browser = await launch();
await mkdir(OUTPUT, { recursive: true });

async function picture(name, colorScheme, file, steps = async () => {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 760 }, deviceScaleFactor: 1.5, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  await page.goto(pathToFileURL(join(SITE, file)).href);
  await steps(page);
  const path = join(OUTPUT, `${name}-${colorScheme}.png`);
  await page.screenshot({ path });
  await context.close();
  execFileSync("pngquant", ["--force", "--strip", "--speed", "1", "--quality", "60-95", "--output", path, path]);
  const { size } = await stat(path);
  console.log(`${path}: ${size} bytes`);
  if (size > MOST) process.exitCode = 1;
}

try {
  await picture("home", "light", "index.html");
  await picture("search", "dark", "process.html", async (page) => {
    await page.keyboard.press("/");
    await page.keyboard.type("grant roots");
    await page.getByRole("option").nth(4).waitFor();
  });
} finally {
  await browser.close();
}
