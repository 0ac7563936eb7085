"""Writes golden.json: losses and gradients of ranking losses by PyTorch's autograd.

    python loss/testdata/golden.py > loss/testdata/golden.json

Every loss is spelled out here from its definition, one answer at a time, and
shares no code or layout with the Go package. Needs torch only (float64, CPU).
"""

import json
import random

import torch
import torch.nn.functional as F


def margin(ranks, i, j, step, extra):
    """What answer i is to be ahead of the worse answer j by."""
    level = {r: n for n, r in enumerate(sorted(set(ranks)))}
    return step * (level[ranks[j]] - level[ranks[i]]) + extra


def bradley_terry(s, ranks, step, extra):
    pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if ranks[i] < ranks[j]]
    total = torch.zeros((), dtype=s.dtype)
    for i, j in pairs:
        total = total - F.logsigmoid(s[i] - s[j] - margin(ranks, i, j, step, extra))
    return total, len(pairs)


def plackett_luce(s, ranks, step, extra, ties, places):
    total = torch.zeros((), dtype=s.dtype)
    for rank in sorted(set(ranks)):
        tied = [i for i in range(len(s)) if ranks[i] == rank]
        worse = [j for j in range(len(s)) if ranks[j] > rank]
        if sum(r < rank for r in ranks) >= places:
            break
        hazard = sum((torch.exp(s[j] + margin(ranks, tied[0], j, step, extra)) for j in worse), torch.zeros((), dtype=s.dtype))
        own = sum(torch.exp(s[i]) for i in tied)
        for n, i in enumerate(tied):
            competitors = {"breslow": own, "efron": own * (1 - n / len(tied)), "drop": torch.exp(s[i])}[ties]
            total = total + torch.log(competitors + hazard) - s[i]
    return total


def direction(s, ranks, c, extra):
    k = len(s)
    divisor = {"pairs": k * (k - 1) / 2, "terms": k - 1, "sum": 1}[c["normalization"]]
    if c["type"] == "bradley_terry":
        total, pairs = bradley_terry(s, ranks, c["margin"], extra)
        return total / (max(pairs, 1) if c["normalization"] == "pairs" else divisor)
    places = c["m"] if c["type"] == "top_m_plackett_luce" else k
    return plackett_luce(s, ranks, c["margin"], extra, c["ties"], places) / divisor


def loss(s, ranks, c, extra):
    e = c["label_smoothing"]
    total = (1 - e) * direction(s, ranks, c, extra) + e * direction(s, [-r for r in ranks], c, extra)
    return total + c["center"] * (s**2).mean()


def main():
    rng = random.Random(0)
    groups = []
    for k in (2, 3, 4, 5, 7, 7, 9):
        ranks = rng.sample(range(1, k + 1), k) if len(groups) % 2 else [rng.randint(1, k) for _ in range(k)]
        scores = [round(rng.gauss(0, 3), 3) for _ in range(k)]
        groups.append({"scores": scores, "ranks": ranks, "margin": rng.choice([0, 0.75])})
    groups.append({"scores": [0.0] * 7, "ranks": list(range(1, 8)), "margin": 0})
    groups.append({"scores": [1.0, -2.0, 0.5], "ranks": [2, 2, 2], "margin": 0.5})

    cases = []
    for kind, m in (("plackett_luce", 0), ("top_m_plackett_luce", 3), ("bradley_terry", 0)):
        for ties in ("efron", "breslow", "drop"):
            for step, center, smoothing in ((0, 0, 0), (0.4, 0.01, 0.1)):
                if kind == "bradley_terry" and ties != "efron":
                    continue
                norm = ("pairs", "terms", "sum")[len(cases) % 3]
                c = {"type": kind, "m": m, "ties": ties, "normalization": norm,
                     "margin": step, "center": center, "label_smoothing": smoothing}
                losses, grads = [], []
                for g in groups:
                    s = torch.tensor(g["scores"], dtype=torch.float64, requires_grad=True)
                    value = loss(s, g["ranks"], c, g["margin"])
                    value.backward()
                    losses.append(value.item())
                    grads.append(s.grad.tolist())
                cases.append({"config": c, "losses": losses, "grads": grads})

    lines = ",\n".join(json.dumps(c) for c in cases)
    print('{"command": "python loss/testdata/golden.py", "torch": "%s", "seed": 0,' % torch.__version__)
    print('"groups": %s,\n"cases": [\n%s\n]}' % (json.dumps(groups), lines))


if __name__ == "__main__":
    main()
