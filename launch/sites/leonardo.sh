# Leonardo Booster, CINECA Bologna:
#   export SBATCH_ACCOUNT=...; . launch/sites/leonardo.sh; sbatch -N 2 -c 32 launch/slurm/glitchflow.sbatch train ...
# From CINECA's documentation: nodes of 32 cores and 4 A100 (64 GB), HDR InfiniBand. From public job scripts: partition,
# gres, the debug QOS (boost_qos_dbg, 30 minutes), a longest time of 24 hours, interfaces whose names begin with ib.
# NOT CHECKED on the machine: ib0 in particular, modules, binds, requeue. Compute nodes have no way to the internet.
export SBATCH_PARTITION="${SBATCH_PARTITION:-boost_usr_prod}"
export SBATCH_GRES="${SBATCH_GRES:-gpu:4}"
export SBATCH_TIMELIMIT="${SBATCH_TIMELIMIT:-24:00:00}"
export GLITCHFLOW_MODULES="${GLITCHFLOW_MODULES:-}"                        # not checked: python and cuda, by version
export GLITCHFLOW_INTERFACE="${GLITCHFLOW_INTERFACE:-ib0}"
export GLITCHFLOW_CONTAINER="${GLITCHFLOW_CONTAINER:-singularity exec --nv}" # not checked
export GLITCHFLOW_BINDS="${GLITCHFLOW_BINDS:-/leonardo,/leonardo_work,/leonardo_scratch}" # not checked
