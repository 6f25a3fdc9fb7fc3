// Elements, and words.

function make(name, kind) {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  return element;
}
function text(name, words, kind) {
  const element = make(name, kind);
  element.textContent = words;
  return element;
}
function drawing(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
/** The sign of a verdict; nothing where there is none. */
function icon(verdict) {
  const svg = drawing("svg", {});
  svg.append(drawing("use", {}));
  setIcon(svg, verdict);
  return svg;
}
function setIcon(svg, verdict) {
  if (svg.dataset.is === verdict) return;
  svg.dataset.is = verdict;
  svg.setAttribute("class", verdict);
  svg.firstChild.setAttribute("href", `#${verdict || "none"}`);
}
function table(element, rows) {
  element.replaceChildren(...rows.map(([name, value]) => {
    const row = make("tr");
    row.append(text("th", name), text("td", value));
    return row;
  }));
}
/** A count with its thousands apart. */
const grouped = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const three = (value) => value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
const metres = (value) => (value >= 1000 ? `${three(value / 1000)} km` : `${value.toFixed(value >= 100 ? 0 : 1)} m`);
const length = (value) => (measured ? metres(value) : `${value.toFixed(1)} px`);
const degrees = (value, plus, minus) => `${Math.abs(value).toFixed(5)}° ${value < 0 ? minus : plus}`;

let saying = 0;
/** A line at the foot of the page, for a while. */
function say(words, ms = 4000) {
  $("says").textContent = words;
  clearTimeout(saying);
  saying = setTimeout(() => { $("says").textContent = ""; }, ms);
}
