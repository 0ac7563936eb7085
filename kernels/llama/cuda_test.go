//go:build nvidia

package llama

import (
	"os"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/cuda"
)

// The tests of this package run on a GPU too, or on its emulator, if there is one. Where
// RMTRAIN_REQUIRE is cuda there must be.
func init() {
	gpu = func(t testing.TB, dt kernels.DType) []kernels.Backend {
		t.Helper()
		if _, err := cuda.Devices(); err != nil {
			if os.Getenv("RMTRAIN_REQUIRE") == "cuda" {
				t.Fatal(err)
			}
			t.Log(err)
			return nil
		}
		b, err := cuda.New(dt, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		return []kernels.Backend{b}
	}
}
