#!/busybox sh
# PID 1 of the emulated host: from an initramfs to the caller's script, in the machine's root filesystem. When a step fails it
# ends, the kernel panics, and so the machine ends.
/busybox --install -s /bin
export PATH=/bin
set -e
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# in as many passes as the modules' dependencies take
for pass in 1 2 3 4; do
	for module in /modules/*.ko; do
		if insmod "$module" 2>/dev/null; then rm "$module"; fi
	done
done
mount -t virtiofs hostroot /root
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
for folder in proc sys dev; do mount --bind /$folder /root/$folder; done
mount -t tmpfs tmpfs /root/run
mount -t tmpfs tmpfs /root/dev/shm
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup || true
ip link set lo up
exec chroot /root /bin/sh "$(sed 's/.*amdvhost.script=\([^ ]*\).*/\1/' /proc/cmdline)"
