// The dev server's page while things go wrong or come thick and fast: floods, hosts that go, and whoever has no business here.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { PATIENCE, Workspace, launch, open } from "./dev-support.mjs";

let browser, state;

before(
  async () => {
    // where tokens are kept
    process.env.XDG_STATE_HOME = state = await mkdtemp(join(tmpdir(), "loop-page-"));
    browser = await launch();
  },
  { timeout: PATIENCE },
);

after(async () => {
  await browser?.close();
  await rm(state, { recursive: true });
});

/** Types into the filter for some seconds: how long each letter took to be on the screen, and how many pictures there were. */
async function use(page, seconds) {
  await page.evaluate(() => {
    window.pictures = 0;
    window.counting = true;
    const count = () => {
      window.pictures++;
      if (window.counting) requestAnimationFrame(count);
    };
    requestAnimationFrame(count);
  });
  const began = performance.now();
  const took = [];
  const field = page.getByRole("searchbox", { name: "Filter text" });
  while (performance.now() - began < seconds * 1000) {
    took.push(
      await field.evaluate(
        (it) =>
          new Promise((resolve) => {
            const at = performance.now();
            it.value = it.value ? "" : "items";
            it.dispatchEvent(new Event("input"));
            requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - at)));
          }),
      ),
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const pictures = await page.evaluate(() => ((window.counting = false), window.pictures));
  took.sort((a, b) => a - b);
  return { rate: pictures / ((performance.now() - began) / 1000), median: took[took.length >> 1], most: took.at(-1), pictures };
}

test("10,000 lines a second come, all of them, and the page goes on", { timeout: 2 * PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page, view } = await open(t, browser, shop.url);
  await view("Logs").click();
  const idle = await use(page, 3);
  await shop.tell("flood", 10_000, 8);
  await page.locator(".row").first().waitFor();
  const flooded = await use(page, 6);
  t.diagnostic(`idle: ${JSON.stringify(idle)}`);
  t.diagnostic(`10,000 lines a second: ${JSON.stringify(flooded)}`);
  await page.getByRole("searchbox", { name: "Filter text" }).fill("");
  await page.getByText("flooded with 80000").waitFor();
  assert.equal(await page.getByText(/lost/).filter({ visible: true }).count(), 0);
  assert.match(await page.locator(".logs-view .hint").first().innerText(), /80k of 80k lines/);
  assert.ok((await page.locator(".row").count()) < 100, "lines that nobody sees are elements");
  // On a machine that does other things too; a page that is frozen shows nothing at all.
  assert.ok(flooded.rate > idle.rate / 4, `${flooded.rate} pictures a second, and ${idle.rate} where nothing happens`);
  assert.ok(flooded.median < idle.median * 8, `${flooded.median} ms for a letter, and ${idle.median} where nothing happens`);
});

test("only the newest 100,000 lines are kept, and none twice", { timeout: 2 * PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page, view } = await open(t, browser, shop.url);
  await view("Logs").click();
  await shop.tell("flood", 20_000, 6);
  await page.getByText("flooded with 120000").waitFor({ timeout: PATIENCE });
  assert.match(await page.locator(".logs-view .hint").first().innerText(), /^100k of 100k lines$/);
  await page.getByRole("searchbox", { name: "Filter text" }).fill("/items/119999 ");
  await page.waitForFunction(() => document.querySelectorAll(".row").length === 1);
});

test("a host that was killed is missed at once, and found again with its new state", { timeout: 2 * PATIENCE }, async (t) => {
  const first = await Workspace.own(t, "--still", "--address", "127.0.0.1:0");
  // a port that is free, whose token is kept
  await first.kill();
  const shop = await Workspace.own(t, "--still", "--address", first.address);
  const { page, view, complaints } = await open(t, browser, shop.url);
  await view("Logs").click();
  await shop.tell("line", ["info", "mailer", "", "of the first host"]);
  await page.getByText("of the first host").waitFor();
  await page.waitForFunction(() => document.querySelector(".version")?.textContent.includes("process"));

  await shop.kill();
  await page.getByRole("alert").filter({ hasText: "The connection is lost." }).waitFor();
  await page.getByRole("status").filter({ hasText: "connection lost" }).waitFor();

  const next = await Workspace.own(t, "--still", "--address", shop.address, "--more", "3");
  assert.equal(next.url, shop.url);
  await page.getByText(/The host was started again, as process/).waitFor();
  await page.getByRole("status").filter({ hasText: "15 members" }).waitFor();
  assert.equal(await page.getByText("of the first host").count(), 0);
  assert.equal(await page.getByRole("alert").filter({ visible: true }).count(), 0);
  await next.tell("line", ["info", "mailer", "", "of the second host"]);
  await page.getByText("of the second host").waitFor();
  // The browser itself says so of each try while nobody was there.
  assert.deepEqual(complaints.splice(0).filter((it) => !/ERR_CONNECTION_REFUSED/.test(it)), []);
});

