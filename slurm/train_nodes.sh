#!/usr/bin/env bash
# Trains over several nodes, one rank a GPU; built with --features mpi. Each rank takes one of its node's GPUs.
#   sbatch slurm/train_nodes.sh data run --settings unet3 --scale-with-ranks
#SBATCH --job-name=marscan-train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=marscan-train-%j.log
#SBATCH --open-mode=append
exec srun --mpi=pmix marscan train --data "$1" --out "$2" "${@:3}"
