"""Asks a running server through real clients and records what they sent.

    python -m venv venv && venv/bin/pip install openai==3.57.0 cohere==7.3.1 \
        huggingface_hub==2.4.0 'tritonclient[http]==2.73.0' aiohttp numpy
    rmtrain serve --checkpoint infer/testdata/huggingface --served-model-name tiny --listen 127.0.0.1:8000
    venv/bin/python infer/serve/testdata/clients.py http://127.0.0.1:8000 infer/serve/testdata/clients.json

The clients talk to a small proxy in this process, which writes every request and its
answer into clients.json; the test TestRealClients sends them again. Whether a client
understood an answer is asserted here.
"""

import asyncio
import base64
import http.client
import http.server
import importlib.metadata
import json
import math
import sys
import threading
import urllib.parse

target = urllib.parse.urlsplit(sys.argv[1])
recorded = []
current = {}


def named(name, data):
    """Text as it is, anything else in base64."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {name + "_base64": base64.b64encode(data).decode()}


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection(target.hostname, target.port)
        keep = {"content-type", "inference-header-content-length", "authorization"}
        headers = {k: v for k, v in self.headers.items() if k.lower() in keep}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        headers.pop("Authorization", None)
        headers.pop("authorization", None)
        recorded.append({
            "client": current["client"], "method": self.command, "path": self.path, "headers": headers,
            **named("body", body), "status": answer.status, **named("answer", data),
        })
        self.send_response(answer.status)
        for k, v in answer.getheaders():
            if k.lower() in {"content-type", "inference-header-content-length"}:
                self.send_header(k, v)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = forward

    def log_message(self, *_):
        pass


proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=proxy.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{proxy.server_port}"


def using(name):
    package = name.split()[0]
    current["client"] = f"{name} {importlib.metadata.version(package)}"


question, answers = "How are you?", ["Fine.", "No.", "I am well, thank you."]
rendered = "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\nFine.<|im_end|>\n"
chat = [{"role": "user", "content": question}, {"role": "assistant", "content": answers[0]}]


def with_openai():
    import openai
    using("openai")
    client = openai.OpenAI(base_url=base + "/v1", api_key="none")
    assert [m.id for m in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").object == "model"
    got = client.embeddings.create(model="tiny", input=[rendered, "hello"])  # base64, its default
    assert len(got.data) == 2 and len(got.data[0].embedding) == 1
    as_list = client.embeddings.create(model="tiny", input=rendered, encoding_format="float")
    assert abs(as_list.data[0].embedding[0] - got.data[0].embedding[0]) < 1e-6
    reply = client.post("/classify", cast_to=object, body={"model": "tiny", "messages": chat})
    assert abs(reply["data"][0]["probs"][0] - got.data[0].embedding[0]) < 1e-6
    try:
        client.embeddings.create(model="other", input="hello")
        raise AssertionError("another model was served")
    except openai.NotFoundError as e:
        assert e.body["type"] == "NotFoundError", e.body


def with_cohere():
    import cohere
    using("cohere")
    for client in (cohere.ClientV2(api_key="none", base_url=base), cohere.Client(api_key="none", base_url=base)):
        got = client.rerank(model="tiny", query=question, documents=answers, top_n=2)
        assert len(got.results) == 2
        assert got.results[0].relevance_score >= got.results[1].relevance_score
        assert {r.index for r in got.results} <= {0, 1, 2}


def with_huggingface_hub():
    import huggingface_hub
    using("huggingface_hub")
    client = huggingface_hub.InferenceClient(model=base + "/predict")
    raw = client.text_classification(rendered)
    asked = client.text_classification(rendered, function_to_apply="sigmoid")
    assert raw.label == asked.label == "LABEL_0"
    assert abs(1 / (1 + math.exp(-raw.score)) - asked.score) < 1e-6


def with_tritonclient():
    import numpy as np
    import tritonclient.http as triton
    using("tritonclient")
    client = triton.InferenceServerClient(base.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("reward_model")
    assert client.get_model_metadata("reward_model")["outputs"][0]["name"] == "rewards"
    sentences = triton.InferInput("sentences", [2, 1], "BYTES")
    sentences.set_data_from_numpy(np.array([[rendered.encode()], [b"hello"]], dtype=object))
    want = client.infer("reward_model", [sentences]).as_numpy("rewards")
    assert want.shape == (2, 1) and want.dtype == np.float32
    sentences.set_data_from_numpy(np.array([[rendered.encode()], [b"hello"]], dtype=object), binary_data=False)
    got = client.infer("reward_model", [sentences], outputs=[triton.InferRequestedOutput("rewards", binary_data=False)])
    assert (got.as_numpy("rewards") == want).all()
    tokens = triton.InferInput("tokens", [2, 3], "INT64")
    tokens.set_data_from_numpy(np.array([[5, 6, 7], [8, 9, 0]]))
    lengths = triton.InferInput("sequence_lengths", [2, 1], "INT64")
    lengths.set_data_from_numpy(np.array([[3], [2]]))
    assert client.infer("reward_model", [tokens, lengths]).as_numpy("rewards").shape == (2, 1)


def as_openrlhf():
    """Sends what OpenRLHF's remote reward client sends, through the library that it uses."""
    import aiohttp
    using("aiohttp (OpenRLHF's request)")

    async def ask():
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=180)) as session:
            data = {"query": [rendered, "hello"], "prompts": [question, ""], "labels": ["", None]}
            async with session.post(base + "/get_reward", json=data) as response:
                response.raise_for_status()
                got = await response.json()
        assert len(got["rewards"]) == len(got["scores"]) == len(got["extra_logs"]["dummy_scores"]) == 2

    asyncio.run(ask())


for run in (with_openai, with_cohere, with_huggingface_hub, with_tritonclient, as_openrlhf):
    run()
    print(run.__name__, "ok")
with open(sys.argv[2], "w") as f:
    json.dump(recorded, f, indent=1)
    f.write("\n")
