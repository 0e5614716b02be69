# LUMI-G, CSC Kajaani (AMD MI250X, ROCm):
#   export SBATCH_ACCOUNT=project_...; . launch/sites/lumi.sh; sbatch -N 2 -c 56 launch/slurm/glitchflow.sbatch train ...
# From LUMI's documentation: standard-g gives whole nodes for up to 2 days, dev-g parts of nodes for 3 hours (so -p dev-g
# -t 3:00:00); a node has 4 MI250X, which Slurm and torch see as 8 GPUs. From public job scripts: interfaces, the NCCL key.
# NOT CHECKED on the machine: 56 usable cores a node (8 are kept for the system), RCCL over Slingshot from this image,
# Ray with HIP_VISIBLE_DEVICES in place of Slurm's ROCR_VISIBLE_DEVICES, which the script translates.
export SBATCH_PARTITION="${SBATCH_PARTITION:-standard-g}"
export SBATCH_GPUS_PER_NODE="${SBATCH_GPUS_PER_NODE:-8}"
export SBATCH_TIMELIMIT="${SBATCH_TIMELIMIT:-2-00:00:00}"
export GLITCHFLOW_IMAGE="${GLITCHFLOW_IMAGE:-glitchflow-rocm.sif}" # LUMI asks for containers: Lustre dislikes environments
export GLITCHFLOW_CONTAINER="${GLITCHFLOW_CONTAINER:-singularity exec --rocm}"
export GLITCHFLOW_BINDS="${GLITCHFLOW_BINDS:-/pfs,/scratch,/projappl,/project,/flash}"
# RCCL reaches Slingshot by libfabric and its plugin (aws-ofi-rccl), both the site's; without them it takes TCP over hsn*.
# From LUMI's containers, NOT CHECKED with this image: bind these too, and give the plugin's and libfabric's directories.
#   GLITCHFLOW_BINDS=...,/opt/cray,/var/spool/slurmd,/usr/lib64/libcxi.so.1,/usr/lib64/libjansson.so.4
#   export SINGULARITYENV_LD_LIBRARY_PATH=/opt/cray/libfabric/VERSION/lib64:DIRECTORY_OF_librccl-net.so FI_CXI_ATS=0
export GLITCHFLOW_INTERFACE="${GLITCHFLOW_INTERFACE:-hsn0}"
export GLITCHFLOW_NCCL_INTERFACE="${GLITCHFLOW_NCCL_INTERFACE:-hsn0,hsn1,hsn2,hsn3}"
export NCCL_NET_GDR_LEVEL="${NCCL_NET_GDR_LEVEL:-3}"
