package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/micavm/mica/launcher"
)

type lsCommand struct {
	JSON bool `name:"json" help:"Print JSON: a list of objects."`
}

// Run prints a line for each sandbox of this user that runs.
func (c *lsCommand) Run(a *app) error {
	running, err := launcher.List(a.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(append([]launcher.State{}, running...))
	}
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tVMM\tTRANSPORT\tPID\tSTARTED\tIMAGE\tPROJECT")
	for _, s := range running {
		state := "starting"
		if s.Up {
			state = "running"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n",
			s.Name, state, dash(s.VMM), dash(s.Transport), s.PID(), s.Started.Local().Format(time.DateTime), s.Image, dash(s.Project))
	}
	return table.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
