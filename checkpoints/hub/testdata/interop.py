"""Checks that rmtrain and huggingface_hub share one cache.

    python checkpoints/hub/testdata/interop.py bin/rmtrain

needs huggingface_hub (recorded with 0.36.2, filelock 4.3.1, Python 3.11) and no network: a
small hub runs in this process. Each side reads what the other has written, offline; resumes
the other's partial file; and both download at the same time.
"""
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = "model.safetensors"
DATA = "data/train-00000-of-00001.parquet"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b'{"version": "1.0"}',
    LARGE: os.urandom(40_000_000),
    DATA: os.urandom(2000),
}


def digest(content):
    if len(content) < 1000:
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return hashlib.sha256(content).hexdigest()


ETAGS = {name: digest(content) for name, content in FILES.items()}


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        path = self.path.split("?")[0]
        if re.fullmatch(r"/api/(models|datasets)/org/name/revision/\w+", path):
            siblings = [{"rfilename": name} for name in FILES]
            return self.answer(200, {}, json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode())
        match = re.fullmatch(r"/(?:datasets/)?org/name/resolve/\w+/(.*)", path)
        if not match or match[1] not in FILES:
            return self.answer(404, {"X-Error-Code": "EntryNotFound"}, b"")
        content = FILES[match[1]]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{ETAGS[match[1]]}"'}
        part = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not part:
            return self.answer(200, headers, content)
        first, last = int(part[1]), int(part[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.answer(206, headers, content[first : last + 1])

    do_GET = do_HEAD

    def answer(self, status, headers, content):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def start(home, command, offline=False):
    env = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": ENDPOINT, "HF_HUB_OFFLINE": str(int(offline)), "HF_HUB_DISABLE_XET": "1"}
    env.pop("HF_HUB_CACHE", None)
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def ours(home, kind="model", offline=False):
    return start(home, [sys.argv[1], "download", "org/name"] + ["--dataset"] * (kind == "dataset"), offline)


def theirs(home, kind="model", offline=False):
    code = f"from huggingface_hub import snapshot_download as s; print(s('org/name', repo_type='{kind}'))"
    return start(home, [sys.executable, "-c", code], offline)


def check(process, *names):
    out, _ = process.communicate()
    assert process.returncode == 0, process.args
    for name in names:
        path = Path(out.strip()) / name
        assert path.read_bytes() == FILES[name], path
        assert path.is_symlink() and path.resolve().name == ETAGS[name], path


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
ENDPOINT = f"http://127.0.0.1:{server.server_port}"
MODEL = ["config.json", "tokenizer.json", LARGE]

with tempfile.TemporaryDirectory() as root:
    root = Path(root)
    for name, writer, reader in [("a", ours, theirs), ("b", theirs, ours)]:
        for kind, names in [("model", MODEL), ("dataset", [DATA])]:
            check(writer(root / name, kind), *names)
            check(reader(root / name, kind, offline=True), *names)
        print(f"{reader.__name__} reads, offline, the cache of {writer.__name__}")
    links = lambda home: {p.relative_to(home): os.readlink(p) for p in home.glob("hub/models--*/snapshots/**/*") if p.is_symlink() and p.name in MODEL}
    assert links(root / "a") == links(root / "b") and len(links(root / "a")) == len(MODEL)
    print("both make the same links")
    for name, reader in [("c", theirs), ("d", ours)]:
        blobs = root / name / "hub/models--org--name/blobs"
        blobs.mkdir(parents=True)
        (blobs / f"{ETAGS[LARGE]}.incomplete").write_bytes(FILES[LARGE][:12_345_678])
        check(reader(root / name), *MODEL)
        print(f"{reader.__name__} resumes a partial file")
    for i in range(5):
        both = [ours(root / f"e{i}"), theirs(root / f"e{i}")]
        for process in both:
            check(process, *MODEL)
    print("both download at the same time")
