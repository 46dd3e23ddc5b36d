// The page: controls, what they lead to, and the address that shares a view. Every number comes from the simulator.
"use strict";

const $ = (id) => document.getElementById(id);

/** A number with three significant digits. */
function short(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const whole = Math.abs(value) >= 10 ** digits;
  const text = whole ? String(Math.round(value)) : String(Number(value.toPrecision(digits)));
  return text.replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, "\u202f");
}
const percent = (share, digits = 3) => (share === null || share === undefined ? "–" : `${short(100 * share, digits)}\u202f%`);

/** Seconds in the unit that reads best. */
function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 600) return `${short(value)} s`;
  return value < 3 * 3600 ? `${short(value / 60)} min` : `${short(value / 3600)} h`;
}

/** Controls by their place on the page: name, group, label, scale, and the text of a value. */
const SHOWN = [
  ["gpus", "cluster", "GPUs", "whole", (v) => [short(v), ""]],
  ["large", "cluster", "Full generation, large model", "log", (v) => [short(v), "s"]],
  ["small", "cluster", "Full generation, small model", "log", (v) => [short(v), "s"]],
  ["load", "cluster", "Load of a model", "linear", (v) => [short(v), "s"]],
  ["rate", "requests", "Arrivals", "log", (v) => [short(v), "a minute"]],
  ["arrivals", "requests", "Spacing of the arrivals", ["Random (Poisson)", "In bursts (gamma, variation 3)", "Even"]],
  ["repeats", "requests", "Repeats in a session", "linear", (v) => [percent(v, 2), ""]],
  ["topics", "requests", "Topics", "log-whole", (v) => [short(v), ""]],
  ["cache", "cache-group", "Cache", "log-whole", (v) => [v >= 5000 ? "all" : short(v), "images"]],
  ["bounds", "cache-group", "Bounds of similarity", "linear", (v) => [`${v > 0 ? "+" : v < 0 ? "−" : "±"}${Math.abs(v).toFixed(3)}`, "to the paper's"]],
  ["mode", "cache-group", "Aim of the monitor", ["Quality: large workers where the load allows", "Throughput: small workers for every hit"]],
  ["slo", "cache-group", "In time", "linear", (v) => [`${v.toFixed(1)}×`, "a full generation"]],
];
const STEPS = 1000;

let description;
let numbers;
let asked = 0;
let shown;
let capacity;
let tell;
const outputs = new Map();
const figures = {};

const place = (name) => description.controls.findIndex((control) => control.name === name);
const get = (name) => numbers[place(name)];
const preset = () => description.presets[get("preset")];

/** The value of a slider's position, and back. */
function valueAt(name, kind, position) {
  const { low, high, whole } = description.controls[place(name)];
  const share = position / STEPS;
  const value = kind.startsWith("log") ? low * (high / low) ** share : low + (high - low) * share;
  if (whole) return Math.round(Number(value.toPrecision(kind === "whole" ? 12 : 2)));
  const rounded = kind === "log" ? Number(value.toPrecision(value < 100 ? 2 : 3)) : Math.round(value * 1000) / 1000;
  return Math.min(Math.max(name === "slo" ? Math.round(rounded * 10) / 10 : rounded, low), high);
}
function positionOf(name, kind, value) {
  const { low, high } = description.controls[place(name)];
  const share = kind.startsWith("log") ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.round(share * STEPS);
}

