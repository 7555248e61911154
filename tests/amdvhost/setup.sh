#!/bin/bash
# usage: setup.sh DIR
# Fills DIR, an empty folder, with what package amdvhost boots: vmlinux, modules/*.ko (all uncompressed) and busybox.
# The kernel is Debian's own, unpacked and not installed; apt checks its signature.
set -euo pipefail
dir=$(cd "$1" && pwd)
tmp=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$tmp"' EXIT

# What the emulated host needs on its way to a root filesystem, a console and /dev/kvm. The init program inserts them
# in as many passes as their dependencies take.
modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console
	fuse virtiofs irqbypass ccp kvm kvm-amd tun"

# decompress_kernel BZIMAGE: the ELF file in it, which an emulated processor would take seconds to decompress. The fields are of the
# kernel's Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
decompress_kernel() {
	local start length
	start=$((($(field "$1" 0x1f1 1) + 1) * 512 + $(field "$1" 0x248 4)))
	length=$(field "$1" 0x24c 4)
	case $(part "$1" "$start" 4 | od -An -tx1) in
	*"fd 37 7a 58") part "$1" "$start" "$length" | xz -dc --single-stream ;; # the uncompressed size comes after the stream
	*"28 b5 2f fd") part "$1" "$start" "$((length - 4))" | zstd -dc ;;
	*) echo "amdvhost: $1: unknown compression" >&2 && return 1 ;;
	esac
}

# part FILE OFFSET SIZE: SIZE bytes
part() { dd if="$1" iflag=skip_bytes,count_bytes,fullblock skip="$2" count="$3" bs=64K status=none; }

# field FILE OFFSET SIZE: an unsigned number of SIZE bytes
field() { od -An -t "u$3" -j "$(($2))" -N "$3" "$1" | tr -d ' '; }

package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg-deb -x "$package"_*.deb .)
decompress_kernel "$tmp"/boot/vmlinuz-* >"$dir/vmlinux"
mkdir -p "$dir/modules"
for name in $modules; do
	path=$(find "$tmp" -name "$name.ko" -o -name "$name.ko.xz" | head -n 1)
	case $path in
	*.xz) xz -dc "$path" >"$dir/modules/$name.ko" ;;
	*) cp "$path" "$dir/modules/$name.ko" ;;
	esac
done
for busybox in /bin/busybox /usr/bin/busybox; do
	# a dynamic one names its program interpreter, which is not there before the root filesystem is
	if [ -x "$busybox" ] && ! grep -qam1 /lib64/ld-linux "$busybox"; then
		cp "$busybox" "$dir/busybox"
		exit
	fi
done
echo "amdvhost: no statically linked busybox: install busybox-static" >&2
exit 1
