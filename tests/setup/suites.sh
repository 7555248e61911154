# shellcheck shell=bash
# Programs that Debian has in later suites only. They are unpacked, never installed: the machine stays what it is.
# apt checks their signatures; it asks the machine's own mirror, under another suite's name.

# apt_suite SUITE ARG…: apt-get with the package lists of SUITE, kept in the cache for a day
apt_suite() {
	local suite=$1 root=$cache/suites/$1
	shift
	local apt=(apt-get -qq -oDir::Etc::sourcelist=/dev/null "-oDir::Etc::sourceparts=$root/etc" "-oDir::State::Lists=$root/lists"
		"-oDir::Cache=$root/cache" -oAPT::Sandbox::User=root -oAcquire::Languages=none -oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -oAcquire::Retries=3)
	mkdir -p "$root"/{etc,lists/partial,cache/archives/partial}
	if [ -z "$(find "$root/lists" -maxdepth 1 -name '*Release' -mtime -1)" ]; then
		step "reading the package lists of $suite"
		suite_source "$suite" >"$root/etc/$suite.sources"
		retry quiet "${apt[@]}" update
	fi
	retry quiet "${apt[@]}" "$@"
}

# suite_source SUITE: the first source of the machine's own packages that is not for security fixes, with another suite's name
suite_source() {
	local file
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -e "$file" ] || continue
		awk -v suite="$1" 'BEGIN { RS = ""; FS = "\n" }
			/Types: *deb/ && !/[Ss]ecurity/ {
				for (i = 1; i <= NF; i++) {
					sub(/^Suites:.*/, "Suites: " suite, $i)
					sub(/^Components:.*/, "Components: main", $i)
					if ($i !~ /^#/) print $i
				}
				exit
			}' "$file"
		return
	done
	die "no file in /etc/apt/sources.list.d names this machine's packages (*.sources)"
}

# unpack_debs SUITE PACKAGE…: into the current folder
unpack_debs() {
	local suite=$1 deb
	shift
	mkdir debs
	(cd debs && apt_suite "$suite" download "$@")
	for deb in debs/*.deb; do dpkg-deb -x "$deb" .; done
	rm -r debs
}

# The Rust virtiofsd needs a newer C library than Debian 12's: it brings its suite's own, loader included.
make_virtiofsd() {
	step "unpacking the Rust virtiofsd of Debian 13"
	unpack_debs trixie virtiofsd libc6 libgcc-s1 libcap-ng0 libseccomp2
	find . -mindepth 1 -maxdepth 1 ! -name usr ! -name lib ! -name lib64 -exec rm -r {} +
	local root=$cache/virtiofsd
	cat >virtiofsd <<-WRAPPER
		#!/bin/sh
		exec $root/usr/lib64/ld-linux-x86-64.so.2 --library-path $root/usr/lib/x86_64-linux-gnu $root/usr/libexec/virtiofsd "\$@"
	WRAPPER
	chmod +x virtiofsd
}

# Debian's libkrunfw: the kernel without initramfs support
make_libkrunfw_debian() {
	step "unpacking Debian's libkrunfw"
	unpack_debs sid libkrunfw5
	cp -L "$(find usr/lib -name 'libkrunfw.so.5' | head -n 1)" libkrunfw.so.5
	rm -r usr
}

# The kernel and the modules of the emulated AMD-V host come from this machine's own suite.
make_amdvhost() {
	step "unpacking Debian's kernel for the emulated AMD-V host"
	[ -n "$(apt-cache depends linux-image-amd64 2>/dev/null)" ] || apt_locked retry quiet apt-get -qq update
	"$OLDPWD/tests/amdvhost/setup.sh" "$1"
}
