
// The page: what the events have told so far, and how it is shown.
const byId = id => document.getElementById(id);
const seen = { status: null, train: [], evals: [], connected: false, problem: "" };
const loss = new Chart(byId("charts"), "Loss", { wide: true });
const accuracy = new Chart(byId("charts"), "Pairwise accuracy", { wide: true, top: 1 });
const margin = new Chart(byId("charts"), "Margin");
const score = new Chart(byId("charts"), "Score");
const gradient = new Chart(byId("charts"), "Gradient norm", { zero: true });
const rate = new Chart(byId("charts"), "Learning rate", { zero: true });
const speed = new Chart(byId("charts"), "Tokens/s", { zero: true });
const rankBox = create(byId("charts"), "section", { class: "card chart" });
create(create(rankBox, "header", {}), "h2", {}, "Accuracy by rank");
const ranks = create(rankBox, "div", { class: "ranks" });

function duration(seconds) {
	if (seconds < 90) return Math.max(1, Math.round(seconds)) + " s";
	if (seconds < 90 * 60) return Math.round(seconds / 60) + " min";
	const hours = Math.floor(seconds / 3600), minutes = Math.round(seconds % 3600 / 60);
	if (hours < 36) return hours + " h" + (minutes ? " " + minutes + " min" : "");
	return Math.floor(hours / 24) + " days " + hours % 24 + " h";
}

const last = list => list.length > 0 ? list[list.length - 1] : null;
const curve = (lines, field) => lines.filter(m => typeof m[field] === "number").map(m => [m.step, m[field]]);

function summary() { return seen.status && seen.status.summary || null; }
function run() { return seen.status && seen.status.run || {}; }
function lastStep() { return Math.max(0, ...[last(seen.train), last(seen.evals)].filter(Boolean).map(m => m.step)); }

// promptRate is the mean speed of the last few lines.
function promptRate() {
	const recent = seen.train.slice(-5).map(m => m.prompts_per_second).filter(x => x > 0);
	return recent.length > 0 ? recent.reduce((a, b) => a + b, 0) / recent.length : 0;
}

// quietAfter is how many seconds without a line are unusual.
function quietAfter() {
	const n = seen.train.length, speed = promptRate();
	if (n === 0 || !speed || !run().prompts_per_step) return 180;
	const steps = n > 1 ? seen.train[n - 1].step - seen.train[n - 2].step : seen.train[0].step;
	return Math.max(60, 5 * steps * run().prompts_per_step / speed);
}

function state() {
	const s = seen.status;
	if (!seen.connected) return ["lost", s ? "no connection" : "connecting"];
	if (seen.problem) return ["quiet", "log cannot be read"];
	if (!s) return ["waiting", "connecting"];
	if (summary()) return ["finished", summary().stopped_early ? "stopped early" : "finished"];
	if (lastStep() === 0) return ["waiting", s.run ? "starting" : "waiting"];
	if (s.age > quietAfter()) return ["quiet", "quiet for " + duration(s.age)];
	return ["training", "training"];
}

function showHead() {
	const s = seen.status, [kind, text] = state(), step = lastStep(), total = run().total_steps || 0;
	byId("pill").className = "pill " + kind;
	byId("state").textContent = text;
	if (!s) return;
	byId("name").textContent = s.name;
	const groups = run().groups ? `, ${run().groups} groups` + (run().eval_groups ? ` and ${run().eval_groups} held out` : "") : "";
	byId("model").textContent = run().model ? run().model.split("/").slice(-2).join("/") + groups : "rmtrain";
	const share = summary() ? 1 : total ? Math.min(1, step / total) : 0;
	byId("track").className = "track " + kind;
	byId("track").setAttribute("aria-valuenow", Math.round(100 * share));
	byId("done").style.width = 100 * share + "%";
	const line = [last(seen.train), last(seen.evals)].filter(Boolean).find(m => m.step === step);
	byId("steps").textContent = step + total === 0 ? "" : `step ${step}` + (total ? ` of ${total}` : "") + (line ? `, epoch ${line.epoch.toFixed(2)}` : "");
	byId("left").textContent = timeLeft(kind, total - step);
	document.title = (total && !summary() ? Math.floor(100 * share) + "% " : "") + s.name + ", " + text;
	byId("configuration").hidden = !run().config;
	byId("yaml").textContent = run().config || "";
	byId("report").hidden = !s.report;
}

function timeLeft(kind, steps) {
	if (kind === "finished") return `${duration(summary().train_seconds)} in steps`;
	const speed = promptRate();
	if (!(steps > 0) || !speed || !run().prompts_per_step || kind === "waiting") return "";
	const seconds = steps * run().prompts_per_step / speed;
	if (kind !== "training") return `${duration(seconds)} of steps left`;
	const end = new Date(Date.now() + 1000 * seconds);
	const clock = end.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
	return `about ${duration(seconds)} left, until ${seconds > 20 * 3600 ? end.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" }) + " " : ""}${clock}`;
}

