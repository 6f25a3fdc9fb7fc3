#!/usr/bin/env bash
# Scans a scene list as a job array; each task takes the shard of its index.
#   sbatch --array=0-63 slurm/scan.sh scenes.csv found
#   sbatch --dependency=afterok:JOBID --wrap "marscan merge found"
#SBATCH --job-name=marscan
#SBATCH --cpus-per-task=8
#SBATCH --mem=4G
#SBATCH --time=04:00:00
exec marscan scan --scenes "$1" --out "$2" --threads "${SLURM_CPUS_PER_TASK:-1}" "${@:3}"
