"""Times a training step of `rmtrain doctor --bench` in PyTorch: python THIS TASK ANSWER

TASK    {"device", "threads", "dtype", "config", "groups": [[[id, ...], ...], ...], "steps", "period"}; best first
ANSWER  {"versions", "runs": [{"how", "seconds", "loss", "grad_norm"}, ...]}, or {"error"}

The network is a Llama trunk with a linear value head, written as one would for speed: fused attention, matrix products by
the library, no mask where causality is enough. Its weights are rmtrain's, so the first step's loss is, too. It is run in
the layouts that trainers use, of which the fastest is measured like rmtrain's.

  shared   a group in one row behind one copy of its prompt, with a mask
  grouped  a group as a right-padded batch
  padded   all conversations of the step as one right-padded batch
  perseq   one conversation at a time

In bfloat16 each of them is run with two kinds of weights, both with moments of AdamW in float32: "masters", which are
bfloat16 weights and gradients beside float32 masters, as in rmtrain, and "autocast" over float32 weights.
"""
import json
import platform
import sys
import time

LAYOUTS = ["shared", "grouped", "padded", "perseq"]


def fnv(name):
    h = 2166136261
    for c in name.encode():
        h = (h ^ c) * 16777619 & 0xFFFFFFFF
    return h


def uniform(torch, n, seed):
    """The numbers of cmd/rmtrain/bench.go."""
    x = (torch.arange(n, dtype=torch.int64) * 2654435761 + seed) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    x = (x * 0x45D9F3B) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    return (x.double() / 2**32 - 0.5).float()


def shapes(c):
    """Names, as rmtrain hashes them, and shapes of all weights."""
    q, kv = c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]
    yield "embed_tokens.weight", (c["vocab"], c["hidden"])
    for i in range(c["layers"]):
        at = "layers.%d." % i
        yield at + "input_layernorm.weight", (c["hidden"],)
        for name, rows in [("q", q), ("k", kv), ("v", kv)]:
            yield at + "self_attn.%s_proj.weight" % name, (rows, c["hidden"])
        yield at + "self_attn.o_proj.weight", (c["hidden"], q)
        yield at + "post_attention_layernorm.weight", (c["hidden"],)
        yield at + "mlp.gate_proj.weight", (c["ffn"], c["hidden"])
        yield at + "mlp.up_proj.weight", (c["ffn"], c["hidden"])
        yield at + "mlp.down_proj.weight", (c["hidden"], c["ffn"])
    yield "norm.weight", (c["hidden"],)
    yield "score.weight", (1, c["hidden"])


