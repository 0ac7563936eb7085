"""Writes schedules.json: the learning rates that transformers' schedules give.

    python golden.py > schedules.json

Each list holds the rate that the optimizer uses in steps 1, 2, ..., total.
"""

import json
import sys

import torch
import transformers
from transformers import optimization as o


def rates(make, lr, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = make(optimizer)
    out = []
    for _ in range(total):
        out.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return out


cases = []
for lr, warmup, total in [(1e-5, 0, 7), (3e-3, 4, 19), (2e-5, 30, 30), (1e-4, 40, 25)]:
    for kind, make in {
        "constant": lambda opt: o.get_constant_schedule_with_warmup(opt, warmup),
        "linear": lambda opt: o.get_linear_schedule_with_warmup(opt, warmup, total),
        "cosine": lambda opt: o.get_cosine_schedule_with_warmup(opt, warmup, total),
        "cosine_with_min_lr": lambda opt: o.get_cosine_with_min_lr_schedule_with_warmup(
            opt, warmup, total, min_lr_rate=0.1
        ),
    }.items():
        cases.append(
            {
                "lr_scheduler_type": kind,
                "learning_rate": lr,
                "warmup_steps": warmup,
                "total_steps": total,
                "rates": rates(make, lr, total),
            }
        )

json.dump(
    {
        "recipe": "python golden.py > schedules.json",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cases": cases,
    },
    sys.stdout,
    indent=1,
)
print()
