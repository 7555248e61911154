# run.sh STORAGE: runs the image that build.sh has built there.
set -eu
export CONTAINERS_STORAGE_CONF="$1/storage.conf" TMPDIR="$1/tmp"
# crun takes either version of cgroups, but not both at once.
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
podman --runtime crun --cgroup-manager cgroupfs --events-backend file run --rm --network none --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
	localhost/out sh -euc 'grep " / " /proc/mounts; ls /made; rm /made/fifo; touch /made/new; ls /made; stat -c "%u:%g %a" /root; exit 7'
