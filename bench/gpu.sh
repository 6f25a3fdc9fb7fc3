#!/usr/bin/env bash
# One GPU: scans and training steps in f32, f16 and bf16, beside PyTorch's on the same weights and scene, in one run.
#
#   bench/gpu.sh MARSCAN PEERS PYTHON OUT [ROWS] [DEVICE]
#
# Builds nothing: MARSCAN is a binary, carried along, and KERNELS, if set, that of bench/gpu_kernels.rs. PEERS is the folder
# of model.py and make_weights.py, PYTHON an interpreter with torch, numpy, tifffile and safetensors; OUT gets machine.txt,
# raw.csv, table.md and train_kernels.txt, where the time of a training step in f16 goes. ROWS (12288) of as many columns are
# scanned. DEVICE (gpu) may be `software`, to try the script where there is no GPU, with few rows; PyTorch then runs on the CPU. MODES
# (f32,tf32,f16) are PyTorch's without its compiler. Seven minutes on an H200, most of them torch.compile's.
set -euo pipefail
marscan=$(realpath "$1") peers=$(realpath "$2") python=$(realpath -s "$3") rows=${5:-12288} device=${6:-gpu}
here=$(realpath "$(dirname "$0")"); mkdir -p "$4"; out=$(realpath "$4")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
# What drivers keep of compiled kernels: nothing yet.
export __GL_SHADER_DISK_CACHE_PATH="$work/kept" MESA_SHADER_CACHE_DIR="$work/kept"; mkdir "$work/kept"

{ date -u +%F; uname -sm; nproc; "$marscan" --version; "$marscan" devices
  nvidia-smi --query-gpu=name,driver_version,memory.total,pci.bus_id --format=csv,noheader 2> /dev/null || echo "no nvidia-smi"
  "$python" -c 'import torch; print("torch", torch.__version__, "cuda", torch.version.cuda, torch.cuda.is_available())'; } > "$out/machine.txt"
echo "system,network,precision,what,value,unit" > "$out/raw.csv"
say() { (IFS=,; echo "$*") >> "$out/raw.csv"; }

# Runs a command; `memory` is then the most that the card had in use meanwhile, MiB, and `failed` its trouble in a line.
watched() {
  ( while :; do nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits 2> /dev/null || break; sleep 0.1; done > "$work/memory" ) &
  local watch=$!
  failed=""; timeout ${LIMIT:-120} "$@" > "$work/said" 2>&1 || { cat "$work/said" >&2; failed=$(grep -v '^$' "$work/said" | tail -1 | tr ',' ';'); }
  kill $watch 2> /dev/null || true; wait $watch 2> /dev/null || true
  memory=$(sort -n "$work/memory" | tail -1); memory=${memory:-}
}

cp "$peers"/*.py "$work"; mkdir -p "$work/weights"; cd "$work"
# Its weights without its ONNX files.
"$python" - > /dev/null 2>&1 << 'END' || true
import torch
torch.onnx.export = lambda *a, **k: None
import onnx, types
onnx.load = lambda p: types.SimpleNamespace(graph=types.SimpleNamespace(node=[]))
exec(open("make_weights.py").read())
END
cp "$here/../configs/unet1.safetensors" weights/unet1.safetensors
"$marscan" synth --out scene --rows "$rows" --cols "$rows" --impacts 40 --name scene > /dev/null
"$marscan" synth --out train --rows 2048 --cols 2048 --impacts 60 --name train > /dev/null
"$marscan" synth --out valid --rows 512 --cols 512 --impacts 5 --name valid > /dev/null
scene=scene/scene.tif
# A card wakes up slowly: marscan scans it four times, for PyTorch the second time counts.
awk -F, -v OFS=, 'NR == 1 { print; next } { for (k = 1; k <= 4; k++) { row = $0; sub(/^[^,]*/, $1 "_" k, row); print row } }' \
  scene/scenes.csv > scene/four.csv
[ -z "${KERNELS:-}" ] || for net in unet1 unet3; do for precision in f32 f16; do
  "$KERNELS" $net weights/$net.safetensors "$device" $precision 2>&1; done; done > "$out/kernels.txt"

