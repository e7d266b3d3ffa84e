"""The engines that are compared, each asked in the same way: token ids in, times of tokens out."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from typing import Protocol

import aiohttp

from ...backends.base import GenerationParams, Priority, TokenPrompt
from ...backends.doctor.number_formats import Formats, fit_alone
from ...backends.spec import ExpertSpec
from ...backends.vllm.expert import VllmExpert
from ..bench import BenchmarkFailed
from ..figures.answer import Json
from ..harness.server_process import free_port, output_of, serving
from ..peers.programs import Installed, Peer

LLAMA_CPP = Peer("xllamacpp", "xllamacpp")
MAX_TOKENS = 2048
_PIN = (
    "import os, sys; cores = set(map(int, sys.argv[1].split(','))); "
    "getattr(os, 'sched_setaffinity', lambda *_: None)(0, cores); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)
_SERVER = Path(__file__).with_name("llama_server.py")


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer: how long its first and its last token took, seconds, and how many there were."""

    first_s: float
    last_s: float
    tokens: int

    @property
    def token_s(self) -> float:
        """Seconds from one token to the next."""
        return (self.last_s - self.first_s) / (self.tokens - 1)


class Engine(Protocol):
    """Who computes.

    Attributes:
        told: what it is, for the report.
        weight_bytes: what one token has to read of the weights.
    """

    told: Json
    weight_bytes: int

    async def answer(self, prompt: Sequence[int], tokens: int) -> Timed:
        """Answer greedily, with so many tokens whatever they are.

        Raises:
            BenchmarkFailed: the engine gave another number of tokens, or an error.
        """
        ...

    async def scores(self, tokens: Sequence[int]) -> list[float]:
        """Return the log-probability, nats, of each token but the first after those before it.

        Raises:
            BenchmarkFailed: the engine does not tell one, or gave an error.
        """
        ...


class Vllm:
    """An engine of vLLM as LiveMind runs them."""

    def __init__(self, expert: VllmExpert, told: Json, weight_bytes: int) -> None:
        self.told, self.weight_bytes = told, weight_bytes
        self._expert = expert
        self._numbers = itertools.count()

    async def answer(self, prompt: Sequence[int], tokens: int) -> Timed:
        """See ``Engine``."""
        params = GenerationParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        began, first, last, count = time.perf_counter(), 0.0, 0.0, 0
        stream = self._expert.generate(
            TokenPrompt(tuple(prompt), len(prompt)),
            params,
            priority=Priority.FOREGROUND,
            request_id=f"cpu-{next(self._numbers)}",
        )
        async for chunk in stream:
            if chunk.token_ids:
                last = time.perf_counter()
                first = first or last
                count += len(chunk.token_ids)
        return checked(Timed(first - began, last - began, count), tokens)

    async def scores(self, tokens: Sequence[int]) -> list[float]:
        """See ``Engine``."""
        params = GenerationParams(max_tokens=0, temperature=0.0, echo=True, logprobs=1)
        found: list[float] = []
        stream = self._expert.generate(
            TokenPrompt(tuple(tokens), len(tokens), text=""),
            params,
            priority=Priority.FOREGROUND,
            request_id=f"cpu-{next(self._numbers)}",
        )
        async for chunk in stream:
            found += [one.logprob for one in chunk.logprobs or ()]
        return scored(found[1:], tokens)


