package configs

import (
	"fmt"
	"slices"
)

var reporters = []string{"jsonl", "tensorboard"}

const reportable = "jsonl and tensorboard"

// checkReport checks an item of train.report_to. The offline folders of Weights &
// Biases have no documented format, but its own program uploads event files.
func checkReport(item string) error {
	if slices.Contains(reporters, item) {
		return nil
	}
	if item == "wandb" {
		return fmt.Errorf("holds %q, which is not written directly; choose tensorboard and upload with: wandb sync --sync-tensorboard OUTPUT_DIR/tensorboard", item)
	}
	if near := nearest(item, reporters); near != "" {
		return fmt.Errorf("holds %q; did you mean %s? Allowed are %s", item, near, reportable)
	}
	return fmt.Errorf("holds %q; allowed are %s", item, reportable)
}
