#!/usr/bin/env bash
# Whole pipelines, from a TIFF to its catalogue, beside those a user would write in Python: same weights file, same scene (strips,
# slanted borders without data), 2 threads, in turn, three rounds.
#
#   bench/peers.sh PEERS PYTHON OUT        ROWS=8192 ROUNDS=3 SYSTEMS="torch:f32 … marscan:bf16"
#
# PEERS is the folder of the Python pipelines, PYTHON an interpreter with what its README names, OUT gets raw.csv and README.md.
# Build marscan first. A row of the table is a word of SYSTEMS; every command is timed from its start to its end.
#
# The weights are random ones, which take half of the ground for impact at 0.5. All count impacts of 4 px or more at 0.95, which leaves
# the time to the network and still enough impacts to see that all do the same work: the table has their counts.
set -euo pipefail
amx=$(grep -qw amx_bf16 /proc/cpuinfo && echo marscan:bf16 || true)
read -ra systems <<< "${SYSTEMS:-torch:f32 torch:bf16 openvino:f32 openvino:bf16 ncnn:f32 ort:f32 marscan:f32 $amx}"
peers=$(realpath "$1") python=$(realpath -s "$2") rows=${ROWS:-8192} rounds=${ROUNDS:-3}
mkdir -p "$3"; out=$(realpath "$3"); cd "$(dirname "$0")/.."
marscan=$PWD/target/release/marscan table=$PWD/bench/peers_table.py
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1 RAYON_NUM_THREADS=2

cp "$peers"/*.py "$work"; mkdir -p "$work/weights"; cd "$work"
# ncnn keeps no hold of the array that it is given: freed at once, it is overwritten, and every run has other impacts.
sed -i 's/ex\.input("in0", ncnn\.Mat(\(np\.ascontiguousarray(.*)\))); place/held = \1; ex.input("in0", ncnn.Mat(held)); place/' pipeline_ncnn.py
grep -q 'ncnn.Mat(held)' pipeline_ncnn.py || { echo "pipeline_ncnn.py is another one: see that its input stays alive" >&2; exit 1; }
for step in "make_weights.py" "convert.py" "make_tif.py --rows $rows"; do
  "$python" $step > prepared.log 2>&1 || { cat prepared.log; exit 1; }
done
"$marscan" info data/scene.tif --scenes scenes.csv > /dev/null

# Prints the seconds and the peak memory, MiB, of a command.
timed() {
  "$python" -c 'import resource, subprocess, sys, time
began = time.time(); subprocess.run(sys.argv[1:], check=True, stdout=open("said", "w"), stderr=open("wrong", "w"))
print(round(time.time() - began, 2), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)' "$@" || { cat wrong >&2; exit 1; }
}

# Scans and merges.
ours() {
  local net=$1
  timed bash -c '"$@" && "$1" merge found' ours "$marscan" scan --scenes scenes.csv --out found --settings "$net" \
    --weights "weights/$net.safetensors" --device cpu --threads 2 --precision "$2" --probability 0.95 --min-area 4 --min-score 0
  cp said scanned
}

# What a matrix product reaches here, in 2 threads: the measure of the GFLOP/s.
peak=$("$python" -c 'import time, torch
torch.set_num_threads(2); a, b = torch.rand(4096, 4096), torch.rand(4096, 4096)
def seconds():
    began = time.time(); torch.mm(a, b); return time.time() - began
seconds(); print(round(2 * 4096 ** 3 / min(seconds() for _ in range(7)) / 1e9, 1))')
echo "round,system,precision,network,seconds,peak_mib,impacts" > "$out/raw.csv"
for round in $(seq "$rounds"); do
  for net in unet1 unet3; do
    for system in "${systems[@]}"; do
      name=${system%:*} precision=${system#*:}; rm -rf found catalogue.csv
      if [ "$name" = marscan ]; then
        cost=$(ours "$net" "$precision") version=$("$marscan" --version) catalogue=found/catalogue.csv
      else
        cost=$(timed "$python" "pipeline_$name.py" data/scene.tif --net "$net" --precision "$precision" --threads 2 --threshold 0.95)
        version=$("$python" -c 'import json; print(json.loads(open("said").readlines()[-1])["sys"])') catalogue=catalogue.csv
      fi
      echo "$round,$version,$precision,$net,${cost/ /,},$(($(wc -l < "$catalogue") - 1))" | tee -a "$out/raw.csv"
    done
  done
done
flop=$(for net in unet1 unet3; do "$marscan" settings --settings $net | sed -n 's/.*; \(.*\) MFLOP a pixel.*/\1/p'; done)
"$python" "$table" "$out/raw.csv" "$rows" "$(grep -o "of which [0-9.]*" scanned | cut -d" " -f3)" "$peak" $flop > "$out/README.md"
cat "$out/README.md"
