package serve

import (
	"errors"
	"slices"
)

// A modelCard is a model as OpenAI's clients list it.
type modelCard struct {
	ID      string  `json:"id"`
	Object  string  `json:"object"`
	Created int64   `json:"created"`
	Owner   string  `json:"owned_by"`
	Root    string  `json:"root"`
	Parent  *string `json:"parent"`
	Length  int     `json:"max_model_len"`
}

func (s *Server) card(x *exchange, name string) modelCard {
	return modelCard{ID: name, Object: "model", Created: s.started.Unix(), Owner: "rmtrain", Root: s.options.Names[0], Length: x.engine.model.Length}
}

func handleModels(s *Server, x *exchange) (any, error) {
	out := struct {
		Object string      `json:"object"`
		Data   []modelCard `json:"data"`
	}{Object: "list"}
	for _, n := range s.options.Names {
		out.Data = append(out.Data, s.card(x, n))
	}
	return out, nil
}

func handleModel(s *Server, x *exchange) (any, error) {
	name := x.PathValue("model")
	if !slices.Contains(s.options.Names, name) {
		return nil, &failure{kind: kindNotFound, param: "model", text: "The model `" + name + "` does not exist."}
	}
	return s.card(x, name), nil
}

// handleTokenize shows what the model would read, before any truncation. It speaks as
// vLLM does and, to requests with inputs, as TEI does.
func handleTokenize(s *Server, x *exchange) (any, error) {
	if hasField(x.body, "inputs") {
		return handleTokenizeTEI(s, x)
	}
	var q struct {
		vllmInput
		Model         *string `json:"model"`
		Prompt        *string `json:"prompt"`
		Special       *bool   `json:"add_special_tokens"`
		ReturnStrings bool    `json:"return_token_strs"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	if err := s.named(q.Model); err != nil {
		return nil, err
	}
	if q.Prompt != nil {
		q.Input = &anyInput{list: []input{textInput(*q.Prompt)}}
	}
	ins, err := q.inputs(x, q.Special)
	if err != nil {
		return nil, err
	}
	if len(ins) != 1 {
		return nil, failf(kindInvalid, "one prompt is wanted, not %d", len(ins))
	}
	convs, err := s.encodeAll(x.Context(), x.engine, ins, encodeOptions{cut: cut{length: whole}})
	if err != nil {
		return nil, err
	}
	out := struct {
		Count   int      `json:"count"`
		Length  int      `json:"max_model_len"`
		Tokens  []int32  `json:"tokens"`
		Strings []string `json:"token_strs"`
	}{Count: len(convs[0].IDs), Length: x.engine.model.Length, Tokens: convs[0].IDs}
	if q.ReturnStrings {
		for _, id := range convs[0].IDs {
			text, err := x.engine.model.Encoder.Tokenizer().Decode([]int32{id})
			if err != nil {
				return nil, err
			}
			out.Strings = append(out.Strings, text)
		}
	}
	return out, nil
}

// handleLive says that the process answers.
func handleLive(*Server, *exchange) (any, error) {
	return map[string]string{"status": "ok"}, nil
}

// handleReady says whether new requests are welcome.
func handleReady(s *Server, _ *exchange) (any, error) {
	if !s.ready() {
		return nil, failf(kindUnavailable, "the server is shutting down")
	}
	return map[string]string{"status": "ok"}, nil
}

// handleReload needs a key, always: who may ask for rewards is not who may stop the
// server for as long as loading takes.
func handleReload(s *Server, _ *exchange) (any, error) {
	if s.options.Keys == nil {
		return nil, failf(kindForbidden, "reloading over HTTP needs a server that was started with API keys (or send the process SIGHUP)")
	}
	if err := s.Reload(); err != nil {
		return nil, errors.Join(failf(kindUnavailable, "the checkpoint could not be loaded, so the old model stays; the server's log says more"), err)
	}
	return map[string]string{"status": "reloaded"}, nil
}
