#!/usr/bin/env bash
# Stands in for Apptainer: container.sh exec --bind A,B --pwd DIRECTORY IMAGE COMMAND...
# IMAGE is a virtual environment. Within, /tmp holds what is bound and nothing else, and PATH is the image's. Root.
set -euo pipefail
[ "$1 $2 $4" = "exec --bind --pwd" ]
export BINDS=$3 HERE=$5 PATH=$6/bin:/usr/sbin:/usr/bin:/sbin:/bin
shift 6
exec unshare --mount --propagation private bash -euc '
  IFS=, read -ra binds <<<"$BINDS"
  mount -t tmpfs tmpfs /mnt
  for i in "${!binds[@]}"; do mkdir "/mnt/$i"; mount --bind "${binds[i]}" "/mnt/$i"; done
  mount -t tmpfs tmpfs /tmp
  for i in "${!binds[@]}"; do mkdir -p "${binds[i]}"; mount --bind "/mnt/$i" "${binds[i]}"; done
  cd "$HERE"
  exec "$@"' - "$@"
