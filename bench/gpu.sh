#!/usr/bin/env bash
# One GPU: scans and training steps in f32, f16 and bf16, beside PyTorch's on the same weights and scene, in one run.
#
#   bench/gpu.sh MARSCAN PEERS PYTHON OUT [ROWS] [DEVICE]
#
# Builds nothing: MARSCAN is a binary, carried along. PEERS is the folder of model.py and make_weights.py, PYTHON an
# interpreter with torch, numpy, tifffile and safetensors, OUT gets machine.txt and raw.csv. ROWS (8192) of as many columns
# are scanned. DEVICE (gpu) may be `software`, to try the script where there is no GPU, with few rows; PyTorch then runs
# on the CPU.
set -euo pipefail
marscan=$(realpath "$1") peers=$(realpath "$2") python=$(realpath -s "$3") rows=${5:-8192} device=${6:-gpu}
here=$(realpath "$(dirname "$0")"); mkdir -p "$4"; out=$(realpath "$4")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

{ date -u +%F; uname -sm; nproc; "$marscan" --version; "$marscan" devices
  nvidia-smi --query-gpu=name,driver_version,memory.total,pci.bus_id --format=csv,noheader 2> /dev/null || echo "no nvidia-smi"
  "$python" -c 'import torch; print("torch", torch.__version__, "cuda", torch.version.cuda, torch.cuda.is_available())'; } > "$out/machine.txt"

# The most memory that the card had in use while a command ran, MiB.
card_memory() {
  ( while :; do nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits 2> /dev/null || break; sleep 0.2; done > "$work/memory" ) &
  local watch=$!
  "$@" > "$work/said" 2>&1 || { cat "$work/said" >&2; echo failed > "$work/failed"; }
  kill $watch 2> /dev/null || true; wait $watch 2> /dev/null || true
  memory=$(sort -n "$work/memory" | tail -1); memory=${memory:-}
}

cp "$peers"/*.py "$work"; mkdir -p "$work/weights"
(cd "$work" && "$python" make_weights.py > /dev/null 2>&1)
"$marscan" synth --out "$work/scene" --rows "$rows" --cols "$rows" --impacts 40 --name scene > /dev/null
"$marscan" synth --out "$work/train" --rows 2048 --cols 2048 --impacts 60 --name train > /dev/null
"$marscan" synth --out "$work/valid" --rows 512 --cols 512 --impacts 5 --name valid > /dev/null
windows=(--window 1024 --batch 4); [ "$device" = gpu ] || windows=()
scene="$work/scene/scene.tif" list="$work/scene/scenes.csv"

echo "system,network,precision,what,value,unit" > "$out/raw.csv"
for net in unet1 unet3; do
  for precision in f32 f16 bf16; do
    rm -f "$work/failed"
    found="$work/found-$net-$precision"
    # Twice: the first run meets cold caches.
    for turn in cold warm; do
      rm -rf "$found"
      card_memory "$marscan" scan --scenes "$list" --out "$found" --settings $net --weights "$work/weights/$net.safetensors" \
        --device "$device" --precision $precision "${windows[@]}"
      [ -e "$work/failed" ] && { echo "marscan,$net,$precision,refused,," >> "$out/raw.csv"; break; }
      awk -v n=$net -v p=$precision -v t=$turn -v OFS=, '/ Mpx\/s, on / { print "marscan", n, p, "scan " t, $3, "Mpx/s" }
        / Mpx\/s, on / { sub(/.* Mpx\/s, on /, ""); sub(/; private memory.*/, ""); gsub(/, /, "; "); print "marscan", n, p, "device " t, $0, "" }
        /seconds by stage/ { sub(/.*seconds by stage: /, ""); gsub(/, /, "; "); print "marscan", n, p, "stages " t, $0, "s" }' "$work/said" >> "$out/raw.csv"
      echo "marscan,$net,$precision,card memory $turn,$memory,MiB" >> "$out/raw.csv"
    done
    rm -f "$work/failed"
    "$marscan" settings --settings $net > "$work/$net.toml"
    card_memory "$marscan" train --scenes "$work/train/scenes.csv" --validation "$work/valid/scenes.csv" --settings "$work/$net.toml" --out "$work/run-$net-$precision" \
      --devices "$device" --precision $precision --images $([ "$device" = gpu ] && echo 3200 || echo 32)
    if [ -e "$work/failed" ]; then echo "marscan,$net,$precision,training refused,," >> "$out/raw.csv"; else
      "$python" -c "import json; print('marscan', '$net', '$precision', 'training', json.load(open('$work/run-$net-$precision/summary.json'))['images_per_s'], 'images/s', sep=',')" >> "$out/raw.csv"
      echo "marscan,$net,$precision,training card memory,$memory,MiB" >> "$out/raw.csv"
    fi
  done
  (cd "$work" && PYTHONPATH="$work" "$python" "$here/gpu_torch.py" --net $net --scene "$scene") >> "$out/raw.csv"
done
cat "$out/machine.txt" "$out/raw.csv"
