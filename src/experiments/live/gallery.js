// Shows the pictures that fit a text and the choices. Without it all pictures are there. It asks nothing of the network
// and stores nothing.
"use strict";

const form = document.querySelector("form");
const figures = [...document.querySelectorAll("figure")];
const prompts = figures.map((figure) => figure.querySelector("figcaption").textContent.toLowerCase());
const text = form.querySelector("input");
const count = form.querySelector("output");
const choices = [...form.querySelectorAll("select")].filter((select) => {
  const values = [...new Set(figures.map((figure) => figure.dataset[select.name]))].filter((value) => value !== undefined);
  select.append(...values.sort().map((value) => new Option(value)));
  select.hidden = values.length < 2;
  return !select.hidden;
});

const show = () => {
  const words = text.value.toLowerCase().split(/\s+/);
  let shown = 0;
  figures.forEach((figure, at) => {
    const fits =
      words.every((word) => prompts[at].includes(word)) &&
      choices.every((select) => select.value === "" || figure.dataset[select.name] === select.value);
    figure.hidden = !fits;
    shown += fits ? 1 : 0;
  });
  count.textContent = `${shown} of ${figures.length}`;
};

form.hidden = false;
form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
show();
