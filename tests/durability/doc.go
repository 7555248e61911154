// Package durability has the union's server killed, its system calls fail, its disk full and its power cut, and looks at what is left.
package durability
