# JUWELS Booster, Jülich Supercomputing Centre:
#   export SBATCH_ACCOUNT=...; . launch/sites/juwels-booster.sh; sbatch -N 2 -c 96 launch/slurm/glitchflow.sbatch train ...
# From JSC's documentation: nodes of 4 A100 (40 GB) and 2 x 24 cores (96 threads), HDR InfiniBand; psslurm in place of slurmd.
# From public job scripts: partition, gres, interface, modules.
# NOT CHECKED on the machine: that psslurm sends --signal=B: to the batch shell alone, `scontrol requeue`, the /p binds.
export SBATCH_PARTITION="${SBATCH_PARTITION:-booster}"
export SBATCH_GRES="${SBATCH_GRES:-gpu:4}"
export SBATCH_TIMELIMIT="${SBATCH_TIMELIMIT:-24:00:00}"                    # not checked: the partition's longest
export GLITCHFLOW_MODULES="${GLITCHFLOW_MODULES:-Stages/2025 GCC Python CUDA/12}" # not needed with an image
export GLITCHFLOW_INTERFACE="${GLITCHFLOW_INTERFACE:-ib0}"                 # nodes' plain names are not on InfiniBand
export GLITCHFLOW_CONTAINER="${GLITCHFLOW_CONTAINER:-apptainer exec --nv}"
export GLITCHFLOW_BINDS="${GLITCHFLOW_BINDS:-/p}"                          # not checked
