package serve

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// nemoName is what NeMo-Aligner's clients call any reward model.
const nemoName = "reward_model"

// A tensor of KServe's protocol, version 2.
type tensor struct {
	Name       string          `json:"name"`
	Datatype   string          `json:"datatype"`
	Shape      []int           `json:"shape"`
	Parameters kserveOptions   `json:"parameters"`
	Data       json.RawMessage `json:"data"`
	binary     []byte          // behind the JSON, if Parameters say so
}

type kserveOptions struct {
	BinarySize   *int `json:"binary_data_size"`
	BinaryData   bool `json:"binary_data"`
	BinaryOutput bool `json:"binary_data_output"`
}

type kserveRequest struct {
	ID         string        `json:"id"`
	Parameters kserveOptions `json:"parameters"`
	Inputs     []tensor      `json:"inputs"`
	Outputs    []struct {
		Name       string        `json:"name"`
		Parameters kserveOptions `json:"parameters"`
	} `json:"outputs"`
}

// handleKServe answers as NeMo-Aligner's reward model does: sentences, or tokens with
// sequence_lengths, give rewards.
func handleKServe(s *Server, x *exchange) (any, error) {
	if err := s.kserveName(x); err != nil {
		return nil, err
	}
	q, err := x.kserveRequest()
	if err != nil {
		return nil, err
	}
	ins, err := q.inputs(s.limits.Inputs)
	if err != nil {
		return nil, err
	}
	r, err := s.score(x, ins, encodeOptions{})
	if err != nil {
		return nil, err
	}
	binary := q.Parameters.BinaryOutput
	for _, o := range q.Outputs {
		if o.Name != "rewards" {
			return nil, failf(kindInvalid, "unexpected inference output %q (there is rewards)", o.Name)
		}
		binary = binary || o.Parameters.BinaryData
	}
	return kserveAnswer(x, q.ID, numbers(r.scores, nil), binary)
}

func (s *Server) kserveName(x *exchange) error {
	if name := x.PathValue("model"); name != nemoName && !slices.Contains(s.options.Names, name) {
		return failf(kindNotFound, "Request for unknown model: '%s' is not found", name)
	}
	return nil
}

// kserveRequest reads the JSON and, behind it, the tensors that are not in it.
func (x *exchange) kserveRequest() (kserveRequest, error) {
	var q kserveRequest
	rest := []byte(nil)
	if h := x.Header.Get("Inference-Header-Content-Length"); h != "" {
		n, err := strconv.Atoi(h)
		if err != nil || n < 0 || n > len(x.body) {
			return q, failf(kindInvalid, "Inference-Header-Content-Length is %q, the body has %d bytes", h, len(x.body))
		}
		x.body, rest = x.body[:n], x.body[n:]
	}
	if err := x.decode(&q); err != nil {
		return q, err
	}
	for i := range q.Inputs {
		t := &q.Inputs[i]
		n := t.Parameters.BinarySize
		if n == nil {
			continue
		}
		if *n < 0 || *n > len(rest) {
			return q, failf(kindInvalid, "input %s: %d bytes of binary data are announced, %d are there", t.Name, *n, len(rest))
		}
		t.binary, rest = rest[:*n:*n], rest[*n:]
	}
	if len(rest) > 0 {
		return q, failf(kindInvalid, "there are %d bytes behind the last input", len(rest))
	}
	return q, nil
}

// inputs returns the conversations, of which most are allowed.
func (q kserveRequest) inputs(most int) ([]input, error) {
	var sentences, tokens, lengths *tensor
	for i, t := range q.Inputs {
		switch t.Name {
		case "sentences":
			sentences = &q.Inputs[i]
		case "tokens":
			tokens = &q.Inputs[i]
		case "sequence_lengths":
			lengths = &q.Inputs[i]
		default:
			return nil, failf(kindInvalid, "unexpected inference input %q (there are sentences, tokens, sequence_lengths)", t.Name)
		}
	}
	if sentences != nil && tokens == nil && lengths == nil {
		list, err := sentences.texts()
		if err != nil {
			return nil, err
		}
		return texts{list: list}.inputs(), nil
	}
	if sentences != nil || tokens == nil || lengths == nil {
		return nil, failf(kindInvalid, "inputs: either sentences, or tokens and sequence_lengths, are wanted")
	}
	return sequences(tokens, lengths, most)
}

// sequences returns the rows of tokens, each as long as lengths say.
func sequences(tokens, lengths *tensor, most int) ([]input, error) {
	data, err := tokens.integers()
	if err != nil {
		return nil, err
	}
	n, err := lengths.integers()
	if err != nil {
		return nil, err
	}
	rows := len(n)
	if rows == 0 || len(tokens.Shape) != 2 || tokens.Shape[0] != rows {
		return nil, failf(kindInvalid, "tokens have shape %v, with %d sequence_lengths", tokens.Shape, rows)
	}
	if rows > most {
		return nil, failf(kindLimit, "the request has %d inputs, more than the %d that this server allows", rows, most)
	}
	width := tokens.Shape[1]
	out := make([]input, rows)
	for i := range out {
		if n[i] < 1 || n[i] > int64(width) {
			return nil, failf(kindInvalid, "sequence_lengths[%d] is %d, the tokens are %d", i, n[i], width)
		}
		ids := make([]int32, n[i])
		for j := range ids {
			v := data[i*width+j]
			if v < 0 || v > math.MaxInt32 {
				return nil, failf(kindInvalid, "tokens[%d][%d] is %d", i, j, v)
			}
			ids[j] = int32(v)
		}
		out[i].ids = ids
	}
	return out, nil
}

