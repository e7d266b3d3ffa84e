"""What one expert thinks of a segment that another one wrote.

Asked, it says one token, A, B or C, and the probabilities of these say how sure it is: that finds
the prompt in its prefix cache and works with any tokenizer and server. By continuation, it says
itself what comes after the settled text, with the segment as a draft to verify, and it is a yes
where both read alike: for experts that can answer but not judge.
"""

from __future__ import annotations

import math
from contextlib import aclosing

import numpy as np
from msgspec.structs import replace

from ... import kernels
from ...backends.base import Expert, GenerationParams, Message, TokenLogprob, TokenPrompt
from .segments import Segment
from .task import Task, request, tokens_of

QUESTION = (
    "Judge the end of your last answer, which reads:\n«{segment}»\n"
    "Is all of this end correct, to the point and, where there are documents, supported by them?\n"
    "Reply with one letter. A: yes. B: no. C: I cannot tell."
)
LETTERS = ("A", "B", "C")
TOP_LOGPROBS = 20
MIN_MASS = 0.5
LEAST_SCORE = 0.02
EXTRA_TOKENS = 8


async def ask(task: Task, expert: Expert, settled: str, segment: Segment) -> float | None:
    """Return the probability that the segment is right, 0.02 to 0.98; None = abstains.

    Raises ExpertError.
    """
    prompt = await task.rendered(
        expert,
        Message("assistant", settled + segment.text),
        Message("user", QUESTION.format(segment=segment.text.strip())),
    )
    params = GenerationParams(max_tokens=1, temperature=0.0, logprobs=TOP_LOGPROBS)
    _, logprobs = await _say(task, expert, prompt, params)
    if not logprobs:
        return None
    return score_of(logprobs[0])


def score_of(logprob: TokenLogprob) -> float | None:
    """Return P(A) / (P(A) + P(B)) of one token's alternatives, None without half of the mass."""
    mass = dict.fromkeys(LETTERS, 0.0)
    for text, _, value in logprob.top:
        letter = text.strip().upper()
        if letter in mass:
            mass[letter] += math.exp(value)
    if sum(mass.values()) < MIN_MASS or mass["A"] + mass["B"] < mass["C"]:
        return None
    both = np.log(np.maximum(np.array([mass["A"], mass["B"]], np.float32), np.float32(1e-9)))
    score = float(kernels.softmax(both)[0])
    return min(max(score, LEAST_SCORE), 1 - LEAST_SCORE)


async def compare(task: Task, expert: Expert, settled: str, segment: Segment) -> float | None:
    """Return a high score if the expert goes on like the segment, a low one if not.

    Raises ExpertError.
    """
    if not expert.capabilities.continues:
        return None
    more = (Message("assistant", settled),) if settled else ()
    params = replace(
        task.params,
        max_tokens=2 * segment.tokens + EXTRA_TOKENS,
        temperature=0.0,
        seed=None,
        logprobs=None,
        prediction=segment.text,
    )
    text, _ = await _say(task, expert, await task.rendered(expert, *more), params)
    wanted, said = segment.text.split(), text.split()
    if not said or (segment.finish_reason == "stop" and len(said) > len(wanted)):
        return LEAST_SCORE
    return 1 - LEAST_SCORE if said[: len(wanted)] == wanted else LEAST_SCORE


async def _say(
    task: Task, expert: Expert, prompt: TokenPrompt, params: GenerationParams
) -> tuple[str, list[TokenLogprob]]:
    text = ""
    logprobs: list[TokenLogprob] = []
    stream = request(task, expert, prompt, params)
    async with aclosing(stream):
        async for chunk in stream:
            task.report.saw_aside(expert.expert_id, tokens_of(chunk))
            text += chunk.text
            logprobs += chunk.logprobs or ()
    return text, logprobs
