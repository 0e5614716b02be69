#!/bin/sh
# What every recipe's %test does, as `apptainer test IMAGE.sif`: would this machine make a run fail; does a small one work?
# Everything is written in a directory of its own: the image may be read-only.
set -eu
work=$(mktemp -d 2>/dev/null || TMPDIR="" mktemp -d) # TMPDIR may be a directory that is not bound
trap 'rm -rf "$work"' EXIT
cd "$work"

glitchflow doctor
set -- "$(dirname "$0")/../configs/quickstart.yaml" workdir="$work/run" simulate.events=160
glitchflow generate "$@"
glitchflow inspect run/dataset.zarr --verify
glitchflow train "$@" train.workers=1 train.epochs=1 model.width=4
echo "glitchflow ${GLITCHFLOW_REVISION:-}: the self-test passed"
