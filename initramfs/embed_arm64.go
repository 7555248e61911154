package initramfs

import "embed"

//go:embed bin/arm64/*
var binaries embed.FS
