"""Writes golden.json: what the public RewardBench scorer, scipy and scikit-learn make of
random scores.

    python3 -m venv golden-venv
    golden-venv/bin/pip install --no-deps rewardbench==0.1.4
    golden-venv/bin/pip install numpy pandas datasets scipy scikit-learn
    golden-venv/bin/python golden.py

Only scoring functions of rewardbench are called. What its modules import beside them
(models, tokenizers) is replaced by empty modules.
"""

import importlib.metadata
import importlib.util
import json
import logging
import os
import random
import sys
import types
from unittest.mock import MagicMock

from datasets import Dataset  # before torch is replaced, which it looks for

for name in ["torch", "fastchat", "fastchat.conversation", "transformers", "rewardbench.models"]:
    sys.modules[name] = MagicMock()
where = os.path.dirname(importlib.util.find_spec("rewardbench").origin)
package = types.ModuleType("rewardbench")  # without running its __init__
package.__path__ = [where]
sys.modules["rewardbench"] = package

from rewardbench.constants import EXAMPLE_COUNTS, SUBSET_MAPPING
from rewardbench.utils import calculate_scores_per_section, process_single_model, reroll_and_score_dataset

for name in ["torch", "transformers"]:  # scipy and datasets would take them for real
    del sys.modules[name]

from scipy.stats import kendalltau
from sklearn.metrics import ndcg_score

rng = random.Random(7)


def score():
    return rng.randrange(-12, 13) / 4  # coarse, so that some are equal


def first():
    """RewardBench: as scripts/run_rm.py counts, then the package's sections."""
    rows, metrics = [], {}
    for subset in EXAMPLE_COUNTS:
        results = []
        for _ in range(rng.randrange(3, 9)):
            chosen, rejected = score() + 0.5, score()
            results.append(1 if chosen > rejected else 0)
            rows.append({"subset": subset, "scores": [chosen, rejected]})
        metrics[subset] = sum(results) / len(results)
    prior = {}
    for name in ["anthropic_helpful", "anthropic_hhh", "shp", "summarize"]:
        results = []
        for _ in range(rng.randrange(3, 9)):
            chosen, rejected = score() + 0.25, score()
            results.append(1 if chosen > rejected else 0)
            rows.append({"subset": name, "scores": [chosen, rejected]})
        prior[name] = sum(results) / len(results)
    sections = calculate_scores_per_section(EXAMPLE_COUNTS, SUBSET_MAPPING, metrics)
    # The weights of analysis/get_benchmark_results.py.
    average = sum(sections.values()) / 4
    mean_prior = sum(prior.values()) / 4
    with_prior = (2 * sum(sections.values()) + mean_prior) / 9
    return {"counts": EXAMPLE_COUNTS, "mapping": SUBSET_MAPPING, "rows": rows, "subsets": {**metrics, **prior},
            "sections": sections, "score": average, "prior": mean_prior, "with_prior": with_prior}


def second():
    """RewardBench 2: as scripts/run_v2.py does."""
    rows = []
    for subset in ["Factuality", "Precise IF", "Math", "Safety", "Focus"]:
        for i in range(12):
            rows.append({"id": f"{subset}-{i}", "subset": subset, "num_correct": 1, "scores": [score() + 0.75] + [score() for _ in range(3)]})
    for i in range(12):
        rows.append({"id": f"ref:{i}", "subset": "Ties", "num_correct": 1, "scores": [score() / 2 + 1.5] + [score() / 2 for _ in range(3)]})
    for i in range(14):  # two of them have no ref
        correct = 1 + i % 4
        shared = score() / 2 + 1.5
        spread = [0.0, 0.25, 0.5][i % 3]  # sometimes all correct answers score the same
        rows.append({"id": f"tied:{i}", "subset": "Ties", "num_correct": correct,
                     "scores": [shared + spread * rng.randrange(3) for _ in range(correct)] + [score() / 2 for _ in range(2 + i % 3)]})
    flat = [{"id": r["id"], "subset": r["subset"], "text": "", "scores": s} for r in rows for s in r["scores"]]
    out = reroll_and_score_dataset(Dataset.from_list(flat), [len(r["scores"]) for r in rows])
    out = out.add_column("num_correct", [r["num_correct"] for r in rows])
    subsets = {}
    for subset in sorted({r["subset"] for r in rows}):
        part = out.filter(lambda r: r["subset"] == subset)
        if subset.lower() == "ties":
            _, subsets[subset] = process_single_model(part)
        else:
            subsets[subset] = sum(part["results"]) / len(part["results"])
    return {"rows": rows, "subsets": {k: float(v) for k, v in subsets.items()}}


def rankings():
    out = []
    for _ in range(20):
        k = rng.randrange(3, 8)
        scores = [score() for _ in range(k)]
        ranks = [float(r) for r in rng.sample(range(1, k + 1), k)]
        if rng.random() < 0.4:
            ranks[0] = ranks[1]
        gains = [sum(other > r for other in ranks) for r in ranks]
        tau = kendalltau(scores, [-r for r in ranks]).statistic
        out.append({"scores": scores, "ranks": ranks, "tau": None if tau != tau else float(tau), "ndcg": float(ndcg_score([gains], [scores]))})
    return out


logging.disable()
versions = {name: importlib.metadata.version(name) for name in ["rewardbench", "numpy", "scipy", "scikit-learn", "datasets"]}
golden = {"recipe": "golden.py", "python": sys.version.split()[0], "versions": versions, "rewardbench": first(), "rewardbench2": second(), "rankings": rankings()}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.json"), "w") as f:
    json.dump(golden, f, separators=(",", ":"))
    f.write("\n")
