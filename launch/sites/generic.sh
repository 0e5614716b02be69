# Any cluster: copy, fill in, and source it before sbatch:  . launch/sites/mine.sh
# SBATCH_* are sbatch's own options (its manual, "INPUT ENVIRONMENT VARIABLES"; -N, -c and --exclusive are given on its
# command line), GLITCHFLOW_* the keys at the head of launch/slurm/glitchflow.sbatch. What the environment has already stays.
# export SBATCH_ACCOUNT="${SBATCH_ACCOUNT:-project}"     # empty ones would be options too: leave out what is not needed
# export SBATCH_PARTITION="${SBATCH_PARTITION:-gpu}"
export SBATCH_TIMELIMIT="${SBATCH_TIMELIMIT:-1:00:00}"
# export SBATCH_GPUS_PER_NODE=4
export GLITCHFLOW_MODULES="${GLITCHFLOW_MODULES:-}"     # such as "Python/3.12 CUDA"; not needed with an image
export GLITCHFLOW_VENV="${GLITCHFLOW_VENV:-}"           # or GLITCHFLOW_IMAGE=glitchflow-cuda.sif
export GLITCHFLOW_INTERFACE="${GLITCHFLOW_INTERFACE:-}" # `ip -br address` on a compute node shows them
export GLITCHFLOW_BINDS="${GLITCHFLOW_BINDS:-}"         # the file systems that stores are on, for the image
export GLITCHFLOW_TMP="${GLITCHFLOW_TMP:-/tmp}"         # on the node's own disk or in its memory
