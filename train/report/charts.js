"use strict";

// A Chart draws series of [step, value] as SVG. Each series has a name, a color, points
// in the order of steps, and may have dots, or be a band of [step, low, high].
// All charts show the step under the pointer.
const charts = [];
let pointedStep = null;

function create(parent, name, attributes, text) {
	const space = ["svg", "path", "line", "circle", "text", "g"].includes(name) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
	const e = document.createElementNS(space, name);
	for (const key in attributes) e.setAttribute(key, attributes[key]);
	if (text !== undefined) e.textContent = text;
	parent.appendChild(e);
	return e;
}

// brief writes a number with three digits or a few more.
function brief(x) {
	const size = Math.abs(x);
	if (!Number.isFinite(x)) return "none";
	if (size === 0) return "0";
	if (size >= 1e6) return (x / 1e6).toPrecision(3) + "M";
	if (size >= 1e4) return (x / 1e3).toPrecision(3) + "k";
	if (size < 1e-3) return x.toExponential(2);
	return size >= 999.5 ? x.toFixed(0) : x.toPrecision(3);
}

// niceTicks are round numbers in [low, high], about count of them.
function niceTicks(low, high, count) {
	const raw = (high - low) / count, power = Math.pow(10, Math.floor(Math.log10(raw)));
	const step = [1, 2, 5, 10].find(m => m * power >= raw) * power;
	const ticks = [];
	for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
	return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function tickText(x, digits) {
	if (Math.abs(x) >= 1e4) return brief(x);
	return digits > 4 ? (x === 0 ? "0" : x.toExponential(0)) : x.toFixed(digits);
}

// thin keeps the lowest and the highest point of each of a few hundred columns.
function thin(points, columns) {
	if (points.length <= 2 * columns) return points;
	const kept = [];
	for (let c = 0; c < columns; c++) {
		const part = points.slice(Math.floor(c * points.length / columns), Math.floor((c + 1) * points.length / columns));
		let low = part[0], high = part[0];
		for (const p of part) {
			if (p[1] < low[1]) low = p;
			if (p[1] > high[1]) high = p;
		}
		kept.push(...(low[0] <= high[0] ? [low, high] : [high, low]).slice(0, low === high ? 1 : 2));
	}
	return kept;
}

// nearest is the point of a series closest to a step.
function nearest(points, step) {
	let low = 0, high = points.length - 1;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (points[middle][0] < step) low = middle + 1; else high = middle;
	}
	return low > 0 && step - points[low - 1][0] < points[low][0] - step ? points[low - 1] : points[low];
}

class Chart {
	constructor(parent, title, options) {
		this.options = options || {};
		this.box = create(parent, "section", { class: "card chart" + (this.options.wide ? " wide" : "") });
		const head = create(this.box, "header", {});
		create(head, "h2", {}, title);
		this.key = create(head, "div", { class: "key" });
		this.svg = create(this.box, "svg", { role: "img", "aria-label": title + " by step" });
		this.series = [];
		this.svg.addEventListener("pointermove", e => this.point(e));
		this.svg.addEventListener("pointerleave", () => pointAt(null));
		charts.push(this);
	}

	set(series) {
		this.series = series.filter(s => s.points.length > 0);
		this.draw();
	}

	// domain is the range of the axes, null without points.
	domain() {
		let last = 0, low = Infinity, high = -Infinity;
		for (const s of this.series) {
			last = Math.max(last, s.points[s.points.length - 1][0]);
			for (const p of s.points) {
				low = Math.min(low, p[1]);
				high = Math.max(high, p[p.length - 1]);
			}
		}
		if (low > high) return null;
		const room = (high - low || Math.abs(high) || 1) * 0.06;
		low = low >= 0 && (this.options.zero || low < room) ? 0 : low - room;
		high = this.options.top !== undefined ? Math.min(Math.max(high + room, low + room), this.options.top) : high + room;
		return { last: Math.max(last, 1), low, high: high > low ? high : low + 1 };
	}

