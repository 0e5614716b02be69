#!/usr/bin/env bash
# A Ray cluster on plain machines: token authentication, dashboard on loopback, as many CPUs as this shell may use.
#   launch/ray.sh head [RAY START OPTIONS]               on one machine; ends with Ctrl-C or SIGTERM
#   launch/ray.sh worker HOST:PORT [RAY START OPTIONS]   on each of the others, with the head's token file
# PORT (6379), DASHBOARD_PORT (8265), NODE_IP (this machine's first address) and RAY_AUTH_TOKEN_PATH (a new token
# under ~/.glitchflow) are taken from the environment. Needs `ray` and `glitchflow` on the PATH: jobs find them there.
set -euo pipefail
address=$(hostname -I 2>/dev/null | cut -d' ' -f1) || address=
address=${NODE_IP:-${address:-127.0.0.1}} port=${PORT:-6379} dashboard=${DASHBOARD_PORT:-8265}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.glitchflow/$(hostname)-$port.token}

case ${1:-} in
head)
  shift
  mkdir -p -m 700 "$(dirname "$RAY_AUTH_TOKEN_PATH")"
  [ -s "$RAY_AUTH_TOKEN_PATH" ] || (umask 077; od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
  chmod 600 "$RAY_AUTH_TOKEN_PATH"
  cat <<END
In every shell that uses this cluster:
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH
Another node joins with        launch/ray.sh worker $address:$port
What would break a run         glitchflow doctor --address $address:$port
A stage, from a node           glitchflow STAGE CONFIG --address $address:$port
A stage as a job               glitchflow submit STAGE CONFIG --address http://127.0.0.1:$dashboard
  and from elsewhere, first    ssh -N -L $dashboard:127.0.0.1:$dashboard $(id -un)@$(hostname)
END
  exec ray start --head --block --node-ip-address "$address" --port "$port" --num-cpus "$(nproc)" \
    --dashboard-host 127.0.0.1 --dashboard-port "$dashboard" "$@" ;;
worker)
  head=${2:?HOST:PORT of the head}
  shift 2
  [ -s "$RAY_AUTH_TOKEN_PATH" ] || { echo "RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH: copy the head's token there" >&2; exit 2; }
  exec ray start --block --address "$head" --node-ip-address "$address" --num-cpus "$(nproc)" "$@" ;;
*)
  sed -n 2,6p "$0" >&2
  exit 2 ;;
esac
