package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/kernels/cost"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

// gpuNames are what --gpu knows by name.
func gpuNames() []string {
	var names []string
	for _, c := range cost.Cards {
		names = append(names, c.Name)
	}
	return names
}

// parseGPU returns the bytes of the memory of a GPU that is given by its name or size.
func parseGPU(s string) (int64, error) {
	lower := strings.ToLower(s)
	if card, ok := cost.Named(lower); ok {
		return card.MiB << 20, nil
	}
	for unit, bytes := range map[string]float64{"gib": 1 << 30, "gb": 1e9, "mib": 1 << 20} {
		number, ok := strings.CutSuffix(lower, unit)
		if !ok {
			continue
		}
		if n, err := strconv.ParseFloat(number, 64); err == nil && n > 0 && n < 1e9 {
			return int64(n * bytes), nil
		}
	}
	return 0, fmt.Errorf("--gpu %q is unknown (choose one of %s, or a size such as 80GiB)", s, strings.Join(gpuNames(), ", "))
}

// tokensOfAnswer is how long an answer is taken to be where no data is read: memory hardly
// depends on how many answers there are.
const tokensOfAnswer = 64

// forGPU prints the memory that training takes on a GPU that is not here, whether it fits, and
// what would. Of the model it reads config.json, and of the data nothing: a pass is taken to
// have as many tokens as the configuration allows.
func (r *trainRun) forGPU(gpu string) error {
	bytes, err := parseGPU(gpu)
	if err != nil {
		return err
	}
	if r.model, err = readModelConfig(r.cfg.Model.NameOrPath); err != nil {
		return err
	}
	limit := plannable(bytes, true)
	run, memory, err := settled(r.cfg, limit, r.sizeWithoutData)
	if err != nil {
		return err
	}
	c := r.model
	r.say("plan for a GPU with %s (%s)", mebibytes(bytes), gpu)
	r.say("  model    %s", r.cfg.Model.NameOrPath)
	r.say("           %s parameters in %s: %d layers, %d channels, %d:%d heads of %d", si(float64(parameters(c))), r.cfg.Model.DType, c.Layers, c.Hidden, c.Heads, c.KVHeads, c.HeadDim)
	r.say("  passes   of %d tokens (a group that is longer takes more)", r.cfg.PassRows())
	r.sayMemory(memory, run.Train.Recompute == "always")
	r.say("")
	if sum := total(memory); sum <= limit {
		r.say("it fits: %s of %s", mebibytes(sum), mebibytes(bytes))
		return r.sayPrediction(gpu, run)
	}
	r.say("it does not fit: %s are at hand, a twentieth being left for the driver, scratch memory and rounding", mebibytes(limit))
	r.say("%s", sayAdvice(advise(r.cfg, c.Layers, limit, r.sizeWithoutData)))
	return nil
}

// readModelConfig reads config.json in the folder, the cache's or another, of a model.
func readModelConfig(nameOrPath string) (llama.Config, error) {
	folder, err := checkpoints.Resolve(nameOrPath)
	if err != nil {
		return llama.Config{}, fmt.Errorf("model.name_or_path: %w (for --gpu a folder with its config.json is enough)", err)
	}
	b, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		return llama.Config{}, fmt.Errorf("model.name_or_path: %w", err)
	}
	c, err := llama.ParseConfig(b)
	if err != nil {
		return c, fmt.Errorf("model %s: %w", nameOrPath, err)
	}
	return c, nil
}

// sizeWithoutData is a sizer.
func (r *trainRun) sizeWithoutData(c configs.Run) (map[string]int64, error) {
	o, err := modelOptions(c, r.model.Layers)
	if err != nil {
		return nil, err
	}
	o.MaxRows = c.PassRows()
	o.MaxAnswers = max(2, o.MaxRows/tokensOfAnswer)
	return train.Memory(c.Train, r.model, o), nil
}
