#!/usr/bin/env python3
"""Writes the golden files of kernels/llama: what transformers and PyTorch compute.

    pip install torch transformers==4.57.6 safetensors numpy
    python kernels/llama/testdata/golden.py kernels/llama/testdata

Every file is one tiny reward model (AutoModelForSequenceClassification, one label,
eager attention, float32) with

    param.*      weights, random, norms around 1, biases not 0
    tokens.G.A   the conversation of answer A of group G; answers of a group share a
                 prefix, and pad_token_id occurs inside of the text
    inv_freq     RoPE frequencies
    block0.*     intermediates of the first block for tokens.0.0, [rows, channels]
    scores       of all answers, float32; scores.f64 from the same weights in float64;
    bf16.scores  from the weights rounded to bfloat16, in bfloat16;
    bf16.f64     from the weights rounded to bfloat16, in float64
    loss         mean over groups of the Plackett-Luce negative log-likelihood of the
                 order in which the answers stand, divided by K(K-1)/2
    grad.*       its gradients
    step3.*      weights after 3 steps of AdamW with clipping by global norm

and in the metadata config.json, the optimizer's settings, gradient norms, command,
versions and seed.
"""
import json
import platform
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

SEED = 20231127
PAD = 5
GROUPS = [(9, [3, 1, 6, 2]), (17, [5, 4, 11])]  # tokens of the prompt, of the answers
ADAMW = {"lr": 3e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1, "max_grad_norm": 0.05, "steps": 3}

SMALL = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, pad_token_id=PAD, num_labels=1)
MODELS = {
    "llama_gqa": ("llama", dict(rms_norm_eps=1e-5, head_dim=8)),
    "llama_bias": ("llama", dict(attention_bias=True, mlp_bias=True, head_dim=10, rope_theta=5e6)),
    "llama_rope_llama3": ("llama", dict(rope_theta=5e5, head_dim=16, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16))),
    "llama_rope_linear": ("llama", dict(num_key_value_heads=4, rope_scaling=dict(rope_type="linear", factor=2.5))),
    "mistral_window": ("mistral", dict(sliding_window=7, head_dim=8, num_key_value_heads=1)),
    "qwen2_bias": ("qwen2", dict(rope_theta=1e6)),
}


def random_weights(model, rng):
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.35 if name == "score.weight" else 0.25
            mean = 1.0 if "norm" in name else 0.0
            p.copy_(torch.from_numpy(rng.normal(mean, scale, p.shape).astype(np.float32)))


def random_groups(rng, vocab):
    groups = []
    for prompt, answers in GROUPS:
        text = rng.integers(PAD + 1, vocab, prompt)
        text[prompt // 2] = PAD  # inside of the shared prefix
        group = [np.concatenate([text, rng.integers(PAD + 1, vocab, n)]) for n in answers]
        group[0][-2] = PAD  # and inside of an answer or just before it
        groups.append([torch.from_numpy(g.astype(np.int64)) for g in group])
    return groups


def scores_of(model, groups):
    """One conversation at a time, without padding: transformers reads the last token."""
    return [torch.cat([model(ids[None]).logits[0] for ids in g]) for g in groups]


def plackett_luce(scores):
    """Best first: answer i is chosen from those that are left."""
    k = len(scores)
    nll = sum(torch.logsumexp(scores[i:], 0) - scores[i] for i in range(k - 1))
    return nll / (k * (k - 1) / 2)


def loss_of(model, groups):
    return torch.stack([plackett_luce(s) for s in scores_of(model, groups)]).mean()


def norm_in_full_precision(module, x):
    """RMSNorm without transformers' rounding to float32."""
    rms = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
    return module.weight * (x * rms)


def exact_scores(model, config, groups):
    """The scores in float64: SDPA, because eager attention rounds to float32. RoPE's
    cosines and sines are float32's, as in every model of transformers."""
    exact = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa").double()
    exact.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
    for module in exact.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = norm_in_full_precision.__get__(module)
    with torch.no_grad():
        return torch.cat(scores_of(exact.eval(), groups))


def block0(model, ids):
    """Outputs of the first block's modules, and the rotated queries and keys."""
    seen, hooks = {}, []
    layer = model.model.layers[0]
    modules = {"input_norm": layer.input_layernorm, "q": layer.self_attn.q_proj, "k": layer.self_attn.k_proj,
               "v": layer.self_attn.v_proj, "mlp_norm": layer.post_attention_layernorm, "gate": layer.mlp.gate_proj,
               "up": layer.mlp.up_proj}
    for name, module in modules.items():
        hooks.append(module.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o[0])))
    hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(lambda m, i: seen.__setitem__("attn", i[0][0])))
    hooks.append(layer.mlp.down_proj.register_forward_pre_hook(lambda m, i: seen.__setitem__("swiglu", i[0][0])))
    hooks.append(layer.post_attention_layernorm.register_forward_pre_hook(lambda m, i: seen.__setitem__("mid", i[0][0])))
    with torch.no_grad():
        out = model(ids[None], output_hidden_states=True)
    for h in hooks:
        h.remove()
    seen["in"], seen["out"] = out.hidden_states[0][0], out.hidden_states[1][0]
    rope = sys.modules[type(model.model).__module__].apply_rotary_pos_emb
    cos, sin = model.model.rotary_emb(seen["in"][None], torch.arange(len(ids))[None])
    heads = lambda x: x.view(1, len(ids), -1, layer.self_attn.head_dim).transpose(1, 2)
    rows = lambda x: x.transpose(1, 2).reshape(len(ids), -1)
    q, k = rope(heads(seen["q"]), heads(seen["k"]), cos, sin)
    seen["q"], seen["k"] = rows(q), rows(k)
    return {"block0." + k: v for k, v in seen.items()}


