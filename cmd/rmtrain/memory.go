package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// writeMemory prints bytes by purpose, the largest first, and their sum.
func writeMemory(w io.Writer, m map[string]int64) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, k := range slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) }) {
		fmt.Fprintf(t, "%s\t%s\t\n", k, mebibytes(m[k]))
	}
	fmt.Fprintf(t, "total\t%s\t\n", mebibytes(total(m)))
	t.Flush() // the writer below keeps its error
}

func total(m map[string]int64) (sum int64) {
	for _, n := range m {
		sum += n
	}
	return sum
}

// mebibytes writes bytes as MiB, or as GiB if there are many.
func mebibytes(n int64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// plannable returns how much of the available memory plans may use: four fifths of a
// machine's, which other programs share, and all but a twentieth of a GPU's, for what is in
// no plan: the driver's own, scratch memory of operations, allocations rounded up to 2 MiB.
func plannable(available int64, gpu bool) int64 {
	if gpu {
		return available / 20 * 19
	}
	return available / 5 * 4
}

// fits tells whether m leaves a fifth of the available memory free.
func fits(m map[string]int64, available int64) bool { return total(m) < plannable(available, false) }

// fitsNow is fits with what is available at this moment.
func fitsNow(m map[string]int64) bool { return fits(m, availableMemory()) }

// availableMemory is what this process may still take: what Linux says is available,
// and what every control group that holds it leaves. Where that cannot be known it
// is the largest number.
func availableMemory() int64 {
	free := int64(math.MaxInt64)
	if kib, ok := memAvailable(); ok {
		free = kib << 10
	}
	for dir := controlGroup(); ; dir = filepath.Dir(dir) {
		free = min(free, groupLeaves(filepath.Join("/sys/fs/cgroup", dir)))
		if dir == filepath.Dir(dir) {
			return free
		}
	}
}

func memAvailable() (kib int64, ok bool) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(b), "MemAvailable:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, false
	}
	kib, err = strconv.ParseInt(fields[0], 10, 64)
	return kib, err == nil
}

// controlGroup is the path of this process's group in version 2 of the hierarchy.
func controlGroup() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "/"
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Clean("/" + path)
		}
	}
	return "/"
}

// groupLeaves is the limit of a control group less what its processes cannot give
// back: what they use besides the cache of files.
func groupLeaves(dir string) int64 {
	limit, ok := readNumber(filepath.Join(dir, "memory.max"))
	if !ok {
		return math.MaxInt64
	}
	used, _ := readNumber(filepath.Join(dir, "memory.current"))
	b, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err == nil {
		_, rest, _ := strings.Cut("\n"+string(b), "\nfile ")
		if fields := strings.Fields(rest); len(fields) > 0 {
			cache, _ := strconv.ParseInt(fields[0], 10, 64) // 0 if it is not a number
			used -= cache
		}
	}
	return max(0, limit-max(0, used))
}

func readNumber(path string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}
