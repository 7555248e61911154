# make help says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# what setup.sh has put where, for the recipes that call it
env = eval "$$(tests/setup.sh env)" &&
# the packages whose tests need no VM
packages = $$(go list ./... | grep -v /tests/)

.PHONY: help
help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## Show it: build mica, make an image, run a script in a microVM, look into the image
	@tests/demo.sh

.PHONY: build
build: ## Build bin/mica, with guest-init inside
	@go generate ./initramfs
	CGO_ENABLED=0 go build -trimpath -o bin/mica ./cmd/mica

.PHONY: test
test: ## Set up what is missing, then lint, build and run all tests, VMs included
	@$(MAKE) --no-print-directory -j2 setup lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory vm

.PHONY: setup
setup: ## Install and fetch what the tests need; what is there stays as it is
	@tests/setup.sh

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, and the build for the other architecture
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not formatted by gofmt: $$unformatted" >&2; exit 1; }
	@go generate ./initramfs
	go vet ./...
	go tool staticcheck ./...
	GOARCH=arm64 CGO_ENABLED=0 go build -o /dev/null ./cmd/mica

.PHONY: unit
unit: build ## The tests that need no VM, with the race detector
	@$(env) go test -race -timeout 6m $(packages)

.PHONY: vm
vm: build ## The tests that boot VMs or need real tools; one package at a time, as they share two cores
	@$(env) go test -p 1 -timeout 40m ./tests/...

.PHONY: bench
bench: setup build ## Measure mica and its peers in one run, as ratios
	@$(env) go run ./tests/bench -o docs/benchmarks.md

.PHONY: soak
soak: setup build ## The long checks, whole
	@$(env) MICA_SOAK=1 go test -p 1 -timeout 6h ./tests/...

.PHONY: kernel
kernel: ## Build our own guest kernel, where mica looks for it (about 5 minutes)
	@tests/setup.sh kernel

.PHONY: clean
clean: ## Remove what make has built here; what setup.sh has fetched stays
	rm -rf bin initramfs/bin/*/guest-init