def weight(torch, name, shape, period, device, dtype):
    """The weights of rmtrain's doctor, which repeats the first numbers of a tensor."""
    if "norm" in name:
        return torch.ones(shape, device=device, dtype=dtype)
    n = 1
    for s in shape:
        n *= s
    first = (uniform(torch, min(n, period), fnv(name)) * 0.07).to(device=device, dtype=dtype)
    return first.repeat(-(-n // len(first)))[:n].view(shape)


class Model:
    def __init__(self, torch, task, weights):
        self.torch, self.F, self.config, self.device = torch, torch.nn.functional, task["config"], task["device"]
        self.autocast = weights == "autocast"
        stored = torch.bfloat16 if weights == "masters" else torch.float32
        self.weights = {n: torch.nn.Parameter(weight(torch, n, s, task["period"], self.device, stored)) for n, s in shapes(self.config)}
        self.updated = list(self.weights.values())
        if weights == "masters":
            self.updated = [torch.nn.Parameter(w.detach().float()) for w in self.weights.values()]
        self.optimizer = torch.optim.AdamW(self.updated, lr=1e-6, betas=(0.9, 0.95), eps=1e-8, weight_decay=0, fused=True)
        self.inverse = torch.tensor(self.config["inv_freq"], device=self.device)

    def ids(self, rows):
        return self.torch.tensor(rows, device=self.device)

    def linear(self, x, name):
        return self.F.linear(x, self.weights[name + ".weight"])

    def norm(self, x, name):
        w = self.weights[name + ".weight"]
        return self.F.rms_norm(x, (w.numel(),), w, self.config["eps"])

    def rotated(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return (x * cos + self.torch.cat((-b, a), -1) * sin).to(x.dtype)

    def attention(self, x, at, rotation, mask):
        c, (batch, rows, _) = self.config, x.shape
        q, k, v = (self.linear(x, at + n + "_proj").view(batch, rows, -1, c["head_dim"]).transpose(1, 2) for n in "qkv")
        q, k = self.rotated(q, *rotation), self.rotated(k, *rotation)
        shared = {} if c["heads"] == c["kv_heads"] else {"enable_gqa": True}
        out = self.F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, **shared)
        return self.linear(out.transpose(1, 2).reshape(batch, rows, -1), at + "o_proj")

    def trunk(self, ids, positions, mask):
        """Hidden states [batch, rows, hidden] of ids [batch, rows]. Without a mask a row sees those before it."""
        x = self.F.embedding(ids, self.weights["embed_tokens.weight"])
        angles = positions[:, None].float() * self.inverse
        rotation = angles.cos().repeat(1, 2).to(x.dtype), angles.sin().repeat(1, 2).to(x.dtype)
        for i in range(self.config["layers"]):
            at = "layers.%d." % i
            x = x + self.attention(self.norm(x, at + "input_layernorm"), at + "self_attn.", rotation, mask)
            y = self.norm(x, at + "post_attention_layernorm")
            y = self.F.silu(self.linear(y, at + "mlp.gate_proj")) * self.linear(y, at + "mlp.up_proj")
            x = x + self.linear(y, at + "mlp.down_proj")
        return self.norm(x, "norm")

    def scores(self, hidden):
        with self.torch.autocast(self.device.split(":")[0], enabled=False):
            return self.F.linear(hidden.float(), self.weights["score.weight"].float())[..., 0]

    def padded(self, conversations):
        """Scores. Padding is behind every row that counts, so causality hides it."""
        longest = max(map(len, conversations))
        ids = self.ids([c + [0] * (longest - len(c)) for c in conversations])
        hidden = self.trunk(ids, self.torch.arange(longest, device=self.device), None)
        return self.scores(hidden[self.torch.arange(len(conversations), device=self.device), self.ids([len(c) - 1 for c in conversations])])

    def shared(self, conversations):
        """Scores of conversations in one row, behind their common prompt."""
        p, torch = common_prefix(conversations), self.torch
        ids = conversations[0][:p] + [t for c in conversations for t in c[p:]]
        positions = list(range(p)) + [q for c in conversations for q in range(p, len(c))]
        owner = self.ids([-1] * p + [k for k, c in enumerate(conversations) for _ in c[p:]])
        row = torch.arange(len(ids), device=self.device)
        seen = ((owner[:, None] == owner) | (owner == -1)) & (row[:, None] >= row)
        hidden = self.trunk(self.ids([ids]), self.ids(positions), seen)
        return self.scores(hidden[0, p - 1 + self.ids([len(c) - p for c in conversations]).cumsum(0)])

    def passes(self, groups, layout):
        """Yields scores of groups; a backward pass follows each."""
        if layout == "padded":
            yield self.padded([c for g in groups for c in g]).split([len(g) for g in groups])
            return
        for g in groups:
            if layout == "perseq":
                yield [self.torch.cat([self.padded([c]) for c in g])]
            else:
                yield [self.padded(g) if layout == "grouped" else self.shared(g)]

    def step(self, groups, layout):
        total, passes = 0.0, self.passes(groups, layout)
        while True:
            with self.torch.autocast(self.device.split(":")[0], self.torch.bfloat16, enabled=self.autocast):
                scores = next(passes, None)
            if scores is None:
                break
            loss = sum(plackett_luce(self.torch, s) for s in scores) / len(groups)
            loss.backward()
            total += float(loss.detach())
        norm = self.update()
        return total, norm

    def update(self):
        """Clips and updates; returns the norm of the gradients."""
        stored = list(self.weights.values())
        if self.updated[0] is not stored[0]:
            for m, w in zip(self.updated, stored):
                m.grad, w.grad = w.grad.float(), None
        norm = float(self.torch.nn.utils.clip_grad_norm_(self.updated, 1.0))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.updated[0] is not stored[0]:
            with self.torch.no_grad():
                self.torch._foreach_copy_(stored, self.updated)
        return norm


def common_prefix(conversations):
    n, most = 0, min(map(len, conversations)) - 1
    while n < most and all(c[n] == conversations[0][n] for c in conversations):
        n += 1
    return n


def plackett_luce(torch, scores):
    """Of scores, the best conversation's first; the mean over pairs."""
    k = len(scores)
    return sum(torch.logsumexp(scores[i:], 0) - scores[i] for i in range(k - 1)) / (k * (k - 1) / 2)


def seconds(torch, task, work):
    def finish():
        if task["device"] != "cpu":
            torch.cuda.synchronize(task["device"])

    finish()
    start = time.perf_counter()
    result = work()
    finish()
    return time.perf_counter() - start, result


def trial(torch, task, kind, layout, steps, best):
    """Times steps after one to warm up. On a CPU the first is as slow as others: there a way is given up by it."""
    model = Model(torch, task, kind)
    first, (loss, norm) = seconds(torch, task, lambda: model.step(task["groups"], layout))
    run = {"how": layout + ", " + kind, "seconds": first, "loss": loss, "grad_norm": norm}
    if task["device"] == "cpu" and first > 3 * best:
        return run
    took, _ = seconds(torch, task, lambda: [model.step(task["groups"], layout) for _ in range(steps)])
    return {**run, "seconds": took / steps}


def runs(torch, task):
    """Tries all ways, each with a new model, and measures the fastest again, as long as rmtrain was."""
    kinds, found, best = ["masters", "autocast"] if task["dtype"] == "bfloat16" else ["float32"], [], None
    for kind, layout in [(k, l) for k in kinds for l in LAYOUTS]:
        try:
            found.append(trial(torch, task, kind, layout, 1, best[0] if best else float("inf")))
            if not best or found[-1]["seconds"] < best[0]:
                best = found[-1]["seconds"], kind, layout, len(found) - 1
        except torch.OutOfMemoryError:
            found.append({"how": layout + ", " + kind, "error": "out of memory"})
        if task["device"] != "cpu":
            torch.cuda.empty_cache()
    if best:
        _, kind, layout, at = best
        found[at] = trial(torch, task, kind, layout, task["steps"], float("inf"))
    return found


def run(task):
    try:
        import torch
    except ImportError as e:
        return {"error": "this Python cannot import torch (%s): pip install torch" % e}
    if not hasattr(torch, "OutOfMemoryError"):
        return {"error": "torch %s is too old: pip install 'torch>=2.5'" % torch.__version__}
    if task["device"] != "cpu" and not torch.cuda.is_available():
        built = "is for CUDA %s and sees no GPU that it can use: is the driver older?" % torch.version.cuda
        if torch.version.cuda is None:
            built = "was built without CUDA: pip install one that has it"
        return {"error": "torch %s %s" % (torch.__version__, built)}
    torch.set_num_threads(task["threads"])
    return {"versions": {"python": platform.python_version(), "torch": torch.__version__}, "runs": runs(torch, task)}


def main():
    task, answer = sys.argv[1:]
    try:
        with open(task, encoding="utf-8") as f:
            result = run(json.load(f))
    except Exception as e:  # whatever it is, the caller has to print it
        result = {"error": "the step in PyTorch failed: %s: %s" % (type(e).__name__, e)}
    with open(answer, "w", encoding="utf-8") as f:
        json.dump(result, f)


main()
