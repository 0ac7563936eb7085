package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const defaultEndpoint = "https://huggingface.co"

// An environment is what the variables of huggingface_hub say. An empty variable
// counts as unset.
type environment struct {
	endpoint string // without a slash at its end
	token    string // empty without one
	offline  bool
	caches   []string // where repositories may be; new ones go to the first
}

func readEnvironment() (environment, error) {
	home := hubHome()
	e := environment{
		endpoint: strings.TrimRight(firstOf(os.Getenv("HF_ENDPOINT"), defaultEndpoint), "/"),
		offline:  isTrue(firstOf(os.Getenv("HF_HUB_OFFLINE"), os.Getenv("TRANSFORMERS_OFFLINE"))),
		caches:   cacheFolders(home),
	}
	if len(e.caches) == 0 {
		return e, errors.New("there is no home folder for the cache (set HF_HOME)")
	}
	u, err := url.Parse(e.endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return e, fmt.Errorf("HF_ENDPOINT is %q (give a URL such as %s)", e.endpoint, defaultEndpoint)
	}
	if isTrue(os.Getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		return e, nil
	}
	e.token, err = readToken(home)
	return e, err
}

// hubHome is HF_HOME or where it is by default; empty if there is no home folder.
func hubHome() string {
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return expand(dir)
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "huggingface")
	}
	if dir, err := os.UserHomeDir(); err == nil {
		return filepath.Join(dir, ".cache", "huggingface")
	}
	return ""
}

// cacheFolders lists the cache that huggingface_hub would use and then those it
// would use without some of the variables, where older downloads may be.
func cacheFolders(home string) []string {
	var dirs []string
	add := func(base string, elem ...string) {
		if base == "" {
			return
		}
		dir, err := filepath.Abs(filepath.Join(append([]string{expand(base)}, elem...)...))
		if err == nil && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	add(os.Getenv("HF_HUB_CACHE"))
	add(os.Getenv("HUGGINGFACE_HUB_CACHE"))
	add(home, "hub")
	add(os.Getenv("XDG_CACHE_HOME"), "huggingface", "hub")
	if user, err := os.UserHomeDir(); err == nil {
		add(user, ".cache", "huggingface", "hub")
	}
	return dirs
}

// readToken returns the token to show to the hub, or nothing.
func readToken(home string) (string, error) {
	if t := strings.TrimSpace(firstOf(os.Getenv("HF_TOKEN"), os.Getenv("HUGGING_FACE_HUB_TOKEN"))); t != "" {
		return checkToken(t, "HF_TOKEN")
	}
	path := expand(os.Getenv("HF_TOKEN_PATH"))
	if path == "" {
		path = filepath.Join(home, "token")
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w (make the file readable, or set HF_TOKEN)", err)
	}
	return checkToken(strings.TrimSpace(string(b)), path)
}

// checkToken refuses what cannot stand in a header, without repeating it.
func checkToken(token, from string) (string, error) {
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("%s holds something that is not a token (it has the form hf_...)", from)
		}
	}
	return token, nil
}

// expand replaces a leading ~ and variables, as huggingface_hub does.
func expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/') {
		if home, err := os.UserHomeDir(); err == nil {
			path = home + rest
		}
	}
	return os.ExpandEnv(path)
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// isTrue reads a switch as huggingface_hub does.
func isTrue(s string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(s))
}
