package configs

import (
	"embed"
	"path"
	"slices"
	"strings"
)

//go:embed *.yaml
var recipes embed.FS

// Recipes lists the recipes that ship with the program, without ".yaml".
func Recipes() []string {
	files, _ := recipes.ReadDir(".") // an embedded root is always there
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Recipe returns the text of a recipe; ".yaml" may be left out of its name.
func Recipe(name string) ([]byte, bool) {
	text, err := recipes.ReadFile(path.Clean(strings.TrimSuffix(name, ".yaml") + ".yaml"))
	return text, err == nil
}
