# shellcheck shell=bash
# What comes out of npm packages: libkrun, and the kernel of libkrunfw. Version and integrity are pinned.

krun_package=@earendil-works/gondolin-krun-runner-linux-x64@0.12.0
krun_integrity=sha512-RRYsgwe2r5ApKmFNy469QgwnyjAHpAs9XANdWpTd9ol4iUYOY3sX7e0xIooAKxd+ktxGI4N/xRWicwGen3D/Ow==
microsandbox_package=@superradcompany/microsandbox-linux-x64-gnu@0.6.18
microsandbox_integrity=sha512-b9Mu+tu1Vq407c8sr7scNOxBgGpJX/Znd4NGFQ/Dx44SS6bHU3pjUEAdso3IpEB2Cx9nrGIBtBdaRrVw1ro+6w==

# npm_file PACKAGE INTEGRITY: leaves the checked tarball's contents in ./package
npm_file() {
	local package=$1 integrity=$2 tarball
	retry quiet npm pack --silent "$package"
	tarball=$(echo ./*.tgz)
	[ "sha512-$(sha512sum "$tarball" | cut -d' ' -f1 | unhex | base64 -w0)" = "$integrity" ] ||
		die "$package is not what it was when its version was pinned: want $integrity"
	tar xzf "$tarball"
	rm "$tarball"
}

# unhex: hexadecimal digits to bytes
unhex() { "$(busybox_path)" xxd -r -p; }

make_libkrun() {
	step "fetching libkrun.so.1 ($krun_package)"
	npm_file "$krun_package" "$krun_integrity"
	cp package/lib/libkrun.so.1 package/LICENSE .
	rm -r package
}

# The libkrunfw of this package can boot an initramfs; msb is a peer in the benchmarks.
make_microsandbox() {
	step "fetching libkrunfw 5.6.1 ($microsandbox_package)"
	npm_file "$microsandbox_package" "$microsandbox_integrity"
	cp package/lib/libkrunfw.so.5.6.1 libkrunfw.so.5
	cp package/bin/msb .
	rm -r package
}
