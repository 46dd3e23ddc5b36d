// The page of `modm serve` in headless Chromium, against the real server on models of shapes: a picture comes, the same prompt
// is a hit with its source beside it, cancelling works, errors are said in words. The page asks nothing of any other host, says
// nothing on the console, is legible in light and dark, fits a phone, and has no accessibility violation that axe-core knows.
//
//   node serve.mjs MODM [SHOTS]   with a built program; screenshots go to the folder SHOTS
//
// Run it from the repository root, with ORT_DYLIB_PATH set. `scripts/test` installs what it needs: Chromium and the packages of
// package-lock.json.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "..", "..");
const [program, shots] = process.argv.slice(2).map((file) => path.resolve(file));
const PROMPT = "a small red circle at the top left on a white background";
const PATIENCE = 60_000; // models load first

/** The server, once it says where it listens. */
async function serve(data) {
  const words = ["serve", path.join("scenarios", "live-shapes.toml"), "--data", data, "--listen", "127.0.0.1:0"];
  const child = spawn(program, words, { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
  const exited = new Promise((resolve) => child.on("exit", (code, signal) => resolve(code ?? signal)));
  const said = [];
  const origin = await new Promise((resolve, reject) => {
    createInterface({ input: child.stderr }).on("line", (line) => {
      said.push(line);
      const found = line.match(/listening on (http:\/\/127\.0\.0\.1:\d+)/);
      if (found) resolve(found[1]);
    });
    child.on("error", reject);
    exited.then((code) => reject(new Error(`ended with ${code} before it listened:\n${said.join("\n")}`)));
    setTimeout(() => reject(new Error(`does not listen:\n${said.join("\n")}`)), PATIENCE).unref();
  });
  return { child, exited, origin, said };
}

async function ready(origin) {
  for (const until = Date.now() + PATIENCE; Date.now() < until; await new Promise((resolve) => setTimeout(resolve, 100))) {
    if ((await fetch(`${origin}/readyz`)).status === 200) return;
  }
  assert.fail("never ready");
}

/** What a run of the browser must never see. */
function watch(page, origin) {
  const seen = [];
  page.on("console", (message) => seen.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => seen.push(`error: ${error}`));
  page.on("request", (request) => {
    const url = request.url();
    if (![`${origin}/`, `blob:${origin}/`, "data:"].some((start) => url.startsWith(start))) seen.push(`request: ${url}`);
  });
  return seen;
}

/** Chromium itself tells the console of answers of 400 and above and of broken connections: expected where a test makes one. */
const unexpected = (seen) => seen.filter((line) => !line.startsWith("console: Failed to load resource"));

async function violations(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
}

async function open(browser, origin, { colorScheme = "light", width = 1280 } = {}) {
  const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 }, reducedMotion: "reduce" });
  page.setDefaultTimeout(PATIENCE);
  const seen = watch(page, origin);
  await page.goto(origin);
  await page.locator("#server[data-state=up]").waitFor();
  return { page, seen };
}

/** Asks the page until it is so. Playwright's own way evaluates a string, which the page's policy refuses, as it should. */
async function until(page, holds, argument) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await page.waitForTimeout(50)) {
    if (await page.evaluate(holds, argument)) return;
  }
  assert.fail(`never so: ${holds}`);
}

const shown = (page, selector) =>
  until(page, (wanted) => {
    const images = [...document.querySelectorAll(wanted)];
    return images.length > 0 && images.every((image) => image.src.startsWith("blob:") && image.complete && image.naturalWidth > 0);
  }, selector);

/** Draws what the form says and waits for the pictures. */
async function draw(page, prompt) {
  await page.getByLabel("What should the picture show?").fill(prompt);
  await page.getByRole("button", { name: "Draw" }).click();
  await page.locator("#phase", { hasText: /^Done/ }).waitFor();
  await shown(page, "#pictures .made img");
}

async function policy(origin) {
  const reply = await fetch(origin);
  const header = reply.headers.get("content-security-policy") ?? "";
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "form-action 'none'"]) {
    assert.ok(header.includes(part), `${part} in the Content-Security-Policy "${header}"`);
  }
  assert.ok(!header.includes("unsafe"), header);
}

