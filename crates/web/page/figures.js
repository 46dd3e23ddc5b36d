// Figures: lines, bands and stacked areas as SVG, with values by pointer and arrow keys.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 520;
const HEIGHT = 232;
const EDGE = { left: 52, right: 12, top: 10, bottom: 36 };

function shape(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Numbers at which a linear axis from 0 has lines, about four of them. */
function linearTicks(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((step) => step >= rough * 0.999);
  const ticks = [];
  for (let tick = 0; tick <= most * 1.0001; tick += step) ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

/** Numbers at which a logarithmic axis has lines: powers of ten, or 1, 2 and 5 of each where there are few. */
function logTicks(least, most) {
  const all = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power += 1) {
    for (const times of [1, 2, 5]) all.push(Number((times * 10 ** power).toPrecision(12)));
  }
  const within = all.filter((tick) => tick >= least * 0.999 && tick <= most * 1.001);
  const tens = within.filter((tick) => /^(10*|0\.0*1)$/.test(String(tick)));
  return within.length <= 6 || tens.length < 2 ? within : tens;
}

/** Seconds at which a logarithmic axis has lines, about five of them. */
function timeTicks(least, most) {
  const all = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000, 36000, 86400, 172800, 360000, 720000, 1800000];
  const within = all.filter((tick) => tick >= least && tick <= most);
  const every = Math.ceil(within.length / 6);
  return within.filter((_, index) => index % every === 0);
}

/** A scale from numbers to places on the page. */
function scale(from, to, low, high, isLog) {
  const at = isLog ? Math.log : (value) => value;
  return (value) => low + ((at(value) - at(from)) / (at(to) - at(from))) * (high - low);
}

