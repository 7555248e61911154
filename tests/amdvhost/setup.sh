#!/bin/bash
# usage: setup.sh DIR
# Fills DIR, an empty folder, with what package amdvhost boots: vmlinuz, modules/*.ko (uncompressed) and busybox.
# The kernel is Debian's own, unpacked and not installed; apt checks its signature.
set -euo pipefail
dir=$(cd "$1" && pwd)
tmp=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$tmp"' EXIT

# What the emulated host needs on its way to a root filesystem, a console and /dev/kvm. The init program inserts them
# in as many passes as their dependencies take.
modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console
	fuse virtiofs irqbypass ccp kvm kvm-amd tun"

package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg-deb -x "$package"_*.deb .)
cp "$tmp"/boot/vmlinuz-* "$dir/vmlinuz"
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
