// Package amdvhost runs commands on a machine that has virtualization, wherever the tests are: QEMU emulates a processor
// with AMD-V, Debian's kernel runs on it with this machine's root filesystem as its own, and /dev/kvm works there.
//
// What is on other filesystems than the root is not seen there; /run and /dev/shm are empty. It needs to be root, what setup.sh
// leaves in $MICA_TEST_CACHE/amdv, and QEMU with its virtiofsd.
package amdvhost
