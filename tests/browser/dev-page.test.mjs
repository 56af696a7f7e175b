// The dev server's page: every view, by mouse and by keyboard.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import axe from "axe-core";

import { PATIENCE, Workspace, launch, open } from "./dev-support.mjs";

let browser, shop;

before(
  async () => {
    [browser, shop] = await Promise.all([launch(), Workspace.start("--still")]);
    await shop.tell("past");
  },
  { timeout: PATIENCE },
);

after(async () => {
  await browser?.close();
  await shop?.kill();
});

const node = (page, name) => page.locator(`[data-node="${name}"]`);
/** Waits until so many are there; what comes over the wire comes when it comes. */
async function counts(locator, wanted) {
  while ((await locator.count()) !== wanted) await new Promise((resolve) => setTimeout(resolve, 20));
}
const layout = (page) => page.locator("[data-node]").evaluateAll((all) => all.map((it) => [it.dataset.node, it.getAttribute("transform")]));
const focused = (page) => page.evaluate(() => document.activeElement.dataset.node ?? document.activeElement.textContent);

test("the graph shows who is linked to whom, by what, and lies the same each time", { timeout: PATIENCE }, async (t) => {
  const { page } = await open(t, browser, shop.url);
  await counts(page.locator("[data-node]"), 12);
  const catalog = node(page, "catalog");
  assert.equal(await catalog.getAttribute("aria-label"), "catalog sidecar · unix d34db377, ready");
  assert.equal(await catalog.locator(".digest").textContent(), "d34db377");
  await counts(page.locator(".line"), 12);
  const before = await layout(page);
  await page.reload();
  await node(page, "catalog").waitFor();
  assert.deepEqual(await layout(page), before);
});

test("numbers beside the links are those of now", { timeout: PATIENCE }, async (t) => {
  const busy = await Workspace.own(t);
  const { page } = await open(t, browser, busy.url);
  // 410 calls a second are made of this link, each of 92 µs
  const label = page.locator(".label", { hasText: "92 µs" });
  await page.waitForFunction(() => [...document.querySelectorAll(".label")].some((it) => /^(3[5-9]\d|4\d\d)\/s · 92 µs$/.test(it.textContent)));
  await counts(label, 1);
});

test("keys go from node to node, open a member, and come back", { timeout: PATIENCE }, async (t) => {
  const { page } = await open(t, browser, shop.url);
  await page.locator('[data-node][tabindex="0"]').focus();
  assert.equal(await focused(page), "mailer");
  await page.keyboard.press("ArrowRight");
  assert.equal(await focused(page), "cache");
  await page.keyboard.press("Enter");
  const member = page.getByRole("complementary", { name: "Member" });
  await member.getByRole("heading", { name: "cache" }).waitFor();
  assert.match(await member.innerText(), /Serves\s+sha256:[0-9a-f]{8}/);
  assert.match(await member.innerText(), /Used by\s+mailer/);
  await member.getByRole("button", { name: "Close" }).focus();
  await page.keyboard.press("Escape");
  assert.equal(await member.isVisible(), false);
  assert.equal(await focused(page), "cache");
});

test("a member that changes is shown as it is then", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page } = await open(t, browser, shop.url);
  await shop.tell("change", ["images"], { phase: "failed", reason: "exit code 3", "crash-loop": true });
  await page.locator('[data-node="images"].phase-failed').waitFor();
  assert.match(await node(page, "images").getAttribute("aria-label"), /crash loop/);
  await page.getByRole("status").filter({ hasText: "1 member failed" }).waitFor();
  await node(page, "images").click();
  await page.locator(".reason", { hasText: "exit code 3" }).waitFor();
});

test("200 members are shown as kinds, found by a filter, and listed", { timeout: PATIENCE }, async (t) => {
  const fleet = await Workspace.own(t, "--still", "--more", "188");
  const { page } = await open(t, browser, fleet.url);
  await page.getByText("200 members", { exact: true }).first().waitFor();
  assert.ok((await page.locator("[data-node]").count()) < 20);
  await page.getByText("worker × 47").waitFor();
  await page.locator("[data-node]", { hasText: "worker × 47" }).focus();
  await page.keyboard.press("Enter");
  await node(page, "worker-46").waitFor();
  assert.equal(await focused(page), "worker-00");

  await page.getByRole("searchbox", { name: "Filter members" }).fill("worker-07");
  await page.getByText("1 of 200 match").waitFor();
  assert.deepEqual((await layout(page)).map(([name]) => name).sort(), ["log", "shard-07", "worker-07"]);

  await page.getByRole("searchbox", { name: "Filter members" }).fill("");
  await page.getByRole("button", { name: "List" }).click();
  await counts(page.locator("tbody tr"), 200);
  await page.getByRole("button", { name: "Name", exact: true }).click();
  assert.equal(await page.locator("tbody tr th").first().innerText(), "worker-46");
  assert.equal(await page.locator("thead th").first().getAttribute("aria-sort"), "descending");
});

