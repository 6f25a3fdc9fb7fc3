// How many accepted impacts are so large or larger, both axes logarithmic.

const PLOT = { width: 300, height: 170, left: 40, right: 10, top: 10, bottom: 30 };

/** 1, 2 and 5 times powers of ten around `from..=to`: the first is not above, the last not below. */
function ticks(from, to) {
  const every = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); power++) {
    every.push(...[1, 2, 5].map((lead) => Number((lead * 10 ** power).toPrecision(1))));
  }
  const first = every.findLastIndex((tick) => tick <= from), last = every.findIndex((tick) => tick >= to);
  return every.slice(first, Math.max(last, first + 1) + 1);
}
function plot() {
  const accepted = all.filter((one) => verdict(one) === "accept");
  const sizes = accepted.map(size).filter((d) => d > 0).sort((a, b) => b - a);
  $("plot-says").textContent = sizes.length
    ? `${grouped(sizes.length)} accepted: cumulative number by diameter, ${unit}`
    : "The diameters of accepted impacts are plotted here.";
  const { width, height, left, right, top, bottom } = PLOT;
  $("plot").setAttribute("viewBox", `0 0 ${width} ${height}`);
  $("plot").toggleAttribute("hidden", !sizes.length);
  if (!sizes.length) return;
  const across = ticks(sizes[sizes.length - 1], sizes[0]), up = ticks(1, Math.max(sizes.length, 2));
  const share = (value, axis) => Math.log(value / axis[0]) / Math.log(axis[axis.length - 1] / axis[0]);
  const x = (d) => left + (width - left - right) * share(d, across);
  const y = (n) => height - bottom - (height - top - bottom) * share(n, up);
  const parts = [];
  const line = (d) => parts.push(drawing("path", { class: "axis", d }));
  const label = (words, how) => parts.push(Object.assign(drawing("text", how), { textContent: words }));
  for (const d of across) {
    line(`M${x(d)} ${top}V${height - bottom}`);
    label(String(d), { x: x(d), y: height - bottom + 12, "text-anchor": "middle" });
  }
  for (const n of up) {
    line(`M${left} ${y(n)}H${width - right}`);
    label(grouped(n), { x: left - 5, y: y(n) + 3, "text-anchor": "end" });
  }
  label(`diameter, ${unit}`, { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" });
  const middle = (top + height - bottom) / 2;
  label("as large or larger", { transform: `translate(10 ${middle}) rotate(-90)`, "text-anchor": "middle" });
  const steps = sizes.map((d, k) => (k ? `H${x(d).toFixed(1)}V${y(k + 1).toFixed(1)}` : `M${x(d).toFixed(1)} ${y(1)}`));
  parts.push(drawing("path", { class: "curve", d: steps.join("") }));
  if (sizes.length <= 200) {
    sizes.forEach((d, k) => parts.push(drawing("circle", { class: "dot", cx: x(d), cy: y(k + 1), r: 2.4 })));
  }
  $("plot").replaceChildren(...parts);
}
