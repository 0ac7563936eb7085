package train

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// free are the settings that a run may change when it goes on. They do not change
// what a step computes, except that max_tokens_per_batch changes the order of sums
// and thereby the last bits: a run that ran out of memory may go on with less.
// How many steps there are is part of the identity where the schedule depends on it.
var free = []string{
	"train.output_dir", "train.max_tokens_per_batch", "train.num_train_epochs", "train.max_steps",
	"train.warmup_steps", "train.warmup_ratio", "train.logging_steps", "train.eval_steps",
	"train.save_steps", "train.save_total_limit", "train.load_best_model_at_end",
	"train.metric_for_best_model", "train.early_stopping_patience",
	"train.resume_from_checkpoint", "train.recompute", "train.export_dialect", "train.report_to",
}

// identity names everything that determines the weights after a step. Settings
// that were added to the schema since are part of it unless they are listed as free.
func identity(in Inputs, total int) map[string]string {
	id := maps.Clone(in.Identity)
	if id == nil {
		id = make(map[string]string)
	}
	c := in.Config
	addSettings(id, "loss", c.Loss)
	addSettings(id, "train", c.Train)
	if !c.Train.StochasticRounding {
		delete(id, "train.stochastic_rounding") // states from before it was a setting go on
	}
	id["model.dtype"] = c.Model.DType
	id["model.value_head_init"] = c.Model.ValueHeadInit
	id["data.seed"] = fmt.Sprint(c.Data.Seed)
	id["training data"] = in.Train.Digest()
	id["evaluation data"] = "none"
	if in.Eval != nil {
		id["evaluation data"] = in.Eval.Digest()
	}
	id["warm-up steps"] = fmt.Sprint(warmupSteps(c.Train, total))
	switch c.Train.LRSchedulerType {
	case "linear", "cosine", "cosine_with_min_lr":
		id["total steps"] = fmt.Sprint(total)
	}
	return id
}

// addSettings adds the fields of a section of the configuration by their keys.
func addSettings(id map[string]string, section string, settings any) {
	v := reflect.ValueOf(settings)
	for i := range v.NumField() {
		key := section + "." + v.Type().Field(i).Tag.Get("mapstructure")
		if !slices.Contains(free, key) {
			id[key] = fmt.Sprint(v.Field(i).Interface())
		}
	}
}

// differences lists what two identities do not have in common, "" if nothing.
func differences(there, here map[string]string) string {
	keys := make(map[string]bool)
	for _, id := range []map[string]string{there, here} {
		for k := range id {
			keys[k] = true
		}
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if there[k] != here[k] {
			out = append(out, fmt.Sprintf("%s is %s there and %s here", k, shown(there[k]), shown(here[k])))
		}
	}
	return strings.Join(out, "; ")
}

func shown(value string) string {
	const limit = 40
	if value == "" {
		return "not set"
	}
	if len(value) > limit {
		return value[:limit] + "..."
	}
	return value
}
