#!/usr/bin/env bash
# Trains over several hosts, one rank a GPU; built with --features mpi. Stopped or killed, the same command goes on.
#   bsub lsf/train.sh data run --settings unet3
#BSUB -J marscan-train
#BSUB -n 16
#BSUB -R "span[ptile=4]"
#BSUB -gpu "num=4"
#BSUB -W 12:00
#BSUB -wt 2
#BSUB -wa TERM
exec mpirun marscan train --data "$1" --out "$2" "${@:3}"
