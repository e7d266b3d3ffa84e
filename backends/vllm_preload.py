"""What an engine of vLLM imports on a CPU. Imported by the fork server, never by this process."""

import contextlib
import gc
import importlib

MODULES = (
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.model_executor.model_loader",
    "vllm.model_executor.models.llama",
    "vllm.v1.structured_output",
)

for name in MODULES:
    with contextlib.suppress(ImportError):  # another version: the engine imports it itself
        importlib.import_module(name)
gc.collect()
gc.freeze()  # a collection in a fork would write to every page that it shares
