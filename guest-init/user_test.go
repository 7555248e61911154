package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLookupUser(t *testing.T) {
	passwd := write(t, "passwd", `root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:one:two
app:x:1000:1000:App:/home/app:/bin/sh
2000:x:3000:3000::/home/digits:/bin/sh
homeless:x:1001:1001:::/bin/sh
minus:x:4294967295:1:::/bin/sh
`, 0o644)
	group := write(t, "group", `root:x:0:
app:x:1000:
wheel:x:10:root,app
docker:x:999:app
apps:x:1000:app
`, 0o644)
	for spec, want := range map[string]user{
		"":           {home: "/root"},
		"root":       {home: "/root"},
		"0":          {home: "/root"},
		"app":        {uid: 1000, gid: 1000, groups: []uint32{10, 999}, home: "/home/app"},
		"1000":       {uid: 1000, gid: 1000, groups: []uint32{10, 999}, home: "/home/app"},
		"app:docker": {uid: 1000, gid: 999, home: "/home/app"},
		"app:7":      {uid: 1000, gid: 7, home: "/home/app"},
		"app:":       {uid: 1000, gid: 1000, groups: []uint32{10, 999}, home: "/home/app"},
		"5000":       {uid: 5000, home: "/"},
		"5000:6000":  {uid: 5000, gid: 6000, home: "/"},
		"2000":       {uid: 3000, gid: 3000, home: "/home/digits"},
		"homeless":   {uid: 1001, gid: 1001, home: "/"},
	} {
		if want.groups == nil && (spec == "" || spec == "root" || spec == "0") {
			want.groups = []uint32{10}
		}
		got, err := lookupUser(spec, passwd, group)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("user %q is %+v, %v; want %+v", spec, got, err, want)
		}
	}
	for spec, want := range map[string]string{
		"nobody":     "user nobody: not in the guest's " + passwd + ": a numeric uid would do",
		"app:none":   "group none: not in the guest's " + group + ": a numeric gid would do",
		"minus":      "user minus: not in the guest's " + passwd + ": a numeric uid would do",
		"4294967295": "user 4294967295: not in the guest's " + passwd + ": a numeric uid would do",
		"-1":         "user -1: not in the guest's " + passwd + ": a numeric uid would do",
	} {
		_, err := lookupUser(spec, passwd, group)
		if fmt.Sprint(err) != want || exitOf(err).Code != 125 {
			t.Errorf("user %q: %v, want %s", spec, err, want)
		}
	}
	if u, err := lookupUser("", "/nonexistent", "/nonexistent"); err != nil || !u.isRoot() || u.home != "/" {
		t.Errorf("without files: %+v, %v", u, err)
	}
}
