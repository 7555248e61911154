package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// programs measures programs at work inside mica overlay and kernel overlayfs, over a layer that has a repository, a project of npm's and mica's source.
func (b *bench) programs() (err error) {
	layer := filepath.Join(b.dir, "programs")
	if err := b.writePrograms(layer); err != nil {
		return err
	}
	disk, remove, err := b.newDisk("programs-mounts")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	m := mounter{program: b.program, dir: disk, lower: layer}
	writable, err := m.writable(kernelOverlayfs)
	if err != nil {
		return err
	}
	target := map[string]float64{kernelOverlayfs: 1.3}
	works := []work{
		{"git status of 5,000 files, warm", false, gitStatus, target},
		{"npm ci", false, npmInstall, target},
		{"go build of guest-init, empty build cache", false, goBuild, target},
	}
	rows, err := measureWorks(works, writable, min(b.rounds, 3)) // builds take long
	b.add(rows...)
	return errors.Join(err, closeAll(writable))
}

func (b *bench) writePrograms(layer string) error {
	const script = `
mkdir "$1" && cp -r "$2" "$1/npm" && mkdir "$1/repository" && cp -r "$(go env GOROOT)"/src/[a-n]* "$1/repository"
cd "$1/repository" && git init -q && git config gc.auto 0 && git add --all && git -c user.name=bench -c user.email=bench@localhost commit -qm all
mkdir "$1/mica" && cd "$3" && cp -r go.mod go.sum guest-init "$1/mica" && cd "$1/mica" && go mod vendor`
	source, err := os.Getwd()
	if err != nil {
		return err
	}
	return run("sh", "-euc", script, "sh", layer, filepath.Join(b.cache, "npm-project"), source)
}

func gitStatus(dir string) (time.Duration, error) {
	repository := filepath.Join(dir, "repository")
	status := func() (time.Duration, error) {
		return timed(exec.Command("git", "-C", repository, "status", "--short"))
	}
	// The first one writes the index anew, with the inode numbers of this mount.
	if _, err := status(); err != nil {
		return 0, err
	}
	return status()
}

func npmInstall(dir string) (time.Duration, error) {
	project := filepath.Join(dir, "npm")
	if err := setAside(filepath.Join(project, "node_modules")); err != nil {
		return 0, err
	}
	cmd := exec.Command("npm", "ci", "--offline", "--cache", filepath.Join(project, "cache"), "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = project
	return timed(cmd)
}

// setAside moves a folder away, if there is one: to remove it would cost whoever makes files next.
func setAside(dir string) error {
	aside, err := os.MkdirTemp(filepath.Dir(dir), "aside-")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(aside, "old")); !os.IsNotExist(err) {
		return err
	}
	return nil
}

func goBuild(dir string) (time.Duration, error) {
	cache := filepath.Join(dir, "go-cache")
	if err := setAside(cache); err != nil {
		return 0, err
	}
	cmd := exec.Command("go", "build", "-mod=vendor", "-o", filepath.Join(dir, "guest-init"), "./guest-init")
	cmd.Dir = filepath.Join(dir, "mica")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GOFLAGS=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GOCACHE="+cache, "CGO_ENABLED=0")
	return timed(cmd)
}
