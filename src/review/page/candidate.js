// The candidate in hand, and what is said of it.

function go(to) {
  at = Math.min(Math.max(to, 0), Math.max(shown.length - 1, 0));
  list.reveal();
  list.draw();
  show();
}
function show() {
  const one = shown[at];
  for (const id of ["stage", "facts"]) $(id).style.visibility = one ? "" : "hidden";
  map.draw();
  if (!one) return;
  kept.set("at", String(one.id));
  $("name").textContent = `No. ${one.id} · score ${one.score.toFixed(3)} · ${length(size(one))}`;
  $("place").textContent = `${one.scene}, ${grouped(at + 1)} of ${grouped(shown.length)}`;
  $("note").value = mine.get(one.id)?.note ?? "";
  table($("facts"), about(one));
  spoken(one);
  frames(one);
  for (const near of [shown[at + 1], shown[at - 1]]) if (near) picture(near, "context");
}
function about(one) {
  const rows = [["scene", one.scene], ["candidate", `${grouped(one.id)} of ${grouped(facts.all)}`]];
  if (one.lat_deg !== null) {
    rows.push(["place", `${degrees(one.lat_deg, "N", "S")}, ${degrees(one.lon_deg, "E", "W")}`]);
  }
  rows.push(["pixel", `row ${one.row_px.toFixed(1)}, column ${one.col_px.toFixed(1)}`]);
  rows.push(["box", `rows ${one.row0_px}–${one.row1_px}, columns ${one.col0_px}–${one.col1_px}`]);
  const px = `${one.diameter_px.toFixed(1)} px`;
  rows.push(["diameter", one.diameter_m === null ? px : `${one.diameter_m.toFixed(1)} m, ${px}`]);
  rows.push(["area", `${grouped(one.area_px)} px`]);
  rows.push(["probability", `${one.score.toFixed(4)} in the mean, peak ${one.peak.toFixed(4)}`]);
  if (one.repeat_scene) rows.push(["other scene", one.repeat_scene]);
  if (one.change_score !== null) rows.push(["change", one.change_score.toFixed(4)]);
  const said = mine.get(one.id);
  if (said?.verdict) rows.push(["judged", `${NAMES[said.verdict]}, ${said.time.replace("T", " ").replace("Z", " UTC")}`]);
  const weights = facts.weights ? `, weights ${facts.weights}` : "";
  return [...rows, ["run", `${facts.program}, ${facts.settings}${weights}`]];
}
function spoken(one) {
  for (const name of VERDICTS) {
    document.querySelector(`#verdict .${name}`).setAttribute("aria-pressed", verdict(one) === name);
  }
  $("others").replaceChildren(...[...(others.get(one.id) ?? [])].map(([reviewer, said]) => {
    const item = make("li"), note = said.note ? `, “${said.note}”` : "";
    item.append(icon(said.verdict), text("span", `${reviewer}: ${NAMES[said.verdict] ?? "no verdict"}${note}`));
    return item;
  }));
}

/** What `undo` takes back: id and what was said before. */
const changes = [];

function change(one, said) {
  changes.push([one.id, mine.get(one.id)]);
  keep(one.id, said);
  count();
}
function judge(name) {
  const one = shown[at];
  if (!one) return;
  change(one, { verdict: name, time: now(), note: mine.get(one.id)?.note ?? "" });
  if (at + 1 === shown.length) say("That was the last of the list.");
  go(at + 1);
}
function clear() {
  const one = shown[at];
  if (!one || !verdict(one)) return;
  change(one, { ...mine.get(one.id), verdict: "", time: now() });
  go(at);
}
function undo() {
  if (!changes.length) return say("Nothing to undo.");
  const [id, before] = changes.pop();
  keep(id, before);
  count();
  const place = shown.findIndex((one) => one.id === id);
  if (place < 0) say(`Taken back: no. ${id}, which the filters leave out.`);
  go(place < 0 ? at : place);
}
function note() {
  const one = shown[at], said = mine.get(one.id) ?? { verdict: "", time: "", note: "" };
  if (said.note !== $("note").value) keep(one.id, { ...said, time: now(), note: $("note").value });
}
function unseen() {
  const after = [...shown.keys()].map((k) => (at + 1 + k) % shown.length);
  const next = after.find((k) => !verdict(shown[k]));
  if (next === undefined) say("Every candidate of the list has a verdict.");
  else go(next);
}
/** The progress, and what depends on the counts. */
function count() {
  const counts = VERDICTS.map((name) => all.filter((one) => verdict(one) === name).length);
  const judged = counts.reduce((sum, n) => sum + n, 0), whole = Math.max(all.length, 1);
  VERDICTS.forEach((name, k) => {
    document.querySelector(`#bar .${name}`).style.width = `${(100 * counts[k]) / whole}%`;
  });
  $("bar").setAttribute("aria-valuenow", Math.round((100 * judged) / whole));
  const parts = VERDICTS.map((name, k) => `${grouped(counts[k])} ${NAMES[name]}`);
  $("counts").replaceChildren(
    text("b", `${grouped(judged)} of ${grouped(all.length)}`), ` judged · ${parts.join(" · ")}`);
  plot();
}
