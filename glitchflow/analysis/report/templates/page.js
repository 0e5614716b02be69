"use strict";
// Draws the Q-plots of the page and its table of events. Everything is in the page: nothing is fetched.
const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const rowOf = new Map(columns.event.map((event, i) => [event, i]));
const total = columns.event.length;

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const viridis = bytes(data.colours);
const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const draw = (name, attributes = {}, text = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
};

// -- Q-plots ---------------------------------------------------------------------------------------------------

const BOX = { left: 46, top: 20, width: 190, height: 140, right: 10, bottom: 34 };

async function inflate(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// energies, lowest frequency first, as report/images.py made them levels
const energyOf = (image, level) => image.peak * (level / data.levels) ** 2;

const colourOf = (energy, top) => 3 * Math.round(255 * Math.sqrt(Math.min(1, energy / top)));

function paint(image, levels, top) {
  const [rows, width] = image.shape;
  const canvas = make("canvas", { width, height: rows });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, rows);
  const colours = Array.from({ length: data.levels + 1 }, (_, level) => colourOf(energyOf(image, level), top));
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < width; column++) {
      const from = colours[levels[row * width + column]];
      const to = 4 * ((rows - 1 - row) * width + column); // the canvas has its first row on top
      pixels.data.set([viridis[from], viridis[from + 1], viridis[from + 2], 255], to);
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL("image/png");
}

// where a value lies along an axis, from 0 to 1, and back
const along = (axis, value) => axis.logarithmic
  ? Math.log(value / axis.low) / Math.log(axis.high / axis.low) : (value - axis.low) / (axis.high - axis.low);
const value = (axis, part) => axis.logarithmic
  ? axis.low * (axis.high / axis.low) ** part : axis.low + part * (axis.high - axis.low);

