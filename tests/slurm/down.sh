#!/usr/bin/env bash
# Ends the jobs and the daemons of the Slurm that up.sh started in FOLDER, by the numbers it wrote there:
#   tests/slurm/down.sh FOLDER
set -u
folder=$1
export SLURM_CONF=$folder/slurm.conf
scancel --user=root --full --signal=KILL 2>/dev/null
scancel --user=root 2>/dev/null
for name in slurmctld slurmd-n1 slurmd-n2 munged; do
  pid=$(cat "$folder/$name.pid" 2>/dev/null) && kill "$pid" 2>/dev/null
done
exit 0
