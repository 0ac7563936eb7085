package checkpoints

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Want is a tensor that a network needs.
type Want struct {
	Name     string
	Shape    []int
	Optional bool // a base model has no score.weight
}

// Check compares the folder with all that the network needs: missing, extra and
// misshapen tensors are one error that lists them all. Known leftovers (an LM head,
// rotary buffers, a second copy of the trunk) are a line in Notes.
func (d *Dir) Check(want []Want) error {
	var missing, misshapen []string
	wanted := map[string]bool{}
	for _, w := range want {
		wanted[w.Name] = true
		t, ok := d.tensors[w.Name]
		switch {
		case !ok && (!w.Optional || d.promises(w.Name)):
			missing = append(missing, fmt.Sprintf("%s %v", w.Name, w.Shape))
		case ok && !sameShape(w, t.shape):
			misshapen = append(misshapen, describeShape(w, t.shape))
		case ok && !convertible(t.dtype):
			misshapen = append(misshapen, fmt.Sprintf("%s is %s, not F32, BF16, F16 or F64", w.Name, t.dtype))
		}
	}
	var extra []string
	for _, name := range slices.Sorted(maps.Keys(d.tensors)) {
		if !wanted[name] {
			extra = append(extra, fmt.Sprintf("%s %v", name, d.tensors[name].shape))
		}
	}
	return report(d.Path, []group{{"missing", missing}, {"extra", extra}, {"misshapen", misshapen}})
}

// promises tells whether config.json says that the folder has the head: then a
// missing one is damage, and a new one in its place would be silent.
func (d *Dir) promises(name string) bool {
	if name != headName {
		return false
	}
	var config struct {
		Architectures []string `json:"architectures"`
	}
	if err := json.Unmarshal(d.Config, &config); err != nil {
		return false
	}
	return slices.ContainsFunc(config.Architectures, func(a string) bool {
		return strings.HasSuffix(a, classifierSuffix)
	})
}

// sameShape takes [hidden] and [1, hidden] for the same head.
func sameShape(w Want, got []int) bool {
	if w.Name == headName && len(w.Shape) == 1 {
		return slices.Equal(got, []int{1, w.Shape[0]})
	}
	return slices.Equal(w.Shape, got)
}

func describeShape(w Want, got []int) string {
	s := fmt.Sprintf("%s is %v, not %v", w.Name, got, w.Shape)
	if w.Name == headName && len(got) == 2 && got[0] != 1 {
		s += fmt.Sprintf(" (a head of %d labels; a reward model has one)", got[0])
	}
	return s
}

type group struct {
	what  string
	names []string
}

// report joins what is wrong into one error; nil if nothing is.
func report(path string, groups []group) error {
	var parts []string
	for _, g := range groups {
		if len(g.names) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s: %s", len(g.names), g.what, listNames(g.names)))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("checkpoints: check %s: the tensors are not those that config.json describes: %s", path, strings.Join(parts, "; "))
}
