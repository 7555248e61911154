package main

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A user is who the command runs as.
type user struct {
	uid, gid uint32
	groups   []uint32 // supplementary
	home     string
}

func (u user) isRoot() bool { return u.uid == 0 && u.gid == 0 && len(u.groups) == 0 }

// allGroups are what the kernel is given. The own group is among them, so that a group that a file denies something cannot be dropped.
func (u user) allGroups() []uint32 { return append([]uint32{u.gid}, u.groups...) }

// An account is what a line of passwd(5) or group(5) says.
type account struct {
	name    string
	id      uint32
	gid     uint32   // of passwd
	home    string   // of passwd
	members []string // of group
}

// lookupUser finds name, uid, name:group or uid:gid in the files at passwd and group, the way container engines do: a number
// need not be there, a name must; with a group given there are no supplementary ones.
func lookupUser(spec, passwd, group string) (user, error) {
	name, groupName, withGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	u := user{home: "/"}
	entry, known := find(readAccounts(passwd, parsePasswd), name)
	switch id, numeric := parseID(name); {
	case known:
		u.uid, u.gid = entry.id, entry.gid
		if entry.home != "" {
			u.home = entry.home
		}
	case numeric:
		u.uid = id
	default:
		return user{}, failf(statusFailed, "user %s: not in the guest's %s: a numeric uid would do", name, passwd)
	}
	groups := readAccounts(group, parseGroup)
	if !withGroup || groupName == "" {
		for _, g := range groups {
			if known && g.id != u.gid && slices.Contains(g.members, entry.name) {
				u.groups = append(u.groups, g.id)
			}
		}
		return u, nil
	}
	if g, ok := find(groups, groupName); ok {
		u.gid = g.id
	} else if id, numeric := parseID(groupName); numeric {
		u.gid = id
	} else {
		return user{}, failf(statusFailed, "group %s: not in the guest's %s: a numeric gid would do", groupName, group)
	}
	return u, nil
}

// find looks for a name first: there are names made of digits.
func find(accounts []account, key string) (account, bool) {
	if i := slices.IndexFunc(accounts, func(a account) bool { return a.name == key }); i >= 0 {
		return accounts[i], true
	}
	id, numeric := parseID(key)
	if i := slices.IndexFunc(accounts, func(a account) bool { return numeric && a.id == id }); i >= 0 {
		return accounts[i], true
	}
	return account{}, false
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != 1<<32-1 // -1 means "leave as it is" to the kernel
}

// readAccounts returns the well-formed lines of a file. A file that is not there has none.
func readAccounts(path string, parse func([]string) (account, bool)) []account {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var accounts []account
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if a, ok := parse(strings.Split(lines.Text(), ":")); ok {
			accounts = append(accounts, a)
		}
	}
	return accounts
}

// parsePasswd takes the fields name:password:uid:gid:comment:home:shell.
func parsePasswd(fields []string) (account, bool) {
	if len(fields) < 6 {
		return account{}, false
	}
	uid, uidOK := parseID(fields[2])
	gid, gidOK := parseID(fields[3])
	return account{name: fields[0], id: uid, gid: gid, home: fields[5]}, uidOK && gidOK
}

// parseGroup takes the fields name:password:gid:members.
func parseGroup(fields []string) (account, bool) {
	if len(fields) < 4 {
		return account{}, false
	}
	gid, ok := parseID(fields[2])
	return account{name: fields[0], id: gid, members: strings.Split(fields[3], ",")}, ok
}
