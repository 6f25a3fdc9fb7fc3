#!/usr/bin/env bash
# Scans the images of a folder that no night before has scanned, and merges what came of it; cron calls it:
#   15 22 * * *  cd mars && PATH="$HOME/bin:$PATH" lsf/nightly.sh images nights
# nights/DATE gets the list, the shards and the catalogue. What fails tonight is new again tomorrow; where nothing is new,
# this ends with 4.
set -e
night=$2/$(date +%F) here=$(dirname "$0")
mkdir -p "$night"
marscan info "$1" --scenes "$night/tonight.csv" --except "$2" --allow-partial
job=marscan-$(date +%F)
export SCENES=$night/tonight.csv OUT=$night FLAGS="${*:3}"
bsub -J "$job[1-64]" < "$here/scan.sh"
MERGE_FLAGS=--allow-partial bsub -w "ended(\"$job\")" < "$here/merge.sh"
