// What the page of `modm serve` does: asks for pictures and follows them, charts the load, lists the workers, shows the cache.
// It speaks only to the server it came from, by the HTTP API that everybody else uses. Whatever the server says becomes text
// or an attribute, never markup: prompts are other people's words.

const byId = (id) => document.getElementById(id);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;
const percent = (value) => `${Math.round(value * 100)} %`;
const FINAL = ["completed", "failed", "cancelled"];

/** An element with attributes and children; a string is text. */
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const shape = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// The API.

const KEY = "modm-key";

class Refused extends Error {
  constructor(message, status, param = null) {
    super(message);
    Object.assign(this, { status, param });
  }
}

async function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const reply = await fetch(path, { ...options, headers }).catch((cause) => {
    throw cause.name === "AbortError" ? cause : new Refused("The server does not answer. Is it running?", 0);
  });
  if (reply.ok) return reply;
  const { error } = await reply.json().catch(() => ({}));
  const wait = parseInt(reply.headers.get("Retry-After"), 10);
  const when = wait >= 0 ? ` Try again in ${wait} s, at ${new Date(Date.now() + wait * 1000).toLocaleTimeString()}.` : "";
  if (reply.status === 401) byId("access").open = true;
  throw new Refused((error?.message ?? `The server answered ${reply.status}.`) + when, reply.status, error?.param);
}
const json = async (path, options) => (await call(path, options)).json();

/** Events of a stream; EventSource could not send a key. Ends with the stream, or when keep-alives stay away. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let text = ""; ; ) {
      const silent = setTimeout(() => reader.cancel(), 45_000);
      const { value, done } = await reader.read().finally(() => clearTimeout(silent));
      if (done) return;
      const blocks = (text + value).replaceAll("\r\n", "\n").split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const field = (name) => block.match(new RegExp(`^${name}: ?(.*)$`, "m"))?.[1];
        if (field("event")) yield { name: field("event"), data: JSON.parse(field("data") || "{}") };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Pictures are fetched, since an <img> could not send a key, and shown through blob URLs.

const promptOf = new Map(); // of pictures that were in the grid, to say what a source shows
let size = null; // width and height, once known: places are kept for pictures to come

/** An image, and whether its picture came. */
function picture(id, alt) {
  const image = make("img", { alt, ...(size && { width: size[0], height: size[1] }) });
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= 128));
  const came = call(`v1/images/${encodeURIComponent(id)}`)
    .then((reply) => reply.blob())
    .then((blob) => {
      if (!image.gone) image.src = URL.createObjectURL(blob);
      return !image.gone;
    })
    .catch(() => false);
  return [image, came];
}

/** Empties a part of the page, and gives back the memory of its pictures. */
function empty(node) {
  for (const image of node.querySelectorAll("img")) {
    image.gone = true;
    URL.revokeObjectURL(image.src);
  }
  node.replaceChildren();
}

// Drawing.

let run = null; // the job that is followed; one at a time

function progress(step, steps) {
  const known = steps > 0 && typeof step === "number";
  byId("step").textContent = known ? `Step ${step} of ${steps}` : "";
  if (!known) return byId("bar").removeAttribute("value");
  byId("bar").max = steps;
  byId("bar").value = step;
}

/** Only where it changes, since it is read out. The steps are not in it: there are too many. */
function say(words) {
  if (byId("phase").textContent !== words) byId("phase").textContent = words;
}

const on = {
  queued: () => say("Waiting for its turn."),
  routed({ decision, skipped_steps: skipped, similarity }) {
    const alike = typeof similarity === "number" ? ` (similarity ${similarity.toFixed(2)})` : "";
    const spared = decision === "return" ? "returned as it is" : `${skipped} steps spared`;
    run.route = decision === "miss" ? "Nothing similar enough is cached." : `Found a similar picture${alike}: ${spared}.`;
    say(run.route);
  },
  started: ({ model }) => say(`${run.route} The model ${model} draws.`.trim()),
  step: ({ step, steps }) => progress(step, steps),
};

/** One connection's worth of a job: the job as it ended, or null where the stream broke off. */
async function listen(id, signal) {
  const { body } = await call(`v1/jobs/${id}/events`, { signal, headers: { Accept: "text/event-stream" } });
  for await (const { name, data } of events(body)) {
    run.lost = 0;
    if (FINAL.includes(name)) return FINAL.includes(data.status) ? data : json(`v1/jobs/${id}`, { signal });
    on[name]?.(data);
  }
  return null;
}

