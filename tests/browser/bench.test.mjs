// The report of `loop bench`, as its readers see it: in the system's Chromium, from a file and without a network.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PATIENCE = 60_000;

let folder, browser, page;
const wrong = [];

before(
  async () => {
    folder = await mkdtemp(join(tmpdir(), "loop-report-"));
    const report = join(folder, "report.html");
    const results = join(ROOT, "docs", "transports.json");
    execFileSync(join(ROOT, ".venv", "bin", "loop"), ["bench", "report", results, "--html", report]);
    const executablePath = process.env.PATH.split(":").map((path) => join(path, "chromium")).find(existsSync);
    browser = await chromium.launch({ executablePath, timeout: PATIENCE });
    page = await browser.newPage();
    page.on("pageerror", (error) => wrong.push(error.message));
    page.on("console", (message) => wrong.push(message.text()));
    page.on("request", (request) => request.url() === pathToFileURL(report).href || wrong.push(request.url()));
    await page.goto(pathToFileURL(report).href);
  },
  { timeout: PATIENCE },
);

after(async () => {
  await browser?.close();
  await rm(folder, { recursive: true });
});

test("nothing else is asked for, and nothing is wrong", () => {
  assert.deepEqual(wrong, []);
});

test("every plot shows what it is of, within its frame", async () => {
  const plots = await page.locator("figure").evaluateAll((figures) =>
    figures.map((figure) => {
      const frame = figure.querySelector("svg").getBoundingClientRect();
      const shapes = [...figure.querySelectorAll("rect, circle, polyline")].map((shape) => shape.getBoundingClientRect());
      const texts = [...figure.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
      const inside = (box) =>
        box.left >= frame.left - 1 && box.right <= frame.right + 1 && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
      return {
        name: figure.querySelector("figcaption").textContent,
        visible: frame.width > 300 && frame.height > 30,
        shapes: shapes.filter((box) => box.width > 1).length,
        outside: [...shapes, ...texts].filter((box) => !inside(box)).length,
        legend: figure.querySelectorAll(".legend span").length,
      };
    }),
  );
  assert.ok(plots.length >= 6, `${plots.length} plots`);
  for (const plot of plots) {
    assert.ok(plot.visible, plot.name);
    assert.ok(plot.shapes > 3, `${plot.name}: ${plot.shapes} shapes`);
    assert.ok(plot.legend > 2, plot.name);
    assert.equal(plot.outside, 0, `${plot.name}: drawn outside`);
  }
});

test("a table has every measurement", async () => {
  const rows = await page.locator("table").last().locator("tbody tr").count();
  const listed = await page.locator("h2").allTextContents();
  assert.ok(rows > 40, `${rows} rows`);
  assert.ok(listed.includes("Each measurement"));
});
