// Package fsx does random reads, writes, mappings, truncations and holes on one file, and compares it with a model in memory after each,
// as fsx of LTP and xfstests does. It is not the server of that file: a process that maps what it serves can hang for good.
package fsx
