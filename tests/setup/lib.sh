# shellcheck shell=bash
# What every part of the set-up uses: one line a step, retries, and folders that are complete or absent.

step() { printf 'setup: %s\n' "$*" >&2; }
die() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

# retry COMMAND [ARG…]: mirrors fail now and then
retry() {
	local try
	for try in 1 2 3; do
		"$@" && return
		[ "$try" = 3 ] || sleep "$((try * 2))"
	done
	die "failed three times: $*"
}

# quiet COMMAND [ARG…]: its output is shown only when it fails
quiet() {
	local log status=0
	log=$(mktemp)
	"$@" </dev/null >"$log" 2>&1 || status=$?
	[ "$status" = 0 ] || cat "$log" >&2
	rm -f "$log"
	return "$status"
}

# publish NAME KEY FUNCTION [ARG…]: makes $cache/NAME a folder that FUNCTION filled, once for each KEY.
# FUNCTION runs with an empty folder as its first argument, and in that folder. What is half done never has the name.
publish() {
	local name=$1 key=$2 make=$3 tmp
	shift 3
	[ "$(cat "$cache/$name/.key" 2>/dev/null)" = "$key" ] && return
	mkdir -p "$cache"
	(
		flock 9
		[ "$(cat "$cache/$name/.key" 2>/dev/null)" = "$key" ] && exit
		tmp=$(mktemp -d -p "$cache" ".$(basename "$name").XXXXXX")
		chmod 755 "$tmp"
		trap 'rm -rf "$tmp"' EXIT
		(cd "$tmp" && "$make" "$tmp" "$@")
		printf '%s\n' "$key" >"$tmp/.key"
		mkdir -p "$(dirname "$cache/$name")"
		rm -rf "${cache:?}/$name"
		mv -T "$tmp" "$cache/$name"
	) 9>"$cache/.lock.$(basename "$name")"
}

# key_of FILE…: a key that changes with the contents of FILE…
key_of() { cat "$@" | sha256sum | cut -c1-16; }