	draw() {
		const width = this.box.clientWidth - 32, height = this.options.wide ? 230 : 150;
		this.svg.replaceChildren();
		this.frame = null;
		const d = this.domain();
		if (!d || width < 40) return this.drawKey();
		this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
		this.svg.setAttribute("height", height);
		const f = this.frame = { left: 42, right: width - 6, top: 8, bottom: height - 22, ...d };
		f.x = step => f.left + (f.right - f.left) * step / f.last;
		f.y = value => f.bottom - (f.bottom - f.top) * (value - f.low) / (f.high - f.low);
		this.drawAxes(f, width);
		for (const s of this.series) this.drawSeries(f, s);
		this.cursor = create(this.svg, "g", {});
		this.drawCursor();
	}

	drawAxes(f, width) {
		const vertical = niceTicks(f.low, f.high, this.options.wide ? 5 : 3);
		for (const t of vertical.ticks) {
			const y = f.y(t);
			create(this.svg, "line", { class: "grid", x1: f.left, x2: f.right, y1: y, y2: y });
			create(this.svg, "text", { x: f.left - 8, y: y + 4, "text-anchor": "end" }, tickText(t, vertical.digits));
		}
		const across = niceTicks(0, f.last, Math.max(2, Math.floor(width / 80)));
		for (const t of across.ticks.filter(Number.isInteger)) {
			create(this.svg, "text", { x: f.x(t), y: f.bottom + 17, "text-anchor": t === 0 ? "start" : f.x(t) > f.right - 14 ? "end" : "middle" }, tickText(t, 0));
		}
	}

	drawSeries(f, s) {
		const place = (p, k) => f.x(p[0]).toFixed(1) + " " + f.y(p[k]).toFixed(1);
		const columns = Math.max(60, Math.floor(f.right - f.left));
		if (s.band) {
			const points = s.points.length > columns ? s.points.filter((_, i) => i % Math.ceil(s.points.length / columns) === 0) : s.points;
			const there = points.map(p => place(p, 1)), back = points.map(p => place(p, 2)).reverse();
			create(this.svg, "path", { d: "M" + there.concat(back).join("L") + "Z", style: "fill:var(--train-wash)" });
			return;
		}
		const points = thin(s.points, columns);
		create(this.svg, "path", { class: "line", d: "M" + points.map(p => place(p, 1)).join("L"), style: `stroke:var(${s.color})` });
		if (points.length === 1 || s.dots && points.length < 60) {
			for (const p of points) create(this.svg, "circle", { cx: f.x(p[0]), cy: f.y(p[1]), r: 3, style: `fill:var(${s.color})` });
		}
	}

	drawCursor() {
		if (!this.frame) return this.drawKey();
		const f = this.frame;
		this.cursor.replaceChildren();
		if (pointedStep !== null && pointedStep <= f.last) {
			create(this.cursor, "line", { class: "cursor", x1: f.x(pointedStep), x2: f.x(pointedStep), y1: f.top, y2: f.bottom });
			create(this.cursor, "text", { class: "at", x: f.x(pointedStep), y: f.bottom + 17, "text-anchor": f.x(pointedStep) > f.right - 24 ? "end" : "middle" }, String(pointedStep));
			for (const s of this.series.filter(s => !s.band)) {
				const p = nearest(s.points, pointedStep);
				create(this.cursor, "circle", { cx: f.x(p[0]), cy: f.y(p[1]), r: 3.5, style: `fill:var(${s.color})` });
			}
		}
		this.drawKey();
	}

	// drawKey names the series with their last values, or those at the pointer.
	drawKey() {
		this.key.replaceChildren();
		for (const s of this.series.filter(s => !s.band)) {
			const p = pointedStep === null ? s.points[s.points.length - 1] : nearest(s.points, pointedStep);
			create(this.key, "span", { style: `--color:var(${s.color})` }, (s.name ? s.name + " " : "") + brief(p[1]));
		}
	}

	point(e) {
		if (!this.frame || this.series.length === 0) return;
		const f = this.frame, at = this.svg.getBoundingClientRect();
		const step = (e.clientX - at.left - f.left) / (f.right - f.left) * f.last;
		pointAt(nearest(this.series[0].points, step)[0]);
	}
}

function pointAt(step) {
	if (step === pointedStep) return;
	pointedStep = step;
	for (const c of charts) c.drawCursor();
}
