#!/usr/bin/env bash
# A real Slurm over fakenodes.sh: netslurm.sh up N | down. The login host runs slurmctld, node I runs slurmd.
# Needs Debian's slurm-wlm and munge (apt-get install -y --no-install-recommends slurm-wlm munge).
# Use it:  SLURM_CONF=$GF_DIR/slurm/slurm.conf fakenodes.sh sh 0 sbatch job.sbatch
set -euo pipefail
cd "$(dirname "$0")"; export GF_DIR=${GF_DIR:-/tmp/fakenodes}; S=$GF_DIR/slurm; export SLURM_CONF=$S/slurm.conf
case $1 in
up) N=$2; ./fakenodes.sh up "$N"; mkdir -p "$S"/{state,log,run}; install -d -o munge -g munge -m 0755 "$S/munge"
  head -c 1024 /dev/urandom >"$S/munge/key"; chown munge: "$S/munge/key"; chmod 400 "$S/munge/key"
  cat >"$SLURM_CONF" <<CONF
ClusterName=mini
SlurmctldHost=login(10.77.0.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$S/munge/s,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=2000
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0
ReturnToService=2
KillWait=30
SlurmctldTimeout=10
SlurmdTimeout=10
TCPTimeout=2
SlurmdParameters=config_overrides
StateSaveLocation=$S/state
SlurmctldPidFile=$S/run/slurmctld.pid
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdSpoolDir=$S/spool.%n
SlurmdPidFile=$S/run/slurmd.%n.pid
SlurmdLogFile=$S/log/slurmd.%n.log
GresTypes=gpu
NodeName=node[1-$N] NodeAddr=10.77.0.[1-$N] CPUs=2 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  echo "NodeName=node[1-$N] Name=gpu File=/dev/tty[0-1]" >"$S/gres.conf"
  ./fakenodes.sh sh 0 runuser -u munge -- /usr/sbin/munged --force --key-file="$S/munge/key" --socket="$S/munge/s" \
    --pid-file="$S/munge/pid" --log-file="$S/munge/log" --seed-file="$S/munge/seed" --num-threads=2
  ./fakenodes.sh sh 0 slurmctld -c -f "$SLURM_CONF"
  for i in $(seq "$N"); do mkdir -p "$S/spool.node$i"; ./fakenodes.sh sh "$i" slurmd -N node"$i" -f "$SLURM_CONF"; done
  for _ in $(seq 150); do [ "$(./fakenodes.sh sh 0 timeout 2 sinfo -h -t idle -o %D 2>/dev/null)" = "$N" ] && break; sleep 0.1; done
  ./fakenodes.sh sh 0 sinfo -N ;;
down) ./fakenodes.sh down ;;
*) sed -n '2,4p' "$0"; exit 2 ;;
esac
