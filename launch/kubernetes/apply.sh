#!/usr/bin/env bash
# `kubectl apply -f MANIFEST`, once nothing in it is FILL-IN any more:
#   launch/kubernetes/apply.sh MANIFEST.yaml [OPTION of kubectl apply]...
# Without this Kubernetes would refuse some of it later, pod by pod, and look for the rest in places of that name.
set -euo pipefail
manifest=${1:-}
[ -f "$manifest" ] || { echo "apply.sh: '$manifest' is no file: launch/kubernetes/apply.sh MANIFEST.yaml" >&2; exit 2; }
if left=$(grep -n '^[^#]*FILL-IN' "$manifest"); then
  while IFS=: read -r line text; do
    read -r text <<<"$text"
    echo "apply.sh: $manifest, line $line: $text" >&2
  done <<<"$left"
  echo "apply.sh: $manifest: put what is yours in the place of FILL-IN; nothing was applied" >&2
  exit 2
fi
exec kubectl apply -f "$@"
