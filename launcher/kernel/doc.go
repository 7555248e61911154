// Package kernel finds the guest's kernel, checks that a monitor can boot it, and makes one out of libkrunfw where no other is at hand.
package kernel
