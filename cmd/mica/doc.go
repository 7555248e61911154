// Command mica runs untrusted code in a microVM whose root filesystem is composed live out of image layers.
//
// The rules of what it writes: the script's output, and what a command is asked to print, go to standard output; all else goes to
// standard error. A line of mica's own starts with "mica: ", has no capital and no full stop, and names the thing, the value and what
// would do. Hints stand on lines of their own, indented.
package main
