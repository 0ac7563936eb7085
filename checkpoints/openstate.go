package checkpoints

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// A State is a complete training state.
type State struct {
	Path string
	Step int
	JSON []byte

	weights *rawWeights
}

// OpenState opens the state in path (a checkpoint-N folder) and verifies the size
// and checksum of every file.
func OpenState(path string) (*State, error) {
	s, err := openState(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("checkpoints: open state %s: %w", path, err)
	}
	return s, nil
}

func openState(path string) (*State, error) {
	m, err := readManifest(path)
	if err != nil {
		return nil, err
	}
	if err := m.verify(path); err != nil {
		return nil, err
	}
	state, err := readSmall(filepath.Join(path, stateName))
	if err != nil {
		return nil, err
	}
	s := &State{Path: path, Step: m.Step, JSON: state,
		weights: &rawWeights{tensors: map[string]tensor{}, format: formatSafe}}
	for _, name := range m.shards() {
		if err := s.weights.openFile(path, name); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// readManifest returns the manifest if the mark vouches for it.
func readManifest(path string) (manifest, error) {
	var m manifest
	if err := isFolder(path); err != nil {
		return m, err
	}
	mark, err := readSmall(filepath.Join(path, completeName))
	if errors.Is(err, os.ErrNotExist) {
		return m, errors.New("it has no mark COMPLETE: not a state, or one whose save was interrupted (resume from an older one)")
	}
	if err != nil {
		return m, err
	}
	b, err := readSmall(filepath.Join(path, manifestName))
	if err != nil {
		return m, fmt.Errorf("%w: the state is damaged (resume from an older one)", err)
	}
	if !bytes.Equal(mark, markOf(b)) {
		return m, damaged(manifestName, "its digest is not the one in COMPLETE")
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, damaged(manifestName, err.Error())
	}
	if m.Version != stateVersion {
		return m, fmt.Errorf("the state has version %d, and this program reads %d (resume with the program that wrote it)", m.Version, stateVersion)
	}
	for name := range m.Files {
		if !plainName(name) {
			return m, damaged(manifestName, fmt.Sprintf("%q is not the name of a file", name))
		}
	}
	return m, nil
}

func damaged(file, why string) error {
	return fmt.Errorf("%s: %s: the state is damaged (resume from an older one)", file, why)
}

// shards lists the files that hold tensors.
func (m manifest) shards() []string {
	names := slices.Sorted(maps.Keys(m.Files))
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".safetensors") })
}

// verify compares sizes and checksums of all files, several at once.
func (m manifest) verify(path string) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for name, want := range m.Files {
		g.Go(func() error { return want.verify(path, name) })
	}
	return g.Wait()
}

func (want manifestFile) verify(path, name string) error {
	f, err := os.Open(filepath.Join(path, name))
	if err != nil {
		return damaged(name, err.Error())
	}
	defer f.Close()
	sum := newChecksum()
	n, err := io.Copy(sum, f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if n != want.Size {
		return damaged(name, fmt.Sprintf("it has %d bytes, not %d", n, want.Size))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.CRC32C {
		return damaged(name, fmt.Sprintf("its checksum is %s, not %s", got, want.CRC32C))
	}
	return nil
}

// Has tells whether the state holds the tensor.
func (s *State) Has(name string) bool {
	if s.weights == nil {
		return false
	}
	_, ok := s.weights.tensors[name]
	return ok
}

// Read reads the named tensor as it was saved; its size must be that of dst. Only a
// state that OpenState returned can be read.
func (s *State) Read(name string, dst []byte) error {
	if s.weights == nil {
		return fmt.Errorf("checkpoints: read state %s: it is not open", s.Path)
	}
	t, ok := s.weights.tensors[name]
	if !ok {
		return fmt.Errorf("checkpoints: read state %s: no tensor %s", s.Path, name)
	}
	if t.bytes.Size() != int64(len(dst)) {
		return fmt.Errorf("checkpoints: read state %s: %s is %s %v of %d bytes, not %d", s.Path, name, t.dtype, t.shape, t.bytes.Size(), len(dst))
	}
	if err := t.readRaw(dst); err != nil {
		return fmt.Errorf("checkpoints: read state %s: %s: %w", s.Path, name, err)
	}
	return nil
}

// readRaw reads the bytes of a contiguous tensor, several pieces at once.
func (t tensor) readRaw(dst []byte) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for lo := 0; lo < len(dst); lo += pieceBytes {
		hi := min(lo+pieceBytes, len(dst))
		g.Go(func() error { return readFull(t.bytes, dst[lo:hi], int64(lo)) })
	}
	return g.Wait()
}

// Close closes the files.
func (s *State) Close() error {
	if s.weights == nil {
		return nil
	}
	w := s.weights
	s.weights = nil
	return w.Close()
}
