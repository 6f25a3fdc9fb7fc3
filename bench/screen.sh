#!/usr/bin/env bash
# What screening buys and loses: a list of scenes scanned in full, then screened at several probabilities.
#
#   bench/screen.sh SCENES.csv TRUTH OUT [FLAGS OF marscan scan...]          PROBABILITIES="0.02 0.05 0.1 0.2" ROUNDS=1
#
# Build marscan first. TRUTH is as for `marscan eval`. OUT gets screen.csv: of each probability the share of the valid pixels that were
# looked at, the seconds of the scan, how many times as fast as the full one it is (both the fastest of ROUNDS), how many of the full
# scan's candidates are lost or come out otherwise, and how many impacts and false positives there are beside the full scan's.
set -euo pipefail
scenes=$(realpath "$1") truth=$(realpath "$2"); mkdir -p "$3"; out=$(realpath "$3"); shift 3
marscan=$(realpath "$(dirname "$0")/../target/release/marscan")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

# Scans and merges; the name of the run, then flags. Prints the seconds of the fastest round.
scan() {
  local name=$1; shift
  for _ in $(seq "${ROUNDS:-1}"); do
    rm -rf "$work/$name"
    "$marscan" scan --scenes "$scenes" --out "$work/$name" --device cpu "$@" > "$work/$name.log"
    sed -n 's/^  \([0-9.]*\) s, .* Mpx\/s, on .*/\1/p' "$work/$name.log"
  done | sort -n | head -1
  "$marscan" merge "$work/$name" > /dev/null
  # An impact's number is its place in the catalogue.
  cut -d, -f2- "$work/$name/catalogue.csv" | sort > "$work/$name.impacts"
}

# Impacts found and false positives of a run.
score() { "$marscan" eval --catalogue "$work/$1/catalogue.csv" --truth "$truth" | awk '$1 == "all" { print $3 "," $4 }'; }

full=$(scan full "$@")
{ echo "probability,looked_at_percent,seconds,times_as_fast,lost,otherwise,found,false"
  echo "full,100,$full,1,0,0,$(score full)"; } | tee "$out/screen.csv"
for p in ${PROBABILITIES:-0.02 0.05 0.1 0.2}; do
  seconds=$(scan "at-$p" "$@" --screen --screen-probability "$p")
  looked=$(sed -n 's/^  screened: \([0-9.]*\) %.*/\1/p' "$work/at-$p.log")
  lost=$(comm -23 "$work/full.impacts" "$work/at-$p.impacts" | wc -l)
  otherwise=$(comm -13 "$work/full.impacts" "$work/at-$p.impacts" | wc -l)
  times=$(awk "BEGIN { printf \"%.2f\", $full / $seconds }")
  echo "$p,$looked,$seconds,$times,$lost,$otherwise,$(score "at-$p")" | tee -a "$out/screen.csv"
done
