#!/usr/bin/env bash
# Scans the images of a folder that no night before has scanned, and merges what came of it; cron calls it:
#   15 22 * * *  cd mars && PATH="$HOME/bin:$PATH" lsf/nightly.sh images nights
# nights/DATE gets the list, the shards and the catalogue. What fails tonight is new again tomorrow.
night=$2/$(date +%F) here=$(dirname "$0")
mkdir -p "$night" || exit
marscan info "$1" --scenes "$night/tonight.csv" --except "$2"
case $? in
  0 | 3) ;;      # 3: some files are no scenes, and were named
  4) exit 0 ;;   # no scene is new
  *) exit 1 ;;
esac
job=marscan-$(date +%F)
export SCENES=$night/tonight.csv OUT=$night FLAGS="${*:3}"
bsub -J "$job[1-64]" < "$here/scan.sh" || exit
MERGE_FLAGS=--allow-partial bsub -w "ended(\"$job\")" < "$here/merge.sh"
