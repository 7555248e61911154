#!/bin/bash
# usage: tests/demo.sh    what make demo does: from nothing to a script's output out of a microVM
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '\n== %s\n' "$*" >&2; }
# show COMMAND…: prints it as a user would type it, and runs it
show() {
	printf '$ %s\n' "$1" >&2
	bash -c "$1"
}

say "set up the least that a run needs: QEMU, FUSE, a guest kernel, an image of busybox"
tests/setup.sh demo
say "build bin/mica"
make --no-print-directory build
eval "$(tests/setup.sh env)"
export IMAGE=oci:$MICA_TEST_CACHE/images/busybox

say "run a script in a microVM; the root filesystem is composed while it boots"
status=0
show 'bin/mica run --image $IMAGE -- /bin/sh -c "echo hello from \$(uname -sr); id; exit 7"' || status=$?
printf 'exit status %s\n' "$status" >&2
[ "$status" = 7 ]

say "look into the same root filesystem on this machine"
folder=$(mktemp -d)
trap 'bin/mica umount "$folder" 2>/dev/null || true; rmdir "$folder"' EXIT
export FOLDER=$folder
show 'bin/mica mount -d --image $IMAGE $FOLDER'
show 'ls -l $FOLDER; cat $FOLDER/etc/passwd'
show 'bin/mica umount $FOLDER'
say "that was it; bin/mica --help says what else there is"
