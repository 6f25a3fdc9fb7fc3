#!/usr/bin/env bash
# Ends the jobs and the daemons of the Slurm that up.sh started in FOLDER, by the numbers it wrote there:
#   tests/slurm/down.sh FOLDER
set -u
pids=()
folder=$1
export SLURM_CONF=$folder/slurm.conf
scancel --user=root --full --signal=KILL 2>/dev/null
scancel --user=root 2>/dev/null
for name in slurmctld slurmd-n1 slurmd-n2 munged; do
  pid=$(cat "$folder/$name.pid" 2>/dev/null) && kill "$pid" 2>/dev/null && pids+=("$pid")
done
# Gone before their folder is; what nobody waits for keeps its number, but has no program.
for _ in $(seq 50); do
  for pid in "${pids[@]}"; do [ -e "/proc/$pid/exe" ] && sleep 0.1 && continue 2; done
  break
done
exit 0
