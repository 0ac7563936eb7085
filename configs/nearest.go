package configs

import (
	"slices"
	"strings"
)

// unknownKey says what a key that does not exist was probably meant to be. The
// near key is "" if there is none.
func unknownKey(key string) (near, message string) {
	if near := nearestKey(key); near != "" {
		return near, "unknown key; did you mean " + near + "?"
	}
	group, _, nested := strings.Cut(key, ".")
	if nested && slices.Contains(groups(), group) {
		var names []string
		for _, f := range fieldsOf(group) {
			names = append(names, f.name)
		}
		return "", "unknown key; the keys of " + group + " are " + strings.Join(names, ", ")
	}
	return "", "unknown key; at the top there are " + strings.Join(topLevel(), ", ")
}

func topLevel() []string {
	var names []string
	for _, g := range groups() {
		if g != "" {
			names = append(names, g)
			continue
		}
		for _, f := range fieldsOf("") {
			names = append(names, f.name)
		}
	}
	return names
}

// nearestKey is the key that is known elsewhere by this name, or is spelled with
// other punctuation, or else the one that differs least, or the group for a key
// without a dot. A name in a wrong group counts as one difference.
func nearestKey(key string) string {
	group, name, nested := strings.Cut(key, ".")
	if !nested {
		name = key
	}
	for _, f := range fields {
		if slices.Contains(f.aka, name) || squash(key) == squash(f.key) || squash(name) == squash(f.name) && f.group == group {
			return f.key
		}
	}
	best, least := "", limit(name)+1
	if !nested {
		if best = nearest(key, topLevel()); best != "" {
			least = distance(strings.ToLower(key), best)
		}
	}
	for _, f := range fields {
		d := distance(name, f.name)
		if d > limit(name) {
			continue
		}
		if f.group != group {
			d++
		}
		if d < least || best == "" {
			best, least = f.key, d
		}
	}
	return best
}

// squash leaves the letters and digits of a name, in lower case.
func squash(name string) string {
	return strings.ToLower(strings.NewReplacer(".", "", "_", "", "-", "", " ", "").Replace(name))
}

// nearest is the word that differs least from a text, or that the text abbreviates
// (bf16, cos), or "".
func nearest(text string, words []string) string {
	best, least := "", limit(text)+1
	for _, w := range words {
		if d := distance(strings.ToLower(text), strings.ToLower(w)); d < least {
			best, least = w, d
		}
	}
	for _, w := range words {
		if best == "" && abbreviates(text, w) {
			return w
		}
	}
	return best
}

// abbreviates reports whether text is word with some characters after the first
// left out.
func abbreviates(text, word string) bool {
	if len(text) < 2 || text[0] != word[0] {
		return false
	}
	for _, c := range word {
		if rest, ok := strings.CutPrefix(text, string(c)); ok {
			text = rest
		}
	}
	return text == ""
}

// limit is how many differences may still be a slip.
func limit(text string) int { return min(len(text)/3, 5) }

// distance is the number of characters to insert, delete, replace, or swap with
// their neighbour, to turn a into b (optimal string alignment).
func distance(a, b string) int {
	const longest = 200
	if len(a) > longest || len(b) > longest {
		return longest
	}
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
