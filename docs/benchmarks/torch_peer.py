"""The PyTorch side of run.py: one workload of a JSON file, once per line of standard input.

The network is Hugging Face's LlamaModel with a linear value head, in the layouts that trainers use:

  padded   all conversations of a step as one right-padded batch
  grouped  padded, one group per forward and backward pass
  sorted   padded micro-batches of 8 conversations of similar length
  perseq   one conversation at a time: no padding, no mask
  packed   a group in one row, block-diagonal causal mask
  shared   a group in one row behind one copy of its prompt

bfloat16 means autocast over float32 weights. Scoring may also choose weights in bfloat16 (padded/bf16, ...), as
Hugging Face loads them with torch_dtype.

explore times each of them and prints the fastest first.
"""
import json, os, resource, sys, time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
import torch.nn.functional as F

LAYOUTS = ["padded", "grouped", "sorted", "perseq", "packed", "shared"]


def fnv(name):
    h = 2166136261
    for c in name.encode():
        h = (h ^ c) * 16777619 & 0xFFFFFFFF
    return h


def uniform(n, seed):
    """The numbers of cmd/rmtrain/bench.go."""
    x = (torch.arange(n, dtype=torch.int64) * 2654435761 + seed) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    x = (x * 0x45D9F3B) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    return (x.double() / 2**32 - 0.5).float()


class RewardModel(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        self.trunk = LlamaModel._from_config(LlamaConfig(**config), attn_implementation="sdpa")
        self.score = torch.nn.Linear(config["hidden_size"], 1, bias=False)
        with torch.no_grad():
            for name, p in self.trunk.named_parameters():
                if "norm" in name:
                    p.fill_(1)
                else:
                    p.copy_((uniform(p.numel(), fnv(name)) * 0.07).view_as(p))
            self.score.weight.copy_((uniform(self.score.weight.numel(), fnv("score.weight")) * 0.07).view(1, -1))

    def head(self, hidden):
        return F.linear(hidden.float(), self.score.weight.float())[..., 0]

    def padded(self, seqs):
        longest = max(map(len, seqs))
        ids = torch.zeros(len(seqs), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for k, s in enumerate(seqs):
            ids[k, : len(s)] = torch.tensor(s)
            mask[k, : len(s)] = 1
        full = int(mask.min()) == 1
        hidden = self.trunk(ids, attention_mask=None if full else mask, use_cache=False).last_hidden_state
        return self.head(hidden[torch.arange(len(seqs)), torch.tensor([len(s) - 1 for s in seqs])])

    def one_row(self, seqs, share):
        p = common_prefix(seqs) if share else 0
        ids = seqs[0][:p] + [t for s in seqs for t in s[p:]]
        positions = list(range(p)) + [q for s in seqs for q in range(p, len(s))]
        owner = torch.tensor([-1] * p + [k for k, s in enumerate(seqs) for _ in s[p:]])
        row = torch.arange(len(ids))
        seen = ((owner[:, None] == owner) | (owner == -1)) & (row[:, None] >= row)
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else self.score.weight.dtype
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))[None, None]
        hidden = self.trunk(torch.tensor([ids]), attention_mask=mask, position_ids=torch.tensor([positions]), use_cache=False).last_hidden_state
        return self.head(hidden[0, p - 1 + torch.tensor([len(s) - p for s in seqs]).cumsum(0)])


def common_prefix(seqs):
    n, most = 0, min(map(len, seqs)) - 1
    while n < most and all(s[n] == seqs[0][n] for s in seqs):
        n += 1
    return n


def passes(model, groups, layout):
    """Yields the scores of runs of groups; a training step runs backward after each."""
    if layout == "padded":
        sizes = [len(g) for g in groups]
        yield list(model.padded([s for g in groups for s in g]).split(sizes))
    elif layout in ("grouped", "packed", "shared"):
        for g in groups:
            yield [model.padded(g) if layout == "grouped" else model.one_row(g, layout == "shared")]
    else:
        order = sorted(((len(s), i, k) for i, g in enumerate(groups) for k, s in enumerate(g)), reverse=True)
        value, micro = {}, 1 if layout == "perseq" else 8
        for at in range(0, len(order), micro):
            part = order[at : at + micro]
            for (_, i, k), v in zip(part, model.padded([groups[i][k] for _, i, k in part])):
                value[i, k] = v
        yield [torch.stack([value[i, k] for k in range(len(g))]) for i, g in enumerate(groups)]


def plackett_luce(s):
    k = len(s)
    return sum(torch.logsumexp(s[i:], 0) - s[i] for i in range(k - 1)) / (k * (k - 1) / 2)


def layouts(spec):
    if (spec["kind"], spec["dtype"]) == ("score", "bfloat16"):
        return LAYOUTS + [name + "/bf16" for name in LAYOUTS]
    return LAYOUTS


class Work:
    def __init__(self, spec):
        self.spec, self.groups = spec, spec["groups"]
        torch.manual_seed(0)
        self.model = RewardModel(spec["config"]).train(spec["kind"] == "train")
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0, fused=True)

    def repeat(self, layout):
        layout, _, stored = layout.partition("/")
        if stored:
            self.model.bfloat16()
        bf16 = torch.autocast("cpu", torch.bfloat16, enabled=self.spec["dtype"] == "bfloat16" and not stored)
        if self.spec["kind"] == "score":
            with torch.inference_mode(), bf16:
                scores = [s for part in passes(self.model, self.groups, layout) for s in part]
            return {"scores": scores[0].tolist()}
        first, total, parts = None, 0.0, passes(self.model, self.groups, layout)
        while True:
            with bf16:
                part = next(parts, None)
            if part is None:
                break
            first = first if first is not None else part[0].tolist()
            loss = sum(plackett_luce(s.float()) for s in part) / len(self.groups)
            loss.backward()
            total += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"scores": first, "loss": total, "grad_norm": norm}


class Products:
    def __init__(self, spec):
        dtype = getattr(torch, spec["dtype"])
        m, k, n = spec["M"], spec["K"], spec["N"]
        x, w, y = (uniform(a * b, i + 1).view(a, b).to(dtype) for i, (a, b) in enumerate([(m, k), (n, k), (m, n)]))
        dw = torch.empty(n, k, dtype=dtype)
        self.times = spec["times"]
        self.product = {
            "NT": lambda: torch.mm(x, w.T, out=y),
            "NN": lambda: torch.mm(y, w, out=x),
            "TN": lambda: torch.mm(y.T, x, out=dw),
        }[spec["form"]]

    def repeat(self, _):
        for _ in range(self.times):
            self.product()
        return {}


def main():
    spec = json.load(open(sys.argv[1]))
    torch.set_num_threads(spec["threads"])
    work = Products(spec) if spec["kind"] == "gemm" else Work(spec)
    if sys.argv[2] == "explore":
        found = []
        for layout in layouts(spec):
            work.repeat(layout)
            start = time.perf_counter()
            work.repeat(layout)
            found.append([time.perf_counter() - start, layout])
        print(json.dumps(sorted(found)), flush=True)
        return
    for _ in sys.stdin:
        start, before = time.perf_counter(), time.process_time()
        result = work.repeat(sys.argv[2])
        result["seconds"] = time.perf_counter() - start
        result["cpu_seconds"] = time.process_time() - before
        result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
