package bench

import (
	"bytes"
	"fmt"
	"html/template"

	"gonum.org/v1/plot"
)

// Page is the report as one HTML file, which needs no other and no script.
func (r *Report) Page() ([]byte, error) {
	type section struct {
		*Result
		Plots []template.HTML
		Wide  bool // it has the other model's columns
	}
	var sections []section
	for _, x := range r.Results {
		s := section{Result: x, Wide: x.Metrics[0].Difference != nil}
		for _, draw := range []func() (*plot.Plot, error){x.Curve.histogram, x.Curve.calibration, x.lengths} {
			p, err := draw()
			if err != nil {
				return nil, err
			}
			image, err := svg(p)
			if err != nil {
				return nil, err
			}
			s.Plots = append(s.Plots, image)
		}
		sections = append(sections, s)
	}
	data := map[string]any{"Report": r, "Sections": sections, "How": r.how(), "Caveat": cardCaveat}
	if r.Card != nil {
		data["Card"] = r.cardRows()
	}
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, data)
	return b.Bytes(), err
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"four":  func(x float64) string { return fmt.Sprintf("%.4f", x) },
	"plus":  func(x float64) string { return fmt.Sprintf("%+.4f", x) },
	"other": func(m Metric) string { return fmt.Sprintf("%.4f", *m.Other) },
	"pairs": pairs,
	"kilo":  func(x int64) string { return fmt.Sprintf("%.1f kB", float64(x)/1000) },
	"first": func(rows []Metric, i int) bool { return i == 0 || rows[i].Group != rows[i-1].Group },
}).Parse(pageText))

const pageText = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Evaluation of {{.Report.Checkpoint}}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; max-width: 1300px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.2em; margin: 2em 0 .3em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .15em .8em; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 1px solid #999; font-weight: 600; }
tr.group td { padding-top: .6em; font-weight: 600; }
tr:first-child td.lead, .lead { font-weight: 600; }
.plots { display: flex; flex-wrap: wrap; gap: 1em; margin: .6em 0; } .plots svg { max-width: 100%; height: auto; border: 1px solid #e4e4e4; }
.note { color: #7a4b00; } .small { color: #666; font-size: .87em; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Evaluation of {{.Report.Checkpoint}}</h1>
{{with .Report.Compared}}<p>compared with {{.}}; differences are this model minus that one, on the same rows</p>{{end}}
<p class="small">{{.How}}. rmtrain {{.Report.Version}}, {{.Report.Model.Device}}.</p>
{{with .Card}}<table>
<thead><tr><th>model</th><th>human</th><th>truth</th><th>safety</th><th>average</th></tr></thead>
{{range $i, $row := .}}<tr>{{range .}}<td{{if eq $i 0}} class="lead"{{end}}>{{.}}</td>{{end}}</tr>
{{end}}</table>
<p class="small">Average {{four $.Report.Card.Value}}, 95% interval {{four $.Report.Card.Low}} to {{four $.Report.Card.High}}. {{$.Caveat}}</p>{{end}}
{{range .Sections}}
<h2>{{.Title}}</h2>
<p>{{.Used}} prompts, {{.Items}} rows, {{.Pairs}} pairs</p>
{{range .Notes}}<p class="note">{{.}}</p>{{end}}
<div class="plots">{{range .Plots}}{{.}}{{end}}</div>
<table>
<thead><tr><th></th><th>value</th><th>95% interval</th><th>prompts</th><th>pairs</th>{{if .Wide}}<th>other</th><th>difference</th><th>95% interval</th>{{end}}</tr></thead>
{{$rows := .Metrics}}{{$wide := .Wide}}{{range $i, $m := .Metrics}}{{if first $rows $i}}<tr class="group"><td>{{.Group}}</td></tr>
{{end}}<tr><td>{{.Name}}</td><td{{if eq $i 0}} class="lead"{{end}}>{{four .Value}}</td><td>{{four .Low}} to {{four .High}}</td><td>{{.Prompts}}</td><td>{{pairs .}}</td>{{with .Difference}}<td>{{other $m}}</td><td>{{plus .Value}}</td><td>{{plus .Low}} to {{plus .High}}</td>{{end}}</tr>
{{end}}</table>
{{range .Files}}<p class="small">{{.Path}}, {{kilo .Bytes}}, SHA-256 {{.SHA256}}</p>{{end}}
{{end}}
</body>
</html>
`
