#!/usr/bin/env python3
"""Writes two tiny reward models and what transformers scores with them.

    pip install torch transformers==4.57.6 tokenizers==0.22.2 safetensors numpy
    python infer/testdata/golden.py

huggingface  AutoModelForSequenceClassification: score.weight, a byte-level tokenizer
             with a chat template, <pad> as pad_token
starling     the class of Starling-RM-34B's model card: transformer.*, v_head.weight,
             read before the first id 0, texts truncated on the left and padded to
             max_length; a byte-fallback tokenizer that adds <s>, with <unk> as id 0
golden.json  texts, conversations and ids with their scores, in float32, each computed
             alone and in padded batches
"""
import json
import os
import platform
import shutil

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaModel, LlamaPreTrainedModel

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 20231127
LENGTH = 48  # of truncation, and max_position_embeddings
VOCAB = 300
SENTENCES = [
    "Hello, world! How are you today? I am fine, thank you.",
    "A reward model reads a conversation and says how good the answer is.",
    "Human: Which answer is better? Assistant: The first answer is better than the second.",
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
]
CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

LONG = "The quick brown fox jumps over the lazy dog, and then it sleeps. " * 6
TEXTS = ["Hello", "How are you today?", "a", "Größe, 你好 \U0001f600", "two\n\nlines\t", LONG, "\n\nHuman: Hi\n\nAssistant: Hello there.",
         "x" * 60, "The answer is 42.", "Hello, world! " * 3]
PAD_TEXTS = ["{pad}", "{pad}{pad}", "Hello{pad}", "Hello{pad}{pad}{pad}", "{pad}Hello", "Hello{pad} world", "Hello{pad} world{pad}",
             "{pad}{pad}Hello{pad}", LONG + "{pad}", "Hello " + "{pad}" * 60, "{pad}" * 60 + "Hello", LONG + "{pad}" + LONG[:40]]
CHATS = [
    [("user", "Hi"), ("assistant", "Hello!")],
    [("system", "Be brief."), ("user", "Why is the sky blue?"), ("assistant", "Light scatters.")],
    [("user", "One"), ("assistant", "1"), ("user", "Two"), ("assistant", "2")],
    [("user", LONG), ("assistant", "Yes.")],
    [("user", "Say pad"), ("assistant", "<pad>")],
    [("user", ""), ("assistant", "")],
]


class LlamaForSequenceClassification(LlamaPreTrainedModel):
    """The class of the model card; it has the name of transformers' own."""

    def __init__(self, config):
        super().__init__(config)
        self.transformer = LlamaModel(config)
        self.v_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.PAD_ID = 0
        self.post_init()

    def forward(self, input_ids, attention_mask=None, position_ids=None):
        out = self.transformer(input_ids, attention_mask=attention_mask, position_ids=position_ids, output_hidden_states=True)
        rewards = self.v_head(out.hidden_states[-1]).squeeze(-1)
        scores = []
        for i in range(len(input_ids)):
            c_inds = (input_ids[i] == self.PAD_ID).nonzero()
            c_ind = c_inds[0].item() if len(c_inds) > 0 else input_ids.shape[1]
            scores.append(rewards[i, c_ind - 1])
        return torch.stack(scores)


def config(**more):
    return LlamaConfig(vocab_size=VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, max_position_embeddings=LENGTH, rms_norm_eps=1e-5, torch_dtype="float32", **more)


def randomize(model, rng):
    with torch.no_grad():
        for name, p in model.named_parameters():
            mean, scale = (1.0, 0.2) if "norm" in name else (0.0, 0.25)
            p.copy_(torch.from_numpy(rng.normal(mean, scale, p.shape).astype(np.float32)))
    return model.eval()


def bytelevel(folder):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    special = [AddedToken(s, special=True, normalized=False) for s in ["<|endoftext|>", "<pad>", "<|im_start|>", "<|im_end|>"]]
    t.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=VOCAB - 4, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                         show_progress=False))
    t.add_special_tokens(special)
    save(t, folder, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<pad>",
                     "chat_template": CHATML, "model_max_length": LENGTH, "clean_up_tokenization_spaces": False})


def bytefallback(folder):
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocab |= {f"<0x{b:02X}>": 3 + b for b in range(256)}
    for c in "\u2581etaonishrdlu":
        vocab[c] = len(vocab)
    t = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in ["<unk>", "<s>", "</s>"]])
    save(t, folder, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                     "pad_token": "<unk>", "model_max_length": LENGTH, "clean_up_tokenization_spaces": False})


