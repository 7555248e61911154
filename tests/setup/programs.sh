# shellcheck shell=bash
# What tests/programs installs without a network.

# make_npm_cache FOLDER PROJECT: npm's cache with all that npm ci of PROJECT needs
make_npm_cache() {
	step "fetching the packages of a small Node.js project"
	cp "$2"/package.json "$2"/package-lock.json .
	retry quiet npm ci --cache "$1/cache" --ignore-scripts --no-audit --no-fund
	rm -r node_modules cache/_logs
}
