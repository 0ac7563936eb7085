package main

import (
	"os"
	"path/filepath"
	"testing"

	"rmtrain/configs"
)

// Every recipe trains, with a tiny model and tiny data instead of its own.
func TestRecipesRun(t *testing.T) {
	t.Parallel()
	for _, name := range configs.Recipes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, found := configs.Recipe(name)
			if !found {
				t.Fatal("not found")
			}
			file := filepath.Join(t.TempDir(), name+".yaml")
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "out")
			sets := []string{
				"model.name_or_path=" + filepath.Join(small(t), "model"),
				"data.train=" + filepath.Join(small(t), "train.parquet"),
				"data.cache=" + filepath.Join(small(t), "cache"),
				"data.max_length=512",
				"train.output_dir=" + out, "train.max_steps=2", "train.prompts_per_step=4",
				"train.max_tokens_per_batch=2048", "train.eval_steps=1", "train.save_steps=1",
			}
			if name == "example" {
				sets = append(sets, "data.eval="+filepath.Join(small(t), "test.parquet"))
			} else {
				sets = append(sets, "data.eval_prompts=4")
			}
			args := []string{"--config", file}
			for _, s := range sets {
				args = append(args, "--set", s)
			}
			ok(t, args...)
			ok(t, "infer", "--checkpoint", out, "--input", filepath.Join(small(t), "samples.jsonl"))
		})
	}
}
