package main

import (
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOverlayOptions(t *testing.T) {
	const usual = unix.MS_NODEV | unix.MS_NOATIME
	for _, test := range []struct {
		lists []string
		want  overlayOptions
	}{
		{[]string{"lowerdir=/a"}, overlayOptions{lower: []string{"/a"}, flags: usual}},
		{[]string{"lowerdir=/top:/bottom,upperdir=/u,workdir=/w"}, overlayOptions{lower: []string{"/top", "/bottom"}, upper: "/u", work: "/w", flags: usual}},
		{[]string{"lowerdir=/a", "upperdir=/u", "ro"}, overlayOptions{lower: []string{"/a"}, upper: "/u", flags: usual | unix.MS_RDONLY}},
		{[]string{`lowerdir=/a\:b\,c\\d:/e`}, overlayOptions{lower: []string{`/a:b,c\d`, "/e"}, flags: usual}},
		{[]string{"lowerdir=/a,rw,nosuid,dev,noexec,relatime"}, overlayOptions{lower: []string{"/a"}, flags: unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_RELATIME}},
		{[]string{"lowerdir=/a,xattr_permissions=2,volatile,timeout=0,x-systemd.automount,_netdev"}, overlayOptions{lower: []string{"/a"}, flags: usual, stored: true}},
		{[]string{`lowerdir=/a,context="system_u:object_r:container_file_t:s0:c1,c2",fsname=name`}, overlayOptions{
			lower: []string{"/a"}, flags: usual, source: "name", context: `,context="system_u:object_r:container_file_t:s0:c1,c2"`,
		}},
	} {
		got, err := parseOverlayOptions(test.lists, false)
		if err != nil {
			t.Errorf("%q: %v", test.lists, err)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", test.lists, got, test.want)
		}
	}
}

func TestSloppyOverlayOptions(t *testing.T) {
	if _, err := parseOverlayOptions([]string{"lowerdir=/a,colour=red"}, true); err != nil {
		t.Error(err)
	}
	if _, err := parseOverlayOptions([]string{"lowerdir=/a,colour=red"}, false); err == nil {
		t.Error("an unknown option is accepted")
	}
}
