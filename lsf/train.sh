#!/usr/bin/env bash
# Trains on the GPUs of one host; killed or stopped at its time limit, the same command goes on from its checkpoint.
#   DATA=data OUT=run FLAGS="--settings unet3" bsub < lsf/train.sh
#BSUB -J marscan-train
#BSUB -n 16
#BSUB -R "span[hosts=1]"
#BSUB -gpu "num=4"
#BSUB -W 12:00
#BSUB -wa TERM
#BSUB -wt 2
#BSUB -r
#BSUB -Q 75
#BSUB -o marscan-train-%J.log
exec marscan train --data "$DATA" --out "$OUT" $FLAGS
