// What can be done, by key and by button, and the beginning of it all.

const THEMES = ["system", "dark", "light"];
const night = matchMedia("(prefers-color-scheme: dark)");
const theme = () => habits.get("theme") ?? "system";

function setTheme() {
  const dark = theme() === "dark" || (theme() === "system" && night.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  map.draw();
}
/** After a change of how pictures are looked at. */
function relook() {
  $("contrast").textContent = CONTRASTS[look.contrast];
  $("zoom").textContent = ZOOMS[look.zoom];
  for (const name of ["outline", "invert"]) {
    document.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", look[name]);
  }
  list.refresh();
  if (shown[at]) frames(shown[at]);
}
function openFilters(open) {
  $("filters").hidden = !open;
  document.querySelector("[data-do=filter]").setAttribute("aria-expanded", open);
  if (open) $("by-verdict").focus();
  list.draw();
}
function sortBy(number) {
  sort = number;
  turned = false;
  $("sort").value = SORTS[sort][0];
  choose();
}
const zoom = (by) => { look.zoom = Math.min(Math.max(look.zoom + by, 0), ZOOMS.length - 1); };
const next = (value, all) => all[(all.indexOf(value) + 1) % all.length];

/** Keys, words, deed. */
const ACTIONS = {
  accept: [["a"], "accept, and on to the next", () => judge("accept")],
  reject: [["r"], "reject, and on", () => judge("reject")],
  unsure: [["u"], "unsure, and on", () => judge("unsure")],
  clear: [["x"], "take the verdict away", clear],
  undo: [["z"], "undo", undo],
  note: [["m"], "write a note", () => $("note").focus()],
  next: [["j", "ArrowDown", "ArrowRight"], "next", () => go(at + 1)],
  previous: [["k", "ArrowUp", "ArrowLeft"], "previous", () => go(at - 1)],
  unseen: [["n", " "], "next unseen", unseen],
  pageDown: [["PageDown"], "ten on", () => go(at + 10)],
  pageUp: [["PageUp"], "ten back", () => go(at - 10)],
  first: [["Home"], "first", () => go(0)],
  last: [["End"], "last", () => go(shown.length - 1)],
  outline: [["o"], "outline on or off", () => { look.outline = !look.outline; relook(); }],
  invert: [["i"], "invert", () => { look.invert = !look.invert; relook(); }],
  contrast: [["c"], "contrast", () => { look.contrast = (look.contrast + 1) % CONTRASTS.length; relook(); }],
  closer: [["+", "="], "zoom in", () => { zoom(1); relook(); }],
  farther: [["-"], "zoom out", () => { zoom(-1); relook(); }],
  layout: [["v"], "all pictures, or one", () => { look.layout += 1; relook(); }],
  sort: [["s"], "sort by the next", () => sortBy((sort + 1) % SORTS.length)],
  turn: [["S"], "sort the other way", () => { turned = !turned; choose(); }],
  filter: [["f"], "filters", () => openFilters($("filters").hidden)],
  wipe: [["F"], "clear the filters", () => $("filters").reset()],
  map: [["g"], "map of Mars, or of the scene", () => { map.scene = !placed || !map.scene; map.draw(); }],
  load: [["l"], "load verdicts.csv", () => $("file").click()],
  save: [["e"], "export verdicts.csv", save],
  theme: [["t"], "dark, light, system", () => {
    habits.set("theme", next(theme(), THEMES));
    setTheme();
    say(`Theme: ${theme()}.`);
  }],
  help: [["?", "h"], "this list", () => $("help").showModal()],
  close: [["Escape"], "leave a field, close this", () => {
    if ($("help").open) $("help").close();
    else if (!$("filters").hidden) openFilters(false);
  }],
};
const DEEDS = new Map(Object.values(ACTIONS).flatMap(([keys, , deed]) => keys.map((key) => [key, deed])));
const KEY_NAMES = {
  " ": "Space", ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", S: "Shift S", F: "Shift F",
  Escape: "Esc", PageDown: "Page ↓", PageUp: "Page ↑",
};

function press(event) {
  const { key, target } = event;
  const typing = target.matches("input, select");
  if (typing && (key === "Escape" || (key === "Enter" && target.id === "note"))) {
    target.blur();
    return event.preventDefault();
  }
  if (typing || event.metaKey || event.altKey || (event.ctrlKey && key !== "z")) return;
  if ($("help").open && !["Escape", "?", "h"].includes(key)) return;
  const deed = $("help").open ? ACTIONS.close[2] : DEEDS.get(key) ?? DEEDS.get(key.toLowerCase());
  if (!deed) return;
  event.preventDefault();
  deed();
}
function listen() {
  document.addEventListener("keydown", press);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (!button) return;
    // The next key is for the page, not for this button.
    button.blur();
    ACTIONS[button.dataset.do][2]();
  });
  $("list").addEventListener("scroll", () => requestAnimationFrame(() => list.draw()), { passive: true });
  $("sort").addEventListener("change", () => {
    sortBy(SORTS.findIndex(([name]) => name === $("sort").value));
    $("sort").blur();
  });
  $("filters").addEventListener("input", choose);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(choose));
  $("note").addEventListener("input", note);
  $("reviewer").addEventListener("change", () => rename($("reviewer").value.trim()));
  $("file").addEventListener("change", async () => {
    for (const file of $("file").files) load(await file.text(), file.name);
    $("file").value = "";
  });
  window.addEventListener("storage", ({ key }) => {
    if (!key?.startsWith(`${kept.prefix}v:`)) return;
    read(key.slice(kept.prefix.length));
    count();
    go(at);
  });
  window.addEventListener("resize", () => { list.draw(); map.draw(); });
  night.addEventListener("change", setTheme);
  map.listen();
  swipe();
}
/** A finger across a picture goes to the next candidate, or the one before. */
function swipe() {
  let from = null;
  const box = $("pictures");
  box.addEventListener("pointerdown", (event) => {
    from = event.pointerType === "mouse" ? null : [event.clientX, event.clientY];
  });
  box.addEventListener("pointercancel", () => { from = null; });
  box.addEventListener("pointerup", (event) => {
    if (!from) return;
    const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
    from = null;
    if (Math.abs(dx) > 50 && Math.abs(dx) > 2 * Math.abs(dy)) go(at + (dx < 0 ? 1 : -1));
  });
}
function keyTable() {
  return Object.values(ACTIONS).map(([keys, words]) => {
    const row = make("tr"), names = make("th");
    names.append(...keys.map((key) => text("kbd", KEY_NAMES[key] ?? (key.length > 1 ? key : key.toUpperCase()))));
    row.append(names, text("td", words));
    return row;
  });
}
function option(value, words) {
  return Object.assign(text("option", words), { value });
}
function begin() {
  $("run").textContent = facts.name ?? "";
  document.title = `${facts.name ?? ""} – marscan review`;
  $("sort").replaceChildren(...SORTS.map(([name, words]) => option(name, words)));
  $("scenes").replaceChildren(...facts.scenes.map(({ name }) => option(name, "")));
  $("unit").textContent = unit;
  $("south-north").textContent = placed ? "Latitude, °" : "Row";
  $("west-east").textContent = placed ? "Longitude, ° E" : "Column";
  $("keys").replaceChildren(...keyTable());
  $("reviewer").value = habits.get("reviewer") ?? "";
  restore();
  listen();
  setTheme();
  at = byId.get(Number(kept.get("at")))?.index ?? 0;
  count();
  choose();
}
begin();
