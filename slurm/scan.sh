#!/usr/bin/env bash
# Scans a scene list as a job array: each task takes the shard of its index. A merge waits for all of them.
#   array=$(sbatch --parsable --array=0-63 slurm/scan.sh scenes.csv found)
#   sbatch --dependency=afterany:$array slurm/merge.sh found
# Told that its time is nearly up, a task keeps what it has and exits with 75; requeued, it goes on from there.
#SBATCH --job-name=marscan
#SBATCH --cpus-per-task=8
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --output=marscan-%A_%a.log
#SBATCH --open-mode=append
exec marscan scan --scenes "$1" --out "$2" --threads "${SLURM_CPUS_PER_TASK:-1}" "${@:3}"
