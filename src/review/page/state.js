"use strict";
// The review page. Whatever came from a file is put on it as text (`textContent`, `value`), never as markup.

const $ = (id) => document.getElementById(id);
const json = (id) => JSON.parse($(id).textContent);
const facts = json("run-facts");
const all = json("candidates").map((one, index) => ({ ...one, ...one.impact, index }));
const byId = new Map(all.map((one) => [one.id, one]));
/** Whether every candidate has a place on Mars, and a diameter in metres. */
const placed = all.length > 0 && all.every((one) => one.lat_deg !== null && one.lon_deg !== null);
const measured = all.length > 0 && all.every((one) => one.diameter_m !== null);
const unit = measured ? "m" : "px";
const size = (one) => (measured ? one.diameter_m : one.diameter_px);
const VERDICTS = ["accept", "reject", "unsure"];
const NAMES = { accept: "accepted", reject: "rejected", unsure: "unsure" };

// What the browser keeps: an entry a verdict, so that a crash costs nothing and two tabs agree.

class Store {
  constructor(prefix) { this.prefix = prefix; }
  get(key) {
    try { return localStorage.getItem(this.prefix + key); } catch { return null; }
  }
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(this.prefix + key);
      else localStorage.setItem(this.prefix + key, value);
    } catch {
      say("This browser keeps nothing: export before you close the page.", 60_000);
    }
  }
  keys() {
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(this.prefix));
      return keys.map((key) => key.slice(this.prefix.length));
    } catch {
      return [];
    }
  }
}
/** Of this run, and of the person. */
const kept = new Store(`marscan:${facts.id}:`);
const habits = new Store("marscan:");

/** Own verdicts: id -> { verdict, time, note }; the verdict is "" where there is only a note. */
const mine = new Map();
/** Colleagues': id -> reviewer -> { verdict, time, note }. */
let others = new Map();

function restore() {
  kept.keys().filter((key) => key.startsWith("v:")).forEach(read);
  const entries = JSON.parse(kept.get("others") ?? "[]");
  others = new Map(entries.map(([id, of]) => [id, new Map(of)]));
}
function read(key) {
  const id = Number(key.slice(2)), entry = kept.get(key);
  if (entry === null) return mine.delete(id);
  const [verdict, time, note] = JSON.parse(entry);
  mine.set(id, { verdict, time, note });
}
function keep(id, said) {
  if (said && (said.verdict || said.note)) mine.set(id, said);
  else mine.delete(id);
  const now = mine.get(id);
  kept.set(`v:${id}`, now ? JSON.stringify([now.verdict, now.time, now.note]) : null);
}
const verdict = (one) => mine.get(one.id)?.verdict ?? "";
const disagrees = (one) => {
  const said = [...(others.get(one.id)?.values() ?? [])];
  return Boolean(verdict(one)) && said.some((other) => other.verdict && other.verdict !== verdict(one));
};
/** As verdicts.csv has it: UTC, to the second. */
const now = () => new Date().toISOString().replace(/\.\d+/, "");
