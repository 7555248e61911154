// Package krun runs a microVM inside a child process of its own, through libkrun, which it loads at run time: the program links no C.
package krun
