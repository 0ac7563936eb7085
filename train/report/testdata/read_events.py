"""Reads event files with TensorBoard's own reader and compares them with metrics.jsonl.

    python -m venv venv && venv/bin/pip install tensorboard==2.21.0
    venv/bin/python read_events.py RUN/tensorboard RUN/metrics.jsonl

Ends with an error unless every number of metrics.jsonl is there once, at its step, as
float32, and nothing else is.
"""

import json
import struct
import sys
from collections import defaultdict

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as PluginEventAccumulator,
)
from tensorboard.util import tensor_util


def single(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def wanted(path):
    """The scalars that metrics.jsonl should give, by tag."""
    scalars = defaultdict(list)
    for line in open(path):
        fields = json.loads(line)
        step = fields.pop("step")
        for name, value in fields.items():
            tag = "eval/" + name[5:] if name.startswith("eval_") else "train/" + name
            if isinstance(value, list):
                for i, x in enumerate(value):
                    scalars[f"{tag}/{i + 1}"].append((step, single(x)))
            elif value is not None:
                scalars[tag].append((step, single(value)))
    return dict(scalars)


def old_reader(folder):
    events = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def new_reader(folder):
    events = PluginEventAccumulator(folder, size_guidance={"tensors": 0}).Reload()
    assert events.PluginTagToContent("scalars").keys() == set(events.Tags()["tensors"])
    return {
        tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto).item()) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def main(folder, metrics):
    want = wanted(metrics)
    for read in old_reader, new_reader:
        got = read(folder)
        assert got == want, (read.__name__, got.keys() ^ want.keys())
    print(f"{len(want)} tags, {sum(map(len, want.values()))} numbers: as in {metrics}")


main(*sys.argv[1:])
