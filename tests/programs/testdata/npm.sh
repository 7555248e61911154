# A project is installed out of npm's cache, and tested.
if [ "$2" = first ]; then
	cp "$1"/npm-project/package.json "$1"/npm-project/package-lock.json .
	cp -r "$1/npm-project/cache" cache
	npm ci --offline --cache "$PWD/cache" --no-audit --no-fund --loglevel error
	# once more, which removes what there is
	[ -z "${MICA_SOAK:-}" ] || npm ci --offline --cache "$PWD/cache" --no-audit --no-fund --loglevel error
fi
npm ls --all >/dev/null
mkdir -p test
echo 'const a = require("assert"); describe("express", () => it("loads", () => a(require("express")().use)));' >test/test.js
npx --offline mocha --timeout 0 | grep -q '1 passing'
