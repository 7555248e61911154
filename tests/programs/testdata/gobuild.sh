# mica is built inside its own mount.
if [ "$2" = first ]; then
	export GOCACHE="$PWD/cache" GOTMPDIR="$PWD" GOFLAGS=-mod=vendor GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0
	cd mica
	go build -buildvcs=false -trimpath -o ../built ./cmd/mica
	cd ..
fi
./built version | grep -q '^mica '
