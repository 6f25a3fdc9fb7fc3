// Pictures: blocks of JSON behind this script, read when they are needed.

const blocks = new Map();
const decoded = new Map();

/** Keeps the last `most` of what is remembered. */
function remember(map, key, value, most) {
  map.delete(key);
  map.set(key, value);
  if (map.size > most) map.delete(map.keys().next().value);
  return value;
}
/** A block that is not here yet comes as the page is loaded; it is whole when something follows it. */
async function block(name) {
  if (blocks.has(name)) return remember(blocks, name, blocks.get(name), 8);
  const coming = () => document.readyState === "loading" && !$(name)?.nextElementSibling;
  while (coming()) await new Promise((go) => setTimeout(go, 30));
  return remember(blocks, name, $(name) ? json(name) : null, 8);
}

const paper = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

/** Grey levels of a PNG, a byte a pixel. */
async function decode(coded) {
  if (!coded) return null;
  const bytes = Uint8Array.from(atob(coded), (c) => c.charCodeAt(0));
  const png = new Blob([bytes], { type: "image/png" });
  const bitmap = await createImageBitmap(png, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  Object.assign(paper.canvas, { width, height });
  paper.drawImage(bitmap, 0, 0);
  const { data } = paper.getImageData(0, 0, width, height), greys = new Uint8Array(width * height);
  for (let k = 0; k < greys.length; k++) greys[k] = data[4 * k];
  return { width, height, greys };
}
/** What the page has of a candidate: pictures as text, and the outline. */
async function coded({ index }) {
  return (await block(`pictures-${Math.floor(index / facts.block)}`))?.[index % facts.block];
}
/** One of a candidate's pictures; a promise, so that none is decoded twice. */
function picture(one, name) {
  const key = `${one.index} ${name}`;
  const come = () => coded(one).then((coded) => decode(coded?.[name]));
  return remember(decoded, key, decoded.get(key) ?? come(), 500);
}

const CONTRASTS = [1, 1.5, 2.2, 3.3];
const ZOOMS = [1, 1.5, 2, 3, 4];
/** How pictures are looked at; of `layout`, 0 is all of them and k the k-th alone. */
const look = { outline: true, invert: false, contrast: 0, zoom: 0, layout: 0 };

/** Draws grey levels with the page's contrast. No data is left open: the hatching behind it shows. */
function paint(canvas, { width, height, greys }) {
  const levels = Array.from({ length: 256 }, (_, v) => {
    const stretched = Math.min(Math.max(Math.round(128 + (v - 128) * CONTRASTS[look.contrast]), 0), 255);
    return look.invert ? 255 - stretched : stretched;
  });
  const image = new ImageData(width, height), colours = new Uint32Array(image.data.buffer);
  greys.forEach((grey, k) => { colours[k] = grey && (0xff000000 | (levels[grey] * 0x010101)); });
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The frames on the stage.

let turn = 0;
async function frames(one) {
  const mine = ++turn, kinds = ["view", "beside", "context"];
  const pictures = await Promise.all(kinds.map((name) => picture(one, name)));
  const of = Object.fromEntries(kinds.map((name, k) => [name, pictures[k]]));
  of.outline = (await coded(one))?.outline;
  if (mine !== turn) return;
  const every = [["view", one.view, "near"], ["context", one.context, "around"]];
  if (of.beside) every.splice(1, 0, ["beside", one.view, one.repeat_scene ?? "another scene"]);
  look.layout %= every.length + 1;
  const some = look.layout ? [every[look.layout - 1]] : every;
  $("pictures").className = `${["", "one", "two", "three"][some.length]}${look.outline ? "" : " plain"}`;
  $("pictures").replaceChildren(...some.map(([name, view, says]) => frame(one, of, name, view, says)));
  if (of.view && !performance.getEntriesByName("pictures").length) performance.mark("pictures");
}
function frame(one, of, name, [row0, col0, step], says) {
  const figure = make("figure", name), box = make("div", "frame"), inside = make("div");
  const span = facts.side_px * step, scale = one.diameter_m === null ? null : one.diameter_m / one.diameter_px;
  if (of[name]) {
    const canvas = make("canvas");
    paint(canvas, of[name]);
    inside.append(canvas, marks(one, of, name, [(one.row_px + 0.5 - row0) / step, (one.col_px + 0.5 - col0) / step]));
    inside.style.transform = `scale(${ZOOMS[look.zoom]})`;
    box.append(inside, bar(span / ZOOMS[look.zoom], scale));
  } else {
    box.append(text("p", one.why || "no picture", "why"));
  }
  const reduced = step > 1 && name !== "context" ? `, reduced ${step} times` : "";
  const wide = `${grouped(span)} px${scale ? `, ${metres(span * scale)}` : ""}`;
  figure.append(box, text("figcaption", `${says}: ${wide} wide${reduced}`));
  return figure;
}
/** The outline, or a circle as large as the candidate; in the context, where the view lies. */
function marks(one, of, name, [row, col]) {
  const side = facts.side_px, svg = drawing("svg", { viewBox: `0 0 ${side} ${side}` });
  const both = (kind, how) => {
    svg.append(drawing(kind, { ...how, class: "under" }), drawing(kind, { ...how, class: "over" }));
  };
  if (name === "context") {
    const width = (side * one.view[2]) / one.context[2], x = (side - width) / 2;
    both("rect", { x, y: x, width, height: width });
  } else if (of.outline) {
    both("path", { d: of.outline });
  } else {
    both("circle", { cx: col, cy: row, r: Math.max(one.diameter_px / 2 / one.view[2], 2) + 2 });
  }
  return svg;
}
/** A scale: a round length, less than half the picture. */
function bar(span, scale) {
  const most = 0.45 * span * (scale ?? 1), power = 10 ** Math.floor(Math.log10(most));
  const round = power * [5, 2, 1].find((lead) => lead * power <= most);
  const words = scale ? (round >= 1000 ? `${round / 1000} km` : `${round} m`) : `${round} px`;
  const element = text("span", words, "scale");
  element.style.width = `${(100 * round) / (scale ?? 1) / span}%`;
  return element;
}