async function ask(id, signal) {
  const job = await json(`v1/jobs/${id}`, { signal });
  if (FINAL.includes(job.status)) return job;
  progress(job.step, job.steps);
  say(job.status === "queued" ? "Waiting for its turn." : "Being drawn.");
  return null;
}

/** Until the job has ended, through lost connections: three more streams, then asking each second. */
async function follow(id, signal) {
  for (;;) {
    try {
      const job = await (run.lost < 3 ? listen : ask)(id, signal);
      if (job !== null) return job;
    } catch (failure) {
      if (!signal.aborted && failure.status >= 400 && failure.status < 500 && failure.status !== 429) throw failure;
    }
    if (signal.aborted) return run.ended;
    say("The connection is lost: trying again. The server draws on.");
    run.lost += 1;
    await pause(run.lost <= 3 ? 300 : 1000);
  }
}

function complain({ message, param }) {
  byId("error").textContent = message;
  for (const name of ["prompt", "n", "seed"]) {
    if (name !== param) byId(name).removeAttribute("aria-invalid");
    else fill(byId(name), { "aria-invalid": "true" }, []).focus();
  }
}

/** What the form asks for. Of numbers the browser says what is wrong, in the reader's language; the rest the server judges. */
function wanted() {
  const [prompt, n, seed] = ["prompt", "n", "seed"].map(byId);
  if (prompt.value.trim() === "") throw new Refused("Say what the picture should show: the prompt is empty.", 400, "prompt");
  for (const field of [n, seed]) if (!field.checkValidity()) throw new Refused(field.validationMessage, 400, field.id);
  return { prompt: prompt.value, n: Number(n.value), ...(seed.value !== "" && { seed: Number(seed.value) }) };
}

async function draw() {
  if (run !== null) return;
  run = { id: null, route: "", lost: 0, stop: new AbortController(), ended: null };
  complain({ message: "" });
  byId("submit").setAttribute("aria-disabled", "true");
  try {
    const body = wanted();
    const headers = { "Content-Type": "application/json" };
    run.id = (await json("v1/jobs", { method: "POST", headers, body: JSON.stringify(body) })).id;
    empty(byId("pictures"));
    progress(null);
    byId("progress").hidden = byId("cancel").hidden = false;
    say("Waiting for its turn.");
    show(await follow(run.id, run.stop.signal), body.prompt);
  } catch (failure) {
    if (run.id !== null) say("Not drawn.");
    complain(failure);
  }
  run = null;
  if (document.activeElement === byId("cancel")) byId("submit").focus();
  byId("progress").hidden = byId("cancel").hidden = true;
  byId("cancel").disabled = false;
  byId("submit").removeAttribute("aria-disabled");
}

async function cancel() {
  const mine = run;
  byId("cancel").disabled = true;
  try {
    mine.ended = await json(`v1/jobs/${mine.id}`, { method: "DELETE" });
    mine.stop.abort();
  } catch (failure) {
    if (run !== mine) return;
    byId("cancel").disabled = false;
    complain(failure);
  }
}

function show({ status, error, data }, prompt) {
  if (status === "cancelled") return say("Cancelled. Nothing more is drawn for it.");
  if (status === "failed") throw new Refused(error?.message ?? error?.error?.message ?? "The picture could not be drawn.", 500);
  const made = data.map((entry) => entry.modm);
  const sum = (name) => made.reduce((total, one) => total + one[name], 0);
  const spared = `${sum("skipped_steps")} of ${sum("total_steps")} steps spared`;
  say(made.length === 1 ? "Done." : `Done: ${made.length} pictures, ${spared}.`);
  byId("pictures").replaceChildren(...made.map((one) => card(one, prompt)));
  refresh();
}

