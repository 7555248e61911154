# build.sh STORAGE: a base image and one of three steps over it, in the storage of the folder STORAGE, which has a storage.conf and a
# layer.tar.gz; the image is pushed to STORAGE/image. What container programs mount goes with the mount namespace.
set -eu
export CONTAINERS_STORAGE_CONF="$1/storage.conf" TMPDIR="$1/tmp" BUILDAH_ISOLATION=chroot
mkdir "$1/tmp" "$1/context"
mv "$1/layer.tar.gz" "$1/context"
build() { buildah build --quiet --layers --timestamp 0 --format oci -t "$1" -f - "$2" >/dev/null; }

build base "$1/context" <<'E'
FROM scratch
ADD layer.tar.gz /
ENV PATH=/bin
E
build out "$1/context" <<'E'
FROM localhost/base
RUN mkdir /made && echo one >/made/one && chown -R 5:6 /made && chmod 4755 /made/one && ln -s one /made/link && ln /made/one /made/hard && rm /bin/zcat && rm -r /home
RUN rm -r /made && mkdir /made && echo new >/made/new && echo more >>/etc/group && mkfifo /made/fifo && mkdir -p /opt/x && chmod 700 /root && mkdir /home
RUN rm -r /opt && rm /made/new && mv /etc/group /etc/group2 && chmod 1777 /made && mkdir /made/dir && mv /made/dir /made/moved && touch -h /bin/ls
E
buildah push --quiet localhost/out "oci:$1/image:latest"
