// Pages of a component that is being developed, as whoever edits it sees them: in the system's Chromium.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { PATIENCE, ROOT, launch } from "./dev-support.mjs";

let folder, browser, site;
let written = 0;

before(
  async () => {
    folder = await mkdtemp(join(tmpdir(), "loop-live-"));
    execFileSync(join(ROOT, ".venv", "bin", "python"), ["-m", "tests.dev.edited.workspace", folder], { cwd: ROOT });
    [browser, site] = await Promise.all([launch(), serve()]);
  },
  { timeout: 2 * PATIENCE },
);

after(async () => {
  await browser?.close();
  await site?.end("SIGINT");
  await rm(folder, { recursive: true });
});

/** `loop dev`, once it serves. */
async function serve(address = "127.0.0.1:0") {
  const manifest = join(folder, "loop.toml");
  await writeFile(manifest, (await readFile(manifest, "utf8")).replace(/127\.0\.0\.1:\d+/, address));
  const env = { ...process.env, XDG_RUNTIME_DIR: folder, XDG_STATE_HOME: folder };
  const server = spawn(join(ROOT, ".venv", "bin", "loop"), ["dev", "--no-page"], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  server.stderr.on("data", (data) => (said += data));
  for await (const line of createInterface({ input: server.stdout })) {
    const url = /http:\S+/.exec(line)?.[0];
    if (!url) continue;
    const end = async (signal) => {
      if (server.exitCode === null && server.signalCode === null) {
        server.kill(signal);
        await once(server, "exit");
      }
    };
    return { url, address: new URL(url).host, end, said: () => said };
  }
  throw new Error(`the server ended without printing a URL: ${said}`);
}

/** As editors save: a file that is there at once, and so changes once. */
async function write(file, text) {
  const saved = join(tmpdir(), `loop-live-saved-${process.pid}-${written++}`);
  await writeFile(saved, text);
  await rename(saved, join(folder, file));
}

/** Files of the workspace as they were when the test has ended. */
async function keep(t, ...files) {
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), "utf8")));
  t.after(() => Promise.all(files.map((file, at) => write(file, texts[at]))));
}

/** The page, with a word in it that another load of it does not have; what it complains of fails the test. */
async function open(t) {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  t.after(async () => {
    await context.close();
    if (complaints.length) throw new Error(`the page complained: ${complaints.join("; ")}`);
  });
  const listening = page.waitForEvent("websocket").then((socket) => socket.waitForEvent("framereceived"));
  await page.goto(site.url);
  await listening;
  await page.evaluate(() => (globalThis.kept = true));
  const kept = () => page.evaluate(() => globalThis.kept === true);
  const shows = (id, text) => page.waitForFunction(([id, text]) => document.getElementById(id)?.textContent === text, [id, text]);
  const styled = (value) =>
    page.waitForFunction((value) => getComputedStyle(document.body).getPropertyValue("--shown").trim() === value, value);
  return { page, complaints, kept, shows, styled };
}

test("a style sheet is exchanged in place", { timeout: PATIENCE }, async (t) => {
  await keep(t, "files/style.css");
  const { page, kept, styled } = await open(t);
  await styled("first");
  for (const value of ["second", "third"]) {
    await write("files/style.css", `body { --shown: ${value} }`);
    await styled(value);
  }
  assert.equal(await page.locator("link[rel=stylesheet]").count(), 1);
  assert.ok(await kept());
});

test("a sheet that is not of this page is none of its business", { timeout: PATIENCE }, async (t) => {
  await keep(t, "files/style.css");
  const { kept, styled } = await open(t);
  await write("files/other.css", "body {}");
  await write("files/style.css", "body { --shown: later }");
  await styled("later");
  assert.ok(await kept());
});

test("a module that accepts it is exchanged, with what it leaves for the next", { timeout: PATIENCE }, async (t) => {
  await keep(t, "files/page.js");
  const code = (version) => `
    const hot = globalThis.loopHot?.(import.meta.url);
    export const version = "${version}";
    const timers = (hot.data.timers ?? 0) + 1;
    document.body.dataset.shown = version + " " + timers + " " + (hot.data.left ?? "nothing");
    hot.accept((next) => (document.body.dataset.taken = version + " by " + next.version));
    hot.dispose((data) => Object.assign(data, { timers, left: version }));
  `;
  const { page, kept } = await open(t);
  // the one before accepts nothing, so that the page is loaded anew
  await write("files/page.js", code("one"));
  await page.locator("body[data-shown='one 1 nothing']").waitFor();
  await page.evaluate(() => (globalThis.kept = true));
  await write("files/page.js", code("two"));
  await page.locator("body[data-shown='two 2 one'][data-taken='one by two']").waitFor();
  await write("files/page.js", code("three"));
  await page.locator("body[data-shown='three 3 two'][data-taken='two by three']").waitFor();
  assert.ok(await kept());
});

