#!/usr/bin/env bash
# What a precision changes: a list of scenes scanned in f32 and in another one, and the two catalogues beside each other.
#
#   bench/precision.sh SCENES.csv TRUTH OUT PRECISION [FLAGS OF marscan scan...]
#
# Build marscan first. TRUTH is as for `marscan eval`. OUT gets precision.csv: of each precision the seconds, the candidates, the impacts
# found and the false positives, F1, and how many candidates of a score of 0.6 or more of the other one it has not: none of its boxes meets
# theirs.
set -euo pipefail
scenes=$(realpath "$1") truth=$(realpath "$2") other=$4; mkdir -p "$3"; out=$(realpath "$3"); shift 4
marscan=$(realpath "$(dirname "$0")/../target/release/marscan")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

# Candidates of 0.6 or more of the first catalogue that the second has not.
missing() {
  awk -F, 'NR == FNR { if (FNR > 1) { n++; scene[n] = $2; r0[n] = $12; c0[n] = $13; r1[n] = $14; c1[n] = $15 } next }
    FNR > 1 && $10 >= 0.6 {
      met = 0
      for (k = 1; k <= n; k++) if (scene[k] == $2 && r0[k] < $14 && $12 < r1[k] && c0[k] < $15 && $13 < c1[k]) met = 1
      if (!met) lost++
    }
    END { print lost + 0 }' "$work/$2/catalogue.csv" "$work/$1/catalogue.csv"
}

for precision in f32 "$other"; do
  "$marscan" scan --scenes "$scenes" --out "$work/$precision" --precision "$precision" "$@" > "$work/$precision.log"
  "$marscan" merge "$work/$precision" > /dev/null
done
{ echo "precision,device,seconds,candidates,found,false,f1,missing_of_0.6"
  for pair in "f32 $other" "$other f32"; do
    set -- $pair
    line=$(sed -n 's/^  \([0-9.]*\) s, .* Mpx\/s, on \(.*\) with .* threads.*/\2,\1/p' "$work/$1.log")
    count=$(($(wc -l < "$work/$1/catalogue.csv") - 1))
    score=$("$marscan" eval --catalogue "$work/$1/catalogue.csv" --truth "$truth" | awk '$1 == "all" { print $3 "," $4 "," $7 }')
    echo "$1,$line,$count,$score,$(missing "$2" "$1")"
  done; } | tee "$out/precision.csv"
