"""Whether an engine with the kernels says the same as one without: greedy, sampled, perplexity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from ...backends.base import GenerationParams, TokenPrompt
from ...kernels import q4_linear, quantize_q4
from ..figures.answer import Json
from ..figures.identity import TIE_NATS, VERDICTS, Verdict
from .engines import Answer, Engines, filler

GREEDY = GenerationParams(max_tokens=48, temperature=0.0, logprobs=5)
PENALISED = replace(
    GREEDY,
    top_p=0.9,
    repetition_penalty=1.1,
    presence_penalty=0.1,
    frequency_penalty=0.1,
    ignore_eos=True,
)
FIRST_TOKEN = GenerationParams(max_tokens=1, temperature=1.0, top_p=0.9, ignore_eos=True)
EXPECTED_PER_BIN = 10
"""Tokens drawn more rarely share a bin: the test is not valid for them one by one."""


async def greedy(
    engines: Engines, prompts: Sequence[TokenPrompt], params: GenerationParams
) -> Json:
    """Return verdicts on greedy answers, asked one at a time."""
    verdicts: Counter[Verdict] = Counter()
    gaps, tokens = [], 0
    for prompt in prompts:
        theirs = await engines.answer("without", params, prompt)
        ours = await engines.answer("with", params, prompt)
        verdict, gap = compare(theirs, ours)
        verdicts[verdict] += 1
        tokens += len(theirs.tokens)
        gaps += [] if gap is None else [gap]
    return {
        "answers": len(prompts),
        "tokens": tokens,
        **{verdict: verdicts[verdict] for verdict in VERDICTS},
        "gaps_nats": gaps,
    }


def compare(theirs: Answer, ours: Answer) -> tuple[Verdict, float | None]:
    """Compare token by token; the gap is that of the two tokens where they part, in nats.

    The gap is unknown, and the answers count as different, if our token is none of the best there.
    """
    pairs = enumerate(zip(theirs.tokens, ours.tokens, strict=False))
    parted = next((place for place, (a, b) in pairs if a != b), None)
    if parted is None:
        return ("identical" if len(theirs.tokens) == len(ours.tokens) else "different"), None
    entry = theirs.logprobs[parted]
    best = {token: logprob for _, token, logprob in entry.top}
    if ours.tokens[parted] not in best:
        return "different", None
    gap = abs(entry.logprob - best[ours.tokens[parted]])
    return ("tie" if gap <= TIE_NATS else "different"), gap


async def sampled(engines: Engines, count: int, seed: int) -> Json:
    """Draw first tokens from both engines, each with its own seeds, and test for one distribution.

    Returns:
        ``chi_square``, ``degrees`` of freedom and ``p_value`` of the two-sample test, and
        ``same_seed_share``: tokens that are equal when the seed is.
    """
    from scipy.stats import chi2

    drawn = {
        "without": await _draw(engines, "without", count, seed),
        "with": await _draw(engines, "with", count, seed + count),
    }
    again = await _draw(engines, "with", count // 4, seed)
    same = sum(a == b for a, b in zip(drawn["without"], again, strict=False))
    statistic, degrees = chi_square(drawn["without"], drawn["with"])
    return {
        "drawn": count,
        "chi_square": statistic,
        "degrees": degrees,
        "p_value": float(chi2.sf(statistic, degrees)) if degrees else None,
        "same_seed_share": same / len(again),
    }


async def _draw(engines: Engines, arm: str, count: int, seed: int) -> list[int]:
    """Return first tokens after one prompt, one request at a time, each with the next seed."""
    prompt = filler(0)
    params = [replace(FIRST_TOKEN, seed=seed + number) for number in range(count)]
    return [(await engines.answer(arm, one, prompt)).tokens[0] for one in params]


def chi_square(one: Sequence[int], other: Sequence[int]) -> tuple[float, int]:
    """Return the statistic of the two-sample test of homogeneity, and its degrees of freedom."""
    from scipy.stats import chi2_contingency

    first, second = Counter(one), Counter(other)
    total = len(one) + len(other)
    bins: list[tuple[int, int]] = []
    rare = [0, 0]
    for token in first | second:
        pair = first[token], second[token]
        if sum(pair) * min(len(one), len(other)) >= EXPECTED_PER_BIN * total:
            bins.append(pair)
        else:
            rare[0] += pair[0]
            rare[1] += pair[1]
    if sum(rare):
        bins.append((rare[0], rare[1]))
    found = chi2_contingency(bins, correction=False)
    return float(found.statistic), int(found.dof)


def perplexity_ratios(name: str, groups: Sequence[int], questions: int) -> Json:
    """Return the perplexity of an embedded expert's right answers, and the change by 4-bit layers.

    Its own held-out questions, the library's Llama in bfloat16; every projection then runs on
    ``kernels.q4_linear`` with weights of ``quantize_q4``, one run per group size.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from ...backends.zoo.catalog import model_path
    from ...backends.zoo.evaluate import held_out
    from ...backends.zoo.tokenizer import load_tokenizer, render

    tokenizer = load_tokenizer()
    texts = []
    for example in held_out(name, questions):
        asked = tokenizer.encode(render(example.messages, generate=True)).ids
        texts.append((asked, tokenizer.encode(example.turn.answer).ids))

    def perplexity(prepare: Callable[[Any], None]) -> float:
        model: Any = AutoModelForCausalLM.from_pretrained(model_path(name), dtype=torch.bfloat16)
        prepare(model.eval())
        nats, tokens = 0.0, 0
        with torch.inference_mode():
            for asked, answer in texts:
                logits = model(torch.tensor([asked + answer])).logits[0, len(asked) - 1 : -1]
                logprobs = logits.float().log_softmax(-1)
                nats -= logprobs.gather(1, torch.tensor(answer)[:, None]).sum().item()
                tokens += len(answer)
        return math.exp(nats / tokens)

    plain = perplexity(lambda model: None)
    ratios = {
        str(group): perplexity(lambda model, group=group: _to_q4(model, group)) / plain  # type: ignore[misc]
        for group in groups
    }
    return {"expert": name, "questions": questions, "perplexity": plain, "ratio_by_group": ratios}


def _to_q4(model: Any, group: int) -> None:
    """Let every projection of a Llama compute with 4-bit weights."""
    import torch

    for name, layer in model.named_modules():
        if not name.endswith("_proj"):
            continue
        weight = quantize_q4(layer.weight.detach().float().numpy(), group)
        bias = None if layer.bias is None else layer.bias.detach().float()

        def forward(x: Any, weight: Any = weight, bias: Any = bias) -> Any:
            out = x.new_empty(x.numel() // x.shape[-1], weight.outputs)
            q4_linear(x.reshape(-1, x.shape[-1]), weight, bias, out)
            return out.view(*x.shape[:-1], weight.outputs)

        layer.forward = forward
        layer.weight = torch.nn.Parameter(torch.empty(0, dtype=layer.weight.dtype))
