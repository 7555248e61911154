// Package launcher turns a configuration into a Plan and a Plan into a running microVM: it owns the filesystem's server, the machine's child process, and the way back of the exit status.
package launcher
