// Tables that sort, and figures that say what stands where one points: by mouse, finger or arrow keys. Without it the page
// is whole all the same. It asks nothing of the network and stores nothing.
"use strict";

for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0];
  const first = [...body.rows];
  const number = (cell) => parseFloat(cell.textContent.replace(/[^0-9.\-–]/g, " ").trim().replace("–", ""));
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const order = { none: "descending", descending: "ascending", ascending: "none" }[head.ariaSort ?? "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order !== "none") head.setAttribute("aria-sort", order);
      const value = (row) => (column === 0 ? row.cells[0].textContent : number(row.cells[column]));
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (typeof x === "string") return x.localeCompare(y);
        return (Number.isNaN(x) ? 1 : 0) - (Number.isNaN(y) ? 1 : 0) || x - y;
      };
      const rows = [...first];
      if (order !== "none") rows.sort((a, b) => (order === "ascending" ? compare(a, b) : compare(b, a)));
      body.replaceChildren(...rows);
    });
  });
}

for (const figure of document.querySelectorAll("figure[data-points]")) {
  const svg = figure.querySelector("svg");
  const data = JSON.parse(document.getElementById(figure.dataset.points).textContent);
  const series = data.series.filter((one) => one.points.length > 0);
  if (series.length === 0) continue;
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  figure.append(tip);
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  for (const [name, value] of Object.entries({ r: 20, fill: "none", stroke: "currentColor", "stroke-width": 6 })) {
    ring.setAttribute(name, value);
  }
  let at = { series: 0, point: -1 };
  const hide = () => {
    tip.hidden = true;
    ring.remove();
  };
  const show = (next) => {
    at = next;
    const one = series[at.series];
    const [left, top, x, y] = one.points[at.point];
    ring.setAttribute("cx", left);
    ring.setAttribute("cy", top);
    svg.append(ring);
    tip.textContent = x === "" ? `${one.name}: ${y}` : data.x === "" ? `${one.name}, ${x}: ${y}` : `${one.name}: ${y} at ${x} (${data.x})`;
    tip.hidden = false;
    const place = svg.createSVGPoint();
    [place.x, place.y] = [left, top];
    const seen = place.matrixTransform(svg.getScreenCTM());
    const box = figure.getBoundingClientRect();
    const side = Math.min(seen.x - box.left + figure.scrollLeft + 12, figure.scrollLeft + box.width - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(side, 0)}px`;
    tip.style.top = `${seen.y - box.top - tip.offsetHeight - 10}px`;
  };
  svg.addEventListener("pointermove", (event) => {
    const place = svg.createSVGPoint();
    [place.x, place.y] = [event.clientX, event.clientY];
    const { x, y } = place.matrixTransform(svg.getScreenCTM().inverse());
    let best = { distance: Infinity };
    series.forEach((one, index) => {
      one.points.forEach(([left, top], point) => {
        const distance = (left - x) ** 2 + (top - y) ** 2;
        if (distance < best.distance) best = { distance, series: index, point };
      });
    });
    show(best);
  });
  svg.addEventListener("pointerleave", hide);
  figure.addEventListener("blur", hide);
  figure.addEventListener("keydown", (event) => {
    const turn = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (event.key === "Escape") hide();
    if (turn === undefined) return;
    event.preventDefault();
    const index = (at.series + turn[0] + series.length) % series.length;
    const points = series[index].points.length;
    show({ series: index, point: Math.min(Math.max(at.point + turn[1], 0), points - 1) });
  });
}
