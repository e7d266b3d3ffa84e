"""What a client or the configuration may choose about consensus. Values only."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

PolicyName = Literal["auto", "first", "draft", "verify", "vote"]
AnswerForm = Literal["text", "number", "option", "label", "json"]
Gate = Literal["none", "auto", "first", "every"]
Verdict = Literal["ask", "continue"]


class Consensus(Struct, frozen=True):
    """How an answer is settled; see docs/consensus.md.

    Attributes:
        policy: ``auto`` = ``draft`` where the routed expert verifies drafts, else ``first``.
        experts: who is asked beside the routed expert; empty = chosen by measured accuracy.
        deadline_s: longest wait once the answer is wanted, seconds. ``vote``: for all votes;
            ``verify``: for each segment, its verdicts and a takeover.
        answer: ``vote``: the form in which answers are compared.
        labels: ``vote`` with ``label``: the possible answers.
        quorum: ``verify``: verdicts that a segment needs.
        gate: ``verify``: which segments wait for their verdicts; ``auto`` = those of which their
            author is unsure.
        verdict: ``verify``: judges are asked, or their own continuation is compared.
    """

    policy: PolicyName = "auto"
    experts: tuple[str, ...] = ()
    deadline_s: float = 2.0
    answer: AnswerForm = "text"
    labels: tuple[str, ...] = ()
    quorum: int = 1
    gate: Gate = "auto"
    verdict: Verdict = "ask"
