// `modm serve` asked by OpenAI's own npm package, unmodified, and its jobs by fetch: clients.py in short.
//
//   node clients.mjs BASE_URL [KEY]   BASE_URL as the server prints it; KEY where it has keys
//
// The package is that of package-lock.json; `scripts/check_clients` installs it, starts a server and runs this.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [base, key] = process.argv.slice(2);
if (!base) {
  console.error("usage: node clients.mjs BASE_URL [KEY]");
  process.exit(2);
}
// A server without keys asks for none, but the package wants one.
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key ?? "none", maxRetries: 0, timeout: 120_000 });
const headers = key ? { Authorization: `Bearer ${key}` } : {};
const ask = (path, options = {}) => fetch(new URL(path, base), { ...options, headers: { ...headers, ...options.headers } });
const prompt = "a large yellow triangle at the bottom on a purple background";

/** Width and height as the header of a PNG has them. */
function size(png) {
  assert.equal(png.subarray(0, 8).toString("latin1"), "\x89PNG\r\n\x1a\n");
  return `${png.readUInt32BE(16)}x${png.readUInt32BE(20)}`;
}

async function fetched(url) {
  const answer = await ask(url);
  assert.equal(answer.status, 200, url);
  assert.equal(answer.headers.get("content-type"), "image/png");
  return Buffer.from(await answer.arrayBuffer());
}

const status = await (await ask("/v1/status")).json();

async function pictures() {
  const drawn = await client.images.generate({ prompt, n: 2, seed: 7, deadline_s: 60 });
  assert.equal(drawn.size, status.size);
  assert.deepEqual(drawn.data.map(({ b64_json }) => size(Buffer.from(b64_json, "base64"))), [status.size, status.size]);
  assert.deepEqual(drawn.data.map(({ modm }) => modm), drawn.modm);
  for (const { decision, total_steps } of drawn.modm) {
    assert.ok(["miss", "hit", "return"].includes(decision), decision);
    assert.equal(total_steps, status.steps);
  }
  const linked = await client.images.generate({ prompt, n: 2, response_format: "url", size: "auto", model: "modm" });
  for (const { url } of linked.data) assert.equal(size(await fetched(url)), status.size);
  return drawn.modm.concat(linked.modm).map(({ decision }) => decision).join(", ");
}

async function streams() {
  const names = [];
  for await (const { type, b64_json } of await client.images.generate({ prompt, stream: true, partial_images: 2 })) {
    names.push(type);
    assert.equal(size(Buffer.from(b64_json, "base64")), status.size);
  }
  assert.deepEqual(names, ["image_generation.completed"]);
  const drawn = await client.images.generate({ prompt, model: "gpt-image-1", size: "1024x1024", quality: "high" });
  assert.equal(drawn.size, status.size, "the answer says what was drawn");
  return names.join(", ");
}

async function edits() {
  const source = await client.images.generate({ prompt });
  const image = await OpenAI.toFile(Buffer.from(source.data[0].b64_json, "base64"), "source.png", { type: "image/png" });
  const edited = await client.images.edit({ prompt, image });
  assert.equal(edited.data[0].modm.decision, "edit");
  await assert.rejects(client.images.createVariation({ image }), { status: 501, code: "not_offered" });
  return `${edited.data[0].modm.skipped_steps} steps skipped`;
}

async function withdrawn() {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 60);
  await assert.rejects(client.images.generate({ prompt, n: 10 }, { signal: controller.signal }), OpenAI.APIUserAbortError);
  return "a client that goes away";
}

async function models() {
  const names = (await client.models.list()).data.map(({ id }) => id);
  assert.equal(names[0], "modm");
  for (const name of names) assert.equal((await client.models.retrieve(name)).id, name);
  return names.join(", ");
}

async function errors() {
  const wrong = { size: "big", n: 11, style: "loud", colour: "red" };
  for (const [param, value] of Object.entries(wrong)) {
    await assert.rejects(client.images.generate({ prompt, [param]: value }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, `${param}: ${error}`);
      assert.deepEqual([error.status, error.type, error.param], [400, "invalid_request_error", param]);
      return true;
    });
  }
  await assert.rejects(client.models.retrieve("no-such-model"), OpenAI.NotFoundError);
  if (!key) return "of requests; this server has no keys";
  const stranger = client.withOptions({ apiKey: "modm-wrong" });
  await assert.rejects(stranger.images.generate({ prompt }), OpenAI.AuthenticationError);
  return "of requests and of keys";
}

async function submit(request) {
  const body = JSON.stringify(request);
  const answer = await ask("/v1/jobs", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  assert.equal(answer.status, 202);
  return answer.headers.get("location");
}

async function jobs() {
  const job = await submit({ prompt });
  const stream = await (await ask(`${job}/events`)).text(); // the server ends it
  const names = [...stream.matchAll(/^event: ?(.*)$/gm)].map(([, name]) => name);
  assert.equal(names.at(-1), "completed");
  const done = await (await ask(job)).json();
  assert.equal(done.status, "completed");
  assert.equal(size(await fetched(done.data[0].url)), status.size);
  const other = await submit({ prompt, n: 10 });
  assert.equal((await (await ask(other, { method: "DELETE" })).json()).status, "cancelled");
  return `${names.length} events; another cancelled`;
}

for (const check of [pictures, streams, edits, withdrawn, models, errors, jobs]) console.log(`${check.name.padEnd(24)} ${await check()}`);
