# Packages are installed in the Debian root.
mount --rbind /dev dev
mount -t proc proc proc 2>/dev/null || mount --rbind /proc proc
trap 'umount -l dev proc' EXIT
inside() { chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
if [ "$2" = first ]; then
	mkdir debs
	cp "$1"/debs/*.deb debs
	inside sh -c 'dpkg -i /debs/*.deb' >"$1/dpkg.log" 2>&1 || { tail -20 "$1/dpkg.log"; exit 1; }
fi
inside dpkg --audit
inside sh -euc 'for deb in /debs/*.deb; do
	name=$(dpkg-deb -f "$deb" Package)
	dpkg -s "$name" | grep -qx "Status: install ok installed"
	dpkg --verify "$name"
done'
inside hello | grep -qx 'Hello, world!'