/** An empty server says what to do; a first prompt is a miss, the same again a hit that shows what it was refined from. */
async function missThenHit(browser, origin) {
  const { page, seen } = await open(browser, origin);
  await page.locator("#cache-note", { hasText: "No pictures yet" }).waitFor();
  assert.match(await page.locator("#phase").innerText(), /Nothing drawn yet/);
  assert.deepEqual(await violations(page), [], "axe-core, before anything is drawn");

  await draw(page, PROMPT);
  assert.equal(await page.locator("#pictures .badge").innerText(), "Miss");
  assert.equal(await page.locator("#pictures .source").count(), 0);
  assert.equal(await page.locator("#pictures .made img").getAttribute("alt"), PROMPT);

  // By keyboard, this time.
  await page.locator(`#cache img[alt="${PROMPT}"]`).first().waitFor();
  await page.getByLabel("What should the picture show?").fill("");
  await page.locator("#cache button").first().press("Enter");
  assert.equal(await page.locator("#prompt").inputValue(), PROMPT, "a cached picture gives its prompt");
  await page.locator("#prompt").press("Control+Enter");
  await page.locator("#pictures .badge", { hasText: "Hit" }).waitFor();
  await shown(page, "#pictures .made img, #pictures .source img");
  const facts = await page.locator("#pictures .picture").innerText();
  const [, skipped, total] = facts.match(/(\d+) of (\d+) steps spared/).map(Number);
  assert.ok(skipped > 0 && skipped < total, facts);
  for (const name of ["Similarity", "Queue", "Denoise"]) assert.match(facts, new RegExp(`${name}\\s+\\d+\\.\\d+`), facts);
  assert.deepEqual(seen, [], "no request elsewhere, no message, no error");
  await page.close();
}

/** The page in every look it has, with something on it. */
async function looks(browser, origin) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 400]) {
      const { page, seen } = await open(browser, origin, { colorScheme, width });
      await draw(page, PROMPT);
      await shown(page, "#cache img");
      await page.locator("#workers tbody tr").first().waitFor();
      await page.locator(".chart").nth(4).waitFor();
      const charts = await page.$$eval(".chart svg[role=img]", (all) =>
        all.map((one) => [one.getAttribute("aria-label"), one.querySelectorAll("path, polygon").length]),
      );
      assert.equal(charts.length, 5);
      for (const [words, lines] of charts) assert.ok(words.includes("now") && lines > 0, `${words}: ${lines} lines`);
      await until(page, () => /arrivals: now [1-9]/.test(document.querySelector(".chart svg[role=img]").ariaLabel));
      assert.deepEqual(await violations(page), [], `axe-core, ${colorScheme}, ${width} px`);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(overflow <= 0, `${overflow} px wider than ${width}`);
      if (shots !== undefined) {
        await page.evaluate(() => document.activeElement.blur());
        await page.screenshot({ path: path.join(shots, `serve-${width}-${colorScheme}.png`), fullPage: true });
      }
      assert.deepEqual(seen, [], "no request elsewhere, no message, no error");
      await page.close();
    }
  }
}

/** A cancelled job draws no more, and the form can be used again. Ten pictures take a while; a slow click is made once more. */
async function cancels(browser, origin) {
  const { page, seen } = await open(browser, origin);
  await page.getByLabel("Pictures").fill("10");
  let said = "";
  for (let attempt = 0; attempt < 5 && !said.startsWith("Cancelled"); attempt += 1) {
    const place = ["top", "bottom", "left", "right", "center"][attempt];
    await page.getByLabel("What should the picture show?").fill(`a large blue star at the ${place} on a yellow background`);
    await page.getByRole("button", { name: "Draw" }).click();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.locator("#phase", { hasText: /^(Cancelled|Done)/ }).waitFor();
    said = await page.locator("#phase").innerText();
  }
  assert.match(said, /^Cancelled/);
  await page.locator("#cancel").waitFor({ state: "hidden" });
  await page.getByLabel("Pictures").fill("1");
  await draw(page, PROMPT);
  assert.deepEqual(seen, [], "no request elsewhere, no message, no error");
  await page.close();
}

