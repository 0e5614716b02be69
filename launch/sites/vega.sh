# Vega, IZUM Maribor:
#   export SBATCH_ACCOUNT=...; . launch/sites/vega.sh; sbatch -N 2 -c 256 launch/slurm/glitchflow.sbatch train ...
# From IZUM's documentation: 60 GPU nodes of 2 x 64 cores (128 threads each) and 4 A100. A CPU of Slurm is a thread there and a
# job gets whole cores: -c 256 is a node, -c 64 is 32 cores. From public job scripts: interface, modules; homes and
# projects under /ceph/hpc, scratch (Lustre) under /exa5.
# NOT CHECKED on the machine: partition name and its longest time, whether Apptainer is called singularity, requeue.
export SBATCH_PARTITION="${SBATCH_PARTITION:-gpu}"                         # not checked
export SBATCH_GRES="${SBATCH_GRES:-gpu:4}"
export SBATCH_TIMELIMIT="${SBATCH_TIMELIMIT:-24:00:00}"                    # not checked
export GLITCHFLOW_MODULES="${GLITCHFLOW_MODULES:-Python/3.12.3-GCCcore-13.3.0 CUDA/12.6.0}" # not needed with an image
export GLITCHFLOW_INTERFACE="${GLITCHFLOW_INTERFACE:-ib0}"
export GLITCHFLOW_CONTAINER="${GLITCHFLOW_CONTAINER:-singularity exec --nv}" # not checked
export GLITCHFLOW_BINDS="${GLITCHFLOW_BINDS:-/ceph/hpc,/exa5}"
