#!/usr/bin/env bash
# Trains over several hosts, one rank a GPU; built with --features mpi. Stopped or killed, the same command goes on.
# Warned by USR1, which mpirun hands on; told TERM, it ends the ranks and hides their exit code, and nothing is queued again.
#   DATA=data OUT=run FLAGS="--settings unet3 --scale-with-ranks" bsub < lsf/train_nodes.sh
#BSUB -J marscan-train
#BSUB -n 16
#BSUB -R "span[ptile=4]"
#BSUB -gpu "num=4"
#BSUB -W 12:00
#BSUB -wa USR1
#BSUB -wt 2
#BSUB -r
#BSUB -Q 75
#BSUB -o marscan-train-%J.log
exec mpirun marscan train --data "$DATA" --out "$OUT" $FLAGS
