"""Times rmtrain against PyTorch on the same token ids, in turns, and writes docs/benchmarks/cpu.md.

usage: python docs/benchmarks/run.py [--rmtrain bin/rmtrain] [--out docs/benchmarks/cpu.md] [--quick] [--only PART] [--dtype TYPE]

A row is written when it is measured; rows of that file that this run does not measure stay if they come from the
same processor and software, and so does all text from the first heading on.

Models and ids come from a seed. Of each workload PyTorch first tries every layout of torch_peer.py; its
fastest competes. Then both sides repeat the work in turns: one warm-up and --repeats measurements, of which
the table shows the median. "taken" is how much of the machine other processes had meanwhile, as a share of
all cores, the largest of the counted repetitions.
"""
import argparse, json, os, platform, random, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
CORES = len(os.sched_getaffinity(0))


def llama(layers, hidden, ffn, heads, kv, dim, vocab, theta):
    return dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", num_hidden_layers=layers,
                hidden_size=hidden, intermediate_size=ffn, num_attention_heads=heads, num_key_value_heads=kv,
                head_dim=dim, vocab_size=vocab, max_position_embeddings=2048, rms_norm_eps=1e-5, rope_theta=theta,
                tie_word_embeddings=True, attention_bias=False, mlp_bias=False)


SMOL = llama(30, 576, 1536, 9, 3, 64, 49152, 100000.0)
TINY = llama(2, 128, 384, 8, 4, 16, 2048, 10000.0)


def ranked(seed, vocab, tokens, groups):
    """Groups of 7 answers with lengths as spread as those of real ones, and so many tokens in all."""
    r = random.Random(seed)
    prompts = [r.lognormvariate(4.3, 0.7) for _ in range(groups)]
    answers = [[r.lognormvariate(5.2, 0.7) for _ in range(7)] for _ in range(groups)]
    scale = tokens / sum(7 * p + sum(a) for p, a in zip(prompts, answers))
    return [group(r, vocab, max(1, int(p * scale)), [max(1, int(x * scale)) for x in a]) for p, a in zip(prompts, answers)]


def group(r, vocab, prompt, answers):
    ids = lambda n: [r.randrange(3, vocab) for _ in range(n)]
    start = ids(prompt)
    return [start + ids(n) for n in answers]