class LlamaCpp:
    """llama.cpp's server at ``url``; its OpenAI API calls the model ``local``."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, told: Json, bytes_: int, vocabulary: int
    ) -> None:
        self.told, self.weight_bytes, self.url = told, bytes_, url
        self._http, self._vocabulary = http, vocabulary

    async def answer(self, prompt: Sequence[int], tokens: int) -> Timed:
        """See ``Engine``."""
        body = {
            "prompt": list(prompt),
            "n_predict": tokens,
            "stream": True,
            "temperature": 0.0,
            "ignore_eos": True,
            "cache_prompt": False,
            "return_tokens": True,
        }
        began, first, last, count = time.perf_counter(), 0.0, 0.0, 0
        async with self._http.post(f"{self.url}/completion", json=body) as response:
            if response.status != 200:
                raise BenchmarkFailed(f"llama.cpp: status {response.status}")
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    raise BenchmarkFailed(f"llama.cpp: {event['error'].get('message')}")
                if event.get("tokens"):
                    last = time.perf_counter()
                    first = first or last
                    count += len(event["tokens"])
        return checked(Timed(first - began, last - began, count), tokens)

    async def scores(self, tokens: Sequence[int]) -> list[float]:
        """See ``Engine``. A request for each token, whose answer has all of the vocabulary."""
        found: list[float] = []
        for end in range(1, len(tokens)):
            body = {
                "prompt": list(tokens[:end]),
                "n_predict": 1,
                "n_probs": self._vocabulary,
                "temperature": 1.0,
                "top_k": 0,
                "top_p": 1.0,
                "min_p": 0.0,
                "cache_prompt": True,
            }
            async with self._http.post(f"{self.url}/completion", json=body) as response:
                if response.status != 200:
                    raise BenchmarkFailed(f"llama.cpp: status {response.status}")
                told = await response.json()
            [place] = told["completion_probabilities"]
            found += [one["logprob"] for one in place["top_logprobs"] if one["id"] == tokens[end]]
        return scored(found, tokens)


def scored(found: list[float], tokens: Sequence[int]) -> list[float]:
    """Return the scores. Raises BenchmarkFailed where there is not one for each token."""
    if len(found) != len(tokens) - 1:
        raise BenchmarkFailed(f"an engine scored {len(found)} of {len(tokens) - 1} tokens")
    return found


def checked(found: Timed, tokens: int) -> Timed:
    """Return what was timed. Raises BenchmarkFailed where it is another number of tokens."""
    if found.tokens != tokens:
        raise BenchmarkFailed(f"an engine gave {found.tokens} tokens where {tokens} were asked for")
    return found


@asynccontextmanager
async def vllm(
    folder: Path,
    log: Path,
    threads: int,
    streams: int,
    parameters: int,
    *,
    dtype: str,
    quantization: str | None,
    ours: bool,
) -> AsyncGenerator[Vllm, None]:
    """Run an engine of a model's folder on so many cores.

    ``ours``: with the formats, kernels and packed weights that LiveMind chooses.
    """
    spec = ExpertSpec(
        expert_id=log.stem,
        model_path=str(folder),
        dtype=dtype,
        quantization=quantization,
        enable_neon=ours,
        verify_drafts=False,
        cpu_cores=",".join(map(str, _cores(threads))),
        max_model_len=MAX_TOKENS,
        max_num_seqs=streams,
        kv_cache_gib=0.5,
        engine_log=str(log),
    )
    fitted = await asyncio.to_thread(fit_alone, spec)
    expert = VllmExpert(fitted.spec)
    await expert.start()
    try:
        yield Vllm(expert, _formats(fitted), round(parameters * _bytes_each(fitted.spec)))
    finally:
        await expert.stop()


def _cores(threads: int) -> list[int]:
    """Return the first cores that this process may use."""
    if sys.platform != "linux":
        return list(range(threads))
    return sorted(os.sched_getaffinity(0))[:threads]


def _formats(fitted: Formats) -> Json:
    return {
        "dtype": fitted.spec.dtype,
        "quantization": fitted.spec.quantization,
        "why": fitted.packing_why or fitted.dtype_why or None,
    }


def _bytes_each(spec: ExpertSpec) -> float:
    packed = {"q4": 0.75, "q8": 1.25}  # at most: two float32 numbers for every 32 weights
    return packed.get(spec.quantization or "", 4.0 if spec.dtype == "float32" else 2.0)


@asynccontextmanager
async def llama_cpp(
    program: Installed | Path,
    gguf: Path,
    log: Path,
    threads: int,
    streams: int,
    *,
    vocabulary: int = 0,
) -> AsyncGenerator[LlamaCpp, None]:
    """Run llama.cpp's server on a GGUF file.

    Args:
        program: the package ``xllamacpp``, or a ``llama-server``.
        gguf: the file.
        log: what the server says.
        threads: it computes with.
        streams: answered at a time.
        vocabulary: tokens of the model, needed for ``scores``.
    """
    port = free_port()
    if isinstance(program, Path):
        told: Json = {"program": program.name, "build": await _version(program)}
        size = ("--ctx-size", str(streams * MAX_TOKENS), "--parallel", str(streams))
        where = ("--host", "127.0.0.1", "--port", str(port), "--no-webui")
        how = ("--threads", str(threads), "--n-gpu-layers", "0", "--alias", "local")
        command: tuple[str, ...] = (str(program), "--model", str(gguf), *size, *where, *how)
    else:
        told = {"xllamacpp": program.version}
        numbers = map(str, (port, threads, streams, MAX_TOKENS))
        command = (str(program.programs / "python"), str(_SERVER), str(gguf), *numbers)
    command = (sys.executable, "-c", _PIN, ",".join(map(str, _cores(threads))), *command)
    async with (
        serving(command, port, log) as url,
        # its server closes idle connections without waiting for what is on the way
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=600),
            connector=aiohttp.TCPConnector(force_close=True),
        ) as http,
    ):
        told |= await asyncio.to_thread(_told, log)
        weights = await asyncio.to_thread(gguf.stat)
        yield LlamaCpp(http, url, told, weights.st_size, vocabulary)


async def _version(program: Path) -> str:
    try:
        return (await output_of(str(program), "--version")).strip().splitlines()[0]
    except (OSError, CalledProcessError, IndexError) as exc:
        raise BenchmarkFailed(f"{program}: cannot be run ({type(exc).__name__})") from None


def _told(log: Path) -> Json:
    """Return what the server said of itself before it served."""
    lines = log.read_text(errors="replace").splitlines()
    found: Json = json.loads(next((line for line in lines if line.startswith("{")), "{}"))
    return found
