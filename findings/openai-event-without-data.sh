#!/bin/sh
# openai for Python 3.54.0 (over httpx2 2.16.2) and server-sent events that carry no data.
#
# Expected: a stream of completions may hold events without data. The HTML standard (9.2.6) says that
#   an event whose data buffer is empty is not dispatched, so "retry: 3000", "id: 1", "event: ping"
#   or "data:" with nothing behind it, each followed by an empty line, are to be passed over. Proxies
#   and servers send them to keep a connection alive.
# Seen: the package reads the empty data as JSON. `for chunk in stream` raises
#   json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)
#   and the rest of the text is lost. A comment line (": ping") is passed over as it should be.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.54.0 httpx2==2.16.2
cat > "$folder/trial.py" <<'PROGRAM'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import openai

EMPTY = {
    "a comment": b": ping\n\n",
    "data:": b"data:\n\n",
    "event: ping": b"event: ping\n\n",
    "id: 1": b"id: 1\n\n",
    "retry: 3000": b"retry: 3000\n\n",
}


def message(text):
    choice = {"index": 0, "text": text, "finish_reason": None, "logprobs": None}
    body = {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


class Server(BaseHTTPRequestHandler):
    between = b""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(message("one ") + Server.between + message("two") + b"data: [DONE]\n\n")

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_address[1]}/v1"
transport = openai.DefaultHttpxClient(trust_env=False)
client = openai.OpenAI(base_url=address, api_key="x", max_retries=0, http_client=transport)
print(f"openai {version('openai')}, httpx2 {version('httpx2')}")
seen = {}
for name, sent in EMPTY.items():
    Server.between, text = sent, ""
    try:
        for chunk in client.completions.create(model="m", prompt="x", stream=True):
            text += chunk.choices[0].text
        seen[name] = "whole"
    except json.JSONDecodeError as error:
        seen[name] = f"JSONDecodeError: {error}"
    print(f"{name:12} -> {text!r}, {seen[name]}")
lost = [name for name, what in seen.items() if what.startswith("JSONDecodeError")]
if lost != [name for name in EMPTY if name != "a comment"]:
    print("changed")
    sys.exit(1)
PROGRAM
"$folder/venv/bin/python" "$folder/trial.py"
