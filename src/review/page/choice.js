// Which candidates are listed, in which order, and the list: as many rows as fit, moved as it is scrolled.

/** Name, words, key, and 1 for the smallest first. */
const SORTS = [
  ["page", facts.kinds.length ? "one of each kind" : "as ranked", (one) => one.index, 1],
  ["score", "by score", (one) => one.score, -1],
  ["diameter", "by diameter", size, -1],
  ["scene", "by scene", (one) => one.scene, 1],
  ["region", placed ? "by latitude" : "by row", (one) => (placed ? one.lat_deg : one.row_px), placed ? -1 : 1],
];
if (all.some((one) => one.change_score !== null)) {
  SORTS.push(["change", "by change", (one) => one.change_score ?? -1, -1]);
}
const RANGES = [
  ["score", (one) => one.score],
  ["diameter", size],
  ["y", (one) => (placed ? one.lat_deg : one.row_px)],
  ["x", (one) => (placed ? one.lon_deg : one.col_px)],
];

/** The list, the place in it, and how it is sorted. */
let shown = all, at = 0, sort = 0, turned = false;

/** Whether a candidate passes the filters. */
function filter() {
  const number = (id) => ($(id).value.trim() === "" ? null : Number($(id).value));
  const ranges = RANGES.map(([name, of]) => [number(`${name}-from`), number(`${name}-to`), of]);
  const inside = (one) => ranges.every(([from, to, of]) =>
    (from === null || of(one) >= from) && (to === null || of(one) <= to));
  const scene = $("by-scene").value.trim().toLowerCase(), said = $("by-verdict").value;
  const judged = {
    "": () => true,
    unseen: (one) => !verdict(one),
    note: (one) => Boolean(mine.get(one.id)?.note),
    split: disagrees,
  }[said] ?? ((one) => verdict(one) === said);
  return (one) => one.scene.toLowerCase().includes(scene) && inside(one) && judged(one);
}
function choose() {
  const before = shown[at];
  const [, , key, way] = SORTS[sort];
  const sign = turned ? -way : way;
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  shown = all.filter(filter()).sort((a, b) => sign * compare(key(a), key(b)) || a.index - b.index);
  const count = shown.length === all.length ? "" : `${grouped(shown.length)} of `;
  const rest = facts.all > all.length ? `, the first of ${grouped(facts.all)}` : "";
  $("shown").textContent = `${count}${grouped(all.length)} candidates${rest}`;
  $("way").textContent = sign < 0 ? "↓" : "↑";
  list.resize();
  go(Math.max(shown.indexOf(before), 0));
}

const ROW_PX = 64;
const list = {
  rows: [],
  resize() {
    $("rows").style.height = `${shown.length * ROW_PX}px`;
    this.refresh();
  },
  /** Fills the rows anew. */
  refresh() {
    for (const row of this.rows) row.at = null;
    this.draw();
  },
  draw() {
    const from = Math.max(Math.floor($("list").scrollTop / ROW_PX) - 2, 0);
    const count = Math.ceil($("list").clientHeight / ROW_PX) + 5;
    while (this.rows.length < count) this.rows.push(this.row());
    for (let k = from; k < from + this.rows.length; k++) this.fill(this.rows[k % this.rows.length], k);
  },
  row() {
    const element = make("div", "row"), words = make("div");
    const row = { element, canvas: make("canvas"), first: make("b"), second: make("span"), third: make("span") };
    element.setAttribute("role", "option");
    words.append(row.first, row.second, row.third);
    element.append(row.canvas, words, icon(""));
    element.onclick = () => go(row.at);
    $("rows").append(element);
    return Object.assign(row, { at: null, one: null });
  },
  fill(row, k) {
    const one = shown[k] ?? null;
    row.element.hidden = !one;
    if (one) {
      row.element.setAttribute("aria-selected", k === at);
      setIcon(row.element.lastChild, verdict(one));
    }
    if (one && row.at === k && row.one === one) return;
    Object.assign(row, { at: k, one });
    if (!one) return;
    row.element.style.transform = `translateY(${k * ROW_PX}px)`;
    row.first.textContent = `${one.score.toFixed(3)} · ${length(size(one))}`;
    row.second.textContent = one.scene;
    const change = one.change_score === null ? "" : ` · change ${one.change_score.toFixed(2)}`;
    row.third.textContent = `no. ${one.id}${change}`;
    row.canvas.width = row.canvas.height;
    picture(one, "view").then((view) => { if (row.one === one && view) paint(row.canvas, view); });
  },
  /** Scrolls to the candidate in hand. */
  reveal() {
    const box = $("list"), top = at * ROW_PX;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + ROW_PX > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_PX - box.clientHeight;
  },
};
