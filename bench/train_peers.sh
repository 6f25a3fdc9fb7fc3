#!/usr/bin/env bash
# A training step of 32 crops of 128 x 128 px beside PyTorch and Keras in f32: 2 threads, in turn, three rounds.
#
#   bench/train_peers.sh PEERS PYTHON KERAS OUT
#
# PEERS is the folder of train_torch.py and train_tf.py, PYTHON an interpreter with torch, KERAS one with tensorflow, OUT
# gets raw.csv. Each system's figure is the median of its steps in a round; memory is the most the process ever had.
set -euo pipefail
peers=$(realpath "$1") python=$(realpath -s "$2") keras=$(realpath -s "$3")
mkdir -p "$4"; out=$(realpath "$4"); cd "$(dirname "$0")/.."
export PYTHONDONTWRITEBYTECODE=1 RAYON_NUM_THREADS=2 TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow
cargo bench --bench train_step --no-run 2> /dev/null
echo "round,system,network,images_s,peak_mib" > "$out/raw.csv"
for round in 1 2 3; do
  for net in unet1 unet3; do
    for peer in "$python train_torch.py" "$keras train_tf.py"; do
      line=$(cd "$peers" && $peer --net $net --mode f32 --batch 32 --size 128 --threads 2 --budget 12 2> /dev/null | tail -1)
      echo "$line" | "$python" -c "import json,sys; d=json.load(sys.stdin); print('$round', d['sys'].split()[0], '$net', d['img_s'], d['rss_mb'], sep=',')" >> "$out/raw.csv"
    done
    cargo bench --bench train_step -- $net 2> /dev/null |
      awk -v r=$round -v n=$net -v OFS=, '/median/ { print r, "marscan", n, $3, int($(NF - 1) / 1024) }' >> "$out/raw.csv"
  done
done
cat "$out/raw.csv"
