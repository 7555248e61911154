#!/bin/sh
# Builds guest-init for $GOARCH into bin/$GOARCH, from where it is embedded. The same sources and the same Go give the same bytes.
set -eu
cd "$(dirname "$0")"
arch=${GOARCH:-$(go env GOARCH)}
out=bin/$arch/guest-init
new=bin/.$arch.$$ # not where it would be embedded
trap 'rm -f "$new"' EXIT
CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOAMD64=v1 GOARM64=v8.0 GOFLAGS='' \
	go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o "$new" ../guest-init
cmp -s "$new" "$out" || mv "$new" "$out" # the same bytes keep their time, and what depends on them
