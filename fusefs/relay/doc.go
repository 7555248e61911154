// Package relay divides requests among goroutines: one takes and answers at a time, and another one takes over while an answer takes long.
package relay
