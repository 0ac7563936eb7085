package checkpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// A training state is a folder checkpoint-<step> of these files. COMPLETE is written
// last and holds the digest of the manifest, which holds those of all other files.
const (
	completeName = "COMPLETE"
	manifestName = "manifest.json"
	stateName    = "state.json"
	tempState    = "tmp-checkpoint-"
	stateStem    = "state"
	stateVersion = 1
	statePrefix  = "checkpoint-"
)

var stateFolder = regexp.MustCompile(`^checkpoint-(\d{1,18})$`)

// castagnoli has its own instruction on amd64 and arm64: it checks a state as fast
// as disks deliver it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newChecksum() hash.Hash { return crc32.New(castagnoli) }

// manifest lists what a state consists of.
type manifest struct {
	Version int                     `json:"version"`
	Step    int                     `json:"step"`
	Files   map[string]manifestFile `json:"files"`
}

type manifestFile struct {
	Size   int64  `json:"size"`
	CRC32C string `json:"crc32c"`
}

// SaveState writes checkpoint-<step> in dir: tensors, state (JSON) and files, then
// a mark that it is complete. A complete state of the same step is replaced. What
// interrupted saves have left in dir is removed first.
func SaveState(dir string, step int, state []byte, tensors []Tensor) (path string, err error) {
	path = filepath.Join(dir, statePrefix+strconv.Itoa(step))
	if err := saveState(dir, path, step, state, tensors); err != nil {
		return "", fmt.Errorf("checkpoints: save state %s: %w", path, explain(err))
	}
	return path, nil
}

func saveState(dir, path string, step int, state []byte, tensors []Tensor) error {
	if step < 0 {
		return errors.New("the step is negative")
	}
	if !json.Valid(state) {
		return errors.New("the state is not valid JSON")
	}
	if exists(path) && !exists(filepath.Join(path, completeName)) {
		return errors.New("it exists and is no complete state of rmtrain: nothing is overwritten (move it away)")
	}
	plan, err := planShards(stateStem, tensors, 0)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := removeMatches(dir, tempState+"*"); err != nil {
		return err
	}
	temp, err := tempDir(dir, tempState+strconv.Itoa(step)+"-")
	if err != nil {
		return err
	}
	err = fillState(temp, step, state, plan)
	if err == nil && exists(path) {
		err = discard(path)
	}
	if err == nil {
		err = rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	return nil
}

// fillState writes all files of a state into an empty folder, the mark last.
func fillState(dir string, step int, state []byte, plan []shard) error {
	m := manifest{Version: stateVersion, Step: step, Files: map[string]manifestFile{}}
	for _, s := range plan {
		sum := newChecksum()
		path := filepath.Join(dir, s.name)
		if err := s.write(path, nil, sum); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		m.Files[s.name] = manifestFile{Size: info.Size(), CRC32C: hex.EncodeToString(sum.Sum(nil))}
	}
	sum := newChecksum()
	sum.Write(state)
	m.Files[stateName] = manifestFile{Size: int64(len(state)), CRC32C: hex.EncodeToString(sum.Sum(nil))}
	if err := writeSynced(filepath.Join(dir, stateName), state); err != nil {
		return err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if err := writeSynced(filepath.Join(dir, manifestName), b); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(dir, completeName), markOf(b)); err != nil {
		return err
	}
	return syncDir(dir)
}

// markOf is the text of COMPLETE for a manifest.
func markOf(manifest []byte) []byte {
	digest := sha256.Sum256(manifest)
	return []byte("sha256 " + hex.EncodeToString(digest[:]) + "\n")
}

// discard removes a state. It is renamed first, so that no moment leaves half a
// state under a state's name.
func discard(path string) error {
	dir := filepath.Dir(path)
	temp, err := tempDir(dir, tempState+"old-")
	if err != nil {
		return err
	}
	err = rename(path, filepath.Join(temp, filepath.Base(path)))
	if err == nil {
		err = syncDir(dir)
	}
	return errors.Join(err, os.RemoveAll(temp))
}

// States lists the complete states in dir, oldest first, with their JSON but without
// verifying them. A folder that does not exist has none.
func States(dir string) ([]State, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoints: list states in %s: %w", dir, err)
	}
	var states []State
	for _, e := range entries {
		m := stateFolder.FindStringSubmatch(e.Name())
		path := filepath.Join(dir, e.Name())
		if m == nil || !exists(filepath.Join(path, completeName)) {
			continue
		}
		step, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("checkpoints: list states in %s: %w", dir, err)
		}
		state, err := readSmall(filepath.Join(path, stateName))
		if err != nil {
			return nil, fmt.Errorf("checkpoints: list states in %s: %w (remove %s)", dir, err, path)
		}
		states = append(states, State{Path: path, Step: step, JSON: state})
	}
	slices.SortFunc(states, func(a, b State) int { return a.Step - b.Step })
	return states, nil
}

// Rotate removes states in dir but for the newest limit ones and those in keep,
// which are paths or names of checkpoint-N folders. The newest always stays.
func Rotate(dir string, limit int, keep ...string) error {
	states, err := States(dir)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, k := range keep {
		kept[filepath.Base(k)] = true
	}
	for _, s := range states[:max(0, len(states)-max(1, limit))] {
		if kept[filepath.Base(s.Path)] {
			continue
		}
		if err := discard(s.Path); err != nil {
			return fmt.Errorf("checkpoints: remove state %s: %w", s.Path, explain(err))
		}
	}
	return nil
}
