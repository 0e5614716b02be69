#!/usr/bin/env bash
# A Ray cluster on plain machines: token authentication, dashboard on loopback, as many CPUs as this shell may use.
#   launch/ray.sh head [RAY START OPTIONS]               on one machine; ends with Ctrl-C or SIGTERM
#   launch/ray.sh worker HOST:PORT [RAY START OPTIONS]   on each of the others, with the head's token file
# PORT (6379), DASHBOARD_PORT (8265), NODE_IP (this machine's first address) and RAY_AUTH_TOKEN_PATH (a new token
# under ~/.glitchflow) are taken from the environment. Needs `ray` and `glitchflow` on the PATH: jobs find them there.
# Ray's own files are under RAY_TMPDIR (or TMPDIR) while it runs, and stay there if it fails.
set -euo pipefail
unset RAY_AUTH_TOKEN RAY_ADDRESS # Ray would take them before the token's file and the address given here
address=$(hostname -I 2>/dev/null | cut -d' ' -f1) || address=
address=${NODE_IP:-${address:-127.0.0.1}} port=${PORT:-6379} dashboard=${DASHBOARD_PORT:-8265}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.glitchflow/$(hostname)-$port.token}
# a worker whose head has lost its power waits so many s for it, not Ray's 60: a head is not begun again in its place
export RAY_gcs_rpc_server_reconnect_timeout_s=${RAY_gcs_rpc_server_reconnect_timeout_s:-10}

answers() { # SECONDS HOST PORT: whether somebody listens there
  timeout "$1" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3" 2>/dev/null
}

free() { # VARIABLE HOST PORT: Ray would try for a while, and then say something else
  if answers 1 "$2" "$3"; then
    echo "ray.sh: $1=$3: another process listens there; take another, as $1=$(($3 + 1))" >&2
    exit 2
  fi
}

lets_in() { # HOST:PORT: Ray itself would try for half a minute, and then say something else
  if ! answers 5 "${1%:*}" "${1##*:}"; then
    echo "ray.sh: nobody listens at $1; HOST:PORT is what the head printed" >&2
    exit 2
  fi
  case $(timeout 20 ray health-check --address "$1" 2>&1) in
  *AuthenticationError*)
    echo "ray.sh: the head at $1 refuses the token of RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH: copy its own there" >&2
    exit 2 ;;
  esac
}

start() {
  # The trap stands before there is anything to leave behind. The file `ended` tells a Ray that is still this shell:
  # bash forgets a signal that meets a new process before it has put off the traps of the old one.
  ended='' private='' ray='' status=0
  trap 'ended=1
    [ -z "$private" ] || : 2>/dev/null >"$private/ended" || true
    [ -z "$ray" ] || kill "$ray" 2>/dev/null || true' INT TERM HUP
  # Ray opens its own directory to everybody, and who can change that runs code as its user: so it lies in a private
  # one, of a short name for its sockets
  private=$(TMPDIR=${RAY_TMPDIR:-${TMPDIR:-}} mktemp -d -t gf.XXXXXX)
  (
    if [ -n "$ended" ] || [ -e "$private/ended" ]; then exit 143; fi
    # nproc counts what this shell may use, once OpenMP's variables are out of its way
    # TMPDIR: its dashboard leaves directories of multiprocessing behind. A session of its own: of a terminal's Ctrl-C it
    # hears by the trap alone, for Ray that is told twice waits for itself
    TMPDIR=$private exec setsid ray start --block --temp-dir "$private/r" --node-ip-address "$address" \
      --num-cpus "$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)" "$@" \
      > >(exec setsid sed -un 's/.*\(Ray runtime started\.\).*/\1/p') # its next steps are not those from above
  ) &
  ray=$!
  [ -z "$ended" ] || kill "$ray" 2>/dev/null || true # a signal that came before the line above
  while wait "$ray" || true; kill -0 "$ray" 2>/dev/null; do :; done # a signal ends `wait`, and Ray only later
  wait "$ray" || status=$?                                          # Ray's own, which bash has kept
  if [ -n "$ended" ]; then
    rm -rf "$private"
  elif [ -n "${head:-}" ] && ! answers 5 "${head%:*}" "${head##*:}"; then # no fault of this node's
    rm -rf "$private"
    echo "ray.sh: the head at $head is gone" >&2
  elif ! rmdir "$private" 2>/dev/null; then # Ray got so far as to write into it
    echo "ray.sh: Ray's logs are under $private" >&2
  fi
  exit "$status"
}

case ${1:-} in
head)
  shift
  free PORT "$address" "$port"
  free DASHBOARD_PORT 127.0.0.1 "$dashboard"
  keys=$(dirname "$RAY_AUTH_TOKEN_PATH")
  [ -d "$keys" ] || { mkdir -p "$keys" && chmod 700 "$keys"; }
  [ -s "$RAY_AUTH_TOKEN_PATH" ] || : >"$RAY_AUTH_TOKEN_PATH"
  chmod 600 "$RAY_AUTH_TOKEN_PATH" # before it is written: a default ACL of the directory overrules umask
  [ -s "$RAY_AUTH_TOKEN_PATH" ] || od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"
  cat <<END
In every shell that uses this cluster:
  unset RAY_AUTH_TOKEN; export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH
Another node joins with        launch/ray.sh worker $address:$port
What would break a run         glitchflow doctor --address $address:$port
A stage, from a node           glitchflow STAGE CONFIG --address $address:$port
A stage as a job               glitchflow submit STAGE CONFIG --address http://127.0.0.1:$dashboard
  and from elsewhere, first    ssh -N -L $dashboard:127.0.0.1:$dashboard $(id -un)@$(hostname)
END
  start --head --port "$port" --dashboard-host 127.0.0.1 --dashboard-port "$dashboard" "$@" ;;
worker)
  head=${2:?HOST:PORT of the head}
  shift 2
  [ -s "$RAY_AUTH_TOKEN_PATH" ] || { echo "RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH: copy the head's token there" >&2; exit 2; }
  lets_in "$head"
  start --address "$head" "$@" ;;
*)
  sed -n 2,7p "$0" >&2
  exit 2 ;;
esac
