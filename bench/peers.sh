#!/usr/bin/env bash
# The whole pipeline beside what a user would write in Python: same weights file, same scene, 2 threads, in turn, in rounds.
#
#   bench/peers.sh PEERS PYTHON OUT [ROWS] [ROUNDS]
#
# PEERS is the folder of the Python pipelines (make_tif.py, make_weights.py, convert.py, pipeline_*.py), PYTHON an
# interpreter with torch, onnx, onnxruntime, openvino, ncnn, pnnx, tifffile, scipy and safetensors, OUT gets raw.csv. The
# scene has ROWS (8192) x 4096 px, slanted between black borders. Build marscan first. A quiet machine, please.
set -euo pipefail
peers=$(realpath "$1") python=$(realpath -s "$2") rows=${4:-8192} rounds=${5:-3}
mkdir -p "$3"; out=$(realpath "$3")
marscan=$(realpath "$(dirname "$0")/../target/release/marscan")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

cp "$peers"/*.py "$work"; mkdir -p "$work/weights" "$work/scene"; cd "$work"
"$python" make_weights.py > /dev/null 2>&1
"$python" convert.py > convert.log 2>&1 || [ -e weights/unet3.ncnn.bin ] || { cat convert.log; exit 1; }
"$python" make_tif.py --rows "$rows" --out "$work/" > /dev/null
mv scene.tif scene/; "$marscan" info scene --scenes scene/scenes.csv > /dev/null

# system, network, precision
row() { "$python" -c "import json,sys; d=json.loads(sys.argv[1]); print('$round', '$1', '$2', '$3', d['mpx_s'], d['wall_s'], sep=',')" "$4" >> "$out/raw.csv"; }
peer() { row "$1" "$2" "$3" "$("$python" "pipeline_$1.py" scene/scene.tif --net "$2" --precision "$3" --threads 2 --out peer.csv 2> /dev/null | tail -1)"; }
ours() {
  local began ended; rm -rf found; began=$(date +%s.%N)
  "$marscan" scan --scenes scene/scenes.csv --out found --settings "$1" --weights "weights/$1.safetensors" \
    --device cpu --threads 2 > scan.log 2>&1
  "$marscan" merge found > /dev/null 2>&1 || true
  ended=$(date +%s.%N)
  row marscan "$1" f32 "$("$python" -c "w=$ended-$began; print('{\"wall_s\":', round(w, 2), ', \"mpx_s\":', round($rows*4096/1e6/w, 4), '}')")"
}

echo "round,system,network,precision,mpx_s,wall_s" > "$out/raw.csv"
for round in $(seq "$rounds"); do
  for net in unet1 unet3; do
    ours $net
    peer openvino $net f32
    peer ncnn $net f32
    peer torch $net bf16
    peer openvino $net bf16
  done
done
"$python" - "$out/raw.csv" << 'END'
import csv, statistics as st, sys
rows = list(csv.DictReader(open(sys.argv[1])))
print("| network | system | Mpx/s (median) | marscan is faster by |\n|---|---|---|---|")
for net in ("unet1", "unet3"):
    of = lambda s, p: [float(r["mpx_s"]) for r in rows if (r["network"], r["system"], r["precision"]) == (net, s, p)]
    ours = of("marscan", "f32")
    for system, precision in sorted({(r["system"], r["precision"]) for r in rows}):
        theirs = of(system, precision)
        ratio = st.median([a / b for a, b in zip(ours, theirs)])
        print(f"| {net} | {system} {precision} | {st.median(theirs):.2f} | {ratio:.2f} |")
END
