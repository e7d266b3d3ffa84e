"""Serves a GGUF file with llama.cpp's own server; run by the Python that has ``xllamacpp``.

``llama_server.py FILE.gguf PORT THREADS STREAMS TOKENS``: as many requests at a time as there are
streams, ``TOKENS`` tokens for each. Imports nothing of LiveMind. Says on a first line of JSON what
llama.cpp it is.
"""

import json
import signal
import sys


def main(file: str, port: int, threads: int, streams: int, tokens: int) -> None:
    """Serve until a signal ends the process."""
    import xllamacpp  # type: ignore[import-not-found]  # in an environment of its own

    params = xllamacpp.CommonParams()
    params.model.path = file
    params.n_gpu_layers = 0
    params.n_parallel = streams
    params.n_ctx = streams * tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames, params.port = ["127.0.0.1"], port
    params.ui = False
    params.model_alias = {"local"}
    told = {"build": str(xllamacpp.BUILD_INFO), "system": str(xllamacpp.get_system_info())}
    print(json.dumps(told), flush=True)
    server = xllamacpp.Server(params)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
