"""Scores with transformers what `rmtrain verify` has scored: python THIS TASK ANSWER

TASK    {"folder", "dtype", "ids": [[...]], "texts": [...], "batch"}
ANSWER  {"scores", "padded", "exact", "read_at", "ids", "chat_template", "versions"}, or {"error"}
"""
import json
import math
import platform
import sys


def missing():
    """Says which packages there are not."""
    absent = []
    for name in ["torch", "transformers"]:
        try:
            __import__(name)
        except ImportError as e:
            absent.append("%s (%s)" % (name, e))
    if absent:
        return "this Python cannot import %s: pip install torch transformers" % " and ".join(absent)


def scores_of(model, batches, pad):
    import torch

    out = []
    for batch in batches:
        longest = max(map(len, batch))
        ids = torch.tensor([x + [pad] * (longest - len(x)) for x in batch])
        mask = torch.tensor([[1] * len(x) + [0] * (longest - len(x)) for x in batch])
        with torch.no_grad():
            out += model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
    return out


def read_at(ids, pad):
    """Where transformers reads the score: at the last id that is not the pad token."""
    if pad is None:
        return len(ids) - 1
    return max([i for i, x in enumerate(ids) if x != pad], default=0)


def encode(tokenizer, text):
    if text.get("messages"):
        ids = tokenizer.apply_chat_template(text["messages"], chat_template=text["template"], tokenize=True, add_generation_prompt=False)
        return ids if isinstance(ids, list) else ids["input_ids"]
    return tokenizer(text["text"], add_special_tokens=text["add_special_tokens"])["input_ids"]


def finite(numbers):
    """JSON has no words for others; 1e39 is none of float32's."""
    return [x if math.isfinite(x) else 1e39 for x in numbers]


def run(task):
    import tokenizers
    import torch
    import transformers
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(task["folder"])
    model = AutoModelForSequenceClassification.from_pretrained(task["folder"], torch_dtype=getattr(torch, task["dtype"])).eval()
    pad = model.config.pad_token_id
    alone = [[x] for x in task["ids"]]
    answer = {
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
                     "tokenizers": tokenizers.__version__},
        "chat_template": tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else "",
        "ids": [encode(tokenizer, t) for t in task["texts"]],
        "read_at": [read_at(x, pad) for x in task["ids"]],
        "scores": finite(scores_of(model, alone, 0)),
        "padded": None,
        "exact": [],
    }
    if task["dtype"] != "float32":
        model.float()  # which loses nothing
        answer["exact"] = finite(scores_of(model, alone, 0))
    elif pad is not None:
        n = task["batch"]
        answer["padded"] = finite(scores_of(model, [task["ids"][i:i + n] for i in range(0, len(task["ids"]), n)], pad))
    return answer


def main():
    task, answer = sys.argv[1:]
    try:
        error = missing()
        if error:
            result = {"error": error}
        else:
            with open(task, encoding="utf-8") as f:
                result = run(json.load(f))
    except Exception as e:  # whatever it is, the caller has to print it
        result = {"error": "transformers failed: %s: %s" % (type(e).__name__, e)}
    with open(answer, "w", encoding="utf-8") as f:
        json.dump(result, f, allow_nan=False)


main()
