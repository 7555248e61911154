# A tree goes into the mount and back, with hard links, ACLs and xattrs.
same() { test -z "$(rsync -aHAXn --checksum --delete --itemize-changes "$1/" "$2/" | tee /dev/stderr)"; }
source=$1/source
if [ "$2" = first ]; then
	mkdir "$source"
	cp -a "$1/lower/repository/net" "$source/net"
	cd "$source"
	echo one >link-a
	ln link-a link-b
	ln link-a net/link-c
	ln -s nowhere dangling
	mkfifo fifo
	echo setuid >setuid
	chown 3:4 setuid
	chmod 6755 setuid
	chown -h 5:6 dangling
	mkdir sticky
	chmod 1777 sticky
	echo secret >unreadable
	chmod 000 unreadable
	setfattr -n user.binary -v 0x00ff0a3d link-a
	setfacl -m u:12:r,g:29:rw setuid
	setfacl -d -m u:12:rwx sticky
	truncate -s 1M sparse
	echo end >>sparse
	touch -d @4102444800.987654321 sparse
	echo odd >"$(printf 'na\357ve\nline')"
	cd "$OLDPWD"
	rsync -aHAX "$source/" there/
	same "$source" there
	rsync -aHAX there/ "$1/back/"
	same there "$1/back"
	rm -r "$1/back"
fi
rsync -aHAX there/ "$1/back/"
same "$source" "$1/back"
