package serve

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// apiDoc is what the tests read of openapi.json.
type apiDoc struct {
	OpenAPI string
	Paths   map[string]map[string]apiOperation
}

type apiOperation struct {
	Summary     string
	Security    *[]any
	RequestBody *struct {
		Content map[string]struct {
			Examples map[string]struct{ Value json.RawMessage }
		}
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct {
			Examples map[string]struct{ Value any }
		}
	}
}

func readAPI(t *testing.T) apiDoc {
	t.Helper()
	var doc apiDoc
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %q", doc.OpenAPI)
	}
	return doc
}

// asDocumented is a route's path in OpenAPI's spelling.
var asDocumented = strings.NewReplacer("{model...}", "{model}", "{$}", "")

func TestOpenAPIListsEveryRouteAndNoOther(t *testing.T) {
	doc := readAPI(t)
	var want, got []string
	for _, rt := range routes() {
		want = append(want, asDocumented.Replace(rt.pattern))
	}
	for path, operations := range doc.Paths {
		for method, o := range operations {
			got = append(got, strings.ToUpper(method)+" "+path)
			if o.Summary == "" {
				t.Errorf("%s %s has no summary", method, path)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("documented are\n%s\nthere are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, rt := range routes() {
		method, path, _ := strings.Cut(asDocumented.Replace(rt.pattern), " ")
		security := doc.Paths[path][strings.ToLower(method)].Security
		if open := security != nil && len(*security) == 0; open != rt.open {
			t.Errorf("%s: documented as open %v, it is %v", rt.pattern, open, rt.open)
		}
	}
}

// Every example request is sent, and the answer has the shape of its example, number
// by number.
func TestOpenAPIExamplesAreTrue(t *testing.T) {
	s := newTestServer(t, nil)
	names := strings.NewReplacer("{model}", "tiny", "{version}", "1")
	for path, operations := range readAPI(t).Paths {
		for method, o := range operations {
			if path == "/admin/reload" { // it needs keys, and has tests of its own
				continue
			}
			answers := o.Responses["200"].Content["application/json"].Examples
			if o.RequestBody == nil {
				if method == "post" {
					t.Errorf("%s has no request body", path)
				}
				w := ask(s, strings.ToUpper(method), names.Replace(path), "")
				if w.Code != 200 {
					t.Errorf("%s: status %d", path, w.Code)
				}
				for _, e := range answers {
					checkShape(t, path, w.Body.Bytes(), e.Value)
				}
				continue
			}
			examples := o.RequestBody.Content["application/json"].Examples
			if len(examples) == 0 || len(examples) != len(answers) {
				t.Errorf("%s has %d examples of requests and %d of answers", path, len(examples), len(answers))
			}
			for name, e := range examples {
				w := ask(s, "POST", names.Replace(path), string(e.Value))
				if w.Code != 200 {
					t.Errorf("%s, %s: status %d: %s", path, name, w.Code, w.Body)
					continue
				}
				checkShape(t, path+", "+name, w.Body.Bytes(), answers[name].Value)
			}
		}
	}
}

func checkShape(t *testing.T, name string, answer []byte, want any) {
	t.Helper()
	var got any
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if err := sameShape("", got, want); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// sameShape compares names and kinds; of a list, its first item stands for all.
func sameShape(path string, got, want any) error {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("%s is %v, documented %v", path, got, want)
		}
		for name := range w {
			if _, ok := g[name]; !ok {
				return fmt.Errorf("%s has no %s", path, name)
			}
			if err := sameShape(path+"."+name, g[name], w[name]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || (len(g) == 0) != (len(w) == 0) {
			return fmt.Errorf("%s is %v, documented %v", path, got, want)
		}
		if len(w) == 0 {
			return nil
		}
		return sameShape(path+"[]", g[0], w[0])
	}
	if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
		return fmt.Errorf("%s is %v, documented %v", path, got, want)
	}
	return nil
}
