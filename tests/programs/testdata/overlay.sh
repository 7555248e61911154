# overlay.sh OPTIONS PROGRAM: runs PROGRAM.sh in a mount of mica overlay over the folder lower. The program is called once more after a remount,
# with "again", to look at what it has left.
set -eu
export LC_ALL=C.UTF-8
options=$1 program=$2
here=$PWD
mkdir -p lower upper work m
mounted() {
	"$here/bin/mica" overlay -o "lowerdir=lower,upperdir=upper,workdir=work$options" m
	(cd m && sh -eu "$here/$program.sh" "$here" "$1")
	umount m
}
mounted first
mounted again
