package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/micavm/mica/fusefs"
)

// How options change what is shown, as fuse-overlayfs(1) has it.

func mapUIDs(o *overlayOptions, value string) (err error) {
	o.view.UIDs.Ranges, err = idRanges("uidmapping", value)
	return err
}

func mapGIDs(o *overlayOptions, value string) (err error) {
	o.view.GIDs.Ranges, err = idRanges("gidmapping", value)
	return err
}

// idRanges reads a mapping: KEPT:SHOWN:COUNT, and more of them after further colons.
func idRanges(option, value string) ([]fusefs.IDRange, error) {
	fields := strings.Split(value, ":")
	var numbers []uint32
	for _, f := range fields {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			break
		}
		numbers = append(numbers, uint32(n))
	}
	if len(numbers) != len(fields) || len(numbers)%3 != 0 {
		return nil, fmt.Errorf("option %s=%s: want ID:SHOWN:COUNT, three numbers for each range, all with colons between them", option, value)
	}
	var ranges []fusefs.IDRange
	for i := 0; i < len(numbers); i += 3 {
		ranges = append(ranges, fusefs.IDRange{Kept: numbers[i], Shown: numbers[i+1], Count: numbers[i+2]})
	}
	return ranges, nil
}

func squashUID(o *overlayOptions, value string) (err error) {
	o.view.UIDs.Squash, err = squashedID("squash_to_uid", value)
	return err
}

func squashGID(o *overlayOptions, value string) (err error) {
	o.view.GIDs.Squash, err = squashedID("squash_to_gid", value)
	return err
}

// squashedID reads an id; -1 is none.
func squashedID(option, value string) (*uint32, error) {
	if value == "-1" {
		return nil, nil
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("option %s=%s: want a number, the id that all files have", option, value)
	}
	id := uint32(n)
	return &id, nil
}

// shown is the view that all options together ask for: squash_to_root is for the ids that no other option squashes.
func (o *overlayOptions) shown() fusefs.View {
	v := o.view
	if o.squashToRoot {
		v.UIDs.Squash, v.GIDs.Squash = cmp.Or(v.UIDs.Squash, new(uint32)), cmp.Or(v.GIDs.Squash, new(uint32))
	}
	return v
}

// squashes reports whether some owners are not shown, so that it is no error when files cannot have them.
func (o *overlayOptions) squashes() bool {
	v := o.shown()
	return v.UIDs.Squash != nil || v.GIDs.Squash != nil
}

// maxTimeout is what fuse-overlayfs has where there is no option.
const maxTimeout = 1_000_000_000

func (o *overlayOptions) setTimeout(value string) error {
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil || !(seconds >= 0) {
		return fmt.Errorf("option timeout=%s: want a number of seconds", value)
	}
	d := time.Duration(min(seconds, maxTimeout) * float64(time.Second))
	o.view.Timeout = &d
	return nil
}

func setNoXattrs(o *overlayOptions, value string) (err error) {
	o.view.NoXattrs, err = switched("noxattrs", cmp.Or(value, "1"))
	return err
}

func (o *overlayOptions) setFsync(value string) error {
	on, err := switched("fsync", value)
	o.noFsync = !on
	return err
}

func switched(option, value string) (bool, error) {
	switch value {
	case "0":
		return false, nil
	case "1":
		return true, nil
	}
	return false, fmt.Errorf("option %s=%s: want 0 or 1", option, value)
}
