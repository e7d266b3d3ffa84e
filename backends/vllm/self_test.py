"""What a running engine does with what speculation relies on, learned from a few short requests.

An engine's configuration says what was meant. Whether a prefix is found again, whether an answer
behind a found prefix is the one behind a computed one, and whether a draft is taken and changes
nothing is asked here, once, after the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import uuid4

from ..base import Expert, GenerationParams, Priority, TokenLogprob, TokenPrompt

_BLOCKS = 2
_LONGEST = 2048
_ANY_BLOCK = 32
_ANSWER = 6
# Two answers part at a tie where this little lies between their tokens (natural logarithm): a step
# over several tokens adds up in another order than one over a single token.
_TIE = 0.1


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Tokens that the engine found in its cache and took of a right draft.

    Attributes:
        asked: of the prompt that was put to it twice.
        again: of it, found the second time.
        half: of another prompt, shared with the first.
        shared: of them, found.
        same_cached: the answer behind the found prefix is that behind the computed one.
        drafted, accepted: of a draft that says what the engine had said; None = it takes none.
        same_drafted: the draft left the answer as it was.
    """

    asked: int
    again: int
    half: int
    shared: int
    same_cached: bool = True
    drafted: int | None = None
    accepted: int | None = None
    same_drafted: bool = True

    @property
    def reuses(self) -> bool:
        """Whether a prompt that begins like an earlier one is computed from there on."""
        return self.again > 0 and self.same_cached

    @property
    def verifies(self) -> bool:
        """Whether a draft makes an answer come sooner and leaves it as it is."""
        return bool(self.accepted) and self.same_cached and self.same_drafted

    def __str__(self) -> str:
        drafts = "not asked for"
        if self.accepted is not None:
            drafts = f"{self.accepted} of {self.drafted} tokens accepted"
        return (
            f"the same {self.asked} tokens again: {self.again} cached"
            f"{'' if self.same_cached else ', ANOTHER ANSWER'}; {self.half} shared: {self.shared} "
            f"cached; right draft: {drafts}{'' if self.same_drafted else ', ANOTHER ANSWER'}"
        )


async def self_test(expert: Expert, tokens: Sequence[int]) -> SelfTest | None:
    """Ask a loaded expert for what it said before; None where its context is too short for that.

    Args:
        expert: its ``capabilities`` say how long its blocks are, and whether it takes drafts.
        tokens: what the prompts are made of, as long as there may be.

    Raises:
        ExpertError: the engine failed.
    """
    able = expert.capabilities
    # Where nothing is kept a block may be as long as the context: any length is asked then.
    block = able.prefix_block_tokens if able.open_turn_prefill else _ANY_BLOCK
    limit = min(len(tokens), _LONGEST, (able.max_model_len or _LONGEST) - _ANSWER - 1)
    blocks = min(_BLOCKS, (limit - 1) // block)
    if blocks < 1:
        return None
    salt = f"self-test-{uuid4().hex}"  # nobody's prompt finds it
    ids = tuple(tokens[: blocks * block + 1])
    prompt = TokenPrompt(ids, len(ids), cache_salt=salt)
    first = await _said(expert, prompt)
    again = await _said(expert, prompt)
    half = max(1, blocks // 2) * block
    other = (*ids[:half], *reversed(ids[half:]))
    shared = await expert.prefill(
        TokenPrompt(other, len(other), cache_salt=salt), priority=Priority.FOREGROUND
    )
    found = SelfTest(len(ids), again.cached or 0, half, shared.cached or 0, _same(first, again))
    if not able.drafts:
        return found
    drafted = await _said(expert, prompt, [told.token_id for told in again.tokens])
    return replace(
        found,
        drafted=len(again.tokens),
        accepted=drafted.accepted,
        same_drafted=_same(again, drafted),
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """``cached``: tokens of the prompt that were found; ``accepted``: of the draft."""

    tokens: list[TokenLogprob]
    cached: int
    accepted: int


async def _said(expert: Expert, prompt: TokenPrompt, draft: Sequence[int] | None = None) -> _Answer:
    stream = expert.generate(
        prompt,
        GenerationParams(max_tokens=_ANSWER, temperature=0.0, ignore_eos=True, logprobs=1),
        priority=Priority.FOREGROUND,
        request_id=f"self-test-{uuid4().hex}",
        draft=draft,
    )
    tokens: list[TokenLogprob] = []
    cached = accepted = 0
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            tokens += chunk.logprobs or ()
            if chunk.usage is not None:
                cached = chunk.usage.cached_tokens or 0
                accepted = chunk.usage.accepted_draft_tokens or 0
    return _Answer(tokens, cached, accepted)


def _same(one: _Answer, other: _Answer) -> bool:
    for a, b in zip(one.tokens, other.tokens, strict=False):
        if a.token_id != b.token_id:
            return abs(a.logprob - b.logprob) < _TIE
    return len(one.tokens) == len(other.tokens)
