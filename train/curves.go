package train

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A history is what metrics.jsonl says of loss and accuracy by step.
type history struct {
	loss, accuracy         plotter.XYs // training
	evalLoss, evalAccuracy plotter.XYs
}

// readHistory reads metrics.jsonl in dir.
func readHistory(dir string) (history, error) {
	var h history
	text, err := os.ReadFile(filepath.Join(dir, metricsFile))
	if err != nil {
		return h, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		var m struct {
			Step         float64  `json:"step"`
			Loss         *float64 `json:"loss"`
			Accuracy     float64  `json:"pairwise_accuracy"`
			EvalLoss     *float64 `json:"eval_loss"`
			EvalAccuracy float64  `json:"eval_pairwise_accuracy"`
		}
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return h, fmt.Errorf("%s: %w", metricsFile, err)
		}
		if m.Loss != nil {
			h.loss = append(h.loss, plotter.XY{X: m.Step, Y: *m.Loss})
			h.accuracy = append(h.accuracy, plotter.XY{X: m.Step, Y: m.Accuracy})
		}
		if m.EvalLoss != nil {
			h.evalLoss = append(h.evalLoss, plotter.XY{X: m.Step, Y: *m.EvalLoss})
			h.evalAccuracy = append(h.evalAccuracy, plotter.XY{X: m.Step, Y: m.EvalAccuracy})
		}
	}
	return h, lines.Err()
}

// drawCurves writes curves.svg and curves.png: loss and accuracy by step. Training
// does not depend on them: if it fails, it says so.
func (t *trainer) drawCurves() {
	if err := writeCurves(t.cfg.OutputDir); err != nil {
		t.say("curves are not drawn: %v", err)
	}
}

func writeCurves(dir string) error {
	h, err := readHistory(dir)
	if err != nil || len(h.loss)+len(h.evalLoss) == 0 {
		return err
	}
	plots, err := h.plots()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name   string
		canvas vg.CanvasWriterTo
	}{
		{"curves.svg", vgsvg.New(curvesWidth, curvesHeight)},
		{"curves.png", vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(curvesWidth, curvesHeight), vgimg.UseDPI(110))}},
	} {
		image, err := paint(plots, f.canvas)
		if err == nil {
			err = ReplaceFile(filepath.Join(dir, f.name), image)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

const (
	curvesWidth  = 9 * vg.Inch
	curvesHeight = 3.6 * vg.Inch
)

var (
	trainColor = color.RGBA{R: 122, G: 170, B: 212, A: 255}
	evalColor  = color.RGBA{R: 214, G: 85, B: 28, A: 255}
	gridColor  = color.Gray{Y: 225}
)

// legendSpace stands behind a name in a legend, where a reader's font, which may be wider
// than the one that texts are placed by, finds room before the sample of the line.
const legendSpace = "    "

func (h history) plots() ([]*plot.Plot, error) {
	loss, err := curve("Loss", h.loss, h.evalLoss)
	if err != nil {
		return nil, err
	}
	loss.Legend.Top = true
	accuracy, err := curve("Pairwise accuracy", h.accuracy, h.evalAccuracy)
	return []*plot.Plot{loss, accuracy}, err
}

// curve plots training as a line and evaluations as points joined by a line.
func curve(title string, train, eval plotter.XYs) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(6)
	p.X.Label.Text = "step"
	p.X.Min = 0
	p.X.Padding, p.Y.Padding = vg.Points(4), vg.Points(4)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	if len(train) > 0 {
		line, err := plotter.NewLine(train)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = trainColor, vg.Points(1)
		p.Add(line)
		p.Legend.Add("training"+legendSpace, line)
	}
	if len(eval) > 0 {
		line, points, err := plotter.NewLinePoints(eval)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = evalColor, vg.Points(1.25)
		points.Color, points.Shape, points.Radius = evalColor, draw.CircleGlyph{}, vg.Points(2.5)
		p.Add(line, points)
		p.Legend.Add("evaluation"+legendSpace, line, points)
	}
	p.Legend.Padding = vg.Points(2)
	for _, style := range []*draw.TextStyle{
		&p.Title.TextStyle, &p.Legend.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label,
	} {
		style.Font.Variant = "Sans"
		style.Font.Size *= 0.9
	}
	return p, nil
}

// paint draws plots side by side.
func paint(plots []*plot.Plot, c vg.CanvasWriterTo) ([]byte, error) {
	canvas := draw.New(c)
	tiles := draw.Tiles{
		Rows: 1, Cols: len(plots), PadX: vg.Points(18),
		PadTop: vg.Points(6), PadBottom: vg.Points(6), PadLeft: vg.Points(6), PadRight: vg.Points(12),
	}
	for i, row := range plot.Align([][]*plot.Plot{plots}, tiles, canvas)[0] {
		plots[i].Draw(row)
	}
	var image bytes.Buffer
	_, err := c.WriteTo(&image)
	return image.Bytes(), err
}