test("a host that hangs is missed too", { timeout: 2 * PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page, complaints } = await open(t, browser, shop.url);
  shop.process.kill("SIGSTOP");
  await page.getByRole("alert").filter({ hasText: "The connection is lost." }).waitFor();
  shop.process.kill("SIGCONT");
  await page.getByText("Connected again").waitFor();
  complaints.splice(0);
});

test("without the key there is nothing to see, and a wrong one is told", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const { page, complaints } = await open(t, browser);
  await page.goto(shop.origin);
  await page.getByRole("heading", { name: "Where is the key?" }).waitFor();
  await page.getByRole("textbox").fill(`${shop.origin}/#${"x".repeat(43)}`);
  await page.keyboard.press("Enter");
  await page.getByText("The server does not know this key").waitFor();
  await page.getByRole("textbox").fill(shop.url);
  await page.keyboard.press("Enter");
  await page.getByRole("status").filter({ hasText: "12 members" }).first().waitFor();
  // The key does not stay where it could be read over a shoulder, or be copied with the address.
  assert.equal(page.url().includes(new URL(shop.url).hash), false);
  complaints.splice(0); // the browser's own words of what was refused
});

test("whoever listens in its place does not get the key", { timeout: PATIENCE }, async (t) => {
  const first = await Workspace.own(t, "--still");
  await first.kill();
  const shop = await Workspace.own(t, "--still", "--address", first.address);
  const { page, complaints } = await open(t, browser, shop.url);
  await shop.kill();
  const heard = [];
  const thief = createServer((request, response) => {
    heard.push(`${request.url} ${JSON.stringify(request.headers)}`);
    response.setHeader("content-type", "text/plain").end("0".repeat(32));
  });
  thief.on("upgrade", (request, socket) => {
    heard.push(`${request.url} ${JSON.stringify(request.headers)}`);
    socket.destroy();
  });
  await new Promise((resolve) => thief.listen(Number(first.address.split(":")[1]), "127.0.0.1", resolve));
  t.after(() => thief.close().closeAllConnections());
  await page.getByText("The server does not know this key").waitFor();
  assert.ok(heard.some((it) => it.startsWith("/socket")));
  const key = new URL(shop.url).hash.slice(1);
  assert.deepEqual(heard.filter((it) => it.includes(key)), []);
  complaints.splice(0);
});

test("another site reads nothing and opens no WebSocket, even with the key", { timeout: PATIENCE }, async (t) => {
  const shop = await Workspace.own(t, "--still");
  const other = createServer((_, response) => response.setHeader("content-type", "text/html").end("<title>other</title>"));
  await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
  t.after(() => other.close().closeAllConnections());
  const { page, complaints } = await open(t, browser);
  await page.goto(`http://127.0.0.1:${other.address().port}/`);
  const came = await page.evaluate(async (origin) => {
    const read = async (options) => fetch(`${origin}/challenge`, options).then((it) => it.type, () => "refused");
    const framed = await new Promise((resolve) => {
      const frame = document.createElement("iframe");
      frame.onload = () => resolve(frame.contentDocument === null);
      frame.src = origin;
      document.body.append(frame);
    });
    const script = await new Promise((resolve) => {
      const element = document.createElement("script");
      element.onload = () => resolve("ran");
      element.onerror = () => resolve("refused");
      element.src = `${origin}/page.js`;
      document.body.append(element);
    });
    const socket = await new Promise((resolve) => {
      const it = new WebSocket(`${origin.replace("http", "ws")}/socket`, ["loop-page.1"]);
      it.onopen = () => resolve("open");
      it.onclose = () => resolve("refused");
    });
    return { read: await read({}), blind: await read({ mode: "no-cors" }), framed, script, socket };
  }, shop.origin);
  assert.deepEqual(came, { read: "refused", blind: "refused", framed: true, script: "refused", socket: "refused" });
  complaints.splice(0); // the browser's own words of what was refused
});
