package layers

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSparse is the most bytes that a sparse file may have. Its holes cost nothing in the archive: a few bytes could ask for years of zeros.
const maxSparse = 64 << 30

// isSparse says whether hdr is of a file with holes, in GNU tar's own form or in a PAX header.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// writeSparse gives the empty file at path what body has, and leaves out the zeros.
func writeSparse(path string, size int64, body io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	buffer, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(body, buffer)
		if !bytes.Equal(buffer[:n], zeros[:n]) {
			if _, err := f.WriteAt(buffer[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF && at == size {
			return f.Truncate(size)
		}
		if err != nil {
			return fmt.Errorf("read sparse file: %w", err)
		}
	}
}
