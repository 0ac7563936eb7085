package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rmtrain/kernels"
)

type doctorOptions struct {
	output, device string
	only           string // checks whose names begin so, beside the machine's
	quick, bench   bool
	python         string // a program with torch, to compare steps with
	sanitize       bool
	sanitizer      string // the program, if it is named
}

func doctorCommand() *cobra.Command {
	var o doctorOptions
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine and the backend on it, and write a report",
		Long: `Check that the backend computes here what it must: every operation against float64, at odd
shapes and at those of real models; the same bits again and again; bits that were recorded
elsewhere; a short training run, resumed, and with prompts shared and not; and with --bench,
how fast it is. Write doctor.md and doctor.json, in which every line is pass, fail, or skipped
with the reason. The exit status is 1 if a line is fail.

A report names the hardware and holds none of your data: it may be attached to an issue.`,
		Example: `  rmtrain doctor
  rmtrain doctor --device cuda:1 --bench --output report`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d := doctor{o: o, open: openBackend, stdout: c.OutOrStdout(), stderr: c.ErrOrStderr()}
			return d.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&o.output, "output", ".", "`folder` for doctor.md and doctor.json")
	f.StringVar(&o.device, "device", "auto", "auto, cpu, cuda or cuda:N")
	f.BoolVar(&o.quick, "quick", false, "small shapes and a part of the checks (what an emulated GPU always gets)")
	f.BoolVar(&o.bench, "bench", false, "measure speed, too")
	f.StringVar(&o.only, "only", "", "of the checks beside the machine's, only those whose `name` begins so")
	f.BoolVar(&o.sanitize, "sanitize", false, "repeat the conformance suite under NVIDIA's compute-sanitizer (minutes)")
	f.StringVar(&o.sanitizer, "sanitizer", "", "compute-sanitizer's `program`, if it is not where --sanitize looks")
	f.StringVar(&o.python, "python", "", "with --bench, measure the same training steps in this Python `program`, which needs torch")
	complete(c, "device", cobra.ShellCompDirectiveNoFileComp, devices...)
	return c
}

// emulatedName is what kernels/emulator calls its device.
const emulatedName = "rmtrain emulator"

// A doctor checks one device.
type doctor struct {
	o              doctorOptions
	open           func(device string, dt kernels.DType) (kernels.Backend, error)
	stdout, stderr io.Writer

	device    string // cpu, or cuda:N
	gpu       bool
	number    int  // of the GPU
	gpuOpens  bool // it was described
	quick     bool // small shapes
	emulated  bool
	backends  map[kernels.DType]kernels.Backend // nil where it does not open
	temp      string                            // a folder for runs
	tiny      map[string]*tinyRun               // training runs, by device, type and settings
	peaks     map[kernels.DType]float64         // FLOP/s of the fastest product
	sanitizer string                            // the program, once it has started
	steps     map[string]stepRun                // that were measured, by shape
	names     []string                          // of all checks, taken or not
	report    doctorReport
}

// doctorTypes are the compute types that every backend has.
var doctorTypes = []kernels.DType{kernels.F32, kernels.BF16}

func (d *doctor) run(ctx context.Context) (err error) {
	if err := d.choose(); err != nil {
		return err
	}
	if err := makeWritable(d.o.output); err != nil {
		return fmt.Errorf("doctor: %w (choose another --output)", err)
	}
	if d.temp, err = os.MkdirTemp("", "rmtrain-doctor-*"); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	defer os.RemoveAll(d.temp)
	d.backends, d.tiny, d.peaks, d.steps = map[kernels.DType]kernels.Backend{}, map[string]*tinyRun{}, map[kernels.DType]float64{}, map[string]stepRun{}
	defer func() { err = errors.Join(err, d.close()) }()
	began := time.Now()
	d.report = doctorReport{Version: version, Device: d.device, Time: began.UTC().Format(time.RFC3339)}
	// The machine first: it tells which shapes the others get.
	for _, checks := range []func() []doctorCheck{d.machineChecks, d.numberChecks, d.sanitizeChecks, d.trainingChecks, d.benchChecks} {
		for _, c := range checks() {
			d.names = append(d.names, c.name)
			if d.wanted(c) {
				d.take(ctx, c)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	if d.unmatched() {
		return fmt.Errorf("doctor: --only %q: no check has a name that begins so (choose from %s)", d.o.only, strings.Join(d.names, "; "))
	}
	d.report.Seconds = time.Since(began).Seconds()
	d.report.Quick, d.report.Emulated, d.report.Only = d.quick, d.emulated, d.o.only
	return d.conclude()
}

// makeWritable makes the folder for the report, and tries to write there: the report comes at
// the end, and would be lost.
func makeWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return fmt.Errorf("write into %s: %w", dir, errors.Unwrap(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// wanted tells whether to take a check: without --only, any. The machine's are always taken,
// as they open the backends.
func (d *doctor) wanted(c doctorCheck) bool {
	return c.section == machineSection || strings.HasPrefix(c.name, d.o.only)
}

// unmatched tells whether --only has left nothing but the machine's checks.
func (d *doctor) unmatched() bool {
	return d.o.only != "" && !slices.ContainsFunc(d.report.Lines, func(l doctorLine) bool { return strings.HasPrefix(l.Name, d.o.only) })
}

// choose resolves --device.
func (d *doctor) choose() error {
	choice, err := parseDevice(d.o.device)
	if err != nil {
		return fmt.Errorf("doctor: --device: %w", err)
	}
	if d.o.python != "" && !d.o.bench {
		return errors.New("doctor: --python compares training steps, which --bench measures (give both)")
	}
	if d.o.python, err = findPython(d.o.python, "torch"); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	d.quick = d.o.quick
	d.gpu = choice.kind == "cuda" || choice.kind == "auto" && (haveGPU() || gpuRequired())
	d.device = "cpu"
	if d.gpu {
		d.number = choice.number
		d.device = fmt.Sprintf("cuda:%d", d.number)
	}
	return nil
}

// gpuRequired tells whether a machine without a GPU is a failure.
func gpuRequired() bool { return os.Getenv("RMTRAIN_REQUIRE") == "cuda" }

// opened returns the backend for a type.
func (d *doctor) opened(dt kernels.DType) (kernels.Backend, error) {
	if b := d.backends[dt]; b != nil {
		return b, nil
	}
	b, err := d.open(d.device, dt)
	if err != nil {
		return nil, err
	}
	d.backends[dt] = b
	return b, nil
}

func (d *doctor) close() (err error) {
	for _, b := range d.backends {
		err = errors.Join(err, b.Close())
	}
	return err
}

// conclude writes the report and says how it went.
func (d *doctor) conclude() error {
	if err := d.report.save(d.o.output); err != nil {
		return err
	}
	passed, failed, skipped := d.report.count()
	fmt.Fprintf(d.stdout, "%d passed, %d failed, %d skipped in %.0f s; see doctor.md and doctor.json in %s\n", passed, failed, skipped, d.report.Seconds, d.o.output)
	if failed > 0 {
		return errSomeBad
	}
	return nil
}
