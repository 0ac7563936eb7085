package tokenizer

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"os"
	"path/filepath"
	"testing"
)

// realData returns the folder of real tokenizers and ranked answers, which are not part
// of the repository.
func realData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("RMTRAIN_REALDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	if _, err := os.Stat(filepath.Join(dir, "tokenizers")); err != nil {
		t.Skipf("no real data: %v", err)
	}
	return dir
}

// A realDigest is what Python computed over all texts; see testdata/golden.py.
type realDigest struct {
	Texts          int    `json:"texts"`
	Tokens         int    `json:"tokens"`
	SHA256         string `json:"sha256"`
	RenderedSHA256 string `json:"rendered_sha256"`
	ScoredTokens   int    `json:"scored_tokens"`
	ScoredSHA256   string `json:"scored_sha256"`
}

type realRow struct {
	Prompt  string `json:"prompt"`
	Answers []struct {
		Answer string `json:"answer"`
	} `json:"answers"`
}

func readRows(t *testing.T, path string) []realRow {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []realRow
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var row realRow
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// hashIDs feeds ids to h as little-endian int32.
func hashIDs(h hash.Hash, ids []int32) {
	var b []byte
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	h.Write(b)
}

func TestRealTextsAsPython(t *testing.T) {
	dir := realData(t)
	var golden struct {
		Tokenizers map[string]realDigest `json:"tokenizers"`
	}
	readGolden(t, "real.json", &golden)
	rows := readRows(t, filepath.Join(dir, "preference", "alpacaeval_nectar_test.jsonl"))[:40]
	for name, want := range golden.Tokenizers {
		t.Run(name, func(t *testing.T) {
			tok := open(t, filepath.Join(dir, "tokenizers", name))
			got := realDigest{}
			h := sha256.New()
			for _, row := range rows {
				texts := []string{row.Prompt}
				for _, a := range row.Answers {
					texts = append(texts, row.Prompt+a.Answer)
				}
				for _, text := range texts {
					ids, err := tok.Encode(text, true)
					if err != nil {
						t.Fatal(err)
					}
					hashIDs(h, ids)
					got.Texts++
					got.Tokens += len(ids)
				}
			}
			got.SHA256 = hex.EncodeToString(h.Sum(nil))
			if want.RenderedSHA256 != "" {
				scoreReal(t, tok, rows, &got)
			}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// scoreReal renders and encodes every row's conversations with the model's template.
func scoreReal(t *testing.T, tok *Tokenizer, rows []realRow, got *realDigest) {
	t.Helper()
	e := encoder(t, tok, Format{Template: tok.ChatTemplate()})
	rendered, scored := sha256.New(), sha256.New()
	for _, row := range rows {
		ms, err := ParseTranscript(row.Prompt)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range row.Answers {
			text, err := e.Render(append(ms[:len(ms):len(ms)], Message{"assistant", a.Answer}))
			if err != nil {
				t.Fatal(err)
			}
			rendered.Write(append([]byte(text), 0))
			encoded, err := e.Transcript(row.Prompt, a.Answer)
			if err != nil {
				t.Fatal(err)
			}
			hashIDs(scored, encoded.IDs)
			got.ScoredTokens += encoded.Tokens
		}
	}
	got.RenderedSHA256 = hex.EncodeToString(rendered.Sum(nil))
	got.ScoredSHA256 = hex.EncodeToString(scored.Sum(nil))
}