function card(one, prompt) {
  const node = byId("card").content.cloneNode(true).firstElementChild;
  const [find, put] = [(css) => node.querySelector(css), (name, text) => (find(`[data-is=${name}]`).textContent = text)];
  const of = `${one.skipped_steps} of ${one.total_steps}`;
  const [badge, saved] = {
    miss: ["Miss", `Nothing similar enough was cached: all ${one.total_steps} steps drawn.`],
    hit: ["Hit", `${of} steps spared.`],
    return: ["Returned", `The cached picture itself: ${of} steps spared.`],
  }[one.decision];
  find(".badge").textContent = badge;
  find(".badge").classList.toggle("reused", one.decision !== "miss");
  put("saved", saved);
  put("model", one.model ?? "none");
  put("skipped", of);
  put("similarity", typeof one.similarity === "number" ? one.similarity.toFixed(3) : "nothing to compare");
  for (const name of ["queue", "denoise", "latency"]) put(name, seconds(one[`${name}_s`]));
  find(".steps").setAttribute("viewBox", `0 0 ${one.total_steps} 1`);
  find(".spared").setAttribute("width", one.skipped_steps);
  fill(find(".drawn"), { x: one.skipped_steps, width: one.total_steps - one.skipped_steps }, []);

  const [image, came] = picture(one.id, prompt);
  find(".made").append(image);
  came.then((there) => {
    if (there) Object.assign(find("a"), { href: image.src, download: `modm-${one.id}.png`, hidden: false });
    else find(".made figcaption").textContent = "The picture could not be fetched.";
  });
  if (typeof one.source === "string") {
    const [source, kept] = picture(one.source, promptOf.get(one.source) ?? "The cached picture that was refined");
    find(".source").append(source);
    kept.then((there) => there || find(".source figcaption").append(", no longer kept"));
  } else for (const part of [".source", ".arrow"]) find(part).remove();
  return node;
}

// The load, charted from what the server keeps of its last minutes.

const MINUTE = 60;

/** Sums over the minute that ends with each window: of one window of few seconds there is little to say. */
const minutely = (history, name) =>
  history.map(({ t }) => history.reduce((sum, one) => sum + (one.t > t - MINUTE && one.t <= t ? one[name] : 0), 0));

function share(history, part, whole) {
  const [parts, wholes] = [minutely(history, part), minutely(history, whole)];
  return parts.map((value, at) => (wholes[at] > 0 ? value / wholes[at] : null));
}

const within = (slo) => `Done within ${slo ? `${Number(slo.toPrecision(3))} s` : "the SLO"}`;

/** In the order of the page's figures. */
const charts = ({ history, models, slo_s: slo }) => [
  { title: "Requests a minute", series: ["arrivals", "completions"].map((name) => [name, minutely(history, name)]) },
  { title: "Requests waiting", series: [["in the queue", history.map(({ queued }) => queued)]] },
  { title: "Hit rate", shares: true, series: [["of the last minute", share(history, "hits", "routed")]] },
  { title: within(slo), shares: true, series: [["of the last minute", share(history, "within_slo", "completions")]] },
  {
    title: "Workers by model",
    stacked: true,
    series: models.map((model, index) => [model, history.map((one) => one.workers_by_model[index] ?? 0)]),
  },
];

