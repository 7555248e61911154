#!/bin/bash
# usage: tests/setup.sh         installs and fetches all that the tests and benchmarks need; what is there already is left alone
#        tests/setup.sh demo    only what make demo needs
#        tests/setup.sh env     prints where things are, for: eval "$(tests/setup.sh env)"
#
# For Debian 12, as root; elsewhere install what it names as missing, then run it again. What it fetches and builds is kept
# under ${XDG_CACHE_HOME:-$HOME/.cache}/mica-build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C.UTF-8
umask 022
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mica-build
data=${XDG_DATA_HOME:-$HOME/.local/share}/mica

for part in lib packages npm suites kernel busybox debian programs; do
	# shellcheck source=/dev/null
	. "tests/setup/$part.sh"
done

print_env() {
	printf 'export %s=%q\n' \
		MICA_TEST_CACHE "$cache" \
		MICA_LIBKRUN "$cache/libkrun/libkrun.so.1" \
		MICA_KERNEL "$cache/kernel/vmlinux" \
		MICA_KERNEL_NOINITRD "$cache/kernel-noinitrd/vmlinux" \
		MICA_VIRTIOFSD "$cache/virtiofsd/virtiofsd"
}

setup_demo() {
	install_packages demo_tools
	publish microsandbox "$(key_of tests/setup/npm.sh)" make_microsandbox
	publish kernel "$(kernel_key microsandbox)" make_kernel_elf "$cache/microsandbox/libkrunfw.so.5"
	publish images/busybox "$(key_of tests/setup/busybox.sh)" make_busybox_image
}

setup_all() {
	setup_is_done && return
	install_packages all_tools
	setup_demo
	publish libkrun "$(key_of tests/setup/npm.sh)" make_libkrun
	publish virtiofsd "$(key_of tests/setup/suites.sh)" make_virtiofsd
	publish libkrunfw-debian "$(key_of tests/setup/suites.sh)" make_libkrunfw_debian
	publish kernel-noinitrd "$(kernel_key libkrunfw-debian)" make_kernel_elf "$cache/libkrunfw-debian/libkrunfw.so.5"
	publish images/debian "$(key_of tests/setup/debian.sh)" make_debian_image
	publish debian-tars "$(key_of tests/setup/debian.sh)" make_debian_tars
	publish debs "$(key_of tests/setup/debian.sh)" make_debs
	publish npm-project "$(key_of tests/setup/programs.sh tests/programs/testdata/npm/*)" make_npm_cache "$PWD/tests/programs/testdata/npm"
	publish amdv "$(key_of tests/amdvhost/setup.sh)" make_amdvhost
	all_key >"$cache/.done"
}

# setup_is_done: the same set-up ended well here, and nothing that it installs has gone since
setup_is_done() {
	local tool name _
	[ "$(cat "$cache/.done" 2>/dev/null)" = "$(all_key)" ] || return 1
	while read -r tool _; do
		has "$tool" || return 1
	done < <(all_tools)
	for name in libkrun kernel kernel-noinitrd virtiofsd images/busybox images/debian debian-tars debs npm-project amdv; do
		[ -e "$cache/$name/.key" ] || return 1
	done
}

all_key() {
	key_of tests/setup.sh tests/setup/*.sh tests/amdvhost/setup.sh tests/kernel/extract/*.go tests/programs/testdata/npm/*
}

case ${1:-all} in
all) setup_all ;;
demo) setup_demo ;;
env) print_env ;;
kernel) setup_kernel ;;
*) die "unknown command $1: want demo, env, kernel, or nothing" ;;
esac
