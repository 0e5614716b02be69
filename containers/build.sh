#!/usr/bin/env bash
# Build the image of the revision that is checked out:
#   containers/build.sh [--dirty] cpu|cuda|cuda12|rocm IMAGE.sif [OPTION of apptainer build]...
# From the committed files alone; a changed tree is refused, or with --dirty taken as it is and labelled so.
# IMAGE.sif.recipe, beside the image, says what it was built from; its first hash and the revision are labels too.
# APPTAINER is the command, where it is another than `apptainer`.
set -euo pipefail

fail() { echo "build.sh: $1" >&2; exit 2; }

dirty=
if [ "${1:-}" = --dirty ]; then dirty=-dirty; shift; fi
accelerator=${1:-}
case $accelerator in
cpu | cuda | cuda12 | rocm) ;;
*) fail "the first word is cpu, cuda, cuda12 or rocm, not '$accelerator'" ;;
esac
[ $# -ge 2 ] || fail "the second word is the image to write: containers/build.sh $accelerator glitchflow-$accelerator.sif"
image=$(realpath "$2")
shift 2
[ ! -e "$image" ] || fail "$image is there already: remove it first"
read -ra apptainer <<<"${APPTAINER:-apptainer}"
command -v "${apptainer[0]}" >/dev/null || fail "no command '${apptainer[0]}': install Apptainer, or name it in APPTAINER"

cd "$(dirname "$0")/.."
changed=$(git status --porcelain)
if [ -z "$changed" ]; then dirty=; fi
[ -z "$changed" ] || [ -n "$dirty" ] || fail "the tree is changed ($(head -1 <<<"$changed") ...): commit, or give --dirty"
revision=$(git rev-parse HEAD)$dirty

source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
if [ -n "$dirty" ]; then
  git ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -rd '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
    tar -c --null --files-from=-
else
  git archive HEAD
fi | tar -x -C "$source"
cd "$source"

recipe=containers/glitchflow-$accelerator.def
parts=$(sha256sum "$recipe" containers/install.sh containers/selftest.sh containers/hashes.txt constraints.txt && echo "options: $*")
hash=$(sha256sum <<<"$parts" | cut -d ' ' -f 1)
"${apptainer[@]}" build --build-arg REVISION="$revision" --build-arg RECIPE="$hash" "$@" "$image" "$recipe"
{
  echo "recipe: $hash"
  echo "revision: $revision"
  echo "image: $(sha256sum "$image" | cut -d ' ' -f 1)"
  echo "$parts"
} >"$image.recipe"
echo "wrote $image and $image.recipe"
