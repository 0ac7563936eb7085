package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A kind of failure has a status, and every dialect has its word for it.
type kind int

const (
	kindInvalid      kind = iota // what is asked for makes no sense
	kindEmpty                    // nothing is asked for, where TEI has its own word for it
	kindUnauthorized             // no key, or a wrong one
	kindForbidden                // a key would not help
	kindNotFound                 // no such path or model
	kindMethod                   // wrong method for the path
	kindSlow                     // the body did not arrive in time
	kindTooLarge                 // too many bytes
	kindMedia                    // an encoding of the body that is not spoken
	kindLimit                    // too many conversations, or too long ones
	kindOverloaded               // too much work already
	kindBackend                  // the model failed
	kindUnavailable              // not now: time is over, or the server is going down
	kindGone                     // the client went away; nobody reads the answer
)

var statuses = [...]int{
	kindInvalid: http.StatusBadRequest, kindEmpty: http.StatusBadRequest, kindUnauthorized: http.StatusUnauthorized, kindForbidden: http.StatusForbidden,
	kindNotFound: http.StatusNotFound, kindMethod: http.StatusMethodNotAllowed, kindSlow: http.StatusRequestTimeout,
	kindTooLarge: http.StatusRequestEntityTooLarge, kindMedia: http.StatusUnsupportedMediaType,
	kindLimit: http.StatusUnprocessableEntity, kindOverloaded: http.StatusTooManyRequests,
	kindBackend: http.StatusInternalServerError, kindUnavailable: http.StatusServiceUnavailable,
	kindGone: 499, // nginx's number, in logs only
}

// reasons are the kinds' names in metrics and logs.
var reasons = [...]string{
	kindInvalid: "invalid", kindEmpty: "empty", kindUnauthorized: "unauthorized", kindForbidden: "forbidden", kindNotFound: "not_found",
	kindMethod: "method", kindSlow: "slow", kindTooLarge: "too_large", kindMedia: "media", kindLimit: "limit",
	kindOverloaded: "overloaded", kindBackend: "backend", kindUnavailable: "unavailable", kindGone: "gone",
}

// A failure is an error for the client.
type failure struct {
	kind  kind
	text  string
	param string        // the field at fault, if one is
	retry time.Duration // when to try again, if that may help
}

func (f *failure) Error() string { return f.text }

func failf(k kind, format string, args ...any) *failure {
	return &failure{kind: k, text: fmt.Sprintf(format, args...)}
}

// asFailure makes any error one for the client. What is not a failure already comes
// from the model, and its text may say more of this machine than clients should know.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return failf(kindBackend, "the model failed; the server's log says more")
}

// A voice is how a dialect says that something went wrong.
type voice func(status int, f *failure) any

// voiceOpenAI is vLLM's, and that of OpenAI's clients.
func voiceOpenAI(status int, f *failure) any {
	name := map[kind]string{
		kindUnauthorized: "AuthenticationError", kindForbidden: "PermissionDeniedError", kindNotFound: "NotFoundError",
		kindOverloaded: "RateLimitError", kindBackend: "InternalServerError", kindUnavailable: "ServiceUnavailableError",
	}[f.kind]
	if name == "" {
		name = "BadRequestError"
	}
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    int     `json:"code"`
	}
	b := body{Message: f.text, Type: name, Code: status}
	if f.param != "" {
		b.Param = &f.param
	}
	return map[string]body{"error": b}
}

// voiceTEI has its own words, and its own status for some kinds.
func voiceTEI(_ int, f *failure) any {
	name := map[kind]string{
		kindInvalid: "tokenizer", kindEmpty: "empty", kindTooLarge: "validation", kindLimit: "validation",
		kindBackend: "backend", kindOverloaded: "overloaded", kindUnavailable: "unhealthy",
	}[f.kind]
	if name == "" {
		name = reasons[f.kind]
	}
	return struct {
		Error string `json:"error"`
		Type  string `json:"error_type"`
	}{f.text, name}
}

// voiceDetail is FastAPI's, in which OpenRLHF's and LLaMA-Factory's servers are written.
func voiceDetail(_ int, f *failure) any { return map[string]string{"detail": f.text} }

// voiceSGLang is SGLang's own.
func voiceSGLang(_ int, f *failure) any {
	return map[string]any{"error": map[string]string{"message": f.text}}
}

// voiceKServe is Triton's.
func voiceKServe(_ int, f *failure) any { return map[string]string{"error": f.text} }

// statusOf is the status of f in a dialect.
func statusOf(d *dialect, f *failure) int {
	if d == dialectTEI {
		switch f.kind {
		case kindLimit:
			return http.StatusRequestEntityTooLarge
		case kindBackend:
			return http.StatusFailedDependency
		case kindInvalid:
			return http.StatusUnprocessableEntity
		}
	}
	return statuses[f.kind]
}

// embedded removes what encoding/json tells of how requests are put together in Go.
var embedded = strings.NewReplacer("vllmOptions.", "", "vllmInput.", "", "teiOptions.", "")

// fieldError says in plain words what encoding/json says of Go's types.
func fieldError(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		if t.Field == "" {
			return failf(kindInvalid, "the body must be a JSON object, not %s", t.Value)
		}
		field := embedded.Replace(t.Field)
		return &failure{kind: kindInvalid, param: field, text: fmt.Sprintf("%s: %s is wanted, not %s", field, inJSON(t.Type), t.Value)}
	}
	var s *json.SyntaxError
	if errors.As(err, &s) {
		return failf(kindInvalid, "the body is not JSON: %v at byte %d", err, s.Offset)
	}
	return failf(kindInvalid, "the body is not JSON: %v", err)
}

// faultyField is the first field of a JSON object, by its name, that does not fit to, a
// pointer to a struct; nothing if the fault lies elsewhere.
func faultyField(body []byte, to any) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		one, err := json.Marshal(map[string]json.RawMessage{name: fields[name]})
		if err != nil || json.Unmarshal(one, reflect.New(reflect.TypeOf(to).Elem()).Interface()) != nil {
			return name
		}
	}
	return ""
}

// at returns f with the name of the field at fault, unless it is said already.
func (f *failure) at(field string) *failure {
	if field == "" || f.param != "" {
		return f
	}
	named := *f
	named.param = field
	if !strings.HasPrefix(f.text, field) {
		named.text = field + ": " + f.text
	}
	return &named
}

// inJSON is what JSON calls a type.
func inJSON(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}
