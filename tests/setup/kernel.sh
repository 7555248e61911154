# shellcheck shell=bash
# Guest kernels: the one of a libkrunfw as an ELF that both monitors boot, and our own, built from Debian's newest sources of 6.12.

kernel_key() { echo "$(cat "$cache/$1/.key")-$(key_of tests/kernel/extract/*.go)"; }

# make_kernel_elf FOLDER LIBKRUNFW
make_kernel_elf() {
	step "taking the kernel out of $(basename "$(dirname "$2")")'s libkrunfw"
	(cd "$OLDPWD" && go run ./tests/kernel/extract "$2" "$1/vmlinux")
	chmod 644 vmlinux
}

# setup_kernel: our own kernel, where mica looks for it. The same configuration is built once.
setup_kernel() {
	local key path
	path=$data/kernels/vmlinux-$(go env GOARCH)
	key=$(key_of tests/setup/kernel.sh tests/kernel/config)
	if [ ! -e "$path" ] || [ "$(cat "$path.key" 2>/dev/null)" != "$key" ]; then
		step "building our own kernel (about 5 minutes)"
		mkdir -p "$data/kernels"
		build_kernel "$path.new"
		mv "$path.new" "$path"
		echo "$key" >"$path.key"
	fi
	step "our own kernel is $path"
}

kernel_tools() {
	cat <<-'LIST'
		gcc gcc
		make make
		flex flex
		bison bison
		bc bc
		xz xz-utils
		/usr/include/libelf.h libelf-dev
		/usr/include/openssl/ssl.h libssl-dev
	LIST
}

# build_kernel FILE: vmlinux, stripped: an ELF with a PVH entry note
build_kernel() (
	install_packages kernel_tools
	config=$PWD/tests/kernel/config
	tmp=$(mktemp -d -p "$cache" .kernel.XXXXXX)
	trap 'rm -rf "$tmp"' EXIT
	cd "$tmp"
	unpack_debs trixie linux-source-6.12
	tar xf usr/src/linux-source-6.12.tar.xz
	cd linux-source-6.12
	make -s tinyconfig
	scripts/kconfig/merge_config.sh -m .config "$config" >/dev/null
	make -s olddefconfig
	nice make -s -j"$(nproc)" vmlinux
	strip -o "$1" vmlinux
)
