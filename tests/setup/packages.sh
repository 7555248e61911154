# shellcheck shell=bash
# Debian packages that the tests, the benchmarks and the demo call.

# the least that make demo needs: program or file, then the package that has it
demo_tools() {
	cat <<-'LIST'
		go golang-go
		qemu-system-x86_64 qemu-system-x86
		fusermount3 fuse3
		static-busybox busybox-static
		npm npm
	LIST
}

all_tools() {
	demo_tools
	cat <<-'LIST'
		file:libcap-ng.so.0 libcap-ng0
		/usr/lib/qemu/virtiofsd qemu-system-common
		fuse-overlayfs fuse-overlayfs
		mmdebstrap mmdebstrap
		umoci umoci
		skopeo skopeo
		buildah buildah
		podman podman
		crun crun
		newuidmap uidmap
		sqlite3 sqlite3
		git git
		strace strace
		rsync rsync
		stress-ng stress-ng
		setfacl acl
		setfattr attr
		mkfs.ext4 e2fsprogs
		hyperfine hyperfine
		fio fio
		setcap libcap2-bin
		gcc gcc
		make make
		/usr/include/stdlib.h libc6-dev
		dpkg-scanpackages dpkg-dev
		bsdtar libarchive-tools
		unshare util-linux
		zstd zstd
		xz xz-utils
		jq jq
	LIST
}

# has TOOL: a program, an absolute path, a shared library, or a statically linked busybox
has() {
	case $1 in
	/*) [ -e "$1" ] ;;
	file:*) ldconfig -p | grep -q "${1#file:}" ;;
	static-busybox) [ -n "$(busybox_path)" ] ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# busybox_path: the statically linked busybox, which has no program interpreter
busybox_path() {
	local path
	for path in /bin/busybox /usr/bin/busybox; do
		[ -x "$path" ] && ! grep -qam1 /lib64/ld-linux "$path" && { echo "$path"; return; }
	done
}

# install_packages LISTER: what is missing, in one call
install_packages() {
	local tool package missing=()
	while read -r tool package; do
		has "$tool" || missing+=("$package")
	done < <("$1")
	[ ${#missing[@]} = 0 ] && return
	[ "$(id -u)" = 0 ] || die "not root: install ${missing[*]} first"
	command -v apt-get >/dev/null || die "no apt-get here: install what provides ${missing[*]} first"
	step "installing ${missing[*]}"
	apt_locked apt_install "${missing[@]}"
	while read -r tool package; do
		has "$tool" || die "$package is installed but there is no $tool"
	done < <("$1")
}

apt_locked() {
	(
		flock 9
		"$@"
	) 9>/tmp/apt.lock
}

# A new machine's package lists are old or absent: they are fetched only when an install fails without that.
apt_install() {
	local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -oDPkg::Lock::Timeout=300 -oAcquire::Retries=3)
	"${apt[@]}" install --no-install-recommends "$@" </dev/null >/dev/null 2>&1 && return
	step "updating the package lists"
	retry quiet "${apt[@]}" update
	retry quiet "${apt[@]}" install --no-install-recommends "$@"
}