test("logs are filtered by level, source and text, and one shows its fields", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page, view } = await open(t, browser, shop.url);
  await view("Logs").click();
  for (let n = 0; n < 5; n++) await shop.tell("line", ["debug", "catalog", "shelf", `shelf ${n}`], { hit: "no" });
  await shop.tell("line", ["error", "checkout", "pricing", "no quote"], { after: "2 s" });
  const shown = () => page.locator(".row .what").allInnerTexts();
  await page.getByText("no quote").waitFor();
  await page.getByRole("combobox", { name: "Least level" }).selectOption("error");
  await page.waitForFunction(() => document.querySelectorAll(".row").length === 1);
  assert.match((await shown())[0], /^no quote\s*after=2 s$/);
  await page.getByRole("combobox", { name: "Least level" }).selectOption("debug and above");
  await page.getByRole("combobox", { name: "Source" }).selectOption("catalog");
  await page.waitForFunction(() => document.querySelectorAll(".row").length === 5);
  await page.getByRole("searchbox", { name: "Filter text" }).fill("SHELF 3");
  await page.waitForFunction(() => document.querySelectorAll(".row").length === 1);
  await page.getByRole("log").focus();
  await page.keyboard.press("ArrowUp");
  const chosen = page.getByRole("region", { name: "Chosen line" });
  assert.match(await chosen.innerText(), /debug · catalog · shelf[\s\S]*shelf 3[\s\S]*hit\s+no/);
});

test("a log that is held stands still, and goes on with all that came", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page, view } = await open(t, browser, shop.url);
  await view("Logs").click();
  await shop.tell("line", ["info", "mailer", "", "before"]);
  await page.locator(".row", { hasText: "before" }).waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await shop.tell("line", ["info", "mailer", "", "while it was held"]);
  await page.getByText("1 more wait").waitFor();
  await counts(page.getByText("while it was held"), 0);
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByRole("button", { name: "Newest" }).click();
  await page.getByText("while it was held").waitFor();
});

test("a trace is a line of time across processes", { timeout: PATIENCE }, async (t) => {
  const { page, view } = await open(t, browser, shop.url);
  await view("Traces").click();
  const traces = page.getByRole("listbox", { name: "Traces" });
  await counts(traces.getByRole("option"), 24);
  await page.getByRole("checkbox", { name: "only failed" }).check();
  await counts(traces.getByRole("option"), 1);
  const spans = page.locator(".span");
  await counts(spans, 9);
  assert.deepEqual(await page.locator(".span .who").allInnerTexts(), ["storefront", "storefront", "catalog", "catalog", "storefront", "images", "images", "images", "storefront"]);
  // A span lies within the one above it, from left to right as time goes.
  const bars = await page.locator(".track i").evaluateAll((all) => all.map((it) => [it.getBoundingClientRect().left, it.getBoundingClientRect().right]));
  assert.ok(bars[3][0] > bars[2][0] && bars[3][1] < bars[2][1]);
  assert.ok(bars[4][0] > bars[1][1]);
  await spans.nth(7).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("definition").filter({ hasText: "image is truncated" }).waitFor();
  await page.getByRole("checkbox", { name: "only failed" }).uncheck();
  await traces.focus();
  const first = await traces.getAttribute("aria-activedescendant");
  await page.keyboard.press("ArrowDown");
  assert.notEqual(await traces.getAttribute("aria-activedescendant"), first);
});

test("a trace that is looked at stays, however many come, and the list can be held", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page, view } = await open(t, browser, shop.url);
  await shop.tell("trace", [1], { error: "image is truncated" });
  await view("Traces").click();
  const code = page.locator(".stage code").first();
  await code.waitFor();
  const looked = await code.innerText();
  for (let n = 2; n < 330; n++) await shop.tell("trace", [n]);
  await page.locator(".traces-view").getByText("300 traces").waitFor();
  assert.equal(await code.innerText(), looked);
  await page.getByRole("button", { name: "Pause" }).click();
  const first = await page.getByRole("option").first().getAttribute("id");
  await shop.tell("trace", [999]);
  await page.getByRole("button", { name: "Go on" }).click();
  await page.waitForFunction((id) => document.querySelector("[role=option]").id !== id, first);
});

