"""Writes the Parquet files beside it, and the rows that they hold as rows.jsonl,
pairs.jsonl and texts.jsonl. tokenizer/ is a byte-level BPE of 400 ids.

    python golden.py        # pyarrow 26.0.1, tokenizers 0.22.2
"""
import decimal
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers

os.chdir(os.path.dirname(os.path.abspath(__file__)))

TOPICS = ["a river", "tea", "the moon ☾", "chess", "a garden", "Zürich", "naïve sets", "数学", "rust", "a lamp", "wool", "salt"]
ANSWERS = [
    "It is {}, and more could be said of it, line by line.\nThat is all.",
    "About {}: no.",
    "\tI know \"{}\" <well> & so do you \u2028 \U0001f600.",
]


def nectar_row(i, topic):
    prompt = f"\n\nHuman: Tell me of {topic}.\n\nAssistant: "
    if i % 4 == 3:
        prompt = f"\n\nHuman: Hello.\n\nAssistant: Hi!\n\nHuman: What is {topic}?\n\nAssistant: "
    ranks = [[1, 2, 3], [2, 1, 3], [3, 1, 2]][i % 3]
    answers = [{"answer": a.format(topic), "model": f"m{k}", "rank": float(r)} for k, (a, r) in enumerate(zip(ANSWERS, ranks))]
    return {"prompt": prompt, "answers": answers, "turns": 1 + i % 4 // 3, "num_responses": 3, "source": ["made up", topic], "good_natured": i % 2 == 0}


ROWS = [nectar_row(i, t) for i, t in enumerate(TOPICS)]


def answers_type(string=pa.string(), rank=pa.float64(), of=pa.list_):
    return of(pa.struct([("answer", string), ("model", string), ("rank", rank)]))


def nectar_schema(string=pa.string(), rank=pa.float64(), of=pa.list_):
    return pa.schema([
        ("prompt", string), ("answers", answers_type(string, rank, of)), ("turns", pa.int64()),
        ("num_responses", pa.int64()), ("source", of(string) if of is not FIXED else pa.list_(string)), ("good_natured", pa.bool_()),
    ])


def FIXED(t):
    return pa.list_(t, 3)


def with_ranks(convert):
    return [{**r, "answers": [{**a, "rank": convert(a["rank"])} for a in r["answers"]]} for r in ROWS]


def write(name, rows, schema, **options):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), name + ".parquet", **options)


def write_lines(name, rows):
    with open(name + ".jsonl", "w", encoding="utf-8") as f:
        for r in rows:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")


write_lines("rows", ROWS)

# Codecs, page versions, row groups, dictionaries.
for codec, version, group, dictionary in [
    ("snappy", "1.0", 5, True), ("gzip", "2.0", 12, False), ("zstd", "1.0", 2, True), ("zstd", "2.0", 12, True),
    ("brotli", "2.0", 4, False), ("lz4", "1.0", 7, True), ("lz4", "2.0", 12, False), ("none", "1.0", 12, False), ("snappy", "2.0", 3, True),
]:
    write(f"{codec}_v{version[0]}", ROWS, nectar_schema(), compression=codec, data_page_version=version,
          row_group_size=group, use_dictionary=dictionary, data_page_size=256, write_batch_size=3, write_page_checksum=codec == "gzip")

# Types.
write("large", ROWS, nectar_schema(pa.large_string(), of=pa.large_list))
write("fixed_list", ROWS, nectar_schema(of=FIXED))
write("rank_int8", with_ranks(int), nectar_schema(rank=pa.int8()))
write("rank_uint16", with_ranks(int), nectar_schema(rank=pa.uint16()))
write("rank_int64", with_ranks(int), nectar_schema(rank=pa.int64()))
write("rank_float32", ROWS, nectar_schema(rank=pa.float32()))
write("rank_decimal", with_ranks(lambda r: decimal.Decimal(int(r))), nectar_schema(rank=pa.decimal128(9, 2)))
write("dictionary", ROWS, pa.schema([
    ("prompt", pa.dictionary(pa.int32(), pa.string())), ("answers", answers_type())]))

# Columns in another order, missing and additional ones.
write("columns", [{**r, "day": 3, "answers": [{**a, "note": None} for a in r["answers"]]} for r in ROWS], pa.schema([
    ("day", pa.date32()), ("answers", pa.list_(pa.struct([("rank", pa.float64()), ("note", pa.string()), ("answer", pa.string())]))), ("prompt", pa.string())]))

# Row 2 is good, each other one is bad in its own way.
GOOD, A = ROWS[0], ROWS[0]["answers"]
write("nulls", [
    {**GOOD, "prompt": None},
    GOOD,
    {**GOOD, "answers": None},
    {**GOOD, "answers": []},
    {**GOOD, "answers": [A[0], None]},
    {**GOOD, "answers": [A[0], {**A[1], "answer": None}]},
    {**GOOD, "answers": [A[0], {**A[1], "rank": None}]},
    {**GOOD, "answers": [A[0], {**A[1], "rank": float("nan")}]},
    {**GOOD, "answers": A[:1]},
], nectar_schema(), row_group_size=4)

# Pairs: message lists after a prompt, with a margin; and finished texts.
MESSAGE = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
PAIRS = [{
    "prompt": [{"role": "user", "content": f"Tell me of {t}."}],
    "chosen": [{"role": "assistant", "content": ANSWERS[0].format(t)}],
    "rejected": [{"role": "assistant", "content": ANSWERS[1].format(t)}],
    "margin": 0.25 * i,
} for i, t in enumerate(TOPICS)]
write("pairs", PAIRS, pa.schema([("chosen", MESSAGE), ("rejected", MESSAGE), ("prompt", MESSAGE), ("margin", pa.float32())]))
write_lines("pairs", PAIRS)
TEXTS = [{"texts": [f"Q: {t}\nA: {a.format(t)}" for a in ANSWERS], "ranks": [2, 1, 3]} for t in TOPICS]
write("texts", TEXTS, pa.schema([("texts", pa.list_(pa.string())), ("ranks", pa.list_(pa.int32()))]))
write_lines("texts", TEXTS)

# No column of ours.
pq.write_table(pa.table({"question": ["a"], "response": ["b"]}), "foreign.parquet")

tok = tokenizers.ByteLevelBPETokenizer()
tok.train_from_iterator([json.dumps(r, ensure_ascii=False) for r in ROWS] * 2, vocab_size=400, min_frequency=2, special_tokens=["</s>"], show_progress=False)
os.makedirs("tokenizer", exist_ok=True)
tok.save("tokenizer/tokenizer.json", pretty=False)
with open("tokenizer/tokenizer_config.json", "w") as f:
    json.dump({"eos_token": "</s>", "model_max_length": 512}, f)
