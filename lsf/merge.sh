#!/usr/bin/env bash
# Merges the shards of a scan into one catalogue, once every task of its array is done.
#   OUT=found bsub -w 'done("marscan")' < lsf/merge.sh
#BSUB -J marscan-merge
#BSUB -n 2
#BSUB -R "span[hosts=1]"
#BSUB -W 0:30
#BSUB -o marscan-merge-%J.log
exec marscan merge "$OUT" $MERGE_FLAGS