test("latency says of each link where it goes", { timeout: PATIENCE }, async (t) => {
  const { page, view } = await open(t, browser, shop.url);
  await view("Latency").click();
  const pricing = page.locator(".bars li", { hasText: "checkout → pricing" });
  assert.equal(
    await pricing.getByRole("img").getAttribute("aria-label"),
    "encode 29 µs, session 798 µs, queue 203 µs, provider 392 µs, decode 29 µs",
  );
  const widths = await pricing.locator(".stack i:not([hidden])").evaluateAll((all) => all.map((it) => it.getBoundingClientRect().width));
  assert.equal(Math.round((widths[1] / widths[3]) * 10), Math.round((798 / 392) * 10));
  await page.getByRole("button", { name: "To scale" }).click();
  const scaled = await page.locator(".bars .stack").evaluateAll((all) => all.map((it) => it.getBoundingClientRect().width));
  assert.deepEqual(scaled, [...scaled].sort((a, b) => b - a));
});

test("metrics are those of the workspace, its links, its processes, and what components measure", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--more", "8");
  const { page, view } = await open(t, browser, shop.url);
  await view("Metrics").click();
  await page.getByRole("heading", { name: "Calls" }).waitFor();
  const card = (title, more = "") => page.locator(".card", { has: page.getByRole("heading", { name: title, exact: true }), hasText: more });
  const value = (title, more) => card(title, more).locator(".value");
  for (const value of [3, 4]) await shop.tell("measure", "counter", "orders", "1", "Orders that were placed", value, { shelf: "pears" });
  await shop.tell("measure", "gauge", "queue", "1", "", 17, {});
  for (let n = 1; n <= 100; n++) await shop.tell("measure", "histogram", "render", "ms", "", n, {});
  const orders = card("orders");
  await orders.getByText("7 in all").waitFor();
  await orders.getByText("shelf=pears").waitFor();
  assert.equal(await value("queue").innerText(), "17");
  // a bound of a bucket, so a little more than the 50 and 95 that they are
  await card("render").getByText("100 values").waitFor();
  const [half, most] = [await value("render").innerText(), await card("render").locator(".note").innerText()];
  assert.ok(parseFloat(half) >= 50 && parseFloat(half) < 60 && half.endsWith("ms"), half);
  assert.match(most, /^median · 95 % below (9[5-9]|100)(\.\d)? ms · 100 values$/);

  // of 410 calls a second to the catalog, each of 92 µs; the link with the most calls comes first
  await page.waitForFunction(() => [...document.querySelectorAll(".card .note")].some((it) => /^(3[5-9]\d|4\d\d) calls\/s/.test(it.textContent)));
  assert.equal(await value("storefront → catalog").innerText(), "92 µs");
  const links = page.getByRole("heading", { name: "Links", exact: true }).locator("xpath=following-sibling::div[1]");
  assert.equal(await links.locator("h3").first().innerText(), "storefront → log");

  assert.match(await value("images", "of a processor").innerText(), /^(2\d|3[0-4])(\.\d)? %$/);
  assert.match(await value("host", "resident memory").innerText(), /^1\d\d MiB$/);

  // what has no end is bounded, and said so
  await page.getByRole("searchbox", { name: "Filter metrics" }).fill("requests");
  for (let n = 0; n < 300; n++) await shop.tell("measure", "counter", "requests", "1", "", 1, { id: String(n) });
  await page.getByText("101 more: filter to see them.").waitFor(); // 200 of them, and one for all others
  await page.getByRole("searchbox", { name: "Filter metrics" }).fill("overflow");
  await card("requests").getByText("100 in all").waitFor();
  assert.equal(await page.locator(".card").count(), 1);
});

test("grants are sentences, and a refusal comes with the lines to copy", { timeout: PATIENCE }, async (t) => {
  const { page, view } = await open(t, browser, shop.url);
  await view("Grants").click();
  await page.getByText("may ask for quotes in EUR").waitFor();
  const refusal = page.locator(".refusal", { hasText: "mailer wanted to send requests to https://api.example.com" });
  await refusal.getByText("3 times").waitFor();
  await refusal.getByRole("button", { name: "Copy for loop.toml" }).click();
  await page.getByText("Copied the lines for loop.toml").waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(copied, '[components.mailer.imports."loop:netx".grant]\nallow = ["https://mail.example.com", "https://api.example.com"]\n');
});

