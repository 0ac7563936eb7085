package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"rmtrain/checkpoints"
	"rmtrain/data/tokenizer"
	"rmtrain/kernels/llama"
)

// tokenizerFiles returns the tokenizer's files, byte for byte, to write beside weights.
func tokenizerFiles(t *tokenizer.Tokenizer) []checkpoints.File {
	var out []checkpoints.File
	for _, f := range t.Files() {
		out = append(out, checkpoints.File{Name: f.Name, Data: f.Data})
	}
	return out
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func parameters(c llama.Config) (n int) {
	for _, p := range llama.Table(c) {
		n += elements(p.Shape)
	}
	return n
}

// si writes a number with three digits and a decimal prefix.
func si(x float64) string {
	for _, u := range []struct {
		unit   float64
		prefix string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= u.unit {
			return fmt.Sprintf("%.3g %s", x/u.unit, u.prefix)
		}
	}
	return fmt.Sprintf("%.3g ", x)
}

// writeMemory prints bytes by purpose, the largest first, and their sum.
func writeMemory(w io.Writer, m map[string]int64) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var sum int64
	for _, k := range slices.SortedFunc(maps.Keys(m), func(a, b string) int { return int(min(1, max(-1, m[b]-m[a]))) }) {
		fmt.Fprintf(t, "  %s\t%s\t\n", k, mib(m[k]))
		sum += m[k]
	}
	fmt.Fprintf(t, "  total\t%s\t\n", mib(sum))
	t.Flush() // the writer below keeps its error
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// fits tells whether m leaves a fifth of the available memory free.
func fits(m map[string]int64) bool {
	var sum int64
	for _, n := range m {
		sum += n
	}
	free, ok := availableMemory()
	return !ok || sum < free/5*4
}

// availableMemory is what Linux says programs may still take, within the limit of
// this control group; false where that cannot be known.
func availableMemory() (int64, bool) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	_, rest, ok := strings.Cut(string(b), "MemAvailable:")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return 0, false
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0, false
	}
	free := kib << 10
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(path); err == nil {
			if limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
				free = min(free, limit)
			}
		}
	}
	return free, true
}
