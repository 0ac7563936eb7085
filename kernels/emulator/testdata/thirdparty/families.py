"""families.py FOLDER OURS...: every family of instructions in the PTX files OURS occurs in third-party PTX below FOLDER.

A family is an opcode with what decides its result: type, rounding, .approx, .ftz, space,
vector, mode. Left out are orders and scopes of memory, which the emulator does not model,
and types where only their width matters.
"""

import pathlib
import re
import sys

# Families that no third-party kernel here has, and what checks each instead.
ELSEWHERE = {
    "bfi.b32": "testdata/sound.cu against g++; bfi.b64, the same template, is in cuda::std::complex",
}
IGNORED = {"uni", "relaxed", "acq_rel", "gpu", "sync", "aligned"}
BY_WIDTH = {"ld", "st", "mov", "selp"}
SIGNLESS = {("add",), ("sub",), ("mul", "lo"), ("mad", "lo"), ("setp", "eq"), ("setp", "ne")}


def family(instruction):
    parts = [p for p in instruction.split(".") if p not in IGNORED]
    bits = re.fullmatch(r"[subf](\d+)", parts[-1])
    if bits and parts[0] in BY_WIDTH:
        parts[-1] = "b" + bits[1]
    if bits and parts[-1][0] != "f" and any(tuple(parts[: len(s)]) == s for s in SIGNLESS):
        parts[-1] = "b" + bits[1]
    return ".".join(parts)


def families(path):
    text = re.sub(r"//.*|/\*.*?\*/", "", path.read_text())
    found = (re.match(r"\s*(?:@!?%p\d+\s+)?([a-z]\w*(?:\.[\w:]+)*)\s*(?:[^:\s]|$)", s) for s in re.split(r"[;{}\n]", text))
    return {family(m[1]) for m in found if m}


ours, theirs = {}, set()
for name in sys.argv[2:]:
    for f in families(pathlib.Path(name)):
        ours.setdefault(f, pathlib.Path(name).name)
folder = pathlib.Path(sys.argv[1])
for path in [*folder.glob("*.ptx"), *folder.glob("triton/*/*.ptx")]:
    theirs |= families(path)
if missing := sorted(set(ours) - theirs - set(ELSEWHERE)):
    raise SystemExit("no third-party kernel has\n" + "\n".join(f"{f}, which {ours[f]} has" for f in missing))
if stale := sorted(f for f in ELSEWHERE if f in theirs or f not in ours):
    raise SystemExit(f"listed as checked elsewhere, and need not be: {stale}")
print(f"families: all {len(ours)} of the kernels that ship are in third-party ones, but for {len(ELSEWHERE)}")
for name, reason in ELSEWHERE.items():
    print(f"{name}: {reason}")