test("a restart, and a swap whose changes are shown before", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page } = await open(t, browser, shop.url);
  await node(page, "catalog").click();
  const member = page.getByRole("complementary", { name: "Member" });
  await member.getByRole("button", { name: "Restart" }).click();
  await page.getByText("catalog was started again", { exact: true }).waitFor();
  await member.getByRole("button", { name: "Swap…" }).click();
  const dialog = page.getByRole("dialog", { name: "Swap" });
  const swap = dialog.getByRole("button", { name: "Swap", exact: true });
  const use = dialog.getByRole("combobox", { name: "use" });
  assert.equal(await use.inputValue(), "sidecar:python:catalog:Catalog");
  assert.equal(await swap.isDisabled(), true);
  await use.fill("nonsense");
  await page.keyboard.press("Enter");
  await dialog.getByRole("alert").filter({ hasText: "'nonsense' is no provider" }).waitFor();
  assert.equal(await swap.isDisabled(), true);
  await use.fill("remote:quic://catalog.lan:7000");
  await page.keyboard.press("Enter");
  await dialog.getByText("2 changes, not made yet:").waitFor();
  assert.deepEqual(await dialog.locator("del, ins").allInnerTexts(), ["sidecar:python:catalog:Catalog", "remote:quic://catalog.lan:7000", "sidecar", "remote"]);
  assert.equal(await node(page, "catalog").getAttribute("class").then((it) => it.includes("is-sidecar")), true);
  // whoever then says something else sees anew what it changes
  await dialog.getByRole("spinbutton", { name: "seconds for calls that have begun" }).fill("2.5");
  assert.equal(await swap.isDisabled(), true);
  assert.equal(await dialog.locator("del").count(), 0);
  await page.keyboard.press("Enter");
  await dialog.getByText("2 changes, not made yet:").waitFor();
  await page.keyboard.press("Enter"); // the focus is on Swap by now
  await page.locator('[data-node="catalog"].is-remote').waitFor();
  const digest = await node(page, "catalog").locator(".digest").textContent();
  assert.notEqual(digest, "d34db377");
  assert.deepEqual((await shop.tell("nothing")).slice(-5), [
    ["restart", "catalog"],
    ["swap", "catalog", "nonsense", true, 10_000],
    ["swap", "catalog", "remote:quic://catalog.lan:7000", true, 10_000],
    ["swap", "catalog", "remote:quic://catalog.lan:7000", true, 2_500],
    ["swap", "catalog", "remote:quic://catalog.lan:7000", false, 2_500],
  ]);
});

test("a swap by keys alone has code read anew, of a provider and of a component", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page } = await open(t, browser, shop.url);
  const dialog = page.getByRole("dialog", { name: "Swap" });
  const choose = async (member) => {
    await page.keyboard.press("Control+k");
    await page.keyboard.type(`swap ${member}`);
    await page.keyboard.press("Enter");
    await dialog.waitFor();
  };
  await choose("images");
  await page.keyboard.press("Shift+Tab"); // from the field to what it belongs to
  await page.keyboard.press("ArrowDown");
  assert.equal(await dialog.getByRole("radio", { name: "The same, its code read anew" }).isChecked(), true);
  assert.equal(await dialog.getByRole("combobox", { name: "use" }).isDisabled(), true);
  await page.keyboard.press("Enter");
  await dialog.getByText("1 change, not made yet:").waitFor();
  await page.keyboard.press("Enter");
  await page.getByText("images was swapped: its new code serves").waitFor();
  await dialog.waitFor({ state: "hidden" });

  await choose("storefront");
  assert.equal(await dialog.getByRole("radio").count(), 0); // there is but one thing that can be
  await page.keyboard.press("Enter");
  await dialog.getByText("1 change, not made yet:").waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });

  await choose("pricing"); // of which nobody knows the code
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await dialog.getByText("Nothing would change.").waitFor();
  assert.equal(await dialog.getByRole("button", { name: "Swap", exact: true }).isDisabled(), true);
  assert.deepEqual(await shop.tell("nothing"), [
    ["swap", "images", null, true, 10_000],
    ["swap", "images", null, false, 10_000],
    ["swap", "storefront", null, true, 10_000],
    ["swap", "pricing", null, true, 10_000],
  ]);
});

