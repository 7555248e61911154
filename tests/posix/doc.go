// Package posix is go-fuse's posixtest as a program for a guest: built with the tag guest as a static test binary, it runs in $MICA_POSIX_DIR.
package posix
