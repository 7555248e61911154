// Command bench measures mica side by side with what it is compared to, and prints ratios of medians: the seconds are this machine's, the
// ratios are what can be compared.
//
//	make bench
package main
