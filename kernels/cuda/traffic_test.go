//go:build nvidia

package cuda

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rmtrain/kernels"
)

var updateTraffic = flag.Bool("update-traffic", false, "write testdata/traffic.txt anew")

// A kernelTraffic is what the emulator counted of a kernel.
type kernelTraffic struct {
	read, write  float64 // bytes of global memory
	reads, wrote float64 // what these are of the sectors of 32 bytes that the accesses touch
	banks        float64 // wavefronts of shared memory for each that the accesses need
}

// sectors is the share of both: below 1 sectors are fetched or written for a part of them, above it
// lanes read the same.
func (k kernelTraffic) sectors() float64 {
	touched := 0.
	if k.reads > 0 {
		touched += k.read / k.reads
	}
	if k.wrote > 0 {
		touched += k.write / k.wrote
	}
	return (k.read + k.write) / touched
}

// statistics runs a child that EMULATOR_STATS makes write a table, and reads it.
func statistics(t *testing.T, test string, env ...string) map[string]kernelTraffic {
	t.Helper()
	file := t.TempDir() + "/stats.txt"
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(append(os.Environ(), "EMULATOR_STATS="+file), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Skip("no statistics: this is not the emulator")
	}
	const columns = 16
	counted := map[string]kernelTraffic{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != columns || f[0] == "kernel" {
			continue
		}
		number := func(column int) float64 {
			n, err := strconv.ParseFloat(strings.TrimSuffix(f[column], "%"), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		counted[f[0]] = kernelTraffic{1e6 * number(10), 1e6 * number(11), number(12) / 100, number(13) / 100, number(14)}
	}
	if len(counted) == 0 {
		t.Fatalf("no kernels in %s", text)
	}
	return counted
}

// TestAttentionRound is a child of the next test: attention as the network calls it, in place.
func TestAttentionRound(t *testing.T) {
	if os.Getenv(envCosted) == "" {
		t.Skip("the test behind it starts it")
	}
	b := newBackend(t, kernels.BF16)
	for _, channels := range []int{64, 96, 128, 256} {
		attend(t, b, kernels.BF16, attentionBatch, attentionRows, kernels.Heads{Q: 6, KV: 2, Dim: channels}, 0)
	}
}

const trafficTable = "testdata/traffic.txt"

// scattered are kernels that need not reach the share of whole sectors that all others do.
var scattered = map[string]string{
	"embed_back_bf16": "its gradients are float32 beside bfloat16, and a thread has eight of both; once a pass",
}

// On operands as the network has them, in bfloat16, sectors of global memory are used whole and
// banks of shared memory met once, as the committed table says.
func TestAccessesCoalesce(t *testing.T) {
	needDevice(t)
	counted := statistics(t, "TestAttentionRound", envCosted+"=attention")
	for round := range costRounds {
		maps.Copy(counted, statistics(t, "TestCostedRound", envCosted+"="+strconv.Itoa(round)))
	}
	const least, most = 0.9, 1.05
	const few = 5e3 // bytes, of which the emulator prints thousands
	maps.DeleteFunc(counted, func(_ string, k kernelTraffic) bool { return k.read+k.write < few })
	table := fmt.Sprintf("%-24s %8s %6s\n", "kernel", "sectors", "banks")
	for _, kernel := range slices.Sorted(maps.Keys(counted)) {
		k := counted[kernel]
		share := min(k.sectors(), 1)
		table += fmt.Sprintf("%-24s %7.0f%% %6.2f\n", kernel, 100*share, k.banks)
		if _, excused := scattered[kernel]; excused != (share < least) {
			t.Errorf("%s uses %.0f%% of the sectors that it touches, least is %.0f%%; excused: %v", kernel, 100*share, 100*least, excused)
		}
		if k.banks > most {
			t.Errorf("%s takes %.2f times the wavefronts that its accesses need", kernel, k.banks)
		}
	}
	if *updateTraffic {
		if err := os.WriteFile(trafficTable, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(trafficTable)
	if err != nil {
		t.Fatal(err)
	}
	if table != string(want) {
		t.Errorf("%s is not\n%s(if it should be: -update-traffic, and look at the difference)", trafficTable, table)
	}
}
