// Package vm holds the tests that run bin/mica as a user does, with real VMs: one script a feature, each on every monitor and transport.
// libkrun runs on hardware virtualization, or else inside the emulated AMD-V host.
package vm