function ticks(axis, count) {
  if (axis.logarithmic && axis.high > 3 * axis.low) { // 1, 2, 5 a decade
    const found = [];
    for (let decade = 10 ** Math.floor(Math.log10(axis.low)); decade <= axis.high; decade *= 10)
      found.push(...[1, 2, 5].map((digit) => digit * decade));
    return found.filter((tick) => tick >= axis.low && tick <= axis.high);
  }
  const rough = (axis.high - axis.low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= rough);
  const found = [];
  for (let i = Math.ceil(axis.low / step); i * step <= axis.high; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function frame(svg, figure) {
  const { left, top, width, height } = BOX;
  svg.append(draw("rect", { class: "frame", x: left, y: top, width, height }));
  for (const tick of ticks(figure.time, 4)) {
    const x = left + width * along(figure.time, tick);
    svg.append(draw("line", { class: "tick", x1: x, x2: x, y1: top + height, y2: top + height + 4 }));
    svg.append(draw("text", { x, y: top + height + 15, "text-anchor": "middle" }, String(tick)));
  }
  for (const tick of ticks(figure.frequency, 5)) {
    const y = top + height * (1 - along(figure.frequency, tick));
    svg.append(draw("line", { class: "tick", x1: left - 4, x2: left, y1: y, y2: y }));
    svg.append(draw("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, String(tick)));
  }
  svg.append(draw("text", { x: left + width / 2, y: top + height + 30, "text-anchor": "middle" }, "time [s]"));
  const middle = top + height / 2;
  svg.append(draw("text", { x: 10, y: middle, "text-anchor": "middle", transform: `rotate(-90 10 ${middle})` }, "frequency [Hz]"));
}

async function panel(figure, image, output) {
  const { left, top, width, height, right, bottom } = BOX;
  const levels = await inflate(image.data);
  const svg = draw("svg", { viewBox: `0 0 ${left + width + right} ${top + height + bottom}`, role: "img", "aria-label": image.name });
  svg.append(draw("text", { class: "name", x: left, y: top - 6 }, image.name));
  const picture = draw("image", { x: left, y: top, width, height, preserveAspectRatio: "none", href: paint(image, levels, figure.top) });
  svg.append(picture);
  frame(svg, figure);
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const x = Math.min(.9999, Math.max(0, (event.clientX - box.left) / box.width));
    const y = Math.min(.9999, Math.max(0, 1 - (event.clientY - box.top) / box.height));
    const [rows, across] = image.shape;
    const energy = energyOf(image, levels[Math.floor(y * rows) * across + Math.floor(x * across)]);
    output.value = `${image.name}: energy ${energy.toFixed(1)} at ${value(figure.frequency, y).toFixed(1)} Hz, ` +
      `${value(figure.time, x).toFixed(3)} s`;
  });
  return svg;
}

function scale(top) { // the colours of energies from 0 to the top, square root
  const left = 112, width = 150;
  const svg = draw("svg", { viewBox: "0 0 275 30", role: "img", "aria-label": "colour scale", class: "scale" });
  const count = 64;
  for (let i = 0; i < count; i++) {
    const from = 3 * Math.round(255 * i / (count - 1));
    const fill = `rgb(${viridis[from]} ${viridis[from + 1]} ${viridis[from + 2]})`;
    svg.append(draw("rect", { x: left + width * i / count, y: 2, width: width / count + .5, height: 10, fill }));
  }
  const shown = ticks({ low: 0, high: top }, 3).filter((tick) => tick === 0 || tick > top / 30);
  for (const tick of shown) {
    const x = left + width * Math.sqrt(tick / top);
    svg.append(draw("line", { class: "tick", x1: x, x2: x, y1: 12, y2: 15 }));
    svg.append(draw("text", { x, y: 26, "text-anchor": "middle" }, String(tick)));
  }
  svg.append(draw("text", { x: left - 8, y: 12, "text-anchor": "end" }, "normalised energy"));
  return svg;
}

async function show(place) { // draw the figure that an element names
  const figure = data.figures[place.dataset.figure];
  const event = Number(place.dataset.event ?? place.dataset.figure);
  const output = make("output"), panels = make("div", { class: "panels" });
  const title = make("div", { class: "title" }, make("span", {}, titleOf(event)), scale(figure.top));
  place.replaceChildren(title, panels, output);
  panels.append(...await Promise.all(figure.images.map((image) => panel(figure, image, output))));
}

function titleOf(event) {
  const row = rowOf.get(event);
  if (row === undefined) return `event ${event}`;
  const snr = columns.snr?.[row];
  const words = [`event ${event}`, columns.family[row], `GPS ${shown("gps", row)}`];
  if (snr) words.push(`SNR ${shown("snr", row)}`);
  if (outcomes[row]) words.push(`${outcomes[row]} at s = ${threshold()}`);
  return words.join(" · ");
}

// -- events ----------------------------------------------------------------------------------------------------

const PAGE = 50; // rows at a time
const filters = document.getElementById("filters");
const body = document.querySelector("#table tbody");
const heads = [...document.querySelectorAll("#table thead th")];
const scored = Boolean(columns.recorded_level);
const state = { key: "event", descending: false, page: 0, rows: [] };
let outcomes = new Array(total).fill(null);

const threshold = () => Number(filters.threshold.value) || data.threshold;
const valueOf = (key, row) => (key === "outcome" ? outcomes : columns[key])[row] ?? null;

function shown(key, row) {
  const found = valueOf(key, row);
  if (found === null) return "–";
  return data.formats[key] === null ? String(found) : found.toFixed(data.formats[key]);
}

function decide() { // the veto of each scored event at s: generated against recorded
  if (!scored) return;
  const s = threshold();
  outcomes = columns.recorded_level.map((recorded, row) => {
    const generated = columns.generated_level[row];
    if (recorded === null || generated === null) return null;
    return generated >= s ? (recorded >= s ? "caught" : "false") : (recorded >= s ? "missed" : "quiet");
  });
}

function passes() { // a test for each filter that is set
  const tests = [];
  for (const key of ["family", "outcome", "split", "why"]) {
    const wanted = filters[key].value;
    if (wanted) tests.push((row) => wanted === "*" ? valueOf(key, row) !== null : valueOf(key, row) === wanted);
  }
  for (const key of ["gps", "residual_level"]) {
    const low = filters[`${key}-low`].value, high = filters[`${key}-high`].value;
    if (low !== "") tests.push((row) => valueOf(key, row) !== null && valueOf(key, row) >= Number(low));
    if (high !== "") tests.push((row) => valueOf(key, row) !== null && valueOf(key, row) <= Number(high));
  }
  return (row) => tests.every((test) => test(row));
}

function order(a, b) { // what is not known comes last either way; ties by event
  const left = valueOf(state.key, a), right = valueOf(state.key, b);
  if (left === null || right === null) return (left === null) - (right === null) || a - b;
  const sign = left < right ? -1 : left > right ? 1 : 0;
  return (state.descending ? -sign : sign) || a - b;
}

function update() {
  decide();
  const test = passes();
  state.rows = [...Array(total).keys()].filter(test).sort(order);
  state.page = 0;
  count();
  fill();
}

function count() {
  const found = { caught: 0, missed: 0, false: 0, quiet: 0 };
  for (const row of state.rows) if (outcomes[row]) found[outcomes[row]]++;
  const known = Object.values(found).reduce((a, b) => a + b, 0);
  let words = `${state.rows.length} of ${total} events`;
  if (known) {
    words += `; at s = ${threshold()} ${Object.entries(found).map(([name, n]) => `${n} ${name}`).join(", ")}: `;
    words += `${(100 * (found.caught + found.quiet) / known).toFixed(1)} % of ${known} decisions right`;
  }
  document.getElementById("counts").textContent = `${words}.`;
}

function fill() { // the rows of this page of the table
  const start = state.page * PAGE, rows = state.rows.slice(start, start + PAGE);
  body.replaceChildren(...rows.map((row) => {
    const cells = heads.map((head) => cell(head.dataset.key, row));
    return make("tr", { class: "event", "data-row": row }, ...cells);
  }));
  document.getElementById("place").textContent = rows.length ? `${start + 1}–${start + rows.length} of ${state.rows.length}` : "no event";
  document.getElementById("previous").disabled = state.page === 0;
  document.getElementById("next").disabled = start + PAGE >= state.rows.length;
  for (const head of heads) {
    if (head.dataset.key === state.key) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

function cell(key, row) {
  if (key === "why") {
    const why = columns.why[row];
    return make("td", {}, make("button", { type: "button", "aria-expanded": "false" }, why ?? "command"));
  }
  if (key === "outcome" && outcomes[row]) {
    const unseen = outcomes[row] === "missed" && data.unwitnessed.includes(columns.family[row]);
    const title = unseen ? "no witness sees this family: it is left alone rightly" : "";
    return make("td", {}, make("span", { class: `outcome ${unseen ? "quiet" : outcomes[row]}`, title }, outcomes[row]));
  }
  return make("td", data.formats[key] === null ? {} : { class: "number" }, shown(key, row));
}

function open(line) { // or close: the event's figure below its row, or the command that draws it
  const button = line.querySelector("button"), below = line.nextElementSibling;
  if (below?.classList.contains("drawing")) {
    below.remove();
    button.setAttribute("aria-expanded", "false");
    return;
  }
  const row = Number(line.dataset.row), event = columns.event[row];
  const inside = make("td", { colspan: heads.filter((head) => !head.hidden).length });
  if (data.figures[event]) {
    const place = make("div", { class: "qplots", "data-figure": event });
    inside.append(place);
    show(place);
  } else {
    inside.append("Its figure is not in this page; this draws it:", make("pre", { tabindex: "0" }, data.command.replaceAll("{event}", event)));
  }
  line.after(make("tr", { class: "drawing" }, inside));
  button.setAttribute("aria-expanded", "true");
}

function prepare() { // columns and filters that say nothing of these events are not shown
  for (const head of heads) {
    const key = head.dataset.key;
    const known = key === "outcome" ? scored : (columns[key] ?? []).some((each) => each !== null);
    head.hidden = !known && key !== "why";
  }
  heads.splice(0, heads.length, ...heads.filter((head) => !head.hidden));
  for (const key of ["family", "split", "why"]) {
    if (key === "why") filters.why.append(make("option", { value: "*" }, "any"));
    for (const name of [...new Set(columns[key])].filter((each) => each !== null).sort())
      filters[key].append(make("option", { value: name }, name));
  }
  for (const name of ["caught", "missed", "false", "quiet"]) filters.outcome.append(make("option", { value: name }, name));
  if (!scored) for (const name of ["threshold", "outcome", "residual_level-low", "residual_level-high"]) filters[name].parentElement.hidden = true;
  else if (columns.split.every((split, row) => columns.recorded_level[row] === null || split === "test")) filters.split.value = "test";
  filters.threshold.value = data.threshold;
}

filters.addEventListener("input", update);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(() => { filters.threshold.value = data.threshold; update(); }));
document.querySelector("#table thead").addEventListener("click", (event) => {
  const key = event.target.closest("th")?.dataset.key;
  if (!key) return;
  // scores are looked at from their highest
  Object.assign(state, { key, descending: state.key === key ? !state.descending : data.formats[key] > 0 && key !== "gps" });
  update();
});
body.addEventListener("click", (event) => {
  const line = event.target.closest("tr.event");
  if (line) open(line);
});
for (const [name, step] of [["previous", -1], ["next", 1]]) {
  document.getElementById(name).addEventListener("click", () => { state.page += step; fill(); });
}
addEventListener("beforeprint", () => document.querySelectorAll("details.print").forEach((each) => { each.open = true; }));

prepare();
update();
(async () => { // one after the other: the page answers meanwhile
  for (const place of document.querySelectorAll(".qplots[data-figure]")) await show(place);
  document.documentElement.dataset.drawn = "all";
})();