function chart({ title, series, shares = false, stacked = false }, times, now, figure) {
  const svg = figure.querySelector("svg");
  const [width, height] = [svg.clientWidth || 320, svg.clientHeight || 144];
  const [left, right, top, bottom] = [shares ? 46 : 32, width - 6, 8, height - 22];
  const name = (value) => (typeof value !== "number" ? "none" : shares ? percent(value) : String(value));
  // Two steps of a round number reach the highest value.
  const tops = times.map((_, at) => series.map(([, values]) => values[at] ?? 0));
  const highest = Math.max(0, ...tops.map((all) => (stacked ? all.reduce((a, b) => a + b, 0) : Math.max(...all))));
  const unit = 10 ** Math.floor(Math.log10(Math.max(highest / 2, 1)));
  const round = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((digits) => digits * unit);
  const gap = shares ? 0.5 : round.find((step) => Number.isInteger(step) && step * 2 >= highest);
  const span = Math.min(15, Math.max(1, Math.ceil((now - (times[0] ?? now)) / MINUTE))) * MINUTE;
  const x = (time) => left + (right - left) * Math.max(0, 1 - (now - time) / span);
  const y = (value) => bottom - ((bottom - top) * value) / (gap * 2);
  const point = (value, at) => `${x(times[at]).toFixed(1)},${y(value).toFixed(1)}`;
  const label = (words, at, line, anchor) => shape("text", { x: at, y: line, "text-anchor": anchor }, words);

  const parts = [0, gap, gap * 2].flatMap((value) => [
    shape("line", { class: "rule", x1: left, x2: right, y1: y(value), y2: y(value) }),
    label(name(value), left - 6, y(value) + 4, "end"),
  ]);
  const every = [15, 60, 120, 300].find((step) => span / step <= 4);
  for (let ago = 0; ago <= span; ago += every) {
    const words = ago === 0 ? "now" : every < MINUTE ? `−${ago} s` : `−${ago / MINUTE} min`;
    parts.push(label(words, x(now - ago), height - 4, ago === 0 ? "end" : ago === span ? "start" : "middle"));
  }
  const base = times.map(() => 0);
  series.forEach(([, values], index) => {
    if (stacked) {
      const lower = base.map(point).reverse();
      const upper = values.map((value, at) => point((base[at] += value), at));
      parts.push(shape("polygon", { class: `area s${index % 4}`, points: [...upper, ...lower].join(" ") }));
    } else {
      const after = (at) => (typeof values[at - 1] === "number" ? "L" : "M");
      const path = values.map((value, at) => (value === null ? "" : after(at) + point(value, at)));
      parts.push(shape("path", { class: `line s${index % 4}`, d: path.join("") }));
    }
  });
  if (series.every(([, values]) => values.every((value) => value === null))) {
    parts.push(label("No requests yet: draw a picture", (left + right) / 2, (top + bottom) / 2 - 8, "middle"));
  }
  svg.replaceChildren(...parts);

  const most = (values) => name(values.reduce((high, value) => Math.max(high ?? 0, value ?? 0), null));
  const said = series.map(([what, values]) => `${what}: now ${name(values.at(-1))}, at most ${most(values)}.`);
  svg.setAttribute("aria-label", `${title}, last ${span / MINUTE} min. ${said.join(" ")}`);
  figure.querySelector("h3").textContent = title;
  const legend = series.map(([what, values], index) => {
    const area = shape("rect", { class: `area s${index % 4}`, width: 19, height: 11 });
    const mark = stacked ? area : shape("path", { class: `line s${index % 4}`, d: "M1 6H18" });
    const key = make("span", { class: "key" }, shape("svg", { viewBox: "0 0 19 11", "aria-hidden": "true" }, mark));
    return make("li", {}, key, `${what} `, make("b", {}, name(values.at(-1))));
  });
  figure.querySelector("ul").replaceChildren(...legend);
}

function lasting(value) {
  const [length, unit] = [[86_400, "days"], [3600, "h"], [60, "min"], [1, "s"]].find(([one]) => value >= 2 * one) ?? [1, "s"];
  return `${Math.floor(value / length)} ${unit}`;
}

function showStatus(status) {
  size = status.size.split("x");
  const about = `Pictures of ${size.join(" × ")} in ${status.steps} steps, up for ${lasting(status.uptime_s)}`;
  fill(byId("server"), { "data-state": "up" }, []).textContent = about;
  byId("hit-rate").textContent = status.hit_rate === null ? "none yet" : percent(status.hit_rate);
  byId("cached").textContent = status.cache_images.toLocaleString();
  byId("waiting").textContent = status.queued;
  byId("running").textContent = status.running;
  const times = status.history.map(({ t }) => t);
  const now = Math.max(status.uptime_s, times.at(-1) ?? 0);
  charts(status).forEach((one, index) => chart(one, times, now, byId("charts").children[index]));
  // Workers are shown to operators; a tenant sees its own requests alone.
  const workers = status.workers ?? [];
  byId("charts").lastElementChild.hidden = status.workers === undefined;
  byId("workers").parentElement.hidden = workers.length === 0;
  byId("no-workers").hidden = workers.length > 0;
  byId("no-workers").textContent =
    status.workers === undefined
      ? "Workers are shown to operators. The charts are of your own requests."
      : "No worker is up. What the server prints says why.";
  const rows = workers.map(({ worker, gpu, model, state }) => {
    const cells = [gpu, model ?? "none"].map((text) => make("td", {}, text));
    cells.push(make("td", { class: "state", "data-state": state }, state));
    return make("tr", {}, make("th", { scope: "row" }, String(worker)), ...cells);
  });
  byId("workers").tBodies[0].replaceChildren(...rows);
  showMachines(status.machines);
  showAudits(status.audit);
  if (status.cache_images !== cached && byId("cache").childElementCount === 0) refresh();
  cached = status.cache_images;
}

