// Package index is the metadata of one image layer as one file: written once, when the layer is unpacked, and mapped
// read-only ever after. It holds what the layer's folder on the host cannot (owners, modes, times, types, device numbers,
// link targets, extended attributes, whiteouts, opaque folders), so that a lookup touches neither the disk nor the heap.
// An index is untrusted input: whatever its bytes, a read ends in an answer or in [ErrCorrupt].
package index