/** What goes wrong is said in words, beside the field it is about where it is about one. */
async function errors(browser, origin) {
  const { page, seen } = await open(browser, origin);
  const [prompt, error] = [page.getByLabel("What should the picture show?"), page.locator("#error")];
  const submit = () => page.getByRole("button", { name: "Draw" }).click();
  await submit();
  assert.match(await error.innerText(), /prompt is empty/);
  assert.equal(await prompt.getAttribute("aria-invalid"), "true");
  assert.deepEqual(seen, [], "an empty prompt is not sent");

  const refused = page.waitForResponse((reply) => reply.url().endsWith("/v1/jobs"));
  await prompt.fill("a red circle ".repeat(1000));
  await submit();
  const { error: said } = await (await refused).json();
  await error.filter({ hasText: said.message }).waitFor();
  assert.equal(await prompt.getAttribute("aria-invalid"), "true");
  assert.deepEqual(await violations(page), [], "axe-core, with an error");

  const full = { error: { message: "The queue is full.", type: "rate_limit_error", param: null, code: "queue_full" } };
  await page.route("**/v1/jobs", (route) => route.fulfill({ status: 429, headers: { "Retry-After": "7" }, json: full }));
  await prompt.fill(PROMPT);
  await submit();
  await error.filter({ hasText: /The queue is full\. Try again in 7 s/ }).waitFor();
  assert.equal(await prompt.getAttribute("aria-invalid"), null);
  await page.unroute("**/v1/jobs");

  // Without its stream, a job is asked for instead.
  await page.route("**/v1/jobs/*/events", (route) => route.abort());
  await draw(page, PROMPT);
  assert.equal(await error.innerText(), "");
  assert.deepEqual(unexpected(seen), [], "no request elsewhere, no message, no error");
  await page.close();
}

/** A key is asked for where the server asks for one, sent with every request, kept in this tab alone, and forgotten when told. */
async function keys(browser, origin) {
  const { page, seen } = await open(browser, origin);
  const wrong = { error: { message: "No such API key.", type: "authentication_error", param: null, code: "invalid_api_key" } };
  const sent = [];
  await page.route("**/v1/**", async (route) => {
    const header = await route.request().headerValue("authorization");
    sent.push(header);
    if (header === "Bearer right") await route.continue();
    else await route.fulfill({ status: 401, json: wrong });
  });
  const status = page.locator("#server");
  await status.filter({ hasText: "No such API key." }).waitFor();
  await page.getByRole("textbox", { name: "API key" }).fill("right");
  await page.getByRole("button", { name: "Use" }).click();
  await page.locator("#server[data-state=up]").waitFor();
  await shown(page, "#cache img");
  assert.ok(sent.includes("Bearer right"));
  const stored = await page.evaluate(() => [localStorage.length, document.cookie, Object.values(sessionStorage)]);
  assert.deepEqual(stored, [0, "", ["right"]]);
  assert.deepEqual(await violations(page), [], "axe-core, with the key's form");
  await page.getByRole("button", { name: "Forget" }).click();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await status.filter({ hasText: "No such API key." }).waitFor();
  assert.deepEqual(unexpected(seen), [], "no request elsewhere, no message, no error");
  await page.close();
}

async function main() {
  const folder = mkdtempSync(path.join(tmpdir(), "modm-serve-"));
  let server, browser;
  try {
    server = await serve(path.join(folder, "data"));
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
    await ready(server.origin);
    await policy(server.origin);
    for (const check of [missThenHit, cancels, errors, keys, looks]) await check(browser, server.origin);
    await browser.close();
    server.child.kill("SIGTERM");
    assert.equal(await server.exited, 0, `ends well when told to stop:\n${server.said.join("\n")}`);
  } finally {
    await browser?.close();
    server?.child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
  console.log("the page of the server passes");
}

await main();
