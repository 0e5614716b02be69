#!/bin/sh
# What every recipe's %post does:  install.sh cpu|cuda|cuda12|rocm INDEX
# One virtual environment, /opt/glitchflow, at the versions of constraints.txt, with torch for that accelerator; INDEX
# is the package index that has its wheels. They bring CUDA or ROCm along; the host brings the driver. Every file is
# held against hashes.txt, but for a torch that is not PyPI's, which its own index vouches for.
set -eu
accelerator=$1 index=$2
cd "$(dirname "$0")/.."

# InfiniBand for NCCL and RCCL, which else fall back to TCP without a word, and a compiler for train.compile
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends g++ libibverbs1 ibverbs-providers librdmacm1
apt-get clean
rm -rf /var/lib/apt/lists/*

python3 -m venv /opt/glitchflow
pip="/opt/glitchflow/bin/pip --no-cache-dir --disable-pip-version-check"
if [ "$accelerator" = cuda ]; then # PyPI's torch
  $pip install --require-hashes --extra-index-url "$index" -r containers/hashes.txt
else # all but torch and what comes with PyPI's, then torch
  awk '/^[^ ]/ { other = !/^(torch|triton|nvidia-|cuda-)/ } other' containers/hashes.txt >hashes.partial
  $pip install --require-hashes -r hashes.partial
  rm hashes.partial
  $pip install --extra-index-url "$index" "$(grep '^torch==' constraints.txt)"
fi
$pip install --no-deps --no-build-isolation .
$pip check
$pip freeze >/opt/glitchflow/packages.txt

# the wrong index gives a torch that imports, and trains on the CPU
/opt/glitchflow/bin/python - "$accelerator" <<'END'
import sys
import torch
cuda = torch.version.cuda or ""
built = "cuda12" if cuda.startswith("12.") else "cuda" if cuda else "rocm" if torch.version.hip else "cpu"
if built != sys.argv[1]:
    sys.exit(f"install.sh: torch {torch.__version__} is built for {built}, not for {sys.argv[1]}: see TORCH_INDEX")
END
