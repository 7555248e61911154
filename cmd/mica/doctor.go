package main

import (
	"fmt"
	"text/tabwriter"
)

type doctorCommand struct{}

// Help is the long text of mica doctor --help.
func (doctorCommand) Help() string {
	return "The exit status is 0 when a run is possible, and 1 when something that every run needs is missing."
}

// Run prints a row for each thing that mica uses, then what mends those that are missing.
func (doctorCommand) Run(a *app) error {
	findings := examine()
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.state(), f.name, f.detail)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, f := range findings {
		if !f.ok && f.mend != "" {
			fmt.Fprintf(a.stdout, "\n%s: %s\n    %s\n", f.name, f.why, f.mend)
		}
	}
	if missing := lacking(findings); missing != "" {
		fmt.Fprintf(a.stdout, "\na run is not possible: %s\n", missing)
		return status(1)
	}
	fmt.Fprintln(a.stdout, "\na run is possible")
	return nil
}

// A finding is one row.
type finding struct {
	name   string
	ok     bool
	detail string // what is there, or what is not
	why    string // what it is for
	mend   string // the command that mends it, or ""
	need   need
}

// A need says what cannot be done without the thing. A run needs one of each kind.
type need int

const (
	optional need = iota
	needFUSE
	needMount
	needVMM
	needKernel
	needImages
)

func (f finding) state() string {
	switch {
	case f.ok:
		return "ok"
	case f.need == optional || f.need == needVMM:
		return "-"
	}
	return "missing"
}

// lacking says what no finding gives although every run needs it, or "".
func lacking(findings []finding) string {
	words := map[need]string{
		needFUSE:   "no FUSE device",
		needMount:  "no fusermount3",
		needVMM:    "neither libkrun with KVM nor QEMU",
		needKernel: "no guest kernel",
		needImages: "no room for images",
	}
	for kind := needFUSE; kind <= needImages; kind++ {
		var known, have bool
		for _, f := range findings {
			known = known || f.need == kind
			have = have || f.need == kind && f.ok
		}
		if known && !have {
			return words[kind]
		}
	}
	return ""
}
