# shellcheck shell=bash
# The real image: a Debian root filesystem in three layers, packed by umoci, and packages to install inside it without a network.

debian_suite=bookworm
debian_programs=apt,ca-certificates,git,sqlite3,iputils-ping,procps,python3,tzdata,perl,less,file,bzip2,xz-utils,man-db

# Small packages whose dependencies the image has, or that are among them.
debian_debs="hello tree jq libjq1 libonig5 bc dc ed time pv moreutils libipc-run-perl libtime-duration-perl libtimedate-perl
	libio-pty-perl dos2unix figlet fortune-mod fortunes-min librecode0 pwgen zip unzip
	libsigsegv2 m4 rename libfile-slurp-perl libtext-glob-perl ncal bsdextrautils uuid-runtime"

make_debian_image() {
	step "making the Debian image (mmdebstrap, about a minute)"
	suite_source "$debian_suite" >../.debian.sources
	quiet mmdebstrap --mode=root --variant=minbase --include="$debian_programs" --aptopt='APT::Sandbox::User "root"' \
		"$debian_suite" base.tar ../.debian.sources
	rm ../.debian.sources
	umoci init --layout oci
	umoci new --image oci:latest
	umoci config --image oci:latest --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		--config.env LC_ALL=C.UTF-8 --config.cmd /bin/bash
	umoci raw add-layer --image oci:latest base.tar
	rm base.tar
	step "adding its second and third layers (umoci)"
	umoci unpack --image oci:latest bundle
	change_debian bundle/rootfs
	umoci repack --image oci:latest bundle
	make_opaque_layer opaque.tar
	umoci raw add-layer --image oci:latest opaque.tar
	umoci gc --layout oci
	rm -r bundle opaque.tar
	mv oci/* .
	rmdir oci
}

# make_opaque_layer FILE: one folder that hides all that the lower layers have in it. (umoci insert --opaque leaves a tar without its end.)
make_opaque_layer() {
	local folder=opaque/usr/share/perl5/Git
	mkdir -p "$folder"
	: >"$folder/.wh..wh..opq"
	echo 'the third layer hides all that the lower ones have here' >"$folder/README"
	tar -C opaque --sort=name --numeric-owner -cf "$1" usr/share/perl5/Git
	rm -r opaque
}

# change_debian ROOT: what a second layer can do to a first one
change_debian() (
	cd "$1" || exit
	rm -r usr/share/doc/git usr/share/man/man7
	rm usr/share/doc/bash/copyright etc/debian_version
	rm -r usr/share/doc/perl && echo 'was a folder' >usr/share/doc/perl
	rm etc/issue.net && mkdir etc/issue.net && echo 'was a file' >etc/issue.net/text
	rm -r usr/share/common-licenses && ln -s doc usr/share/common-licenses
	echo changed >>etc/motd
	chmod 600 etc/motd
	chown 12345:54321 etc/issue
	mkdir -p srv/odd && cd srv/odd || exit
	echo one >link-a && ln link-a link-b && mkdir in && ln link-a in/link-c
	ln -s ../nowhere dangling && chown -h 1000:1000 dangling
	mkfifo fifo && mknod char c 1 7 && mknod block b 7 300
	echo setuid >setuid && chown 1000:1000 setuid && chmod 6755 setuid
	echo secret >unreadable && chmod 000 unreadable
	mkdir sticky setgid && chmod 1777 sticky && chmod 2775 setgid
	echo xattrs >xattrs && setfattr -n user.binary -v 0x00ff0a3d xattrs
	setfattr -n user.large -v "$(head -c 2000 /dev/zero | tr '\0' x)" xattrs
	cp /bin/true capable && setcap cap_net_raw,cap_net_admin=ep capable
	echo acl >acl && setfacl -m u:1234:r,g:29:rw acl
	truncate -s 1M sparse && printf end >>sparse
	echo utf-8 >"naïve ☃" && echo latin1 >$'na\xefve' && echo newline >$'new\nline'
	echo long >"$(head -c 255 /dev/zero | tr '\0' n)"
	: >empty && echo future >future && touch -d @4102444800.987654321 future
)

# make_debian_tars: the layers of the Debian image as plain tar files, 0.tar the lowest
make_debian_tars() {
	local layout=$cache/images/debian number=0 digest
	for digest in $(jq -r '.manifests[0].digest' "$layout/index.json" | blob_of "$layout" | jq -r '.layers[].digest'); do
		gzip -dc "$layout/blobs/sha256/${digest#sha256:}" >"$number.tar"
		number=$((number + 1))
	done
}

# blob_of LAYOUT: prints the blob whose digest is on standard input
blob_of() {
	local digest
	read -r digest
	cat "$1/blobs/sha256/${digest#sha256:}"
}

# make_debs: packages in a folder that is an apt repository
make_debs() {
	step "fetching packages to install in guests"
	# shellcheck disable=SC2086 # a list
	apt_suite "$debian_suite" download $debian_debs
	dpkg-scanpackages . /dev/null >Packages 2>/dev/null
}