/** A figure of its own element, which `draw` draws anew. */
class Figure {
  constructor(place, { id, title, key }) {
    this.element = document.createElement("figure");
    this.element.id = id;
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "group");
    const caption = document.createElement("figcaption");
    caption.append(title);
    this.key = document.createElement("ul");
    this.key.className = "key";
    this.svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.element.append(caption, this.key, this.svg, this.tip);
    this.title = title;
    place.append(this.element);
    this.name(key);
    this.point = undefined;
    this.svg.addEventListener("pointermove", (event) => this.pointed(event));
    this.svg.addEventListener("pointerdown", (event) => this.pointed(event));
    this.svg.addEventListener("pointerleave", () => this.show(undefined));
    this.element.addEventListener("blur", () => this.show(undefined));
    this.element.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") this.show(undefined);
      if (move === undefined || event.target !== this.element) return;
      event.preventDefault();
      this.show(this.point === undefined ? 0 : this.point + move);
    });
  }

  /** Writes the key: rows of a colour's name, a text and a kind of mark. */
  name(key) {
    const rows = key.map(([colour, text, kind]) => {
      const row = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.setProperty("--colour", `var(--${colour})`);
      mark.className = kind ?? "";
      row.append(mark, text);
      return row;
    });
    this.key.replaceChildren(...rows);
  }

  /**
   * Draws: `x` and `y` with `from`, `to`, `isLog`, `ticks`, `label` and `text` (of a value); `bands` and `areas` with `low`
   * and `high`; `lines` with `values`; `marks` with `x` or `y`; `at` the places of values, `say` the text at one.
   */
  draw({ x, y, bands = [], areas = [], lines = [], dots = [], marks = [], at, say, label }) {
    const left = EDGE.left;
    const [right, top, bottom] = [WIDTH - EDGE.right, EDGE.top, HEIGHT - EDGE.bottom];
    const toX = scale(x.from, x.to, left, right, x.isLog);
    const toY = scale(y.from, y.to, bottom, top, y.isLog);
    const inside = (value) => Math.min(Math.max(toY(Math.max(value, y.isLog ? y.from : -Infinity)), top), bottom);
    const parts = [];
    for (const tick of y.ticks) {
      parts.push(shape("line", { class: "grid", x1: left, x2: right, y1: toY(tick), y2: toY(tick) }));
      parts.push(shape("text", { x: left - 7, y: toY(tick) + 4, "text-anchor": "end" }, y.text(tick)));
    }
    for (const tick of x.ticks) {
      parts.push(shape("text", { x: toX(tick), y: bottom + 17, "text-anchor": "middle" }, x.text(tick)));
    }
    parts.push(shape("text", { x: right, y: HEIGHT - 4, "text-anchor": "end" }, x.label));
    parts.push(shape("line", { class: "grid", x1: left, x2: right, y1: bottom, y2: bottom }));
    const path = (values, isMoving = true) => {
      let text = "";
      values.forEach((value, index) => {
        if (value === null || value === undefined) return;
        text += `${text === "" && isMoving ? "M" : "L"}${toX(at[index]).toFixed(1)} ${inside(value).toFixed(1)}`;
      });
      return text;
    };
    for (const { low, high, colour, opacity } of [...areas, ...bands]) {
      const known = at.map((_, index) => index).filter((index) => high[index] !== null && low[index] !== null);
      if (known.length < 2) continue;
      const there = known.map((index) => `${toX(at[index]).toFixed(1)} ${inside(high[index]).toFixed(1)}`);
      const back = known.map((index) => `${toX(at[index]).toFixed(1)} ${inside(low[index]).toFixed(1)}`).reverse();
      parts.push(shape("path", { d: `M${[...there, ...back].join("L")}Z`, fill: `var(--${colour})`, opacity }));
    }
    for (const { values, colour } of lines) {
      parts.push(shape("path", { class: "line", d: path(values), stroke: `var(--${colour})` }));
    }
    for (const { points, colour } of dots) {
      const places = points.map(([value, share]) => `${toX(value).toFixed(1)} ${inside(share).toFixed(1)}`);
      if (places.length > 1) parts.push(shape("path", { class: "line", d: `M${places.join("L")}`, stroke: `var(--${colour})` }));
      for (const [value, share] of points) {
        parts.push(shape("circle", { cx: toX(value), cy: inside(share), r: 2.6, fill: `var(--${colour})` }));
      }
    }
    for (const mark of marks) {
      if (mark.x !== undefined && mark.x >= x.from && mark.x <= x.to) {
        parts.push(shape("line", { class: "mark", x1: toX(mark.x), x2: toX(mark.x), y1: top, y2: bottom }));
      }
      if (mark.y !== undefined && mark.y >= y.from && mark.y <= y.to) {
        parts.push(shape("line", { class: "mark", x1: left, x2: right, y1: toY(mark.y), y2: toY(mark.y) }));
      }
    }
    this.cross = shape("line", { class: "cross", x1: 0, x2: 0, y1: top, y2: bottom, visibility: "hidden" });
    this.svg.replaceChildren(...parts, this.cross);
    this.svg.setAttribute("aria-label", `${this.title}. ${label}`);
    Object.assign(this, { at, toX, say });
    if (this.point !== undefined) this.show(this.point);
  }

  pointed(event) {
    if (!this.at || this.at.length === 0) return;
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    let best = 0;
    this.at.forEach((value, index) => {
      if (Math.abs(this.toX(value) - place.x) < Math.abs(this.toX(this.at[best]) - place.x)) best = index;
    });
    this.show(best);
  }

  /** Shows the values at a point; hides them without one. */
  show(point) {
    if (point === undefined || !this.at || this.at.length === 0) {
      this.point = undefined;
      this.tip.hidden = true;
      this.cross?.setAttribute("visibility", "hidden");
      return;
    }
    this.point = Math.min(Math.max(point, 0), this.at.length - 1);
    const x = this.toX(this.at[this.point]);
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    this.cross.setAttribute("visibility", "visible");
    this.tip.textContent = this.say(this.point);
    this.tip.hidden = false;
    const seen = this.svg.getBoundingClientRect();
    const box = this.element.getBoundingClientRect();
    const place = seen.left - box.left + (x / WIDTH) * seen.width;
    const side = place > box.width / 2 ? place - this.tip.offsetWidth - 10 : place + 10;
    this.tip.style.left = `${Math.max(side, 4)}px`;
    this.tip.style.top = `${seen.top - box.top + 6}px`;
  }
}
