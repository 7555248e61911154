// Package launcher turns a configuration into a Plan and a Plan into a running microVM: it owns the filesystem's server, the machine's child process, and the way back of the exit status.
//
// A run has two halves in one process. The first (prepare.go) finds, locks and starts what the run needs. Then the process executes
// itself, confined by Landlock (handover.go, confine.go), and the second half (run.go) serves the guest until its end.
package launcher
