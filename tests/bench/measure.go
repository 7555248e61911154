package main

import (
	"fmt"
	"time"
)

// measureWorks has the unions take turns: in each round, each does all works in their order.
func measureWorks(works []work, unions []union, rounds int) ([]row, error) {
	rows := make([]row, len(works))
	var dirs []string
	for _, u := range unions {
		dirs = append(dirs, u.dir)
	}
	for round := range rounds + 1 {
		for _, u := range unions {
			for i, w := range works {
				took, err := w.measure(u, dirs)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", w.name, u.name, err)
				}
				if round == 0 {
					rows[i].work, rows[i].targets = w.name, w.targets
					rows[i].sides = append(rows[i].sides, u.name)
					continue
				}
				rows[i].add(u.name, took)
			}
		}
	}
	return rows, nil
}

func (w work) measure(u union, dirs []string) (time.Duration, error) {
	if w.cold {
		if err := forget(dirs); err != nil {
			return 0, err
		}
	}
	return w.do(u.dir)
}

// measure has the sides take turns. The first round is not counted.
func measure(name string, rounds int, sides map[string]func() (time.Duration, error), order ...string) (row, error) {
	r := row{work: name, sides: order}
	for round := range rounds + 1 {
		for _, side := range order {
			took, err := sides[side]()
			if err != nil {
				return r, fmt.Errorf("%s, %s: %w", name, side, err)
			}
			if round > 0 {
				r.add(side, took)
			}
		}
	}
	return r, nil
}

func (r *row) add(side string, took time.Duration) {
	if r.times == nil {
		r.times = make(map[string][]time.Duration)
	}
	r.times[side] = append(r.times[side], took)
}
