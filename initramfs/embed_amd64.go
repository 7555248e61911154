package initramfs

import "embed"

//go:embed bin/amd64/*
var binaries embed.FS
