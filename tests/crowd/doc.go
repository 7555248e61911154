// Package crowd puts many processes, and stress-ng, into one folder of a union, and checks what must hold all the same.
package crowd
