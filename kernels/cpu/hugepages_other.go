//go:build !linux

package cpu

// adviseHugePages does nothing: only Linux takes such advice.
func adviseHugePages([]byte) {}
