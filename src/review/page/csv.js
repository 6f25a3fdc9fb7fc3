// verdicts.csv: out, and in.

const COLUMNS = ["id", "verdict", "reviewer", "time", "note"];
const NOTE_CHARACTERS = 1000;

function csv() {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const name = $("reviewer").value.trim();
  const lines = [...mine].sort((a, b) => a[0] - b[0]);
  const rows = lines.map(([id, said]) => [String(id), said.verdict, name, said.time, said.note]);
  return [COLUMNS, ...rows].map((row) => `${row.map(cell).join(",")}\n`).join("");
}
function save() {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "verdicts.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`Exported ${grouped(mine.size)} lines as verdicts.csv.`);
}
/** Lines of cells (RFC 4180). */
function cells(words) {
  const lines = [[""]];
  let quoted = false;
  for (let k = 0; k < words.length; k++) {
    const c = words[k], line = lines[lines.length - 1], last = line.length - 1;
    if (quoted && c === '"' && words[k + 1] === '"') line[last] += words[++k];
    else if (c === '"' && (quoted || line[last] === "")) quoted = !quoted;
    else if (quoted) line[last] += c;
    else if (c === ",") line.push("");
    else if (c === "\n") lines.push([""]);
    else if (c !== "\r") line[last] += c;
  }
  return lines.filter((line) => line.length > 1 || line[0] !== "");
}
/** Takes in a file of verdicts: one's own, or a colleague's. */
function load(words, file) {
  const [header = [], ...lines] = cells(words.replace(/^\ufeff/, ""));
  const names = header.map((cell) => cell.trim().toLowerCase());
  const place = Object.fromEntries(COLUMNS.map((name) => [name, names.indexOf(name)]));
  if (place.id < 0 || place.verdict < 0) return say(`${file}: its first line must name the columns id and verdict.`, 12_000);
  const rows = lines.map((line) => Object.fromEntries(COLUMNS.map((name) => [name, line[place[name]]?.trim() ?? ""])));
  const reviewers = new Set(rows.map((row) => row.reviewer));
  if (!$("reviewer").value.trim() && mine.size === 0 && reviewers.size === 1) rename([...reviewers][0]);
  const counts = { own: 0, colleague: 0, older: 0 }, wrong = [];
  for (const row of rows) {
    const id = Number(row.id), name = row.verdict.toLowerCase();
    if (!Number.isInteger(id) || id < 1 || id > facts.all) wrong.push(`there is no candidate ${row.id.slice(0, 20)}`);
    else if (name && !VERDICTS.includes(name)) wrong.push(`${row.verdict.slice(0, 20)} is no verdict`);
    else counts[take(id, { verdict: name, time: row.time, note: row.note.slice(0, NOTE_CHARACTERS) }, row.reviewer)] += 1;
  }
  kept.set("others", JSON.stringify([...others].map(([id, of]) => [id, [...of]])));
  count();
  choose();
  say(loaded(file, counts, wrong), 12_000);
}
function take(id, said, reviewer) {
  if (reviewer && reviewer !== $("reviewer").value.trim()) {
    others.set(id, (others.get(id) ?? new Map()).set(reviewer, said));
    return "colleague";
  }
  const here = mine.get(id);
  if (here && here.time > said.time) return "older";
  keep(id, said);
  return "own";
}
function loaded(file, counts, wrong) {
  const parts = [];
  if (counts.own) parts.push(`${grouped(counts.own)} lines taken`);
  if (counts.colleague) {
    const split = grouped(all.filter(disagrees).length);
    parts.push(`${grouped(counts.colleague)} lines of a colleague, who disagrees on ${split}`);
  }
  if (counts.older) parts.push(`${grouped(counts.older)} older than what is here`);
  if (wrong.length) parts.push(`${grouped(wrong.length)} passed over (${wrong[0]})`);
  return `${file}: ${parts.join("; ") || "no lines"}.`;
}
function rename(name) {
  $("reviewer").value = name;
  habits.set("reviewer", name);
}
