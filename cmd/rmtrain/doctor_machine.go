package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"rmtrain/data/tokenizer"
	"rmtrain/kernels/cpu"
)

const machineSection = "machine"

// machineChecks look at what there is, and open the backend.
func (d *doctor) machineChecks() []doctorCheck {
	const section = machineSection
	cs := []doctorCheck{
		{section, "processor", "the CPU backend opens", d.processor},
		{section, "memory", "what this process may still take", func(context.Context) finding {
			return pass("%s available", mebibytes(availableMemory()))
		}},
		{section, "GPU", "the driver takes the kernels", d.graphics},
	}
	if d.gpu {
		cs = append(cs, doctorCheck{section, "kernels", "no kernel spills what it should hold in registers", d.kernelFigures})
	}
	if d.sanitizing() {
		cs = append(cs, doctorCheck{section, "compute-sanitizer", "NVIDIA's checker starts", d.startSanitizer})
	}
	cs = append(cs, doctorCheck{section, "libraries", "text becomes ids, by the model's template, and text again", d.libraries})
	for _, dt := range doctorTypes {
		cs = append(cs, doctorCheck{section, "backend, " + dtypeName(dt), "all that the backend needs is there", func(context.Context) finding {
			b, err := d.opened(dt)
			if err != nil {
				return fail(err)
			}
			return passOr(b.Sync(), "%s", b.Name())
		}})
	}
	return cs
}

func (d *doctor) processor(context.Context) finding {
	b, err := cpu.New(doctorTypes[0])
	if err != nil {
		return fail(err)
	}
	return passOr(b.Close(), "%s, %d threads, %s: %s/%s", processorName(), runtime.GOMAXPROCS(0), b.Name(), runtime.GOOS, runtime.GOARCH)
}

// processorName is what Linux says.
func processorName() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "processor unknown"
	}
	_, rest, ok := strings.Cut(string(b), "model name")
	if !ok {
		return "processor unknown"
	}
	name, _, _ := strings.Cut(strings.TrimLeft(rest, "\t :"), "\n")
	return strings.TrimSpace(name)
}

// graphics describes the GPU, and notes that it is emulated. Without one it says what is missing, which is a failure only
// if the GPU was asked for.
func (d *doctor) graphics(context.Context) finding {
	text, err := describeGPU(d.number)
	d.gpuOpens = err == nil
	if d.gpu && strings.Contains(text, emulatedName) {
		d.emulated, d.quick = true, true
	}
	switch {
	case err == nil:
		return pass("%s", text)
	case d.gpu:
		return fail(err)
	}
	return skip("%v", err)
}

// libraries takes a conversation through the tokenizer and the template of the built-in
// example.
func (d *doctor) libraries(context.Context) finding {
	dir := filepath.Join(d.temp, "model")
	if err := writeModel(dir, "system\nuser\nassistant\nHow are you? Fine, thank you.", nil); err != nil {
		return fail(err)
	}
	tok, err := tokenizer.Open(dir)
	if err != nil {
		return fail(err)
	}
	ids, err := roundTrip(tok)
	return passOr(errors.Join(err, tok.Close()), "a conversation of %d tokens", ids)
}

func roundTrip(tok *tokenizer.Tokenizer) (int, error) {
	enc, err := tokenizer.NewEncoder(tok, tokenizer.Format{Template: tok.ChatTemplate(), TruncationSide: "left", ScorePosition: "last_token", PadID: -1})
	if err != nil {
		return 0, err
	}
	said := []tokenizer.Message{{Role: "user", Content: "Où est la gare ? 駅はどこ"}, {Role: "assistant", Content: "Tout droit."}}
	e, err := enc.Messages(said)
	if err != nil {
		return 0, err
	}
	text, err := tok.Decode(e.IDs)
	if err != nil {
		return 0, err
	}
	parts := []string{said[0].Content, said[1].Content}
	if i := slices.IndexFunc(parts, func(p string) bool { return !strings.Contains(text, p) }); i >= 0 {
		return 0, fmt.Errorf("the ids of %q say %q", parts[i], text)
	}
	return len(e.IDs), nil
}