/** Workers on other machines; nothing where all are on this one. */
function showMachines(machines) {
  byId("machines").hidden = !machines;
  if (!machines) return;
  const nodes = new Set(machines.map(({ node }) => node)).size;
  byId("machines-note").textContent = `${machines.length} workers on ${nodes} ${nodes === 1 ? "machine" : "machines"} have been heard of.`;
  const rows = machines.map((one) => {
    const state = make("td", { class: "state", "data-state": one.state }, one.reason ? `${one.state}: ${one.reason}` : one.state);
    const counts = [one.pictures, one.sources_fetched, one.sources_kept].map((count) => make("td", {}, count.toLocaleString()));
    const heard = make("td", {}, `${one.silent_s.toFixed(1)} s ago`);
    const device = make("td", {}, `${one.device} (${one.gpu})`);
    return make("tr", {}, make("th", { scope: "row" }, one.node), device, make("td", {}, one.worker === null ? "" : String(one.worker)), state, ...counts, heard);
  });
  byId("machines").querySelector("tbody").replaceChildren(...rows);
}

/** What hits keep of the large model's quality; nothing where hits are not audited. */
function showAudits(audit) {
  byId("audit").hidden = !audit;
  if (!audit) return;
  const of = `The large model draws ${percent(audit.share)} of the hits as well.`;
  byId("audit-note").textContent = audit.kept.length > 0 ? of : `${of} None has been compared yet.`;
  byId("audits").parentElement.hidden = audit.kept.length === 0;
  const share = (value) => `${(value * 100).toFixed(1)} %`;
  const rows = audit.kept.map(({ tenant, skipped_steps: skipped, audited, kept, low, high }) => {
    const interval = typeof low === "number" ? `${share(low)} to ${share(high)}` : "too few to say";
    const cells = [tenant ?? "everybody", String(audited), typeof kept === "number" ? share(kept) : "nothing", interval];
    return make("tr", {}, make("th", { scope: "row" }, String(skipped)), ...cells.map((text) => make("td", {}, text)));
  });
  byId("audits").tBodies[0].replaceChildren(...rows);
}

let cached = 0;
let next = null; // the timer of the next look at the status: none while the tab is hidden, or a key is wanted

async function poll() {
  clearTimeout(next);
  let wait = 2000;
  try {
    showStatus(await json("v1/status"));
  } catch (failure) {
    fill(byId("server"), { "data-state": "down" }, []).textContent = failure.message;
    wait = failure.status === 401 ? null : 5000;
  }
  clearTimeout(next);
  if (wait !== null && !document.hidden) next = setTimeout(poll, wait);
}

// The cache.

let reading = Promise.resolve();

function tile({ id, prompt }) {
  promptOf.set(id, prompt);
  const button = make("button", { type: "button" }, picture(id, prompt)[0], make("span", { "aria-hidden": "true" }, prompt));
  button.addEventListener("click", () => {
    byId("prompt").value = prompt;
    byId("prompt").focus();
  });
  return make("li", { "data-id": id }, button);
}

/** The newest pictures in place of all that are shown, or the next older ones after them. */
async function read(older) {
  const last = older ? byId("more").dataset.next : undefined;
  const page = await json(`v1/cache?limit=24${last ? `&before=${encodeURIComponent(last)}` : ""}`);
  if (!last) empty(byId("cache"));
  byId("more").dataset.next = page.next ?? "";
  byId("cache").append(...page.data.map(tile));
  byId("more").hidden = !page.has_more;
  const hint = "Newest first. Choose a picture to use its prompt.";
  const nothing = "No pictures yet. Draw one, and it is kept here to be reused.";
  byId("cache-note").textContent = byId("cache").childElementCount > 0 ? hint : nothing;
}

/** One reading after another, so that none is listed twice. */
function browse(older) {
  reading = reading.then(() => read(older)).catch((failure) => (byId("cache-note").textContent = failure.message));
}
const refresh = () => browse(false);

// What the reader does.

function setKey(key) {
  const hint = byId("key-hint");
  if (!/^[!-~]*$/.test(key)) return (hint.textContent = "A key has only letters, digits and signs, without spaces.");
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  byId("key").value = key;
  hint.textContent = key ? "Used from now on, in this tab only." : "Forgotten. Requests go without a key.";
  complain({ message: "" });
  poll();
  refresh();
}

/** Listens for a form's being sent, which the page does itself. */
const onSubmit = (id, act) =>
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });

onSubmit("draw-form", draw);
onSubmit("key-form", () => setKey(byId("key").value.trim()));
byId("key-forget").addEventListener("click", () => setKey(""));
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) draw();
});
byId("cancel").addEventListener("click", cancel);
byId("refresh").addEventListener("click", refresh);
byId("more").addEventListener("click", () => browse(true));
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(next) : poll()));

byId("key").value = sessionStorage.getItem(KEY) ?? "";
poll();
refresh();