def adamw_steps(model, groups):
    """As transformers' Trainer: matrices decay, norms and biases do not."""
    matrices = [p for n, p in model.named_parameters() if p.ndim > 1]
    vectors = [p for n, p in model.named_parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": ADAMW["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}],
        lr=ADAMW["lr"], betas=(ADAMW["beta1"], ADAMW["beta2"]), eps=ADAMW["eps"])
    norms = []
    for _ in range(ADAMW["steps"]):
        optimizer.zero_grad()
        loss_of(model, groups).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), ADAMW["max_grad_norm"]).item())
        optimizer.step()
    return norms


def write(folder, name, model_type, extra, seed):
    rng = np.random.default_rng(seed)
    config = AutoConfig.for_model(model_type, **{**SMALL, **extra})
    build = lambda: AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    model = build()
    random_weights(model, rng)
    groups = random_groups(rng, config.vocab_size)

    out = {"param." + n: p.detach().clone() for n, p in model.named_parameters()}
    for g, group in enumerate(groups):
        for a, ids in enumerate(group):
            out[f"tokens.{g}.{a}"] = ids.to(torch.int32)
    out["inv_freq"] = model.model.rotary_emb.inv_freq.clone()
    out.update(block0(model, groups[0][0]))
    with torch.no_grad():
        out["scores"] = torch.cat(scores_of(model, groups))
    out["scores.f64"] = exact_scores(model, config, groups)

    rounded = build()
    rounded.load_state_dict({k: v.bfloat16().float() for k, v in model.state_dict().items()})
    out["bf16.f64"] = exact_scores(rounded, config, groups)
    freq = rounded.model.rotary_emb.inv_freq.clone()
    rounded.bfloat16()
    rounded.model.rotary_emb.inv_freq = freq  # from_pretrained(dtype=bfloat16) leaves it in float32
    with torch.no_grad():
        out["bf16.scores"] = torch.cat(scores_of(rounded, groups)).float()

    loss = loss_of(model, groups)
    loss.backward()
    out["loss"] = loss.detach().reshape(1)
    out.update({"grad." + n: p.grad.clone() for n, p in model.named_parameters()})
    norms = adamw_steps(model, groups)
    out.update({"step3." + n: p.detach().clone() for n, p in model.named_parameters()})

    config.architectures = [type(model).__name__]
    metadata = {"config": config.to_json_string(), "adamw": json.dumps(ADAMW), "grad_norms": json.dumps(norms),
                "seed": str(seed), "command": "python kernels/llama/testdata/golden.py kernels/llama/testdata",
                "torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__,
                "python": platform.python_version()}
    save_file({k: v.contiguous() for k, v in out.items()}, f"{folder}/{name}.safetensors", metadata)
    print(f"{name}: loss {loss.item():.6f}, gradient norms {norms}")


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for i, (name, (model_type, extra)) in enumerate(MODELS.items()):
        write(sys.argv[1], name, model_type, extra, SEED + i)


if __name__ == "__main__":
    main()
