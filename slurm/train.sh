#!/usr/bin/env bash
# Trains on the GPUs of one node; killed or stopped at its time limit, the same command goes on from its checkpoint.
#   sbatch slurm/train.sh data run --settings unet3
#SBATCH --job-name=marscan-train
#SBATCH --nodes=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --output=marscan-train-%j.log
#SBATCH --open-mode=append
exec marscan train --data "$1" --out "$2" "${@:3}"