function makeControls() {
  $("preset").append(...description.presets.map(({ title }, index) => new Option(title, index)));
  $("preset").addEventListener("change", () => {
    const own = [...description.presets[Number($("preset").value)].numbers];
    // What belongs to no preset stays as it is.
    for (const name of ["arrivals", "repeats", "topics", "cache", "bounds", "mode", "slo", "seed"]) own[place(name)] = get(name);
    change(own);
  });
  for (const [name, group, label, kind, text] of SHOWN) {
    const row = document.createElement("div");
    row.className = "control";
    const head = document.createElement("label");
    head.htmlFor = name;
    head.append(label);
    let input;
    if (Array.isArray(kind)) {
      input = document.createElement("select");
      input.append(...kind.map((option, index) => new Option(option, index)));
      input.addEventListener("change", () => set(name, Number(input.value)));
      outputs.set(name, () => { input.value = get(name); });
    } else {
      input = document.createElement("input");
      Object.assign(input, { type: "range", min: 0, max: STEPS });
      const output = document.createElement("output");
      output.htmlFor = name;
      head.append(output);
      if (kind === "whole") {
        const { low, high } = description.controls[place(name)];
        Object.assign(input, { min: low, max: high });
      }
      const read = () => (kind === "whole" ? Number(input.value) : valueAt(name, kind, Number(input.value)));
      input.addEventListener("input", () => set(name, read()));
      outputs.set(name, () => {
        const value = get(name);
        const [said, unit] = text(value);
        const small = document.createElement("small");
        small.textContent = ` ${unit}`;
        output.replaceChildren(said, small);
        input.setAttribute("aria-valuetext", `${said} ${unit}`);
        // A slider that is being moved keeps its place.
        if (read() !== value) input.value = kind === "whole" ? value : positionOf(name, kind, value);
      });
    }
    input.id = name;
    row.append(head, input);
    $(group).append(row);
  }
}

const set = (name, value) => change(numbers.map((own, index) => (index === place(name) ? value : own)));

/** The address of the settings: what differs from the preset. */
function address() {
  const own = preset().numbers;
  const parts = description.controls.flatMap(({ name }, index) => {
    if (name === "preset") return get("preset") === 0 ? [] : [`preset=${preset().name}`];
    return numbers[index] === own[index] ? [] : [`${name}=${numbers[index]}`];
  });
  return parts.length === 0 ? "" : `#${parts.join("&")}`;
}

/** Settings of an address. What it names wrongly is left at the preset's. */
function fromAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const known = description.presets.findIndex(({ name }) => name === parts.get("preset"));
  const own = [...description.presets[Math.max(known, 0)].numbers];
  for (const [index, { name, low, high, whole }] of description.controls.entries()) {
    const value = Number(parts.get(name) || NaN);
    if (name !== "preset" && value >= low && value <= high && (!whole || Number.isInteger(value))) own[index] = value;
  }
  return own;
}

function change(next) {
  numbers = next;
  $("preset").value = get("preset");
  for (const refresh of outputs.values()) refresh();
  history.replaceState(null, "", address() || location.pathname + location.search);
  ask();
}

function ask() {
  asked += 1;
  capacity = undefined;
  window.modmShown = undefined;
  const own = asked;
  // Prompts take a second, everything else no time that one would notice.
  setTimeout(() => { if (shown?.id !== asked && own === asked) waiting(true); }, 150);
  tell({ id: asked, numbers });
}

function waiting(isWaiting) {
  $("figures").classList.toggle("stale", isWaiting);
  if (isWaiting) $("status").textContent = `Making and comparing ${short(description.warm + description.replayed)} prompts …`;
}

function received(message) {
  if (message.kind === "ready") {
    description = message.description;
    makeControls();
    makeFigures();
    addEventListener("hashchange", () => change(fromAddress()));
    change(fromAddress());
    return;
  }
  if (message.kind === "broken" || message.result?.error) {
    $("verdict").textContent = `The simulation stopped: ${message.error ?? message.result.error}. Reload the page.`;
    return;
  }
  if (message.id !== asked) {
    // A run that is out of date is still better than the one before, while a slider moves.
    if (message.kind === "run") showRun(message);
    return;
  }
  if (message.kind === "run") {
    waiting(false);
    showRun(message);
  } else {
    capacity = message.result;
    showCapacity();
  }
}

