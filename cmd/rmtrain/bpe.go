package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// byteRunes maps each byte to the rune that byte-level BPE writes for it: itself
// if it prints, else one from 256 on (GPT-2's table).
func byteRunes() [256]rune {
	var table [256]rune
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae {
			table[b] = r
			continue
		}
		table[b] = next
		next++
	}
	return table
}

// trainBPE learns n merges from text by byte pair encoding (Sennrich et al., arXiv
// 1508.07909): again and again the most frequent pair of neighbours within a word
// becomes one symbol. Equal counts go by the alphabet, so that the result is
// always the same. Words keep the blank before them.
func trainBPE(text string, n int) [][2]string {
	words := map[string]int{}
	for _, w := range splitWords(text) {
		words[w]++
	}
	table := byteRunes()
	type word struct {
		symbols []string
		count   int
	}
	var corpus []word
	for _, w := range slices.Sorted(maps.Keys(words)) {
		var symbols []string
		for _, b := range []byte(w) {
			symbols = append(symbols, string(table[b]))
		}
		corpus = append(corpus, word{symbols, words[w]})
	}
	var merges [][2]string
	for range n {
		counts := map[[2]string]int{}
		for _, w := range corpus {
			for i := 1; i < len(w.symbols); i++ {
				counts[[2]string{w.symbols[i-1], w.symbols[i]}] += w.count
			}
		}
		if len(counts) == 0 {
			break
		}
		best := slices.MinFunc(slices.Collect(maps.Keys(counts)), func(a, b [2]string) int {
			return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
		})
		merges = append(merges, best)
		for i := range corpus {
			corpus[i].symbols = merge(corpus[i].symbols, best)
		}
	}
	return merges
}

// merge replaces every pair in symbols by one symbol.
func merge(symbols []string, pair [2]string) []string {
	out := symbols[:0]
	for i := 0; i < len(symbols); i++ {
		if i+1 < len(symbols) && symbols[i] == pair[0] && symbols[i+1] == pair[1] {
			out = append(out, pair[0]+pair[1])
			i++
		} else {
			out = append(out, symbols[i])
		}
	}
	return out
}

// splitWords cuts text as GPT-2's pattern does for plain English: a word or a run
// of punctuation, with the blank before it, or white space.
func splitWords(text string) []string {
	var out []string
	kind := func(c byte) int {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			return 0
		case c == ' ' || c == '\n':
			return 1
		}
		return 2
	}
	for i := 0; i < len(text); {
		j := i
		if text[j] == ' ' && j+1 < len(text) && kind(text[j+1]) != 1 {
			j++
		}
		k := kind(text[j])
		for j < len(text) && kind(text[j]) == k {
			j++
		}
		if k == 1 && j < len(text) && j-i > 1 && text[j-1] == ' ' {
			j-- // the last blank belongs to the word behind it
		}
		out = append(out, strings.Clone(text[i:j]))
		i = j
	}
	return out
}
