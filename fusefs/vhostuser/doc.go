// Package vhostuser is a vhost-user-fs back end in process: it serves a raw FUSE filesystem to one virtual machine straight out of the guest's memory, over the vhost-user protocol and split virtqueues (https://qemu-project.gitlab.io/qemu/interop/vhost-user.html, virtio 1.2 sections 2.7 and 5.11). The guest, and whatever it put into its memory, is hostile.
package vhostuser