function showRun(message) {
  shown = message;
  const { vanilla, modm } = message.result;
  // With more than four requests a GPU waiting at the end, the queue has grown rather than swayed.
  const grows = [[vanilla, "the large model alone"], [modm, "MoDM"]].filter(([{ curves }]) => curves.waiting.at(-1) > 4 * get("gpus")).map(([, name]) => name);
  $("second").replaceChildren(
    "At ", bold(`${short(get("rate"))} requests a minute`), " MoDM has ", bold(percent(modm.summary.in_time)), " in time, the large model alone ",
    bold(percent(vanilla.summary.in_time)), "; MoDM's images keep ", bold(percent(modm.summary.quality_kept)), " of the large model's CLIPScore (estimated).",
    grows.length === 0 ? "" : ` The queue of ${grows.join(" and that of ")} still grows as the requests end: such latencies depend on how long the requests go on.`,
  );
  const both = [vanilla, modm];
  drawLatency(message.result, both);
  drawWaiting(message.result, both);
  drawWorkers(message.result, modm);
  drawCards();
  drawTable(message.result);
  drawFiles(message.files);
  drawAssumed(message.result);
  if (!capacity) drawRates();
  $("verdict").classList.toggle("stale", !capacity?.done);
  const [prepared, ran] = message.took;
  const before = prepared > 10 ? `Prompts made and compared in ${seconds(prepared / 1000)}. ` : "";
  $("status").textContent = `${before}Both systems simulated in ${short(ran, 2)} ms.`;
  // For tests: what is shown for the present settings.
  if (message.id === asked) window.modmShown = { run: message.result, took: message.took };
}

function bold(text) {
  const element = document.createElement("strong");
  element.textContent = text;
  return element;
}

const held = (one) => (one.per_min === null ? "no rate" : `${one.no_limit ? "at least " : ""}${short(one.per_min)}`);

function showCapacity() {
  drawCards();
  drawRates();
  const { vanilla, modm } = capacity;
  if (!capacity.done) return;
  $("verdict").classList.remove("stale");
  const limit = seconds(shown.result.limit_s);
  const ratio = vanilla.per_min && modm.per_min && !vanilla.no_limit ? modm.per_min / vanilla.per_min : undefined;
  $("verdict").replaceChildren(
    "MoDM holds ", bold(`${held(modm)} requests a minute`), ` within ${limit}, where the large model alone holds `, bold(held(vanilla)),
    ratio === undefined ? "." : ": ", ratio === undefined ? "" : bold(`${modm.no_limit ? "at least " : ""}${short(ratio)} times`), ratio === undefined ? "" : " as many.",
  );
  window.modmShown.capacity = capacity;
  drawTable(shown.result);
}

function drawCards() {
  const { vanilla, modm } = shown.result;
  const done = capacity?.done;
  const rows = [
    ["Capacity", done ? held(capacity.modm) : "…", "a minute", done ? `alone ${held(capacity.vanilla)}` : "searching"],
    [`In time at ${short(get("rate"))}/min`, percent(modm.summary.in_time), "", `alone ${percent(vanilla.summary.in_time)}`],
    ["Hits", percent(modm.summary.hit_rate), "", `GPU: ${short(modm.summary.gpu_s_per_request)} of ${short(vanilla.summary.gpu_s_per_request)} s an image`],
    ["Quality kept", percent(modm.summary.quality_kept), "", `CLIPScore ${short(modm.summary.quality)} of ${short(vanilla.summary.quality)}`],
  ];
  $("cards").replaceChildren(...rows.map(([title, value, unit, more]) => {
    const row = document.createElement("li");
    row.innerHTML = "<p class=\"name\"></p><div class=\"value\"><b></b><span></span></div><p></p>";
    const [head, pair, foot] = row.children;
    head.textContent = title;
    pair.children[0].textContent = value;
    pair.children[1].textContent = unit;
    foot.textContent = more;
    return row;
  }));
}

function makeFigures() {
  const at = $("figures");
  const two = [["modm", "MoDM"], ["alone", "Large model alone"]];
  const limit = ["soft", "in time up to here", "dashed"];
  figures.rates = new Figure(at, { id: "figure-rates", title: "In time, by rate of arrivals", key: [...two, ["soft", "arrivals as set; 99 %", "dashed"]] });
  figures.latency = new Figure(at, { id: "figure-latency", title: "Latency: median, and up to the 95th percentile", key: [...two, limit] });
  figures.waiting = new Figure(at, { id: "figure-waiting", title: "Requests that wait", key: two });
  figures.workers = new Figure(at, { id: "figure-workers", title: "MoDM's GPUs, by the model that they hold", key: [] });
}

