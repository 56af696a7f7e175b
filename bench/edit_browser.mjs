// Edits files as bench/edit.py says, and tells how long it takes until a real browser has what is new.
//
// One request a line: {url} opens a page; {file, text, shows: [what, value]} writes a file, and waits until the page shows
// a value as its `code`, its `word` or its `style`. The answer is the milliseconds from before the write.

import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";

import { launch } from "../tests/browser/dev-support.mjs";

const now = () => performance.timeOrigin + performance.now();
const browser = await launch();
const page = await (await browser.newContext()).newPage();
let seen = () => {};
await page.exposeBinding("tell", (_, what, value, at) => seen(what, value, at));
await page.addInitScript(() => {
  const known = {};
  const look = () => {
    const now = performance.timeOrigin + performance.now();
    const found = {
      code: document.getElementById("code")?.textContent,
      word: document.getElementById("word")?.textContent,
      style: document.body && getComputedStyle(document.body).getPropertyValue("--shown").trim(),
    };
    for (const [what, value] of Object.entries(found)) {
      if (value && known[what] !== value) globalThis.tell(what, (known[what] = value), now);
    }
  };
  setInterval(look, 1);
});

async function answer({ url, file, text, shows }) {
  if (url) return void (await page.goto(url));
  const shown = new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${shows} was not shown within 30 s`)), 30_000);
    seen = (what, value, at) => {
      if (what !== shows[0] || value !== shows[1]) return;
      clearTimeout(late);
      resolve(at);
    };
  });
  const begun = now();
  await writeFile(file, text);
  return (await shown) - begun;
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify({ ms: await answer(JSON.parse(line)) }));
  } catch (error) {
    console.log(JSON.stringify({ failed: String(error) }));
  }
}
await browser.close();