function showTiles() {
	const m = last(seen.train) || {}, e = last(seen.evals), tiles = [];
	const tile = (name, value, note) => { if (typeof value === "number") tiles.push([name, brief(value), note || ""]); };
	tile("Loss", m.loss);
	tile("Pairwise accuracy", m.pairwise_accuracy);
	if (e) {
		tile("Held-out loss", e.eval_loss, "at step " + e.step);
		tile("Held-out accuracy", e.eval_pairwise_accuracy, `over ${e.eval_groups} groups`);
	}
	tile("Prompts per second", m.prompts_per_second, m.tokens_per_second ? brief(m.tokens_per_second) + " tokens" : "");
	if (m.model_flops_utilization > 0) tiles.push(["Share of peak", Math.round(100 * m.model_flops_utilization) + "%", "of matrix products"]);
	if (m.nonfinite_steps > 0) tile("Skipped steps", m.nonfinite_steps, "not finite");
	byId("tiles").replaceChildren();
	for (const [name, value, note] of tiles) {
		const box = create(byId("tiles"), "div", { class: "card tile" });
		create(box, "div", { class: "name" }, name);
		create(box, "div", { class: "value" }, value);
		if (note) create(box, "div", { class: "note" }, note);
	}
}

function showCharts() {
	const pair = (field) => [
		{ name: "training", color: "--train", points: curve(seen.train, field) },
		{ name: "held out", color: "--eval", dots: true, points: curve(seen.evals, "eval_" + field) },
	];
	const one = field => [{ name: "", color: "--train", points: curve(seen.train, field) }];
	loss.set(pair("loss"));
	accuracy.set(pair("pairwise_accuracy"));
	margin.set(one("margin_mean"));
	const spread = seen.train.filter(m => typeof m.score_mean === "number" && typeof m.score_std === "number");
	score.set([...one("score_mean"), { band: true, points: spread.map(m => [m.step, m.score_mean - m.score_std, m.score_mean + m.score_std]) }]);
	gradient.set(one("grad_norm"));
	rate.set(one("learning_rate"));
	speed.set([
		{ name: "read", color: "--train", points: curve(seen.train, "tokens_per_second") },
		{ name: "computed", color: "--eval", points: curve(seen.train, "rows_per_second") },
	]);
}

function showRanks() {
	const shares = (last(seen.train) || {}).per_rank_accuracy || [];
	rankBox.hidden = shares.length === 0;
	ranks.replaceChildren();
	shares.forEach((share, i) => {
		create(ranks, "span", {}, i === 0 ? "best" : String(i + 1));
		create(create(ranks, "div", { class: "bar" }), "i", { style: `width:${100 * share}%` });
		create(ranks, "span", {}, (100 * share).toFixed(1) + "%");
	});
}

function showFields() {
	byId("fields").replaceChildren();
	for (const [name, value] of Object.entries({ ...last(seen.evals), ...last(seen.train) })) {
		const row = create(byId("fields"), "div", {});
		create(row, "span", {}, name.replaceAll("_", " "));
		create(row, "span", {}, Array.isArray(value) ? value.map(brief).join("  ") : typeof value === "number" ? brief(value) : String(value));
	}
}

function showEmpty() {
	const empty = seen.train.length + seen.evals.length === 0, s = seen.status;
	byId("empty").hidden = !empty || !s;
	byId("body").hidden = empty;
	if (empty && s) {
		byId("empty").textContent = !s.exists ? "This folder does not exist yet. The page fills when a run starts in it."
			: s.run ? "Training has begun. The first line comes after train.logging_steps steps."
				: "No run has started here yet. The page fills when one does.";
	}
}

let drawing = false, stale = false;
function show(all) {
	stale = stale || all;
	if (drawing) return;
	drawing = true;
	requestAnimationFrame(() => {
		drawing = false;
		showEmpty();
		showHead();
		if (!stale) return;
		stale = false;
		showTiles();
		showRanks();
		showFields();
		showCharts();
	});
}

const source = new EventSource("events");
source.onopen = () => { seen.connected = true; show(false); };
source.onerror = () => { seen.connected = false; show(false); };
source.addEventListener("reset", () => { seen.train = []; seen.evals = []; show(true); });
source.addEventListener("run", e => { seen.status = JSON.parse(e.data); show(false); });
source.addEventListener("problem", e => { seen.problem = JSON.parse(e.data); show(false); });
source.addEventListener("lines", e => {
	for (const m of JSON.parse(e.data)) {
		if (typeof m.step === "number") ("eval_loss" in m ? seen.evals : seen.train).push(m);
	}
	seen.problem = "";
	show(true);
});
new ResizeObserver(() => show(true)).observe(byId("charts"));
