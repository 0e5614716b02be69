#!/usr/bin/env bash
# Apptainer where the distribution has no package of it: in a Debian sid root, so that no library of the host is touched.
#   apptainer.sh setup     make that root (half a minute, 420 MB), unless it is there: $SID_ROOT
#   apptainer.sh CMD...    run CMD in it; the directories of $BINDS (a:b:...) are where they are on the host
# Root; needs debootstrap. The mirror is that of this machine's apt. SID_ROOT, BINDS: environment.
set -euo pipefail
root=${SID_ROOT:-/var/tmp/apptainer-sid}
made=$root/etc/subuid # written last

inside() {
  exec unshare --mount --propagation private bash -euc '
    root=$1 binds=$2 here=$3; shift 3
    mount --bind "$root" "$root"
    for directory in proc dev sys; do mount --rbind "/$directory" "$root/$directory"; done
    while IFS= read -r directory; do
      [ -n "$directory" ] || continue
      mkdir -p "$root$directory"; mount --rbind "$directory" "$root$directory"
    done <<<"${binds//:/$'"'\n'"'}"
    # other users than root may mount images
    if [ ! -c "$root/.fuse" ]; then mknod -m 666 "$root/.fuse" c 10 229; fi
    if [ -c /dev/fuse ]; then mount --bind "$root/.fuse" "$root/dev/fuse"; fi
    mkdir -p "$root/.host"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cd "$root"; pivot_root . .host; umount -l /.host
    cd "$here" 2>/dev/null || cd /
    exec env -i HOME=/root TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"' - "$root" "${BINDS:-}" "$PWD" "$@"
}

case ${1:-} in
setup)
  [ ! -e "$made" ] || exit 0
  mirror=$(apt-get indextargets --format '$(SITE)' | sed -n 1p)
  packages=apptainer,debootstrap,debian-archive-keyring,ca-certificates,squashfuse,fuse-overlayfs
  rm -rf "$root"
  debootstrap --variant=minbase --include="$packages" sid "$root" "$mirror"
  cp -rL /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
  echo root:100000:65536 >"$root/etc/subgid"
  echo root:100000:65536 >"$made" ;;
"" | -h | --help) sed -n '2,6p' "$0"; exit 2 ;;
*) inside "$@" ;;
esac
