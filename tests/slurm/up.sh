#!/usr/bin/env bash
# Brings up a real Slurm of two virtual nodes on this machine, loopback only, for tests/it/slurm.rs:
#   tests/slurm/up.sh FOLDER CONTROLLER_PORT NODE_PORT NODE_PORT
# Its munged, key, ports and files are its own: another Slurm beside it is not touched. Needs root, and Debian's
# slurm-wlm and munge. Its time: half a second. cred_expire is how long a requeued job waits: 5 s is the least that
# counts, 120 s the default. Slurm wants its GPUs to be devices: any do, nothing opens them.
set -euo pipefail
folder=$1 controller=$2 node1=$3 node2=$4 host=$(hostname -s)
mkdir -p "$folder"/{state,spool/n1,spool/n2,tmp/n1,tmp/n2,log}
(umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
/usr/sbin/munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed"
cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/ended.txt
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
GresTypes=gpu
TmpFS=$folder/tmp/%n
ReturnToService=2
KillWait=5
RequeueExit=75
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$node1 CPUs=20 RealMemory=256000 Gres=gpu:5
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$node2 CPUs=20 RealMemory=256000 Gres=gpu:5
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
echo "Name=gpu File=/dev/null,/dev/zero,/dev/full,/dev/random,/dev/urandom" >"$folder/gres.conf"
export SLURM_CONF=$folder/slurm.conf
/usr/sbin/slurmctld
/usr/sbin/slurmd -N n1
/usr/sbin/slurmd -N n2
for _ in $(seq 100); do
  [ "$(sinfo --noheader --format=%D --states=idle 2>/dev/null)" = 2 ] && exit 0
  sleep 0.1
done
echo "the nodes did not come up:" >&2
tail -n 5 "$folder"/log/*.log >&2
exit 1
