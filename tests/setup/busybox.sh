# shellcheck shell=bash
# The small image: a statically linked busybox and a few users, as an OCI image layout of one layer.

make_busybox_image() {
	step "making the busybox image"
	mkdir -p blobs/sha256 root/{bin,etc,root,tmp,home/app}
	cp "$(busybox_path)" root/bin/busybox
	local applet
	for applet in $(root/bin/busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "root/bin/$applet"
	done
	busybox_users root/etc
	chmod 1777 root/tmp
	chown -R 1000:1000 root/home/app
	tar -C root --sort=name --mtime=@0 --numeric-owner --format=pax --pax-option=delete=atime,delete=ctime -cf layer.tar .
	rm -r root

	local diff_id layer config manifest
	diff_id=$(sha256sum <layer.tar | cut -d' ' -f1)
	gzip -n1 layer.tar
	layer=$(oci_blob layer.tar.gz application/vnd.oci.image.layer.v1.tar+gzip)
	printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","IMAGE=busybox"],"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$diff_id" >config.json
	config=$(oci_blob config.json application/vnd.oci.image.config.v1+json)
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' "$config" "$layer" >manifest.json
	manifest=$(oci_blob manifest.json application/vnd.oci.image.manifest.v1+json)
	printf '{"schemaVersion":2,"manifests":[%s,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}' "${manifest%\}}" >index.json
	printf '{"imageLayoutVersion":"1.0.0"}' >oci-layout
}

busybox_users() {
	printf '%s\n' root:x:0:0:root:/root:/bin/sh app:x:1000:1000:app:/home/app:/bin/sh nobody:x:65534:65534:nobody:/:/bin/false >"$1/passwd"
	printf '%s\n' root:x:0: app:x:1000: audio:x:29:app nogroup:x:65534: >"$1/group"
}

# oci_blob FILE MEDIA-TYPE: moves FILE among the blobs of the current layout and prints its descriptor
oci_blob() {
	local digest size
	digest=$(sha256sum <"$1" | cut -d' ' -f1)
	size=$(stat -c %s "$1")
	mv "$1" "blobs/sha256/$digest"
	printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$2" "$digest" "$size"
}