test("a module that does not, has the page load anew", { timeout: PATIENCE }, async (t) => {
  await keep(t, "files/page.js");
  await write("files/page.js", "document.body.dataset.shown = 'one'");
  const { page, kept } = await open(t);
  await page.locator("body[data-shown=one]").waitFor();
  await write("files/page.js", "document.body.dataset.shown = 'two'");
  await page.locator("body[data-shown=two]").waitFor();
  assert.ok(!(await kept()));
});

test("a module that fails when it is exchanged has the page load anew, and says why", { timeout: PATIENCE }, async (t) => {
  await keep(t, "files/page.js");
  await write("files/page.js", "globalThis.loopHot(import.meta.url).accept(); document.body.dataset.shown = 'one'");
  const { page, complaints } = await open(t);
  await write("files/page.js", "if (location.hash !== '#x' && globalThis.kept) throw new Error('as it should'); document.body.dataset.shown = 'two'");
  await page.locator("body[data-shown=two]").waitFor();
  assert.match(complaints.splice(0).join(), /loop dev: Error: as it should/);
});

test("any other file has the page load anew", { timeout: PATIENCE }, async (t) => {
  const { page, kept } = await open(t);
  const loaded = page.waitForEvent("load");
  await write("files/words.txt", `${Date.now()}`);
  await loaded;
  assert.ok(!(await kept()));
});

test("new code of a component and of a provider is shown", { timeout: PATIENCE }, async (t) => {
  await keep(t, "src/marker.js", "words.py");
  const { shows } = await open(t);
  await shows("code", "first");
  for (const value of ["second", "third"]) {
    await write("src/marker.js", `export const marker = "${value}";\n`);
    await shows("code", value);
  }
  const provider = await readFile(join(folder, "words.py"), "utf8");
  await write("words.py", provider.replace("first", "another"));
  await shows("word", "another");
  await shows("code", "third");
});

test("style in the code of a component is exchanged in place", { timeout: PATIENCE }, async (t) => {
  await keep(t, "src/inline.css");
  const { page, kept, shows } = await open(t);
  // what the test before has put back may have the page load anew until it is there
  await shows("code", "first");
  await shows("word", "first");
  for (let value = 1, stayed = false; !stayed; value++) {
    await page.evaluate(() => (globalThis.kept = true));
    await write("src/inline.css", `body { --inline: v${value} }`);
    await page.waitForFunction((it) => getComputedStyle(document.body).getPropertyValue("--inline").trim() === it, `v${value}`);
    stayed = await kept();
    assert.ok(stayed || value < 3, "the page was loaded anew for style alone");
  }
});

test("code that cannot serve is told, and the page stays as it is", { timeout: PATIENCE }, async (t) => {
  await keep(t, "src/marker.js");
  const { page, complaints, kept, shows } = await open(t);
  const message = page.waitForEvent("console");
  await write("src/marker.js", "export const marker = nothing;\n");
  assert.match((await message).text(), /app cannot serve its new code\n.*nothing is not defined\n.*src\/marker\.js:1/s);
  complaints.splice(0);
  assert.ok(await kept());
  await write("src/marker.js", 'export const marker = "mended";\n');
  await shows("code", "mended");
});

test("a page of before the host went is shown anew by the next host", { timeout: 2 * PATIENCE }, async (t) => {
  await keep(t, "src/marker.js");
  const { shows, complaints } = await open(t);
  await site.end("SIGKILL");
  await write("src/marker.js", 'export const marker = "meanwhile";\n');
  site = await serve(site.address);
  await shows("code", "meanwhile");
  // The browser itself says so of each try while nobody was there.
  assert.deepEqual(complaints.splice(0).filter((it) => !/ERR_CONNECTION_(REFUSED|RESET)/.test(it)), []);
});

test("another site hears nothing", { timeout: PATIENCE }, async (t) => {
  const { page, complaints } = await open(t);
  await page.goto("data:text/html,<title>other</title>");
  const came = await page.evaluate(async (host) => {
    const script = await new Promise((resolve) => {
      const element = document.createElement("script");
      element.onload = () => resolve("ran");
      element.onerror = () => resolve("refused");
      element.src = `http://${host}/@loop/live.js`;
      document.head.append(element);
    });
    const socket = await new Promise((resolve) => {
      const it = new WebSocket(`ws://${host}/@loop/live`);
      it.onopen = () => resolve("open");
      it.onclose = () => resolve("refused");
    });
    return { script, socket };
  }, site.address);
  assert.deepEqual(came, { script: "refused", socket: "refused" });
  complaints.splice(0); // the browser's own words of what was refused
});
