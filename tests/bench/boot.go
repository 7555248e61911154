package main

import "time"

// bootRounds are the fewest for boots: the same boot under emulation takes half as long again at times, and the median of five follows chance.
const bootRounds = 13

// boot measures a run's and a mount's beginning.
func (b *bench) boot() error {
	rounds := max(b.rounds, bootRounds)
	bare, err := newBareBoot(b.dir)
	if err != nil {
		return err
	}
	const peer = "the same kernel and devices, a C init"
	run, err := measure("run of /bin/true, QEMU", rounds, map[string]func() (time.Duration, error){"mica": b.program.runTrue, peer: bare.boot}, "mica", peer)
	if err != nil {
		return err
	}
	run.targets = map[string]float64{peer: 1.25}
	mount, err := measure("mount to first answer, Debian image", rounds, map[string]func() (time.Duration, error){
		"mica": func() (time.Duration, error) { return b.program.mount(b.program.image("debian"), "usr/bin/env") },
	}, "mica")
	mount.targets = map[string]float64{"ms": 30}
	b.add(run, mount)
	return err
}
