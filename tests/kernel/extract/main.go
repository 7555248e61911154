// Command extract takes the kernel out of a libkrunfw, as an ELF file that every monitor boots.
//
//	go run ./tests/kernel/extract LIBKRUNFW FILE
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/micavm/mica/launcher/kernel"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: extract LIBKRUNFW FILE")
		os.Exit(2)
	}
	if err := extract(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "extract:", err)
		os.Exit(1)
	}
}

// extract has the launcher find a kernel where there is none but the library's.
func extract(library, file string) error {
	dir, err := os.MkdirTemp(filepath.Dir(file), "extract-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	os.Unsetenv("MICA_KERNEL")
	os.Setenv("MICA_LIBKRUNFW", library)
	found, err := kernel.Find(context.Background(), kernel.Search{DataDir: dir, CacheDir: dir})
	if err != nil {
		return err
	}
	return os.Rename(found.Path, file)
}
