#!/busybox sh
# PID 1 of the guest: mounts both shares, says ready on the control port, then does each line that comes there as a shell script, and answers
# with a line: done, or what went wrong.
/busybox mkdir -p /bin /proc /sys /mica /virtiofsd
/busybox --install -s /bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# the device can come after PID 1 has started
until name=$(grep -lx mica.control /sys/class/virtio-ports/*/name 2>/dev/null); do usleep 1000; done
exec 3<>"/dev/$(basename "${name%/name}")"
if mount -t virtiofs mica /mica && mount -t virtiofs virtiofsd /virtiofsd; then echo ready; else echo "cannot mount"; fi >&3
# as guest-init has it
for file in /sys/class/bdi/0:*/read_ahead_kb; do echo 1024 >"$file"; done
while read -r order <&3; do
	if sh -c "$order" </dev/null >/said 2>&1; then echo "done"; else echo "status $?: $(tail -n 1 /said)"; fi >&3
done
reboot -f
