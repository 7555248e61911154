#!/busybox sh
# PID 1 of the smallest machine: it says the kernel's command line on the console and ready on the control port, sends back the line that
# it gets there, and powers off.
b=/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
echo "echoinit: $($b cat /proc/cmdline)"
# the device can come after PID 1 has started
until name=$($b grep -lx mica.control /sys/class/virtio-ports/*/name 2>/dev/null); do $b usleep 1000; done
port=/dev/$($b basename "${name%/name}")
exec 3<>"$port"
echo ready >&3
read -r line <&3
echo "$line" >&3
$b reboot -f