def workloads(quick):
    """Name, goal, spec: the goal is the least ratio of PyTorch's time to rmtrain's."""
    gemms = [(1850, 576, 1536), (1850, 2048, 5632), (1850, 4096, 11008)]
    smol, tiny, groups, times = SMOL, TINY, 8, 4
    if quick:
        smol, gemms, groups, times = dict(SMOL, num_hidden_layers=1, vocab_size=512), [(100, 64, 96)], 2, 2
    for dtype in ("float32", "bfloat16"):
        for m, k, n in gemms:
            for form in ("NT", "NN", "TN"):
                goal = 0.95 if dtype == "float32" else 1.2 if form == "TN" else 0.9
                yield f"GEMM {form} {m} x {k} x {n}", goal, dict(kind="gemm", dtype=dtype, form=form, M=m, K=k, N=n, times=times)
    two = ranked(1, smol["vocab_size"], 150 if quick else 4045, 2)
    many = ranked(2, tiny["vocab_size"], 300 if quick else 18655, groups)
    r, shrink = random.Random(3), 20 if quick else 1
    long = lambda vocab: [group(r, vocab, 600 // shrink, [200 // shrink] * 7)]
    one = lambda vocab: [group(r, vocab, 0, [300])]
    model = lambda kind, dtype, config, ids: dict(kind=kind, dtype=dtype, config=config, groups=ids, rows=2048)  # rmtrain's default; PyTorch computes a group at a time
    yield "training step, SmolLM-135M shape, 2 groups", 1.65, model("train", "float32", smol, two)
    yield "training step, SmolLM-135M shape, 2 groups", 3, model("train", "bfloat16", smol, two)
    yield "scoring, SmolLM-135M shape, 2 groups", 1.8, model("score", "float32", smol, two)
    yield "scoring, SmolLM-135M shape, 2 groups", 2.5, model("score", "bfloat16", smol, two)
    yield f"training step, tinystories-656k shape, {groups} groups", 3, model("train", "float32", tiny, many)
    if not quick:
        yield "training step, SmolLM-135M shape, prompt of 600, 7 answers of 200", 1.65 * 1.9, model("train", "float32", smol, long(49152))
    yield "training step, tinystories-656k shape, prompt of 600, 7 answers of 200", 3 * 1.9, model("train", "float32", tiny, long(2048))
    yield "one conversation of 300 tokens, SmolLM-135M shape", 1.5, model("score", "float32", smol, one(smol["vocab_size"]))
    yield "one conversation of 300 tokens, tinystories-656k shape", 1.5, model("score", "float32", tiny, one(2048))


def busy():
    """Seconds that the machine's cores have worked; steal, what the host took, counts."""
    t = list(map(int, open("/proc/stat").readline().split()[1:9]))
    return (sum(t) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK")


class Side:
    """A process that repeats a workload when told to."""

    def __init__(self, command, threads=CORES):
        self.started, self.reps, self.first = time.perf_counter(), [], None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, GOMAXPROCS=str(threads)))

    def repeat(self):
        before, start = busy(), time.perf_counter()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("benchmark: %s ended" % " ".join(self.process.args))
        rep = json.loads(line)
        wall = time.perf_counter() - start
        rep["taken"] = min(1.0, max(0.0, busy() - before - rep["cpu_seconds"]) / wall / CORES)
        if self.first is None:
            self.first = time.perf_counter() - self.started
        self.reps.append(rep)

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def median(self, key):
        return statistics.median(r[key] for r in self.reps[1:])

    def taken(self):
        return max(r["taken"] for r in self.reps[1:])


def measure(o, spec, folder):
    spec = dict(spec, threads=o.threads)
    path = os.path.join(folder, "spec.json")

    def write(dtype):
        json.dump(dict(spec, dtype=dtype), open(path, "w"))
        return path

    peer = [o.python, os.path.join(HERE, "torch_peer.py")]
    layout, dtype = "-", spec["dtype"]
    if spec["kind"] != "gemm":
        # Without AMX bfloat16 is slower than float32; then the latter competes, too.
        tries = []
        for d in {spec["dtype"]} if "amx_bf16" in processor() else {spec["dtype"], "float32"}:
            found = json.loads(subprocess.run(peer + [write(d), "explore"], capture_output=True, text=True, check=True).stdout)
            tries += [(t, name, d) for t, name in found]
        _, layout, dtype = min(tries)
    elif dtype == "bfloat16":
        dtype = min("bfloat16", "float32", key=lambda d: once(peer + [write(d), "-"]))
    theirs, ours = None, None
    try:
        # Startup is timed one after the other, each to its first repetition.
        theirs = Side(peer + [write(dtype), layout])
        theirs.repeat()
        ours = Side([o.rmtrain, "bench", write(spec["dtype"])], o.threads)
        ours.repeat()
        for _ in range(o.repeats):
            time.sleep(0.2)
            theirs.repeat()
            time.sleep(0.2)
            ours.repeat()
    finally:
        for side in (theirs, ours):
            if side:
                side.close()
    check(spec, theirs, ours)
    return theirs, ours, layout, dtype


def once(command):
    side = Side(command)
    side.repeat()
    side.repeat()
    side.close()
    return side.reps[1]["seconds"]


def check(spec, theirs, ours):
    """Both sides computed the same: the scores before the first update, within a share of their size."""
    a, b = theirs.reps[0].get("scores", []), ours.reps[0].get("scores", [])
    limit = 1e-3 if spec["dtype"] == "float32" else 0.1
    size = max(map(abs, a), default=1)
    if len(a) != len(b) or not all(abs(x - y) < limit * size for x, y in zip(a, b)):
        sys.exit(f"benchmark: the sides disagree: PyTorch scores {a}, rmtrain {b}")


def amount(spec, seconds):
    if spec["kind"] != "gemm":
        return f"{seconds:.3f} s" if seconds >= 0.1 else f"{seconds * 1e3:.1f} ms"
    return f"{2e-9 * spec['M'] * spec['K'] * spec['N'] * spec['times'] / seconds:.0f} GFLOP/s"


def processor():
    info = open("/proc/cpuinfo").read()
    name = next((l.split(":", 1)[1].strip() for l in info.splitlines() if l.startswith("model name")), platform.machine())
    sets = [s for s in ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "fma") if f" {s} " in info]
    return f"{name}, {CORES} cores, {' '.join(sets)}"


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rmtrain", default="bin/rmtrain")
    a.add_argument("--python", default=sys.executable)
    a.add_argument("--out", default=os.path.join(HERE, "cpu.md"))
    a.add_argument("--repeats", type=int, default=5)
    a.add_argument("--threads", type=int, default=CORES, help="of both sides")
    a.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    a.add_argument("--only", default="", help="workloads with this in their names")
    a.add_argument("--dtype", default="", help="workloads of this type: float32 or bfloat16")
    o = a.parse_args()
    version = subprocess.run([o.python, "-c", "import torch, transformers; print('PyTorch', torch.__version__ + ', transformers', transformers.__version__)"], capture_output=True, text=True, check=True).stdout.strip()
    page = Page(o.out, version, [(name, spec["dtype"]) for name, _, spec in workloads(o.quick)])
    with tempfile.TemporaryDirectory() as folder:
        for place, (name, goal, spec) in enumerate(workloads(o.quick)):
            if o.only not in name or o.dtype not in spec["dtype"]:
                continue
            theirs, ours, layout, dtype = measure(o, spec, folder)
            t, u = theirs.median("seconds"), ours.median("seconds")
            memory = " / ".join(f"{s.reps[-1]['peak_bytes'] / 2**30:.2f}" for s in (theirs, ours))
            peer = layout if dtype == spec["dtype"] else f"{layout}, {dtype}"
            row = (f"| {name} | {spec['dtype']} | {peer} | {amount(spec, t)} | {amount(spec, u)} | {t / u:.2f} | {goal:.2f} "
                   f"| {theirs.first:.2f} / {ours.first:.2f} | {memory} | {theirs.taken():.0%} / {ours.taken():.0%} |")
            print(row, flush=True)
            page.add(place, row, ours.reps[0]["backend"].split(",")[0] + ")")


