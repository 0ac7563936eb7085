//go:build !linux

package cpu

// quietMonitor does nothing: only Linux has a policy for batch work.
func quietMonitor() {}
