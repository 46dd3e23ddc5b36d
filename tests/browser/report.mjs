// Reports of every command opened in headless Chromium: they list their sections, ask nothing of the network, say nothing on the console, sort, show
// values by mouse and keys, are legible in light, dark and print, fit a phone, and have no accessibility violation that
// axe-core knows.
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

/** Every figure says something by keyboard and by mouse, and has its data in a file. */
async function showsValues(page, folder) {
  const figures = page.locator("figure[data-points]");
  const count = await figures.count();
  assert.ok(count >= 1, `${count} figures`);
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
}

/** The list of contents has every section, and leads there by keyboard. */
async function leadsToItsSections(page, name) {
  const titles = await page.$$eval("main h2", (heads) => heads.map((head) => head.innerText));
  const links = page.locator("nav[aria-label=Contents] a");
  assert.deepEqual(await links.allInnerTexts(), titles, `${name}: contents`);
  assert.ok(titles.includes("What this rests on"), `${name}: ${titles}`);
  await links.last().focus();
  await page.keyboard.press("Enter");
  const seen = await page.locator("main h2").last().evaluate((head) => head.getBoundingClientRect().top < window.innerHeight);
  assert.ok(seen, `${name}: the last section is on the screen`);
  await page.evaluate(() => window.scrollTo(0, 0));
}

/** A value that is shown is the value of the file. */
async function showsWhatTheFileSays(page, folder) {
  const points = JSON.parse(await page.locator("#points-throughput").textContent());
  const rows = readFileSync(path.join(folder, "figures", "throughput.csv"), "utf8").trim().split("\n").slice(1);
  points.series.forEach((series, row) => {
    const [variant, value] = rows[row].split(",");
    assert.equal(series.name, variant);
    assert.equal(parseFloat(series.points[0][3]), Math.round(value * 10) / 10);
  });
}

/** On paper it is dark on white, whatever the screen is like, and nothing is cut off. */
async function prints(browser, report) {
  const page = await browser.newPage({ colorScheme: "dark", viewport: { width: 794, height: 1123 }, offline: true });
  await page.goto(report);
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  const colours = await page.evaluate(() => {
    const { color, backgroundColor } = getComputedStyle(document.body);
    return [color, backgroundColor];
  });
  assert.deepEqual(colours, ["rgb(31, 41, 51)", "rgb(255, 255, 255)"]);
  const cut = await page.evaluate(() =>
    [...document.querySelectorAll("main *")].filter((part) => part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).overflowX !== "visible").map((part) => part.className),
  );
  assert.deepEqual(cut.filter((name) => name !== "unseen"), [], "cut off");
  assert.ok((await page.pdf({ format: "A4" })).length > 20_000);
  await page.close();
}

/** Results of every command that ends in a report, by name. */
function results(folder) {
  const run = (...words) => execFileSync(program, words, { stdio: "pipe", cwd: root });
  const at = (name) => path.join(folder, name);
  const quickstart = path.join("scenarios", "quickstart.toml");
  run("compare", quickstart, "--seeds", "2", "--quiet", "--out", at("compare"));
  run("sweep", quickstart, "--vary", "variant=vanilla,modm-sdxl", "--vary", "cache.capacity=100,1000", "--quiet", "--out", at("sweep"));
  run("capacity", quickstart, "--variants", "vanilla,modm-sdxl", "--quiet", "--out", at("capacity"));
  run("plan", quickstart, "--attainment", "0.9", "--seeds", "1", "--max-gpus", "24", "--quiet", "--out", at("plan"));
  run("simulate", quickstart, "--quiet", "--out", at("alone"));
  run("report", at("compare"), at("alone"), "--out", at("merged"));
  const names = ["compare", "sweep", "capacity", "plan", "merged"];
  if (run("--help").toString().includes("validate")) {
    // Small and short: what it finds does not matter here.
    const sets = ["trace.synthetic.requests=40", "models.steps=26", "allocation.period_s=1", "system.bounds=[[0.80, 10], [0.90, 20]]"];
    const flags = sets.flatMap((set) => ["--set", set]);
    run("validate", path.join("scenarios", "fidelity.toml"), "--jobs", "2", "--rounds", "1", "--draws", "2", ...flags, "--quiet", "--out", at("validate"));
    names.push("validate");
  }
  return names;
}

async function check(browser, folder, name) {
  const report = pathToFileURL(path.join(folder, name, "report.html")).href;
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 400]) {
      const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 }, offline: true });
      const seen = watch(page, report);
      await page.goto(report);
      assert.deepEqual(await violations(page), [], `${name}: axe-core, ${colorScheme}, ${width} px`);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(overflow <= 0, `${name}: ${overflow} px wider than ${width}`);
      if (colorScheme === "light" && width === 1280) {
        if (name === "compare") {
          await sorts(page);
          await showsWhatTheFileSays(page, path.join(folder, name));
        }
        if (name !== "validate") await showsValues(page, path.join(folder, name));
        await leadsToItsSections(page, name);
      }
      if (shots !== undefined) {
        await page.evaluate(() => {
          document.activeElement.blur();
          window.scrollTo(0, 0);
        });
        const prefix = name === "compare" ? "report" : name;
        await page.screenshot({ path: path.join(shots, `${prefix}-${width}-${colorScheme}.png`), fullPage: false });
      }
      assert.deepEqual(seen, [], `${name}: no request, no message, no error`);
      await page.close();
    }
  }
  await prints(browser, report);
}

async function main() {
  const folder = mkdtempSync(path.join(tmpdir(), "modm-report-"));
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    for (const name of results(folder)) await check(browser, folder, name);
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true, force: true });
  }
  console.log("the reports pass");
}

await main();
