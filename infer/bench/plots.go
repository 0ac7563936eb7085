package bench

import (
	"bytes"
	"html/template"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Texts begin where they must in gonum's own font. A reader's font may be a fifth wider,
// so there is room behind them.
const (
	plotWidth   = 4.2 * vg.Inch
	plotHeight  = 3 * vg.Inch
	plotMargin  = 22     // points, at the right
	legendSpace = "    " // behind a name in a legend, before its sample
)

var (
	betterColor = color.RGBA{R: 38, G: 115, B: 178, A: 255}
	worseColor  = color.RGBA{R: 214, G: 85, B: 28, A: 255}
	idealColor  = color.Gray{Y: 150}
	gridColor   = color.Gray{Y: 228}
)

// newPlot returns an empty plot with a grid.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(6)
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, f := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		f.Variant = "Sans"
	}
	p.X.Label.Padding = vg.Points(4)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	return p
}

// svg draws a plot as an element that can stand in a page.
func svg(p *plot.Plot) (template.HTML, error) {
	c := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.Crop(draw.New(c), 0, -vg.Points(plotMargin), 0, 0))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	// Behind the XML declaration; gonum escapes texts itself.
	return template.HTML(b.Bytes()[max(0, bytes.Index(b.Bytes(), []byte("<svg"))):]), nil
}

// histogramBins is how many bars the histograms have between the outermost scores.
const histogramBins = 30

// histogram draws how the scores of better and of worse answers are distributed.
func (c Curve) histogram() (*plot.Plot, error) {
	p := newPlot("Scores", "score", "answers")
	all := slices.Concat(c.Better, c.Worse)
	low, high := slices.Min(all), slices.Max(all)
	if low == high {
		low, high = low-0.5, high+0.5
	}
	for _, side := range []struct {
		name   string
		scores []float64
		color  color.RGBA
	}{{"better", c.Better, betterColor}, {"worse", c.Worse, worseColor}} {
		outline := make(plotter.XYs, 0, 2*histogramBins+2)
		counts := make([]float64, histogramBins)
		for _, s := range side.scores {
			counts[min(int((s-low)/(high-low)*histogramBins), histogramBins-1)]++
		}
		outline = append(outline, plotter.XY{X: low})
		for i, n := range counts {
			left := low + float64(i)*(high-low)/histogramBins
			outline = append(outline, plotter.XY{X: left, Y: n}, plotter.XY{X: left + (high-low)/histogramBins, Y: n})
		}
		outline = append(outline, plotter.XY{X: high})
		area, err := plotter.NewPolygon(outline)
		if err != nil {
			return nil, err
		}
		pale := side.color
		pale.R, pale.G, pale.B, pale.A = pale.R/3, pale.G/3, pale.B/3, 85 // a third, premultiplied
		area.Color, area.LineStyle.Color, area.LineStyle.Width = pale, side.color, vg.Points(1.2)
		p.Add(area)
		p.Legend.Add(side.name+legendSpace, area)
	}
	pad := (high - low) / 25
	p.X.Min, p.X.Max = low-pad, high+pad
	p.Y.Min, p.Y.Max = 0, p.Y.Max*1.2 // room for the legend
	p.Legend.Top, p.Legend.Padding = true, vg.Points(2)
	return p, nil
}

// calibration draws accuracy by confidence; on the diagonal they are equal.
func (c Curve) calibration() (*plot.Plot, error) {
	p := newPlot("Reliability", "confidence in a pair", "accuracy")
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0.5, 1, 0, 1
	ideal, err := plotter.NewLine(plotter.XYs{{X: 0.5, Y: 0.5}, {X: 1, Y: 1}})
	if err != nil {
		return nil, err
	}
	ideal.Color, ideal.Dashes = idealColor, []vg.Length{vg.Points(4), vg.Points(3)}
	var points plotter.XYs
	for _, b := range c.Reliability {
		points = append(points, plotter.XY{X: b.Confidence, Y: b.Accuracy})
	}
	p.Add(ideal)
	if len(points) == 0 {
		return p, nil
	}
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return nil, err
	}
	line.Color, line.Width, dots.Color, dots.Shape, dots.Radius = betterColor, vg.Points(1.5), betterColor, draw.CircleGlyph{}, vg.Points(3)
	p.Add(line, dots)
	return p, nil
}

// lengths draws accuracy by the length of answers, with intervals.
func (r *Result) lengths() (*plot.Plot, error) {
	p := newPlot("Accuracy by length", "characters, the mean of a pair", "accuracy")
	p.Y.Min, p.Y.Max = 0, 1
	var bars plotter.Values
	var names []string
	var errors errorPoints
	for _, m := range r.Metrics {
		i := slices.IndexFunc(lengthBuckets, func(b bucket) bool { return b.name == m.Name })
		if m.Group != groupLength || i < 0 {
			continue
		}
		errors.XYs = append(errors.XYs, plotter.XY{X: float64(len(bars)), Y: m.Value})
		errors.spread = append(errors.spread, [2]float64{m.Value - finiteOr(m.Low, m.Value), finiteOr(m.High, m.Value) - m.Value})
		bars, names = append(bars, m.Value), append(names, lengthBuckets[i].short)
	}
	if len(bars) == 0 {
		return p, nil
	}
	chart, err := plotter.NewBarChart(bars, vg.Points(24))
	if err != nil {
		return nil, err
	}
	chart.Color, chart.LineStyle.Width = betterColor, 0
	whiskers, err := plotter.NewYErrorBars(errors)
	if err != nil {
		return nil, err
	}
	p.Add(chart, whiskers)
	p.NominalX(names...)
	return p, nil
}

func finiteOr(x, otherwise float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return otherwise
	}
	return x
}

// errorPoints are points with what is below and above them.
type errorPoints struct {
	plotter.XYs
	spread [][2]float64
}

func (e errorPoints) YError(i int) (low, high float64) { return e.spread[i][0], e.spread[i][1] }
