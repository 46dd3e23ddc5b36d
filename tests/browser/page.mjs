// The page that simulates in the browser, opened as a file in headless Chromium without a network: its numbers are those of
// the same code on this machine, controls change them and the address, an address is a view, it works by keyboard, fits a
// phone, says nothing on the console and has no accessibility violation that axe-core knows.
//
//   node page.mjs PAGE HOST [SHOTS]   with the page of scripts/build_page and the built program modm-web
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [file, host, shots] = process.argv.slice(2).map((name) => path.resolve(name));
const url = pathToFileURL(file).href;
/** Bytes of the page, at most. */
const MOST = 600_000;

/** What a run of the browser must never see. */
function watch(page) {
  const seen = [];
  page.on("console", (message) => seen.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => seen.push(`error: ${error}`));
  page.on("request", (request) => {
    const own = request.url().split("#")[0];
    if (own !== url && !own.startsWith("blob:") && !own.startsWith("data:")) seen.push(`request: ${own}`);
  });
  return seen;
}

async function open(browser, hash = "", options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, offline: true, ...options });
  const seen = watch(page);
  await page.goto(url + hash);
  await settled(page);
  return { page, seen };
}

/** Waits until the page shows the run and the capacities of its settings. */
async function settled(page) {
  await page.waitForFunction(() => globalThis.modmShown?.capacity?.done && !document.querySelector(".stale"), null, { timeout: 120_000 });
}

/** The page's numbers are those of the code on this machine, to the last bit. */
async function computesWhatTheHostDoes(page, ...controls) {
  const [run, capacity, files] = execFileSync(host, controls, { encoding: "utf8" }).trim().split("\n").map((line) => JSON.parse(line));
  const shown = await page.evaluate(() => globalThis.modmShown);
  assert.deepEqual(shown.run, run, "the run");
  assert.deepEqual(shown.capacity, capacity, "the capacities");
  const text = await page.locator("#files").textContent();
  assert.ok(text.includes(files.scenario) && (files.profile === null || text.includes(files.profile)), "the files");
}

const verdict = (page) => page.locator("#verdict").innerText();

async function controlsChangeNumbersAndAddress(page) {
  const before = await verdict(page);
  await page.locator("#gpus").focus();
  for (let press = 0; press < 4; press += 1) await page.keyboard.press("ArrowRight");
  await page.waitForFunction((text) => document.getElementById("verdict").innerText !== text, before);
  await settled(page);
  assert.equal(new URL(page.url()).hash, "#gpus=20");
  assert.match(await page.locator("#files").textContent(), /count = 20/);
  const box = await page.locator("#rate").boundingBox();
  await page.mouse.click(box.x + box.width * 0.2, box.y + box.height / 2);
  await settled(page);
  assert.match(page.url(), /rate=[0-9.]+&gpus=20$/);
  await page.locator("#mode").selectOption("1");
  await page.locator("#trace").click();
  await settled(page);
  assert.match(page.url(), /mode=1&seed=43$/);
  await page.locator("#reset").click();
  await settled(page);
  assert.equal(new URL(page.url()).hash, "");
  assert.equal(await verdict(page), before, "as at first");
}

/** Every figure says something by keyboard and by mouse. */
async function showsValues(page) {
  const all = page.locator("#figures figure");
  assert.equal(await all.count(), 4);
  for (let index = 0; index < 4; index += 1) {
    const figure = all.nth(index);
    await figure.focus();
    await page.keyboard.press("ArrowRight");
    const tip = figure.locator(".tip");
    assert.ok((await tip.innerText()).length > 10);
    await page.keyboard.press("Escape");
    assert.ok(await tip.isHidden());
    await figure.locator("svg").scrollIntoViewIfNeeded();
    await figure.locator("svg").hover();
    assert.ok(await tip.isVisible());
    await page.mouse.move(0, 0);
  }
}

async function violations(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
}

async function main() {
  assert.ok(statSync(file).size < MOST, `${statSync(file).size} bytes`);
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    const { page, seen } = await open(browser);
    await computesWhatTheHostDoes(page);
    await controlsChangeNumbersAndAddress(page);
    await showsValues(page);
    assert.deepEqual(seen, [], "no request, no message, no error");
    await page.close();
    // An address is a view; what it says wrongly is left out.
    const shared = await open(browser, "#preset=h100-flux&gpus=6&cache=300&arrivals=1&bounds=-0.02&slo=nothing&rate=-3");
    await computesWhatTheHostDoes(shared.page, "preset=h100-flux", "gpus=6", "cache=300", "arrivals=1", "bounds=-0.02");
    assert.deepEqual(shared.seen, []);
    await shared.page.close();
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [1280, 400]) {
        const { page, seen } = await open(browser, "", { colorScheme, viewport: { width, height: 900 } });
        assert.deepEqual(await violations(page), [], `axe-core, ${colorScheme}, ${width} px`);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(wider <= 0, `${wider} px wider than ${width}`);
        if (shots !== undefined) await page.screenshot({ path: path.join(shots, `page-${width}-${colorScheme}.png`) });
        assert.deepEqual(seen, []);
        await page.close();
      }
    }
  } finally {
    await browser.close();
  }
  console.log("the page passes");
}

await main();
