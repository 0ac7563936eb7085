package configs

import (
	"slices"
	"strings"
)

// unknownKey says what a key that does not exist was probably meant to be.
func unknownKey(key string) string {
	if near := nearestKey(key); near != "" {
		return "unknown key; did you mean " + near + "?"
	}
	group, _, nested := strings.Cut(key, ".")
	if nested && slices.Contains(groups(), group) {
		var names []string
		for _, f := range fieldsOf(group) {
			names = append(names, f.name)
		}
		return "unknown key; the keys of " + group + " are " + strings.Join(names, ", ")
	}
	return "unknown key; at the top there are " + strings.Join(topLevel(), ", ")
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

// nearestKey is the key, or the group for a key without a dot, that differs least;
// a name in a wrong group counts as one difference.
func nearestKey(key string) string {
	group, name, nested := strings.Cut(key, ".")
	best, least := "", limit(key)+1
	consider := func(candidate string, d int) {
		if d < least {
			best, least = candidate, d
		}
	}
	if !nested {
		name = group
		for _, g := range topLevel() {
			consider(g, distance(key, g))
		}
	}
	for _, f := range fields {
		consider(f.key, distance(key, f.key))
		if f.group != group && distance(name, f.name) <= limit(name) {
			consider(f.key, distance(name, f.name)+1)
		}
	}
	return best
}

// nearest is the word that differs least from a text, or "".
func nearest(text string, words []string) string {
	best, least := "", limit(text)+1
	for _, w := range words {
		if d := distance(strings.ToLower(text), strings.ToLower(w)); d < least {
			best, least = w, d
		}
	}
	return best
}

// limit is how many differences may still be a slip.
func limit(text string) int { return max(2, min(len(text)/3, 5)) }

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
