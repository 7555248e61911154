package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// flatImage is what a flattened kernel holds of interest: the texts of words, and the PVH note.
func flatImage(words ...string) []byte {
	var image bytes.Buffer
	image.WriteString(strings.Join(words, "\x00"))
	for image.Len()%4 != 0 {
		image.WriteByte(0)
	}
	binary.Write(&image, binary.LittleEndian, [3]uint32{4, 8, noteXenPHYS32Entry})
	image.WriteString("Xen\x00")
	binary.Write(&image, binary.LittleEndian, uint64(0x1000000))
	return image.Bytes()
}

func kernelFile(t *testing.T, words ...string) string {
	t.Helper()
	var file bytes.Buffer
	if err := writeELF(&file, flatKernel{image: flatImage(words...), load: 0x1000000, entry: 0x1000123}); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, file.Bytes())
}

func writeFile(t *testing.T, contents []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, contents, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// elsewhere is a Search that finds nothing, whatever the machine has.
func elsewhere(t *testing.T) Search {
	t.Setenv("MICA_KERNEL", "")
	t.Setenv("MICA_LIBKRUNFW", "")
	return Search{DataDir: t.TempDir(), CacheDir: t.TempDir()}
}

func TestFindOrder(t *testing.T) {
	search := elsewhere(t)
	own := OwnPath(search.DataDir)
	flag, configured, environment := kernelFile(t, "virtio_mmio.device", "virtiofs"), kernelFile(t, "virtio_mmio.device", "virtiofs"), kernelFile(t, "virtio_mmio.device", "virtiofs", "Unpacking initramfs...")
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(kernelFile(t, "virtio_mmio.device", "virtiofs", "Trying to unpack rootfs image as initramfs"), own); err != nil {
		t.Fatal(err)
	}

	check := func(want Kernel) {
		t.Helper()
		got, err := Find(context.Background(), search)
		if err != nil || got != want {
			t.Errorf("Find = %+v, %v, want %+v", got, err, want)
		}
	}
	check(Kernel{Path: own, Initramfs: true, Source: "our own"})
	t.Setenv("MICA_KERNEL", environment)
	check(Kernel{Path: environment, Initramfs: true, Source: "$MICA_KERNEL"})
	search.Configured = configured
	check(Kernel{Path: configured, Source: "mica.toml"})
	search.Flag = flag
	check(Kernel{Path: flag, Source: "--kernel"})
}

func TestFindMissing(t *testing.T) {
	search := elsewhere(t)
	search.Flag = filepath.Join(t.TempDir(), "none")
	if _, err := Find(context.Background(), search); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoKernel) {
		t.Errorf("Find of a missing --kernel: %v, want that it does not exist", err)
	}
}

// TestUnfitKernel shows the exact line that each unfit file gets.
func TestUnfitKernel(t *testing.T) {
	bzImage := make([]byte, 0x400)
	copy(bzImage[0x202:], "HdrS")
	arm := elfHeader(elf.EM_AARCH64)
	whole, err := os.ReadFile(kernelFile(t, "virtio_mmio.device", "virtiofs"))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path string
		want string
	}{
		"bzImage":      {writeFile(t, bzImage), "is a compressed bzImage; an uncompressed vmlinux is needed"},
		"gzip":         {writeFile(t, []byte{0x1f, 0x8b, 8, 0}), "is a gzip file; an uncompressed vmlinux is needed"},
		"text":         {writeFile(t, []byte("hello\n")), "is not an ELF file; an uncompressed vmlinux is needed"},
		"empty":        {writeFile(t, nil), "is not an ELF file; an uncompressed vmlinux is needed"},
		"architecture": {writeFile(t, arm), "is for EM_AARCH64, not x86-64"},
		"truncated":    {writeFile(t, whole[:len(whole)-1]), "is truncated"},
		"no note":      {writeFile(t, elfHeader(elf.EM_X86_64)), "has no PVH entry note: it was built without CONFIG_PVH"},
		"no devices":   {kernelFile(t, "virtiofs"), "was built without CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES, and would find no device"},
		"no virtiofs":  {kernelFile(t, "virtio_mmio.device"), "was built without CONFIG_VIRTIO_FS, and would find no root filesystem"},
	} {
		t.Run(name, func(t *testing.T) {
			search := elsewhere(t)
			search.Flag = test.path
			_, err := Find(context.Background(), search)
			want := "kernel " + test.path + " (--kernel): " + test.want
			if err == nil || err.Error() != want {
				t.Errorf("Find: %v\nwant: %s", err, want)
			}
		})
	}
}

func elfHeader(machine elf.Machine) []byte {
	var file bytes.Buffer
	binary.Write(&file, binary.LittleEndian, elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine),
		Version: uint32(elf.EV_CURRENT),
		Ehsize:  64, Phentsize: 56, Shentsize: 64,
	})
	return file.Bytes()
}

func TestContainsAcrossBlocks(t *testing.T) {
	text := append(bytes.Repeat([]byte{'x'}, 1<<20-3), "needle"...)
	text = append(text, bytes.Repeat([]byte{'y'}, 1<<20)...)
	text = append(text, "end"...)
	found, err := contains(bytes.NewReader(text), [][]byte{[]byte("needle"), []byte("end"), []byte("absent")})
	if err != nil || !found[0] || !found[1] || found[2] {
		t.Errorf("contains = %v, %v", found, err)
	}
}

// TestLibkrunfw takes the kernel out of the real library, once.
func TestLibkrunfw(t *testing.T) {
	cache := os.Getenv("MICA_TEST_CACHE")
	if cache == "" {
		t.Fatal(`MICA_TEST_CACHE is not set: run tests/setup.sh, then eval "$(tests/setup.sh env)"`)
	}
	library := filepath.Join(cache, "microsandbox", "libkrunfw.so.5")
	search := elsewhere(t)
	t.Setenv("MICA_LIBKRUNFW", library)
	first, err := Find(context.Background(), search)
	if err != nil {
		t.Fatal(err)
	}
	if first.Source != library || filepath.Dir(first.Path) != search.CacheDir {
		t.Errorf("Find = %+v", first)
	}
	if !first.Initramfs {
		t.Error("libkrunfw's kernel shows no initramfs support")
	}
	before, err := os.Stat(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Find(context.Background(), search); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(first.Path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the second Find wrote the kernel anew (%v)", err)
	}
	if err := os.Truncate(first.Path, before.Size()/2); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(context.Background(), search); err != nil {
		t.Errorf("Find with a damaged file in the cache: %v", err)
	}
	if mended, err := os.Stat(first.Path); err != nil || mended.Size() != before.Size() {
		t.Errorf("the damaged file in the cache was not written anew (%v)", err)
	}
	if entries, err := os.ReadDir(search.CacheDir); err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %v, %v, want one file", entries, err)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(elfHeader(elf.EM_X86_64))
	var file bytes.Buffer
	if err := writeELF(&file, flatKernel{image: flatImage("virtio_mmio.device", "virtiofs"), load: 0x1000000, entry: 0x1000123}); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, image []byte) { inspect(bytes.NewReader(image)) })
}