class Page:
    """The page of results: what is above its first heading is written anew with every row."""

    def __init__(self, path, version, order):
        self.path, self.version, self.rows, self.rest = path, version, {}, ""
        old = open(path).read() if os.path.exists(path) else ""
        top, heading, rest = old.partition("\n## ")
        self.rest = heading + rest
        if self.machine() in top:
            for line in top.splitlines():
                cells = tuple(c.strip() for c in line.split("|")[1:3])
                if cells in order:
                    self.rows[order.index(cells)] = line

    def machine(self):
        return f"Processor: {processor()}.\nSoftware: {self.version}, Python {platform.python_version()}"

    def add(self, place, row, backend):
        self.rows[place] = row
        head = ["work", "type", "PyTorch's fastest", "PyTorch", "rmtrain", "ratio", "goal", "start to first, s", "peak memory, GiB", "taken by others"]
        text = ["# rmtrain and PyTorch on a CPU", "", f"Measured by `make bench-cpu`, the last row on {time.strftime('%Y-%m-%d')}.", "",
                f"{self.machine()}; rmtrain `{backend}`.", "",
                "Ratio is PyTorch's time over rmtrain's, medians of repetitions in turns after a warm-up; two numbers",
                "are PyTorch's and rmtrain's. A repetition while others took the machine proves little: see the last",
                "column. How it is done, and the layouts that PyTorch may choose from: `run.py`, `torch_peer.py`.", "",
                "| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + [self.rows[i] for i in sorted(self.rows)]
        with open(self.path + ".tmp", "w") as f:
            f.write("\n".join(text) + "\n" + self.rest)
        os.replace(self.path + ".tmp", self.path)


if __name__ == "__main__":
    main()
