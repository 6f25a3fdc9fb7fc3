#!/usr/bin/env bash
# How much faster a job array scans with more tasks at a time, on a real Slurm: each task one thread, the plan always the same.
#   bench/scan_scaling.sh SCENES.csv OUT [TASKS_AT_A_TIME…]      1 and 2 unless said otherwise; REPEATS=3 SHARDS=8
# marscan must be on the PATH. OUT gets the runs, speedup.csv, speedup.svg and a report of the first run with the table in it.
set -euo pipefail
scenes=$(realpath "$1") out=$(realpath -m "$2") here=$(realpath "$(dirname "$0")/..")
shift 2
tasks=("$@")
[ $# -gt 0 ] || tasks=(1 2)
runs=()
mkdir -p "$out"
for repeat in $(seq 0 $((${REPEATS:-3} - 1))); do
  for count in "${tasks[@]}"; do
    sbatch --wait --quiet --array="0-$((${SHARDS:-8} - 1))%$count" --cpus-per-task=1 --mem=1G --output="$out/task-%A_%a.log" \
      "$here/slurm/scan.sh" "$scenes" "$out/$count/repeat-$repeat" --device cpu
  done
done
for count in "${tasks[@]}"; do runs+=("$count=$out/$count"); done
marscan speedup "${runs[@]}" --workers tasks --out "$out/speedup"
marscan merge "$out/${tasks[0]}/repeat-0" --speedup "$out/speedup"