test("a build that failed lies over all until it is mended, and the old code is named", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page } = await open(t, browser, shop.url);
  await node(page, "catalog").waitFor();
  await shop.tell("fail", "checkout");
  const report = page.getByRole("alertdialog", { name: "checkout does not build" });
  await report.getByText("checkout/src/cart.js:14:23").waitFor();
  assert.match(await report.locator(".code.here").innerText(), /14\s+sum \+= price\(item\.id;/);
  assert.match(await report.innerText(), /Generation 1, sha256:cf85290e, serves on/);
  await page.keyboard.press("Escape");
  const strip = page.getByRole("button", { name: "checkout does not build; the code of before serves" });
  await strip.waitFor();
  assert.equal(await report.isVisible(), false);
  await page.keyboard.press("Enter"); // which has the focus
  await report.waitFor();
  await shop.tell("build", ["checkout", "begun"]);
  await report.getByText("It is being built again…").waitFor();
  await shop.tell("fail", "checkout");
  await report.getByText("It is being built again…").waitFor({ state: "hidden" });
  await shop.tell("build", ["checkout", "done", 120]);
  await report.waitFor({ state: "hidden" });
  assert.equal(await strip.isVisible(), false);
});

test("the palette runs a command of the workspace, by keys alone", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page } = await open(t, browser, shop.url);
  await page.keyboard.press("Control+k");
  const palette = page.getByRole("dialog", { name: "Command palette" });
  await palette.getByRole("combobox").fill("sed");
  await palette.getByRole("option", { name: /^seed/ }).waitFor();
  assert.match(await palette.getByRole("option").first().innerText(), /^seed/);
  await page.keyboard.press("Enter");
  await palette.getByText("Arguments of seed: [COUNT]. Enter runs it.").waitFor();
  await page.keyboard.type('12 "red pears"');
  await page.keyboard.press("Enter");
  const output = page.getByRole("dialog", { name: "Output" });
  await output.getByText("seed: 12 red pears, done").waitFor();
  assert.deepEqual((await shop.tell("nothing")).at(-1), ["run", "seed", "12", "red pears"]);
  await page.keyboard.press("Escape");
  await output.waitFor({ state: "hidden" });
  await page.keyboard.press("3");
  await page.locator('[aria-current=page][data-view="traces"]').waitFor();
});

test("dark or light, as the system has it or as it was chosen", { timeout: PATIENCE }, async (t) => {
  const { page } = await open(t, browser, shop.url, { colorScheme: "dark" });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await page.getByRole("button", { name: "Dark or light" }).click();
  const light = await background();
  assert.notEqual(light, dark);
  await page.reload();
  await node(page, "catalog").waitFor();
  assert.equal(await background(), light);
});

test("nothing moves for whoever asked for that", { timeout: PATIENCE }, async (t) => {
  const busy = await Workspace.own(t);
  const { page } = await open(t, browser, busy.url, { reducedMotion: "reduce" });
  await page.locator(".line.busy").first().waitFor();
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
});

for (const colorScheme of ["light", "dark"]) {
  test(`roles, names and contrast are right in every view, ${colorScheme}`, { timeout: PATIENCE }, async (t) => {
    const shop = await Workspace.own(t, "--still");
    await shop.tell("past");
    // what is added to the page to look at it may run
    const { page, view } = await open(t, browser, shop.url, { colorScheme, bypassCSP: true, reducedMotion: "reduce" });
    await page.evaluate(axe.source);
    const problems = async () => {
      const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
      return violations.flatMap((it) => it.nodes.map((one) => `${it.id}: ${one.html.slice(0, 160)} ${one.any.map((why) => why.message).join("; ")}`));
    };
    await node(page, "catalog").click();
    for (const name of ["Graph", "Logs", "Traces", "Latency", "Metrics", "Grants"]) {
      if (name !== "Graph") await view(name).click();
      assert.deepEqual(await problems(), [], name);
    }
    await page.keyboard.press("Control+k");
    assert.deepEqual(await problems(), [], "the palette");
    await page.keyboard.type("swap catalog");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: "Swap" }).waitFor();
    assert.deepEqual(await problems(), [], "a swap");
    await page.keyboard.press("Escape");
    await shop.tell("fail", "checkout");
    await page.getByRole("alertdialog").waitFor();
    assert.deepEqual(await problems(), [], "a failed build");
  });
}
