// Guest-init is PID 1 of a mica guest: it mounts the root and the volumes, runs one command, and powers off.
//
// It is started as /init of an initramfs or, by a kernel without initramfs support, as /.sandbox/init of a root that the kernel has
// mounted over virtiofs. It takes no argument and reads no kernel parameter. What it expects:
//
//	/dev, /proc, /sys, /root         folders of the initramfs; the root file system has the first three
//	/dev/console, /dev/null          of the initramfs: the Go runtime needs descriptors 0, 1 and 2
//	/sys/class/virtio-ports/*/name   one of them is wire.PortControl; all else comes in its boot message
//
// Until the control port is open its errors go to the console, afterwards into the Exit frame. It powers off by a restart: the
// monitor is told to end at one.
package main
