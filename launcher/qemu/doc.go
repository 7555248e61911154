// Package qemu describes a microVM as a QEMU command: the microvm machine, virtio-mmio devices, shares served over vhost-user.
package qemu
