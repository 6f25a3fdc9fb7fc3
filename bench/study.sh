#!/usr/bin/env bash
# The study made again: four networks trained and judged, loss curves, speed-up over devices, ranks and nodes, precision.
#
#   bench/study.sh [--quick] [--data FOLDER] [--devices LIST] OUT
#
# FOLDER is a data set made by `marscan prepare`, or holds compose_scenes.py (../shared/data, the default; PYTHON names an
# interpreter with numpy, scipy, pillow and tifffile). LIST is as for `marscan train --devices`. --quick ends within 15
# minutes on 2 cores: small crops, few of them, a high learning rate; without it, each network trains as the study says.
# OUT gets README.md with the tables, and all files they were made from. Build first: cargo build --release --features mpi
set -euo pipefail

here=$(realpath "$(dirname "$0")"); marscan=$(realpath "$here/../target/release/marscan")
quick= data="$here/../../shared/data" devices=auto command="bench/study.sh $*"
while [ $# -gt 1 ]; do
  case $1 in
    --quick) quick=yes; shift ;;
    --data) data=$2; shift 2 ;;
    --devices) devices=$2; shift 2 ;;
    *) echo "unknown: $1" >&2; exit 2 ;;
  esac
done
mkdir -p "${1:?where the results go}"; out=$(realpath "$1"); data=$(realpath "$data")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cores=$(nproc); export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Virtual nodes share cores: a rank that waits must not hold one.
export OMPI_MCA_mpi_yield_when_idle=1
say() { echo "$(date +%T) $*" >&2; }
report() { cat >> "$out/README.md"; }
# CSV columns by name -> a Markdown table.
table() { local file=$1; shift; awk -F, -v want="$*" '
  function cell(x) { return x ~ /^-?[0-9]*\.[0-9]+$/ ? sprintf("%.4g", x) : x }
  NR == 1 { n = split(want, w, " "); for (i = 1; i <= NF; i++) at[$i] = i
            for (i = 1; i <= n; i++) { printf "| %s ", w[i]; rule = rule "|---" } print "|\n" rule "|"; next }
  { for (i = 1; i <= n; i++) printf "| %s ", cell($at[w[i]]); print "|" }' "$file"; }

if [ $quick ]; then
  networks="unet1.0 unet2.0 unet2.1 unet3.0" scenes=9 size=2000 crop=64 images=600 repeats=3
else
  networks="unet1.0 unet2.0 unet2.1 unet3.0" scenes=30 size=4000 crop=128 images=6400 repeats=5
fi

# --- data -------------------------------------------------------------------------------------------------------------
if [ ! -e "$data/data.json" ]; then
  say "composing $scenes scenes of $size x $size px"
  "${PYTHON:-python3}" "$data/compose_scenes.py" --out "$work/scenes" --count $scenes --rows $size --cols $size \
    --impacts $((size / 50)) --distractors $((size / 30)) --seed 31 > "$out/scenes.log"
  "$marscan" prepare --root "$work/scenes" --scene-pattern '{id}.tif' --mask-pattern '{id}_gt.tif' --crop $crop \
    --out "$work/data" --store > "$out/data.log"
  data=$work/data
fi
cp "$data/data.json" "$out/"

# --- 1 and 2: the four networks, and their loss curves -----------------------------------------------------------------
settings() { # name -> TOML file
  local file=$work/$1.toml
  "$marscan" settings --settings "$1" > "$file"
  [ ! $quick ] || sed -i 's/^batch = 32/batch = 8/; s/^epoch_crops = .*/epoch_crops = 800/; s/^epochs = .*/epochs = 3/
    s/^learning_rate = .*/learning_rate = 0.002/; s/^validation_crops = .*/validation_crops = 320/' "$file"
  echo "$file"
}
judged=()
for net in $networks; do
  say "training $net"
  hard=()
  [[ $net != unet2.1 && $net != unet3.0 ]] || hard=(--hard-negatives "$work/mined/mined.csv")
  "$marscan" train --data "$data" --settings "$(settings $net)" --devices "$devices" --out "$work/$net" "${hard[@]}" \
    > "$out/$net.log"
  mkdir -p "$out/$net"; cp "$work/$net"/{history.csv,timing.csv,summary.json,curves.svg,curves.png} "$out/$net"
  judged+=(--network "$net=$work/$net/best.safetensors")
  if [ $net = unet2.0 ]; then
    say "mining its false positives"
    "$marscan" mine --data "$data" --settings "$(settings $net)" --weights "$work/$net/best.safetensors" --min-score 0.5 \
      --out "$work/mined" > "$out/mined.log"
  fi
done
say "judging on the test crops and scenes"
"$marscan" judge --data "$data" "${judged[@]}" --out "$out" > "$out/networks.log"
found() { # network, part -> catalogue; the lowest score that gives the best F1 on the validation scenes is taken to the test
  "$marscan" scan --scenes "$data/scenes_$2.csv" --masks --settings "$(settings $1)" --weights "$work/$1/best.safetensors" \
    --min-score 0.5 --out "$work/found-$1-$2" > "$work/scan.log"
  "$marscan" merge "$work/found-$1-$2" > "$work/merge.log"
}
truth=$(dirname "$(awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "mask") m = i; next } { print $m; exit }' "$data/scenes_test.csv")")
case $truth in /*) ;; *) truth=$data/$truth ;; esac
echo "network,lowest_score,impacts,found,false,precision,recall,f1,false_per_1000km2,mse_percent,nothing_mse_percent" > "$out/impacts.csv"
for net in $networks; do
  found $net validation; found $net test
  score=$("$marscan" eval --catalogue "$work/found-$net-validation/catalogue.csv" --truth "$truth" --sweep |
    awk '/^lowest/ { on = 1; next } on && $6 > best { best = $6; score = $1 } END { print score ? score : 0.5 }')
  "$marscan" eval --catalogue "$work/found-$net-test/catalogue.csv" --truth "$truth" --min-score "$score" |
    awk -v n=$net -v s="$score" -v OFS=, '$1 == "all" { print n, s, $2, $3, $4, $5, $6, $7, $8, $10, $11 }' >> "$out/impacts.csv"
done

# --- 3, 4 and 5: speed -------------------------------------------------------------------------------------------------
speed() { # folder, flags of train...: the same work, several times
  local to=$1; shift
  "${launch[@]}" "$marscan" train --data "$data" --settings "$work/speed.toml" --images $images --repeats $repeats \
    --out "$work/$to" "$@" > "$out/${to//\//-}.log" 2>&1
}
sed "s/^epoch_crops = .*/epoch_crops = $images/; s/^validation_crops = .*/validation_crops = 16/; s/^batch = .*/batch = 32/" \
  "$(settings unet1.0)" > "$work/speed.toml"
launch=()
gpus=$("$marscan" devices | grep -c '^gpu:' || true)
counts() { for n in 1 2 4 8; do [ $n -gt "$1" ] || echo $n; done; }
runs=()
say "speed-up over devices"
if [ "$gpus" -gt 0 ] && [ "$devices" != cpu ]; then
  of="GPUs"
  for n in $(counts "$gpus"); do
    speed devices/$n --devices "$(seq -s, 0 $((n - 1)))"; runs+=("$n=$work/devices/$n")
  done
else
  of="CPU replicas of one thread each"
  for n in $(counts "$cores"); do
    speed devices/$n --devices cpu:$n --threads $n; runs+=("$n=$work/devices/$n")
  done
fi
"$marscan" speedup "${runs[@]}" --workers "$of" --out "$out/devices" > "$out/devices.log"

ranks_said="not measured: mpirun is not installed, or marscan was built without --features mpi"
if command -v mpirun > /dev/null && mpirun -np 1 "$marscan" devices > /dev/null 2>&1; then
  say "speed-up over ranks"
  runs=() ranks_said=
  if [ "$of" = GPUs ]; then one=(); most=$gpus; else one=(--devices cpu --threads 1); most=$cores; fi
  for n in $(counts "$most"); do
    launch=(mpirun -np "$n")
    speed ranks/$n "${one[@]}"; runs+=("$n=$work/ranks/$n")
  done
  "$marscan" speedup "${runs[@]}" --workers ranks --out "$out/ranks" > "$out/ranks.log"
fi
nodes_said="not measured: no Slurm here (srun --mpi=pmix)"
if [ -z "$ranks_said" ] && command -v sinfo > /dev/null && hosts=$(sinfo -h -o %D 2> /dev/null) && [ "${hosts:-0}" -gt 1 ]; then
  say "the same ranks over several nodes"
  runs=() nodes_said=
  ranks=$(counts "$hosts" | tail -1)
  for n in $(counts "$hosts"); do
    launch=(srun --mpi=pmix -N "$n" -n "$ranks")
    speed nodes/$n "${one[@]}"; runs+=("$n=$work/nodes/$n")
  done
  "$marscan" speedup "${runs[@]}" --workers "nodes, $ranks ranks in all" --flat --out "$out/nodes" > "$out/nodes.log"
fi
launch=()
say "precision"
echo "precision,images_per_s,images_per_s_deviation,peak_resident_mib,device_mib,device" > "$out/precision.csv"
for precision in f32 bf16 f16; do
  if command -v nvidia-smi > /dev/null; then
    (while sleep 0.2; do nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits; done > "$work/memory.log") & watch=$!
  fi
  done_it=yes; speed precision/$precision --devices "${devices%%,*}" --precision $precision || done_it=
  [ -z "${watch:-}" ] || kill "$watch"
  if [ $done_it ]; then
    "$marscan" speedup "1=$work/precision/$precision" --out "$work/one" > /dev/null
    awk -F, -v OFS=, -v p=$precision -v m="$(sort -n "$work/memory.log" 2> /dev/null | tail -1)" \
      'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
       { print p, $at["images_per_s"], $at["images_per_s_deviation"], $at["peak_resident_mib"], m, $at["device"] }' \
      "$work/one/speedup.csv" >> "$out/precision.csv"
  else
    echo "$precision,,,,,$(tail -1 "$out/precision-$precision.log" | tr , ';')" >> "$out/precision.csv"
  fi
done

# --- the report ----------------------------------------------------------------------------------------------------------
say "report"
rm -f "$out/README.md"
report << R
# The study, made again

\`$command\`, $(date +%F), $("$marscan" --version); $(uname -m), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $cores cores.

$("$marscan" devices | sed 's/^/    /')

$(grep -v '^wrote' "$out/data.log" 2> /dev/null | tail -8 | sed 's/^/    /')

## 1. The four networks

Crops of the test scenes, pixel by pixel (a pixel is called impact from a probability of 0.5):

$(table "$out/networks.csv" network parameters crops mse_percent nothing_mse_percent pixel_precision pixel_recall pixel_f1)

The whole test scenes, impact by impact; the lowest score is the one with the best F1 on the validation scenes:

$(table "$out/impacts.csv" network lowest_score impacts found false precision recall f1 false_per_1000km2 mse_percent nothing_mse_percent)

![image, mask, and what each network makes of them](networks.png)

## 2. Loss curves

$(for net in $networks; do echo "![$net]($net/curves.svg)"; done)

## 3. Speed-up over devices: $of

$images images, $repeats repeats; seconds of training, without validation; deviations are of the sample.

$(table "$out/devices/speedup.csv" workers repeats seconds seconds_deviation images_per_s speedup speedup_deviation efficiency peak_resident_mib)

![speed-up](devices/speedup.svg)

## 4. Speed-up over ranks, and over nodes

$(if [ -z "$ranks_said" ]; then table "$out/ranks/speedup.csv" workers repeats seconds seconds_deviation images_per_s speedup speedup_deviation efficiency
  echo; echo "![speed-up](ranks/speedup.svg)"; else echo "$ranks_said"; fi)

Nodes: $(if [ -z "$nodes_said" ]; then echo "the same $ranks ranks on each number of nodes."; echo
  table "$out/nodes/speedup.csv" workers repeats seconds seconds_deviation images_per_s speedup speedup_deviation
  echo; echo "![speed-up](nodes/speedup.svg)"; else echo "$nodes_said"; fi)

## 5. Precision

$repeats repeats of $images images.

$(table "$out/precision.csv" precision images_per_s images_per_s_deviation peak_resident_mib device_mib device)
R
# The run's own folders are nobody's business.
sed -i "s#$work/#work/#g; s#$marscan#marscan#g" "$out"/*/summary.json
rm -f "$out"/*.log
say "done: $out/README.md"
