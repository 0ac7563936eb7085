package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
)

//go:embed doctor_digests.json
var recordedDigests []byte

// digestFile is what operations without approximation gave on kernels/emulator, so on no
// GPU. CPUs of every instruction set have the same bits. The recipe says how it is made anew.
type digestFile struct {
	Recipe  string        `json:"recipe"`
	Entries []digestEntry `json:"digests"`
}

type digestEntry struct {
	Case   string `json:"case"` // of package kerneltest
	DType  string `json:"dtype"`
	Before string `json:"before"` // of the operands
	After  string `json:"after"`
}

// exactOperations only copy and add, so neither a compiler that fuses nor a unit that
// approximates can change a bit.
var exactOperations = []string{"Zero", "Add", "AddBias", "AddBiasBack", "Embed", "EmbedBack", "Scatter"}

// exactCases are the cases of these operations.
func exactCases() (names []string) {
	for _, name := range kerneltest.Names() {
		name, ok := strings.CutPrefix(name, "values/")
		operation, _, _ := strings.Cut(name, "/")
		if ok && slices.Contains(exactOperations, operation) {
			names = append(names, name)
		}
	}
	return names
}

// recorded compares with the recorded bits.
func (d *doctor) recorded(_ context.Context, b kernels.Backend, dt kernels.DType) finding {
	var file digestFile
	if err := json.Unmarshal(recordedDigests, &file); err != nil {
		return fail(fmt.Errorf("doctor_digests.json: %w", err))
	}
	var errs []error
	compared := 0
	for _, e := range file.Entries {
		if e.DType != dtypeName(dt) {
			continue
		}
		compared++
		errs = append(errs, e.compare(b, dt))
	}
	if err := errors.Join(errs...); err != nil {
		return fail(err)
	}
	if compared == 0 {
		return fail(errors.New("nothing is recorded for this type"))
	}
	return pass("%d results", compared)
}

func (e digestEntry) compare(b kernels.Backend, dt kernels.DType) error {
	got, err := kerneltest.DigestOf(b, dt, e.Case)
	switch {
	case err != nil:
		return err
	case got.Before != e.Before:
		return fmt.Errorf("%s: this program makes other operands (digest %s, recorded %s), so nothing can be compared", e.Case, got.Before, e.Before)
	case got.After != e.After:
		return fmt.Errorf("%s: other bits (digest %s, recorded %s)", e.Case, got.After, e.After)
	}
	return nil
}