def save(tokenizer, folder, settings):
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(settings, f, indent=1)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def huggingface(rng):
    folder = fresh("huggingface")
    bytelevel(folder)
    tok = AutoTokenizer.from_pretrained(folder, truncation_side="left")
    model = randomize(AutoModelForSequenceClassification.from_config(config(num_labels=1, pad_token_id=tok.pad_token_id)), rng)
    model.config.problem_type = "regression"
    model.save_pretrained(folder)

    def score(**inputs):
        with torch.no_grad():
            return model(**inputs).logits[:, 0].tolist()

    def ids(texts):
        return [tok(t, truncation=True, max_length=LENGTH)["input_ids"] for t in texts]

    texts = TEXTS + [t.format(pad="<pad>") for t in PAD_TEXTS]
    chats = [[{"role": r, "content": c} for r, c in chat] for chat in CHATS]
    chat_ids = [tok.apply_chat_template(c, tokenize=True, truncation=True, max_length=LENGTH) for c in chats]
    all_ids = ids(texts) + chat_ids
    alone = sum((score(input_ids=torch.tensor([x])) for x in all_ids), [])
    for side in ["left", "right"]:
        tok.padding_side = side
        batches = [all_ids[i:i + 5] for i in range(0, len(all_ids), 5)]
        batched = sum((score(**tok.pad({"input_ids": b}, return_tensors="pt")) for b in batches), [])
        if side == "right":
            close(batched, alone)
            right = batched
        else:  # a padded row of pads is read at its first place, another one
            keep = [i for i, x in enumerate(all_ids) if set(x) != {tok.pad_token_id}]
            close(np.array(batched)[keep], np.array(alone)[keep])
    no_pad = {}
    for name, value in [("null", None), ("-1", -1)]:
        model.config.pad_token_id = value
        no_pad[name] = sum((score(input_ids=torch.tensor([x])) for x in all_ids), [])
    cases = [{"text": t} for t in texts] + [{"messages": c} for c in chats]
    lengths = [len(tok(t)["input_ids"]) for t in texts] + [len(tok.apply_chat_template(c, tokenize=True)) for c in chats]
    return [dict(request=c, ids=x, tokens=n, score=a, batched=b, null_pad=p, negative_pad=q)
            for c, x, n, a, b, p, q in zip(cases, all_ids, lengths, alone, right, no_pad["null"], no_pad["-1"])]


def starling(rng):
    folder = fresh("starling")
    bytefallback(folder)
    tok = AutoTokenizer.from_pretrained(folder, truncation_side="left", padding_side="right")
    model = randomize(LlamaForSequenceClassification(config()), rng)
    model.save_pretrained(folder)
    texts = TEXTS + [t.format(pad="<unk>") for t in PAD_TEXTS]
    prompts = ["\n\nHuman: Hi\n\nAssistant: ", "\n\nHuman: One\n\nAssistant: 1\n\nHuman: Two\n\nAssistant: "]
    answers = ["Hello!", "2", LONG, ""]
    rendered = texts + [p + a for p in prompts for a in answers]
    scores, all_ids = [], []
    for i in range(0, len(rendered), 4):
        batch = tok(rendered[i:i + 4], truncation=True, max_length=LENGTH, padding="max_length", return_tensors="pt")
        with torch.no_grad():
            scores += model(batch["input_ids"], batch["attention_mask"]).tolist()
    for t in rendered:
        all_ids.append(tok(t, truncation=True, max_length=LENGTH)["input_ids"])
    lengths = [len(tok(t)["input_ids"]) for t in rendered]
    cases = [{"text": t} for t in texts] + [{"prompt": p, "answers": [a]} for p in prompts for a in answers]
    return [dict(request=c, ids=x, tokens=n, score=s) for c, x, n, s in zip(cases, all_ids, lengths, scores)]


def fresh(name):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def main():
    torch.set_num_threads(1)
    golden = {
        "recipe": "python infer/testdata/golden.py",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
                     "tokenizers": tokenizers.__version__},
        "seed": SEED,
        "huggingface": huggingface(np.random.default_rng(SEED)),
        "starling": starling(np.random.default_rng(SEED + 1)),
    }
    with open(os.path.join(HERE, "golden.json"), "w") as f:
        json.dump(golden, f, indent=None, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
