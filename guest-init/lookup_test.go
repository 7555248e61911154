package main

import "testing"

func TestInterpreter(t *testing.T) {
	elf := make([]byte, 64+2*56+16)
	copy(elf, "\x7fELF\x02\x01")
	elf[32], elf[56] = 64, 2 // program headers: offset, count
	elf[64+56] = 3           // PT_INTERP
	elf[64+56+8], elf[64+56+32] = 64+2*56, 13
	copy(elf[64+2*56:], "/lib/ld.so.1\x00")
	outside := append([]byte(nil), elf...)
	outside[64+56+32+7] = 0xff // a size beyond all bounds
	far := append([]byte(nil), elf...)
	far[32+7] = 0xff // program headers beyond all bounds

	for name, test := range map[string]struct{ text, want string }{
		"script":             {"#!/bin/false\n", "/bin/false"},
		"script, an option":  {"#! /usr/bin/env -S x\n", "/usr/bin/env"},
		"empty #!":           {"#!\n", ""},
		"text":               {"hello\n", ""},
		"empty":              {"", ""},
		"ELF":                {string(elf), "/lib/ld.so.1"},
		"ELF cut":            {string(elf[:70]), ""},
		"ELF, path outside":  {string(outside), ""},
		"ELF, table outside": {string(far), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := interpreter(write(t, "file", test.text, 0o755)); got != test.want {
				t.Errorf("interpreter is %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzLoader(f *testing.F) {
	f.Fuzz(func(t *testing.T, head []byte) { loader(head) })
}

func TestGetenv(t *testing.T) {
	env := []string{"A=1", "B", "A=2=3", "=x"}
	if v, ok := getenv(env, "A"); v != "2=3" || !ok {
		t.Errorf("A is %q, %v", v, ok)
	}
	if v, ok := getenv(env, "B"); ok {
		t.Errorf("B is %q", v)
	}
}