/** The axis of time, in minutes or hours, and the middle of each window. */
function times(result, count) {
  const isLong = result.span_s > 5 * 3600;
  const unit = isLong ? 3600 : 60;
  const to = result.span_s / unit;
  const ticks = linearTicks(to).filter((tick) => tick <= to * 1.0001);
  return {
    x: { from: 0, to, ticks, text: (value) => short(value), label: isLong ? "hours" : "minutes" },
    at: Array.from({ length: count }, (_, index) => ((index + 0.5) / count) * to),
    say: (index) => `after ${short(((index + 0.5) / count) * to)} ${isLong ? "hours" : "minutes"}`,
  };
}

function drawLatency(result, [vanilla, modm]) {
  const { x, at, say } = times(result, modm.curves.latency_p50_s.length);
  const all = [vanilla, modm].flatMap(({ curves }) => [...curves.latency_p50_s, ...curves.latency_p95_s]).filter((value) => value !== null);
  const from = Math.min(...all, result.limit_s) * 0.8;
  const to = Math.max(...all, result.limit_s) * 1.15;
  const series = [[vanilla, "alone"], [modm, "modm"]];
  figures.latency.draw({
    x,
    y: { from, to, isLog: true, ticks: timeTicks(from, to), text: (value) => (value >= 3600 ? `${short(value / 3600)} h` : value >= 60 ? `${short(value / 60)} min` : `${short(value)} s`) },
    bands: series.map(([{ curves }, colour]) => ({ low: curves.latency_p50_s, high: curves.latency_p95_s, colour, opacity: 0.16 })),
    lines: series.map(([{ curves }, colour]) => ({ values: curves.latency_p50_s, colour })),
    marks: [{ y: result.limit_s }],
    at,
    say: (index) => `arrived ${say(index)}\nMoDM: ${seconds(modm.curves.latency_p50_s[index])}, 95 % within ${seconds(modm.curves.latency_p95_s[index])}\nalone: ${seconds(vanilla.curves.latency_p50_s[index])}, 95 % within ${seconds(vanilla.curves.latency_p95_s[index])}`,
    label: `Mean over the run: MoDM ${seconds(modm.summary.latency_mean_s)}, large model alone ${seconds(vanilla.summary.latency_mean_s)}.`,
  });
}

function drawWaiting(result, [vanilla, modm]) {
  const { x, at, say } = times(result, modm.curves.waiting.length);
  const most = Math.max(...vanilla.curves.waiting, ...modm.curves.waiting, 4) * 1.08;
  figures.waiting.draw({
    x,
    y: { from: 0, to: most, ticks: linearTicks(most), text: (value) => short(value) },
    lines: [{ values: vanilla.curves.waiting, colour: "alone" }, { values: modm.curves.waiting, colour: "modm" }],
    at,
    say: (index) => `${say(index)}\nMoDM: ${short(modm.curves.waiting[index])} wait\nalone: ${short(vanilla.curves.waiting[index])} wait`,
    label: `At the last arrival ${short(modm.curves.waiting.at(-1))} requests wait with MoDM, ${short(vanilla.curves.waiting.at(-1))} with the large model alone.`,
  });
}

function drawWorkers(result, { curves }) {
  const { x, at, say } = times(result, curves.waiting.length);
  const [large, small] = curves.workers;
  const upTo = (...parts) => at.map((_, index) => parts.reduce((sum, part) => sum + part[index], 0));
  const none = at.map(() => 0);
  const gpus = get("gpus");
  const stack = [[none, large, "large"], [large, upTo(large, small), "small"], [upTo(large, small), upTo(large, small, curves.loading), "load"]];
  figures.workers.name([["large", result.models[0], "area"], ["small", result.models[1], "area"], ["load", "loading", "area"]]);
  figures.workers.draw({
    x,
    y: { from: 0, to: gpus, ticks: linearTicks(gpus), text: (value) => short(value) },
    areas: stack.map(([low, high, colour]) => ({ low, high, colour, opacity: 0.75 })),
    at,
    say: (index) => `${say(index)}\n${result.models[0]}: ${short(large[index])}\n${result.models[1]}: ${short(small[index])}\nloading: ${short(curves.loading[index])}, drawing: ${short(curves.busy[index])}`,
    label: `On average ${short(large.reduce((a, b) => a + b, 0) / large.length)} of ${gpus} GPUs hold ${result.models[0]}.`,
  });
}

