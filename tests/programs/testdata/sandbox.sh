# sandbox.sh PROGRAM: runs PROGRAM.sh in the root of a sandbox whose image is the Debian one, as overlay.sh does in an overlay.
set -eu
export LC_ALL=C.UTF-8
program=$1
here=$PWD
mkdir -p m
printf '[sandbox.dev]\nimage = "oci:%s:latest"\n' "$here/image" >mica.toml
mounted() {
	"$here/bin/mica" -q mount -d --rw dev m
	(cd m && sh -eu "$here/$program.sh" "$here" "$1")
	"$here/bin/mica" umount m
}
mounted first
mounted again
