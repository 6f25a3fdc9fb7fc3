#!/usr/bin/env bash
# Merges the shards of a scan into one catalogue, once every task of its array is done; where one is missing, it says so.
#   sbatch --dependency=afterany:ARRAY slurm/merge.sh found
#SBATCH --job-name=marscan-merge
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=00:30:00
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --output=marscan-merge-%j.log
exec marscan merge "$1" "${@:2}"
