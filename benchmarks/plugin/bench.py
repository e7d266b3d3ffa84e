"""Tokens per second of real vLLM engines with the kernels and without, and whether they agree.

Per model two engines run side by side, each an expert as LiveMind makes it; they differ in
``enable_neon`` alone and take turns. A gain is the median over the turns of (time without / time
with) for the same tokens, prompts included; a case is vocabulary, weights, top_p and batch.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from msgspec.structs import replace
from rich.console import Console

from ...backends.base import GenerationParams, Message, Role
from ...backends.errors import ExpertError
from ..bench import BenchmarkFailed, Display, add_common, display, number, scratch
from ..figures.answer import Json, Number
from ..figures.stats import quantile, share
from ..figures.table import Table, show
from ..harness import report
from ..kernels.measure import one_thread
from .agreement import GREEDY, PENALISED, greedy, perplexity_ratios, sampled
from .engines import ARMS, Engines, filler
from .models import GROUP, Model

MODELS = {
    model.name: model
    for model in (
        Model("v152k_bf16", 180_000_000, 151_936, int4=False),
        Model("v152k_int4", 180_000_000, 151_936, int4=True),
        Model("v32k_bf16", 110_000_000, 32_000, int4=False),
        Model("v32k_int4", 110_000_000, 32_000, int4=True),
    )
}
SPLIT_MODEL = "v32k_bf16"
SPLIT_PROMPTS = 8
SPLIT: dict[str, tuple[dict[str, object], str]] = {
    "sampling_and_penalties": (
        dict.fromkeys(("q4_linear", "rms_norm", "fused_add_rms_norm", "decoder_layer"), False),
        "bfloat16",
    ),
    "float32": ({}, "float32"),
}
"""Which operators, and the type of the model: what can change a greedy answer, taken apart."""
BATCHES = (1, 8)
TOP_PS = (0.9, 1.0)
EXPERT, GROUPS = "technical", (32, 128)
MEANING = {
    "plugin.greedy.identical_share": f"greedy answers of the embedded expert {EXPERT}, bf16: token "
    "by token the same up to numerical ties (0.02 nats)",
    "plugin.greedy.identical_share_strict": "the same, ties counted as different",
    "plugin.greedy.identical_share.random_weights": "the same for the bf16 models of random "
    "weights, whose best tokens are often one step of bf16 apart",
    "plugin.greedy.identical_share_strict.sampling_and_penalties": "greedy answers of "
    f"{SPLIT_MODEL} with penalties, of the operators sampling and penalties alone; ties counted "
    "as different",
    "plugin.greedy.identical_share_strict.float32": f"the same, all operators, {SPLIT_MODEL} "
    "computed in float32, where ties are rare",
    "plugin.sampled.p_value": "chi-square: first tokens at top_p 0.9 of both engines, own seeds",
    "plugin.sampled.same_seed_share": "first tokens that are equal when the seed is",
    **{
        f"plugin.q4.perplexity_ratio.group_{group}": f"of the embedded expert {EXPERT}'s answers "
        f"with 4-bit layers over bf16, {group} inputs per scale"
        for group in GROUPS
    },
    **{
        f"plugin.tokens_per_s_gain.{name}.top_p_{top_p}.batch_{batch}": "tokens per second with "
        f"the kernels over without: vocabulary {model.rows}, "
        f"{'4-bit layers' if model.int4 else 'bf16'}, top_p {top_p}, {batch} at a time"
        for name, model in MODELS.items()
        for top_p in TOP_PS
        for batch in BATCHES
    },
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    turns: int
    tokens: dict[int, int]
    """By batch: long enough that decoding and not the prompt is what takes time."""
    prompts: int
    fillers: int
    """Greedy prompts for a model whose answers are noise."""
    draws: int
    questions: int


QUICK = Size(turns=3, tokens={1: 40, 8: 16}, prompts=24, fillers=1, draws=256, questions=300)
WHOLE = Size(turns=9, tokens={1: 64, 8: 64}, prompts=200, fillers=8, draws=4096, questions=300)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    quick = "fewer turns, in about four minutes"
    add_common(parser, "of models and samples", quick, number(int, 0))
    parser.add_argument(
        "--only", metavar="MODEL", action="append", choices=sorted(MODELS), help="repeatable"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    size = QUICK if options.quick else WHOLE
    names = options.only or list(MODELS)
    run = report.Run("vllm-plugin", options, console)
    found: Json = {"cases": [], "agreement": {}}
    steps = len(names) * (2 + len(BATCHES) * len(TOP_PS)) + 2 + len(SPLIT)
    with display(console, EXPERT, steps) as shown, scratch() as logs:
        measured = _measure(names, size, options.seed, found, logs, shown)
        run.perform(lambda: asyncio.run(measured), ExpertError)
    config = {
        "turns": size.turns,
        "tokens": size.tokens,
        "threads_per_engine": max(1, len(os.sched_getaffinity(0)) // 2),
        "models": {
            name: {
                "parameters": MODELS[name].parameters,
                "vocabulary": MODELS[name].rows,
                "weights": f"AWQ, group {GROUP}" if MODELS[name].int4 else "bfloat16",
            }
            for name in names
        },
    }
    content = run.content(config, **found, summary=_summary(found))
    rows = [
        [case["case"], *case["tokens_per_s"].values(), *case["gain"].values()]
        for case in content["cases"]
    ]
    columns = ("case", *ARMS, "gain", "p10", "p90")
    show(console, [Table("Tokens per second", columns, rows)])
    run.show(content["summary"], lambda name: MEANING.get(name, ""))
    return run.finish(content)


async def _measure(
    names: list[str], size: Size, seed: int, content: Json, logs: Path, shown: Display
) -> None:
    content["agreement"][EXPERT] = await _embedded(size, logs)
    shown.step()
    for name in names:
        shown.say(f"{name}: engines")
        model = await asyncio.to_thread(MODELS[name].write, seed)
        async with Engines(model, logs) as engines:
            agreement = content["agreement"][name] = {"active": engines.active()}
            shown.step()
            prompts = [filler(number) for number in range(size.fillers)]
            endless = replace(GREEDY, ignore_eos=True)
            agreement["greedy"] = await greedy(engines, prompts, endless)
            if name == "v152k_bf16":
                agreement["sampled"] = await sampled(engines, size.draws, seed)
            shown.step()
            for batch in BATCHES:
                for top_p in TOP_PS:
                    case = f"{name}.top_p_{top_p}.batch_{batch}"
                    shown.say(case)
                    content["cases"].append(
                        {"case": case, **await _case(engines, size, batch, top_p)}
                    )
                    shown.step()
    for name, (operators, dtype) in SPLIT.items() if SPLIT_MODEL in names else ():
        shown.say(f"{SPLIT_MODEL}, {name}: engines")
        model = await asyncio.to_thread(MODELS[SPLIT_MODEL].write, seed)
        (logs / name).mkdir()
        async with Engines(model, logs / name, operators, dtype) as engines:
            agreement = content["agreement"][name] = {"active": engines.active()}
            prompts = [filler(number) for number in range(SPLIT_PROMPTS)]
            agreement["greedy"] = await greedy(engines, prompts, PENALISED)
        shown.step()
    shown.say("perplexity")
    with one_thread():
        content["agreement"]["perplexity"] = perplexity_ratios(EXPERT, GROUPS, size.questions)


async def _embedded(size: Size, logs: Path) -> Json:
    """Return how greedy answers of an embedded expert compare, on its own held-out questions."""
    from ...backends.zoo.catalog import model_path
    from ...backends.zoo.evaluate import held_out

    examples = await asyncio.to_thread(held_out, EXPERT, size.prompts)
    async with Engines(model_path(EXPERT), logs) as engines:
        prompts = [
            engines.render(
                [Message(cast(Role, one["role"]), one["content"]) for one in example.messages]
            )
            for example in examples
        ]
        return {"active": engines.active(), "greedy": await greedy(engines, prompts, GREEDY)}


async def _case(engines: Engines, size: Size, batch: int, top_p: float) -> Json:
    """Return seconds per turn of both arms; the first turn warms up and does not count."""
    times: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for turn in range(size.turns + 1):
        params = [
            GenerationParams(
                max_tokens=size.tokens[batch],
                temperature=1.0,
                top_p=top_p,
                ignore_eos=True,
                seed=1000 * turn + number,
            )
            for number in range(batch)
        ]
        for arm in ARMS if turn % 2 else reversed(ARMS):
            answers, seconds = await engines.together(arm, params)
            got = sum(len(answer.tokens) for answer in answers)
            if got != batch * size.tokens[batch]:
                raise BenchmarkFailed(f"{arm}: {got} tokens, not {batch * size.tokens[batch]}")
            if turn:
                times[arm].append(seconds)
    gains = [slow / fast for slow, fast in zip(times["without"], times["with"], strict=True)]
    tokens = batch * size.tokens[batch]
    return {
        "seconds": times,
        "tokens_per_s": {arm: tokens / (quantile(times[arm], 0.5) or 1.0) for arm in ARMS},
        "gain": {f"p{q}": quantile(gains, q / 100) for q in (50, 10, 90)},
    }


def _summary(content: Json) -> dict[str, Number]:
    summary: dict[str, Number] = dict.fromkeys(MEANING)
    agreement = content["agreement"]
    for case in content["cases"]:
        summary[f"plugin.tokens_per_s_gain.{case['case']}"] = case["gain"]["p50"]
    summary |= _identical("plugin.greedy.identical_share", [agreement.get(EXPERT, {})])
    random = [agreement.get(name, {}) for name in MODELS if not MODELS[name].int4]
    shares = _identical("plugin.greedy.identical_share", random)
    summary["plugin.greedy.identical_share.random_weights"] = shares[
        "plugin.greedy.identical_share"
    ]
    for name in SPLIT:
        key = "plugin.greedy.identical_share"
        found = _identical(key, [agreement.get(name, {})])
        summary[f"{key}_strict.{name}"] = found[f"{key}_strict"]
    for name in MODELS:
        if "sampled" in agreement.get(name, {}):
            for key in ("p_value", "same_seed_share"):
                summary[f"plugin.sampled.{key}"] = agreement[name]["sampled"][key]
    ratios = agreement.get("perplexity", {}).get("ratio_by_group", {})
    for group, ratio in ratios.items():
        summary[f"plugin.q4.perplexity_ratio.group_{group}"] = ratio
    return summary


def _identical(key: str, agreements: list[Json]) -> dict[str, Number]:
    found = [one["greedy"] for one in agreements if "greedy" in one]
    answers = sum(one["answers"] for one in found)
    same = sum(one["identical"] for one in found)
    ties = sum(one["tie"] for one in found)
    return {key: share(same + ties, answers), f"{key}_strict": share(same, answers)}