function drawRates() {
  const series = capacity ? [[capacity.vanilla, "alone"], [capacity.modm, "modm"]] : [];
  const rates = series.flatMap(([{ points }]) => points.map(([rate]) => rate));
  const from = Math.min(...rates.filter((rate) => rate > 0), get("rate"), 1e9) * 0.9;
  const to = Math.max(...rates, get("rate"), from * 4) * 1.1;
  const points = series.flatMap(([own, colour]) => own.points.map(([rate, share]) => ({ rate, share, colour }))).sort((a, b) => a.rate - b.rate);
  figures.rates.element.classList.toggle("stale", !capacity?.done);
  figures.rates.draw({
    x: { from, to, isLog: true, ticks: logTicks(from, to), text: (value) => short(value), label: "requests a minute" },
    y: { from: 0, to: 1.04, ticks: [0, 0.25, 0.5, 0.75, 1], text: (value) => `${Math.round(100 * value)} %` },
    dots: series.map(([own, colour]) => ({ points: own.points, colour })),
    marks: [{ x: get("rate") }, { y: 0.99 }],
    at: points.map(({ rate }) => rate),
    say: (index) => `${points[index].colour === "modm" ? "MoDM" : "Large model alone"}\n${percent(points[index].share)} in time\nat ${short(points[index].rate)} a minute`,
    label: capacity?.done ? `Capacity: MoDM ${held(capacity.modm)}, large model alone ${held(capacity.vanilla)} requests a minute.` : "The search goes on.",
  });
}

function drawTable(result) {
  const [a, b] = [result.vanilla.summary, result.modm.summary];
  const ratio = (one, other) => (one && other ? `${short(other / one)}×` : "–");
  const known = capacity?.done ? capacity : undefined;
  const rows = [
    ["Capacity", "requests a minute", known ? held(known.vanilla) : "…", known ? held(known.modm) : "…", known ? ratio(known.vanilla.per_min, known.modm.per_min) : "…"],
    ["In time", "share of the requests", percent(a.in_time), percent(b.in_time), ratio(a.in_time, b.in_time)],
    ["Throughput, steady", "requests a minute", short(a.steady_per_min), short(b.steady_per_min), ratio(a.steady_per_min, b.steady_per_min)],
    ["Latency, mean", "", seconds(a.latency_mean_s), seconds(b.latency_mean_s), ratio(a.latency_mean_s, b.latency_mean_s)],
    ["Latency, 99th percentile", "", seconds(a.latency_p99_s), seconds(b.latency_p99_s), ratio(a.latency_p99_s, b.latency_p99_s)],
    ["Hits", "share of the requests", "–", percent(b.hit_rate), ""],
    ["GPU time", "seconds an image", short(a.gpu_s_per_request), short(b.gpu_s_per_request), ratio(a.gpu_s_per_request, b.gpu_s_per_request)],
    ["Energy", "kJ an image, by assumed powers", short(a.energy_j_per_image / 1000), short(b.energy_j_per_image / 1000), ratio(a.energy_j_per_image, b.energy_j_per_image)],
    ["Quality", "CLIPScore; MoDM's is estimated", short(a.quality, 4), short(b.quality, 4), ratio(a.quality, b.quality)],
    ["Images by the large model", "share", percent(1), percent(b.completed_by_model.length > 1 ? b.completed_by_model[indexOfLarge()] / b.completed : 1), ""],
    ["Loads of models", "", short(a.model_loads), short(b.model_loads), ""],
  ];
  const cell = (tag, text, scope) => {
    const element = document.createElement(tag);
    if (scope) element.scope = scope;
    element.textContent = text;
    return element;
  };
  const head = document.createElement("thead");
  const names = document.createElement("tr");
  names.append(...["Measure", "Large model alone", "MoDM", "Ratio"].map((name) => cell("th", name, "col")));
  head.append(names);
  const body = document.createElement("tbody");
  for (const [name, unit, ...values] of rows) {
    const row = document.createElement("tr");
    const first = cell("th", name, "row");
    const more = document.createElement("span");
    more.className = "unit";
    more.textContent = unit ? `, ${unit}` : "";
    first.append(more);
    row.append(first, ...values.map((value) => cell("td", value)));
    body.append(row);
  }
  $("results").replaceChildren(head, body);
  const skips = Object.entries(result.modm.summary.hits_by_skipped_steps).map(([k, count]) => `${short(count)} hits skip ${k}`);
  $("foot").textContent = `${short(description.replayed)} requests${skips.length > 0 ? `; of ${result.steps} steps, ${skips.join(", ")}` : ""}. Bounds: ${result.bounds.map(([bound, k]) => `${bound} → ${k}`).join(", ")}.`;
}

