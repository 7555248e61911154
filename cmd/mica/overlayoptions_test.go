package main

import (
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
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
		{[]string{"lowerdir=/a,xattr_permissions=2,x-systemd.automount,_netdev,plugins="}, overlayOptions{lower: []string{"/a"}, flags: usual, stored: true}},
		{[]string{"lowerdir=/a,volatile,fsync=1,noacl"}, overlayOptions{lower: []string{"/a"}, flags: usual, volatile: true, noACL: true}},
		{[]string{"lowerdir=/a,passthrough"}, overlayOptions{lower: []string{"/a"}, flags: usual, passthrough: true}},
		{[]string{"lowerdir=/a,fsync=0,noxattrs=1"}, overlayOptions{lower: []string{"/a"}, flags: usual, noFsync: true, view: fusefs.View{NoXattrs: true}}},
		{[]string{"lowerdir=/a,timeout=0"}, overlayOptions{lower: []string{"/a"}, flags: usual, view: fusefs.View{Timeout: new(time.Duration)}}},
		{[]string{"lowerdir=/a,uidmapping=0:1000:1:1:110000:65536,gidmapping=5:6:7"}, overlayOptions{lower: []string{"/a"}, flags: usual, view: fusefs.View{
			UIDs: fusefs.Owners{Ranges: []fusefs.IDRange{{Kept: 0, Shown: 1000, Count: 1}, {Kept: 1, Shown: 110000, Count: 65536}}},
			GIDs: fusefs.Owners{Ranges: []fusefs.IDRange{{Kept: 5, Shown: 6, Count: 7}}},
		}}},
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

func TestSquashedOwners(t *testing.T) {
	for options, want := range map[string][2]int{ // user and group, -1 as they are
		"squash_to_root":                                   {0, 0},
		"squash_to_uid=5":                                  {5, -1},
		"squash_to_root,squash_to_gid=6":                   {0, 6},
		"squash_to_uid=5,squash_to_gid=6,squash_to_root":   {5, 6},
		"squash_to_uid=5,squash_to_uid=-1,squash_to_gid=7": {-1, 7},
	} {
		o, err := parseOverlayOptions([]string{"lowerdir=/a", options}, false)
		if err != nil {
			t.Errorf("%s: %v", options, err)
			continue
		}
		got := [2]int{-1, -1}
		for i, id := range []*uint32{o.shown().UIDs.Squash, o.shown().GIDs.Squash} {
			if id != nil {
				got[i] = int(*id)
			}
		}
		if got != want {
			t.Errorf("%s: %v, want %v", options, got, want)
		}
	}
}

func TestRefusedOverlayOptions(t *testing.T) {
	for _, option := range []string{
		"uidmapping=", "uidmapping=0:1", "gidmapping=0:1:2:3", "uidmapping=a:b:c", "gidmapping=-1:0:1", "uidmapping=4294967296:0:1",
		"squash_to_uid=", "squash_to_uid=-2", "squash_to_gid=root", "timeout=", "timeout=-1", "timeout=NaN", "timeout=x", "fsync", "fsync=2", "noxattrs=yes",
		"plugins=/p.so", "redirect_dir=on", "metacopy=on", "xattr_permissions=3",
	} {
		if _, err := parseOverlayOptions([]string{"lowerdir=/a", option}, true); err == nil {
			t.Errorf("%s is accepted", option)
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
