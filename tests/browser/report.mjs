// A report opened in headless Chromium: it asks nothing of the network, says nothing on the console, sorts, shows values by
// mouse and keys, is legible in light and dark, fits a phone, and has no accessibility violation that axe-core knows.
//
//   node report.mjs MODM [SHOTS]   with a built program; screenshots go to the folder SHOTS
//
// `scripts/test` installs what it needs: Chromium and the packages of package-lock.json.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "..", "..");
const [program, shots] = process.argv.slice(2).map((file) => path.resolve(file));

/** What a run of the browser must never see. */
function watch(page, report) {
  const seen = [];
  page.on("console", (message) => seen.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => seen.push(`error: ${error}`));
  page.on("request", (request) => {
    if (request.url() !== report && !request.url().startsWith("data:")) seen.push(`request: ${request.url()}`);
  });
  return seen;
}

async function violations(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
}

async function sorts(page) {
  const column = (index) => page.$$eval("table.sorts tbody tr", (rows, i) => rows.map((row) => row.cells[i].innerText), index);
  const before = await column(0);
  const head = page.locator("table.sorts thead th").nth(1);
  await head.locator("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "descending");
  const values = (await column(1)).map((text) => parseFloat(text));
  assert.deepEqual(values, [...values].sort((a, b) => b - a), "largest first");
  await head.locator("button").press("Enter");
  assert.equal(await head.getAttribute("aria-sort"), "ascending");
  await head.locator("button").click();
  assert.equal(await head.getAttribute("aria-sort"), null);
  assert.deepEqual(await column(0), before, "a third time gives the first order back");
}

async function showsValues(page, folder) {
  const figures = page.locator("figure[data-points]");
  const count = await figures.count();
  assert.ok(count >= 8, `${count} figures`);
  for (let index = 0; index < count; index += 1) {
    const figure = figures.nth(index);
    const name = (await figure.getAttribute("data-points")).replace("points-", "");
    await figure.focus();
    await page.keyboard.press("ArrowRight");
    const tip = figure.locator(".tip");
    const first = await tip.innerText();
    const csv = readFileSync(path.join(folder, "figures", `${name}.csv`), "utf8").split("\n");
    assert.ok(first.length > 0 && csv.length > 2, name);
    await page.keyboard.press("Escape");
    assert.ok(await tip.isHidden(), name);
    const box = await figure.locator("svg").boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height * 0.7);
    assert.ok(await tip.isVisible(), `${name} by mouse`);
    await page.mouse.move(0, 0);
  }
  // A value that is shown is the value of the file.
  const points = JSON.parse(await page.locator("#points-throughput").textContent());
  const rows = readFileSync(path.join(folder, "figures", "throughput.csv"), "utf8").trim().split("\n").slice(1);
  points.series.forEach((series, row) => {
    const [variant, value] = rows[row].split(",");
    assert.equal(series.name, variant);
    assert.equal(parseFloat(series.points[0][3]), Math.round(value * 10) / 10);
  });
}

async function main() {
  const folder = mkdtempSync(path.join(tmpdir(), "modm-report-"));
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    const scenario = path.join(root, "scenarios", "quickstart.toml");
    execFileSync(program, ["compare", scenario, "--seeds", "2", "--quiet", "--out", folder, "--force"], { stdio: "pipe" });
    const report = pathToFileURL(path.join(folder, "report.html")).href;
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [1280, 400]) {
        const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 }, offline: true });
        const seen = watch(page, report);
        await page.goto(report);
        assert.deepEqual(await violations(page), [], `axe-core, ${colorScheme}, ${width} px`);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(overflow <= 0, `${overflow} px wider than ${width}`);
        if (colorScheme === "light" && width === 1280) {
          await sorts(page);
          await showsValues(page, folder);
        }
        if (shots !== undefined) {
          await page.screenshot({ path: path.join(shots, `report-${width}-${colorScheme}.png`), fullPage: false });
        }
        assert.deepEqual(seen, [], "no request, no message, no error");
        await page.close();
      }
    }
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true, force: true });
  }
  console.log("the report passes");
}

await main();