/** Images are counted by the names of the models, in the order of the alphabet. */
function indexOfLarge() {
  return preset().large.name < preset().small.name ? 0 : 1;
}

function drawFiles(files) {
  const file = (name, text) => `cat > ${name} <<'END'\n${text}END\n`;
  const profile = files.profile === null ? "" : file(files.profile_name, files.profile);
  $("files").textContent = `${file("page.toml", files.scenario)}${profile}modm compare page.toml --capacity --out results/page\n`;
}

function drawAssumed(result) {
  const own = preset();
  const times = ["large", "small", "load"].map(place);
  const changed = times.some((index) => numbers[index] !== own.numbers[index]);
  const rows = [
    `Service times: ${changed ? "chosen on this page in place of the preset's. The preset's: " : ""}${own.source}`,
    `The ${short(description.warm + description.replayed)} prompts are synthetic: sessions of users on topics, with repeats and edits of one attribute, as in scenarios/quickstart.toml. The images of the first ${short(description.warm)} are cached before time zero; the other ${short(description.replayed)} are replayed.`,
    "Similarities are those of stand-in embeddings, fitted to published figures of CLIP on DiffusionDB. No image is drawn. With your own prompts and CLIP embeddings the hit rate is another: it is what matters most.",
    "Bounds: those of the paper for CLIP ViT-L/14, moved as set. The quality of hits is estimated from the models' published scores and the similarity of the retrieved image.",
    "One trace, and service times without spread. The program says how far other traces, and times 5 % longer or shorter, move each number.",
    "Looking up takes no time, and nobody else uses the GPUs.",
  ];
  $("assumed").replaceChildren(...rows.map((text) => {
    const row = document.createElement("li");
    row.textContent = text;
    return row;
  }));
}

/** Copies a text; where that is not allowed, marks the element that shows it. */
async function copy(text, button, element) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    if (element) getSelection().selectAllChildren(element);
    button.textContent = element ? "Marked: copy with your keyboard" : "The address above is the link";
  }
  setTimeout(() => { button.textContent = before; }, 1600);
}

async function start() {
  const packed = Uint8Array.from(atob($("module").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const module = await new Response(unpacked).arrayBuffer();
  try {
    const source = `const receive = (${engine})((message) => postMessage(message)); onmessage = ({ data }) => receive(data);`;
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => received(data);
    tell = (question) => worker.postMessage(question);
  } catch {
    // Without a worker the page computes by itself, a run at a time.
    tell = engine(received);
  }
  tell({ module });
  $("reset").addEventListener("click", () => change([...preset().numbers]));
  $("trace").addEventListener("click", () => set("seed", (get("seed") + 1) % 10000));
  $("share").addEventListener("click", () => copy(location.href, $("share")));
  $("copy").addEventListener("click", () => copy($("files").textContent, $("copy"), $("files")));
}

start().catch((error) => { $("verdict").textContent = `This browser cannot run the simulation: ${error}`; });