// count is how many elements t's shape announces; the data must have as many.
func (t *tensor) count() (int, error) {
	n := 1
	for _, d := range t.Shape {
		if d < 0 || d > 1<<31 || n > 1<<31 {
			return 0, failf(kindInvalid, "input %s: shape %v", t.Name, t.Shape)
		}
		n *= d
	}
	return n, nil
}

func (t *tensor) fits(got int) error {
	want, err := t.count()
	if err == nil && want != got {
		err = failf(kindInvalid, "input %s: shape %v has %d elements, the data %d", t.Name, t.Shape, want, got)
	}
	return err
}

func (t *tensor) texts() ([]string, error) {
	if t.Datatype != "BYTES" {
		return nil, failf(kindInvalid, "input %s has datatype %q (BYTES is wanted)", t.Name, t.Datatype)
	}
	var out []string
	if t.Parameters.BinarySize == nil {
		var list []*string
		if err := flatten(t, &list); err != nil {
			return nil, err
		}
		out, err := notNull("input "+t.Name, list)
		if err != nil {
			return nil, err
		}
		return out, t.fits(len(out))
	}
	for b := t.binary; len(b) > 0; {
		if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
			return nil, failf(kindInvalid, "input %s: element %d is cut off", t.Name, len(out))
		}
		n := int(binary.LittleEndian.Uint32(b))
		out = append(out, string(b[4:4+n]))
		b = b[4+n:]
	}
	return out, t.fits(len(out))
}

func (t *tensor) integers() ([]int64, error) {
	size := map[string]int{"INT64": 8, "INT32": 4}[t.Datatype]
	if size == 0 {
		return nil, failf(kindInvalid, "input %s has datatype %q (INT64 is wanted)", t.Name, t.Datatype)
	}
	var out []int64
	if t.Parameters.BinarySize == nil {
		if bytes.Contains(t.Data, []byte("null")) { // which encoding/json takes for 0
			return nil, failf(kindInvalid, "input %s: there is a null among the numbers", t.Name)
		}
		if err := flatten(t, &out); err != nil {
			return nil, err
		}
		return out, t.fits(len(out))
	}
	if len(t.binary)%size != 0 {
		return nil, failf(kindInvalid, "input %s: %d bytes are no %s", t.Name, len(t.binary), t.Datatype)
	}
	for b := t.binary; len(b) > 0; b = b[size:] {
		if size == 8 {
			out = append(out, int64(binary.LittleEndian.Uint64(b)))
		} else {
			out = append(out, int64(int32(binary.LittleEndian.Uint32(b))))
		}
	}
	return out, t.fits(len(out))
}

// flatten reads data that may be flat or a list of rows, as KServe allows.
func flatten[T any](t *tensor, out *[]T) error {
	if len(t.Data) == 0 {
		return failf(kindInvalid, "input %s has no data", t.Name)
	}
	if json.Unmarshal(t.Data, out) == nil {
		return nil
	}
	var rows [][]T
	if json.Unmarshal(t.Data, &rows) != nil {
		return failf(kindInvalid, "input %s: the data are no %s", t.Name, t.Datatype)
	}
	*out = slices.Concat(rows...)
	return nil
}

// kserveAnswer writes rewards into the JSON, or behind it.
func kserveAnswer(x *exchange, id string, rewards []number, inBinary bool) (any, error) {
	type output struct {
		Name       string         `json:"name"`
		Datatype   string         `json:"datatype"`
		Shape      []int          `json:"shape"`
		Parameters map[string]int `json:"parameters,omitempty"`
		Data       []number       `json:"data,omitempty"`
	}
	o := output{Name: "rewards", Datatype: "FP32", Shape: []int{len(rewards), 1}, Data: rewards}
	answer := struct {
		Model   string   `json:"model_name"`
		Version string   `json:"model_version"`
		ID      string   `json:"id,omitempty"`
		Outputs []output `json:"outputs"`
	}{Model: x.PathValue("model"), Version: "1", ID: id}
	if !inBinary {
		answer.Outputs = []output{o}
		return answer, nil
	}
	o.Data, o.Parameters = nil, map[string]int{"binary_data_size": 4 * len(rewards)}
	answer.Outputs = []output{o}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(answer); err != nil {
		return nil, fmt.Errorf("write answer: %w", err)
	}
	x.header.Set("Inference-Header-Content-Length", strconv.Itoa(b.Len()))
	for _, v := range rewards {
		b.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v))))
	}
	return raw{"application/octet-stream", b.Bytes()}, nil
}

// handleKServeModel describes the tensors.
func handleKServeModel(s *Server, x *exchange) (any, error) {
	if err := s.kserveName(x); err != nil {
		return nil, err
	}
	type about struct {
		Name     string `json:"name"`
		Datatype string `json:"datatype"`
		Shape    []int  `json:"shape"`
	}
	return map[string]any{
		"name": x.PathValue("model"), "versions": []string{"1"}, "platform": "rmtrain",
		"inputs":  []about{{"sentences", "BYTES", []int{-1, 1}}, {"tokens", "INT64", []int{-1, -1}}, {"sequence_lengths", "INT64", []int{-1, 1}}},
		"outputs": []about{{"rewards", "FP32", []int{-1, 1}}},
	}, nil
}

func handleKServeReady(s *Server, x *exchange) (any, error) {
	if err := s.kserveName(x); err != nil {
		return nil, err
	}
	return handleReady(s, x)
}
