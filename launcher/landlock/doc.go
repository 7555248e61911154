// Package landlock confines a process to the files it needs, by the kernel's Landlock, and then executes a program in its place. The domain is put on one locked thread, which execve(2) makes the whole process: so it works in a static binary that holds several threads.
package landlock
