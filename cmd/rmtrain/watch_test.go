package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWatchRefusesMistakes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nectar.yaml")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"watch"}, "give the train.output_dir of one run"},
		{[]string{"watch", "out", "more"}, "and nothing else"},
		{[]string{"watch", file}, "is a file (give the run's train.output_dir)"},
		{[]string{"watch", "out", "--listen", "8001"}, "give host:port"},
		{[]string{"watch", "out", "--listen", ":8001"}, "--allow-unauthenticated"},
		{[]string{"watch", "out", "--listen", "0.0.0.0:8001"}, "--allow-unauthenticated"},
		{[]string{"watch", "out", "--listen", "127.0.0.1:x"}, "--listen"},
	} {
		c := command()
		c.SetArgs(test.args)
		c.SetOut(io.Discard)
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q gives %v, want %q", test.args, err, test.want)
		}
	}
}

func TestWatchServesUntilItIsStopped(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan error)
	go func() {
		ended <- watchOptions{listen: "127.0.0.1:0"}.run(ctx, filepath.Join(t.TempDir(), "not-yet"), w)
	}()
	said := make([]byte, 400)
	n, err := r.Read(said)
	if err != nil {
		t.Fatal(err)
	}
	_, address, _ := strings.Cut(string(said[:n]), "shown at ")
	address, _, _ = strings.Cut(address, " ")
	page, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(page.Body)
	page.Body.Close()
	if err != nil || page.StatusCode != http.StatusOK || !strings.Contains(string(text), "<!doctype html>") {
		t.Errorf("%s: status %d, %v", address, page.StatusCode, err)
	}
	events, err := http.Get(address + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("stopped: %v", err)
	}
	_, _ = io.Copy(io.Discard, events.Body) // ends, with the server
}
