#!/usr/bin/env bash
# The whole pipeline beside PyTorch and OpenVINO: same weights file, same scene, 2 threads, in turn, three rounds.
#
#   bench/peers.sh PEERS PYTHON OUT [ROWS]
#
# PEERS is the folder of the Python pipelines (pipeline_torch.py, pipeline_openvino.py, make_weights.py), PYTHON an
# interpreter with torch, onnx, openvino, tifffile, scipy and safetensors, OUT gets raw.csv. Build marscan first.
set -euo pipefail
peers=$(realpath "$1") python=$(realpath -s "$2") rows=${4:-2048}
mkdir -p "$3"; out=$(realpath "$3")
marscan=$(realpath "$(dirname "$0")/../target/release/marscan")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

cp "$peers"/*.py "$work"; mkdir -p "$work/weights"
(cd "$work" && "$python" make_weights.py >/dev/null 2>&1)
"$marscan" synth --out "$work" --rows "$rows" --cols 2048 --impacts 8 --name scene >/dev/null
echo "round,system,network,mpx_s,wall_s" > "$out/raw.csv"
for round in 1 2 3; do
  for net in unet1 unet3; do
    for peer in torch openvino; do
      line=$(cd "$work" && "$python" "pipeline_$peer.py" scene.tif --net $net --threads 2 --out peer.csv | tail -1)
      echo "$line" | "$python" -c "import json,sys; d=json.load(sys.stdin); print('$round', '$peer-f32', '$net', d['mpx_s'], d['wall_s'], sep=',')" >> "$out/raw.csv"
    done
    began=$(date +%s.%N)
    "$marscan" scan --scenes "$work/scenes.csv" --out "$work/found-$net-$round" --settings $net \
      --weights "$work/weights/$net.safetensors" --device cpu --threads 2 >/dev/null 2>&1
    "$python" -c "w=$(date +%s.%N)-$began; print('$round,marscan-f32,$net', round($rows*2048/1e6/w, 4), round(w, 2), sep=',')" >> "$out/raw.csv"
  done
done
cat "$out/raw.csv"
