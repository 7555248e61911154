# Runs both programs in turns, $1 times each after one that is not counted. Prints for each time the nanoseconds that mica and microsandbox took.
mica() { timeout -k 5 "$LIMIT" "$MICA" run --quiet --vmm krun --cpus 1 --memory 512 --image "$IMAGE" -- /bin/echo done; }
microsandbox() { timeout -k 5 "$LIMIT" "$MSB" run --quiet --pull never --cpus 1 --memory 512M "$MSB_IMAGE" -- /bin/echo done; }
timed() {
	before=$(date +%s%N)
	"$1" >said # no pipe, which what outlives a failed run would keep open
	took=$(($(date +%s%N) - before))
	[ "$(cat said)" = done ]
}
for round in $(seq 0 "$1"); do
	timed mica
	mica=$took
	timed microsandbox
	[ "$round" -eq 0 ] || echo "$mica $took"
done
