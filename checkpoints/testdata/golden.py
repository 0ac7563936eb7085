"""Writes the files that the tests of checkpoints and checkpoints/safetensors read, and
checks exported folders with transformers.

    python golden.py                      write the files (beside this script and in
                                          ../safetensors/testdata)
    python golden.py verify FOLDER...     load exported folders: a huggingface one with
                                          AutoModelForSequenceClassification, a starling one
                                          with the class of Starling-RM-34B's model card;
                                          print the score of a fixed input, one line each.
                                          Fails if a tensor is missing, left over or new.

Made with torch 2.15.0, transformers 4.57.6, safetensors 0.8.0, Python 3.11.7, seed 0.
"""

import collections
import io
import json
import pathlib
import pickle
import shutil
import sys
import zipfile

import safetensors.torch
import torch
import transformers
from torch import nn
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.models.llama.modeling_llama import LlamaPreTrainedModel

HERE = pathlib.Path(__file__).parent
CONFIG = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
              num_key_value_heads=1, vocab_size=16, max_position_embeddings=32, pad_token_id=0)
INPUT = [[1, 5, 9, 3, 14, 2]]


def safetensors_golden():
    tensors = {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "f64": torch.tensor([1.0, -2.5], dtype=torch.float64),
        "f32": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "f16": torch.tensor([0.5, -65504.0], dtype=torch.float16),
        "bf16": torch.tensor([1.0, -3.0], dtype=torch.bfloat16),
        "i64": torch.tensor([-1, 2**40]),
        "u8": torch.tensor([1, 2, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "f8": torch.tensor([1.0, 2.0], dtype=torch.float8_e4m3fn),
    }
    folder = HERE.parent / "safetensors" / "testdata"
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(tensors, folder / "golden.safetensors", metadata={"format": "pt", "made by": "golden.py"})


def views_golden():
    """A .pt with every kind of view, and the same values as safetensors."""
    base = torch.arange(24, dtype=torch.float32)
    views = collections.OrderedDict(
        contiguous=base.view(4, 6),
        transposed=base.view(4, 6).t(),
        sliced=base.view(4, 6)[1:3, ::2],
        tail=base[20:],
        expanded=torch.tensor([[3.0]]).expand(2, 3),
        permuted=base.view(2, 3, 4).permute(2, 0, 1),
        half=torch.tensor([1.5, 6.1e-5, 5.96e-8, -0.0, float("inf")], dtype=torch.float16),
        bfloat16=torch.tensor([1.0, -2.5], dtype=torch.bfloat16),
        double=torch.tensor([0.1, 1e300], dtype=torch.float64),
        parameter=nn.Parameter(torch.ones(2)),
        scalar=torch.tensor(7.0),
        empty=torch.zeros(0, 4),
    )
    torch.save(views, HERE / "views.pt")
    torch.save({"state_dict": dict(views), "epoch": 3}, HERE / "wrapped.pt")
    torch.save(views, HERE / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"w": torch.ones(2)}, HERE / "protocol4.pt", pickle_protocol=4)
    torch.save({"w": torch.ones(2), "step": 3}, HERE / "not_only_tensors.pt")
    as_float = {k: v.detach().to(torch.float32).contiguous().clone() for k, v in views.items()}
    safetensors.torch.save_file(as_float, HERE / "views.safetensors")
    as_bf16 = {k: v.to(torch.bfloat16) for k, v in as_float.items() if k != "double"}
    as_bf16["double"] = views["double"].to(torch.bfloat16)
    safetensors.torch.save_file(as_bf16, HERE / "views_bf16.safetensors")


def malicious_golden():
    """A pickle that would run a command if a reader executed it."""

    class Evil:
        def __reduce__(self):
            import os
            return os.system, ("echo this must never run",)

    data = io.BytesIO()
    pickle.dump({"w": Evil()}, data, protocol=2)
    with zipfile.ZipFile(HERE / "malicious.pt", "w") as z:
        z.writestr("archive/data.pkl", data.getvalue())
        z.writestr("archive/version", "3\n")


def folder(name):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    return path


def models_golden():
    """The same trunk in the layouts that are met in practice, with the head i/8 - 0.5."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**CONFIG)).to(torch.bfloat16)
    head = (torch.arange(8) / 8 - 0.5).reshape(1, 8).to(torch.bfloat16)
    base.save_pretrained(folder("base"))

    config = LlamaConfig(**CONFIG, num_labels=1, torch_dtype="bfloat16")
    reward = AutoModelForSequenceClassification.from_config(config)
    reward.model.load_state_dict(base.model.state_dict())
    reward.score.weight.data.copy_(head)
    reward.to(torch.bfloat16).save_pretrained(folder("sharded"), max_shard_size="1KB")
    reward.save_pretrained(folder("torch-sharded"), max_shard_size="1KB", safe_serialization=False)

    # Starling-RM-7B-alpha: trlx's reward model keeps the causal model and its trunk.
    seven = folder("starling-7b")
    seven.mkdir()
    state = {"model." + k: v for k, v in base.state_dict().items()}
    state |= {"transformer." + k: v for k, v in base.model.state_dict().items()}
    state["transformer.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    state["v_head.weight"] = head
    torch.save(collections.OrderedDict(state), seven / "pytorch_model.bin")
    shutil.copy(HERE / "base" / "config.json", seven)
    for made in ("base", "sharded", "torch-sharded"):
        (HERE / made / "generation_config.json").unlink(missing_ok=True)


class LlamaForStarling(LlamaPreTrainedModel):
    """The names and the forward pass of the model card's class."""

    def __init__(self, config):
        super().__init__(config)
        self.transformer = LlamaModel(config)
        self.v_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids):
        hidden = self.transformer(input_ids, output_hidden_states=True).hidden_states[-1]
        return self.v_head(hidden).squeeze(-1)[:, -1]


def verify(path):
    dtype = torch.float32
    starling = "transformer.norm.weight" in weight_names(pathlib.Path(path))
    cls = LlamaForStarling if starling else AutoModelForSequenceClassification
    model, report = cls.from_pretrained(path, torch_dtype=dtype, output_loading_info=True)
    for problem, names in report.items():
        if names:
            raise SystemExit(f"{path}: {problem}: {sorted(names)}")
    with torch.no_grad():
        out = model(torch.tensor(INPUT))
    score = out[0] if starling else out.logits[0, 0]
    print(f"{path}: {'starling' if starling else type(model).__name__} score {score.item():.6f}")


def weight_names(path):
    index = path / "model.safetensors.index.json"
    if index.exists():
        return json.loads(index.read_text())["weight_map"]
    with safetensors.safe_open(path / "model.safetensors", "pt") as f:
        return set(f.keys())


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    if sys.argv[1:2] == ["verify"]:
        for p in sys.argv[2:]:
            verify(p)
    else:
        safetensors_golden()
        views_golden()
        malicious_golden()
        models_golden()
