package tokenizer

// #cgo CFLAGS: -I${SRCDIR}/../chattmpl
// #cgo LDFLAGS: -L${SRCDIR}/../../build/rustlib -lchattmpl -ldl -lm
// #include "chattmpl.h"
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"
)

// templateDate is what strftime_now prints in a template. It is fixed, so that the
// ids of a conversation do not depend on the day on which it is read: a reward model
// must score as it was trained. The day is the one that Llama 3.1's own template
// falls back to.
var templateDate = time.Date(2024, time.July, 26, 0, 0, 0, 0, time.UTC)

// A chatTemplate is a compiled Jinja template with the variables that are the same
// for every conversation. It may be used by many goroutines at once.
type chatTemplate struct {
	handle *C.chattmpl
	// variables is the end of the context's JSON object: everything but the messages.
	variables []byte
}

// compileTemplate compiles source, in which the special tokens stand as variables.
func compileTemplate(source string, specials specialTokens) (*chatTemplate, error) {
	if source == "" {
		return nil, errors.New("the chat template is empty")
	}
	variables, err := templateVariables(specials)
	if err != nil {
		return nil, err
	}
	var text *C.char
	var n C.size_t
	handle := C.chattmpl_new(bytesOf(source), C.size_t(len(source)), C.int64_t(templateDate.Unix()), &text, &n)
	if handle == nil {
		return nil, fmt.Errorf("compile the chat template: %s", takeText(text, n))
	}
	t := &chatTemplate{handle: handle, variables: variables}
	runtime.AddCleanup(t, func(h *C.chattmpl) { C.chattmpl_free(h) }, handle)
	return t, nil
}

// templateVariables marshals, in transformers' order, what apply_chat_template passes
// beside the messages. A special token that the model lacks is undefined, not empty.
func templateVariables(s specialTokens) ([]byte, error) {
	data, err := json.Marshal(struct {
		Tools               any      `json:"tools"`
		Documents           any      `json:"documents"`
		AddGenerationPrompt bool     `json:"add_generation_prompt"`
		BOS                 string   `json:"bos_token,omitempty"`
		EOS                 string   `json:"eos_token,omitempty"`
		UNK                 string   `json:"unk_token,omitempty"`
		SEP                 string   `json:"sep_token,omitempty"`
		PAD                 string   `json:"pad_token,omitempty"`
		CLS                 string   `json:"cls_token,omitempty"`
		Mask                string   `json:"mask_token,omitempty"`
		Additional          []string `json:"additional_special_tokens,omitempty"`
	}{
		BOS: s.text["bos_token"], EOS: s.text["eos_token"], UNK: s.text["unk_token"],
		SEP: s.text["sep_token"], PAD: s.text["pad_token"], CLS: s.text["cls_token"],
		Mask: s.text["mask_token"], Additional: s.additional,
	})
	if err != nil {
		return nil, fmt.Errorf("marshal the special tokens: %w", err)
	}
	return data[1:], nil
}

// render returns the text of a conversation.
func (t *chatTemplate) render(ms []Message) (string, error) {
	valid := make([]Message, len(ms))
	for i, m := range ms {
		valid[i] = Message{Role: replaceInvalid(m.Role), Content: replaceInvalid(m.Content)}
	}
	messages, err := json.Marshal(valid)
	if err != nil {
		return "", fmt.Errorf("marshal messages: %w", err)
	}
	context := make([]byte, 0, len(messages)+len(t.variables)+16)
	context = append(context, `{"messages":`...)
	context = append(context, messages...)
	context = append(context, ',')
	context = append(context, t.variables...)

	var text *C.char
	var n C.size_t
	status := C.chattmpl_render(t.handle, (*C.uint8_t)(unsafe.Pointer(&context[0])), C.size_t(len(context)), &text, &n)
	runtime.KeepAlive(t)
	rendered := takeText(text, n)
	if status != 0 {
		return "", fmt.Errorf("render the chat template: %s", rendered)
	}
	return rendered, nil
}

// bytesOf returns the bytes of a string that is not empty.
func bytesOf(s string) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.StringData(s)))
}

// takeText copies a text from Rust's memory and frees it there.
func takeText(text *C.char, n C.size_t) string {
	s := string(unsafe.Slice((*byte)(unsafe.Pointer(text)), int(n)))
	C.chattmpl_free_text(text, n)
	return s
}
