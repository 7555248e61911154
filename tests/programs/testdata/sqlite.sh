# A writer of a database with WAL is killed: what it had committed is there, and the database is whole.
if [ "$2" = first ]; then
	sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, text BLOB);' | grep -qx wal
	i=0 rounds=2
	[ -z "${MICA_SOAK:-}" ] || rounds=20
	while [ "$i" -lt "$rounds" ]; do
		(while :; do echo "INSERT INTO t (text) VALUES (randomblob(3000)); SELECT max(n) FROM t;"; done | sqlite3 db >said 2>/dev/null) &
		until [ "$(wc -l <said)" -ge 20 ] 2>/dev/null; do sleep 0.02; done
		# The writer is the sqlite3 that has the database open in this folder.
		for pid in /proc/[0-9]*; do
			[ "$(readlink "$pid/cwd")" = "$PWD" ] && [ "$(cat "$pid/comm")" = sqlite3 ] && kill -9 "${pid#/proc/}"
		done
		wait
		last=$(grep -x '[0-9]*' said | tail -n 2 | head -n 1)
		test "$(sqlite3 db 'SELECT max(n) FROM t')" -ge "$last"
		sqlite3 db 'PRAGMA integrity_check' | grep -qx ok
		: >said
		i=$((i + 1))
	done
	sqlite3 db 'SELECT count(*) FROM t' >rows
fi
sqlite3 db 'PRAGMA integrity_check' | grep -qx ok
test "$(sqlite3 db 'SELECT count(*) FROM t')" = "$(cat rows)"