for net in unet1 unet3; do
  windows=(--window 2048 --batch 2); [ "$device" = gpu ] || windows=()
  # The weights of unet3 are drawn and its answer is noise: at this level nothing of it is measured.
  level=(); [ $net = unet1 ] || level=(--probability 0.9999)
  # Two epochs of training: the first compiles the kernels.
  epoch=$([ "$device" = gpu ] && echo 4800 || echo 32)
  "$marscan" settings --settings $net |
    sed "/^\[train\]/,\$ s/^batch = .*/batch = 32/; s/^epoch_crops = .*/epoch_crops = $epoch/; s/^validation_crops = .*/validation_crops = 16/" > $net.toml
  for precision in f16 bf16 f32; do
    # Twice: the first finds nothing that the driver has kept.
    for turn in cold warm; do
      rm -rf found
      watched "$marscan" scan --scenes scene/four.csv --out found --settings $net --weights weights/$net.safetensors \
        --device "$device" --precision $precision "${windows[@]}" "${level[@]}"
      [ -z "$failed" ] || { say marscan $net $precision refused "$failed" ""; break; }
      awk -v n=$net -v p=$precision -v t=$turn -v OFS=, '/ready after/ { print "marscan", n, p, "ready " t, $3, "s" }
        t == "cold" { next }
        / Mpx\/s, on / { print "marscan", n, p, "scan", $3, "Mpx/s" }
        / computed \(/ { sub(/.*computed \(/, ""); print "marscan", n, p, "computed for each valid pixel", $1, "" }
        /the network:/ { print "marscan", n, p, "network", $(NF - 1) / 1000, "TFLOP/s" }
        /seconds by stage/ { sub(/.*seconds by stage: /, ""); gsub(/, /, "; "); print "marscan", n, p, "stages", $0, "s" }' said >> "$out/raw.csv"
    done
    [ -n "$failed" ] || say marscan $net $precision "card memory" "$memory" MiB
    rm -rf run
    watched "$marscan" train --scenes train/scenes.csv --validation valid/scenes.csv --settings $net.toml --out run \
      --devices "$device" --precision $precision --images $((2 * epoch))
    if [ -n "$failed" ]; then say marscan $net $precision "training refused" "$failed" ""; else
      rates=($("$python" -c "import csv; print(*(round(float(row['images_per_s']), 1) for row in csv.DictReader(open('run/history.csv'))))"))
      say marscan $net $precision training "${rates[1]}" images/s
      say marscan $net $precision "training with compiling" "${rates[0]}" images/s
      say marscan $net $precision "training card memory" "$memory" MiB
    fi
  done
done
# Each kernel's time, alone, over the second half of some steps.
printf '[profiling]\nlogger = { level = "medium", stdout = true }\n' > cubecl.toml
steps=$([ "$device" = gpu ] && echo 20 || echo 2)
for net in unet1 unet3; do
  rm -rf run; "$marscan" train --scenes train/scenes.csv --validation valid/scenes.csv --settings $net.toml --out run --devices "$device" \
    --precision f16 --images $((32 * steps)) > said 2>&1 || { tail -1 said >&2; continue; }
  awk -v net=$net -v steps=$((steps / 2)) '
    /^\| / { unit = $2; sub(/[0-9.]+/, "", unit); name[++count] = $4; ms[count] = $2 * (unit == "s" ? 1000 : unit == "ms" ? 1 : unit == "ns" ? 1e-6 : 1e-3) }
    END {
      # A step ends where the parameters move; behind the last one the validation crops are scored.
      for (k = 1; k <= count; k++) if (name[k] ~ /^Descend/) ends[++n] = k
      for (k = ends[n - steps] + 1; k <= ends[n]; k++) { sum[name[k]] += ms[k]; times[name[k]]++; all += ms[k] }
      printf "%s: %.3f ms a step in kernels\n", net, all / steps
      for (one in sum) printf "%9.4f ms a step, %5.1f launches  %s\n", sum[one] / steps, times[one] / steps, one | "sort -rn"
    }' said
done > "$out/train_kernels.txt"
rm cubecl.toml
# How far apart the answers are, where nothing is near that lies outside of the scene.
"$marscan" synth --out small --rows 1024 --cols 1024 --impacts 3 --name small > /dev/null
for net in unet1 unet3; do
  maps=()
  for precision in f32 f16 bf16; do
    "$marscan" scan --scenes small/scenes.csv --out $net-$precision --settings $net --weights weights/$net.safetensors --device "$device" \
      --precision $precision --probability 0.9999 --probabilities > /dev/null 2>&1 && "$marscan" merge $net-$precision > /dev/null || continue
    maps+=($precision=$net-$precision/probabilities/small.tif)
  done
  PYTHONPATH=. "$python" "$here/gpu_torch.py" --net $net --scene small/small.tif --against "${maps[@]}" >> "$out/raw.csv"
done
torch() { PYTHONPATH=. timeout 150 "$python" "$here/gpu_torch.py" --scene $scene "$@" >> "$out/raw.csv" || say torch "$2" "$4" "failed or out of time" "" ""; }
# One at a time: what torch.compile needs may be more than there is.
for what in scan training; do for net in unet1 unet3; do torch --net $net --modes "bf16 compiled" --what $what; done; done
for net in unet1 unet3; do torch --net $net --modes ${MODES:-f32,tf32,f16}; done
"$python" "$here/gpu_table.py" "$out/raw.csv" > "$out/table.md"
cat "$out/machine.txt" "$out/table.md"
