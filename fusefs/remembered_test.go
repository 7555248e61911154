package fusefs

// Remembered is how many bytes and inodes are counted as remembered, but for the root and its listing.
func (fs *FS) Remembered() (bytes int64, inodes int) {
	bytes = fs.memory.used.Load()
	if l := fs.root.dir.listing; l != nil {
		bytes -= l.weight
	}
	return bytes, len(fs.table.inodes)
}
