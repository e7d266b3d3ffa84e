"""The arms of the TTFT benchmark as an ablation: each typed arm has one thing more than the last.

Pure vocabulary. A *door* is the way in: ``bare`` = the engine in this process, ``openai`` = any
OpenAI-compatible server by the standard protocol alone, ``chat`` and ``live`` = LiveMind's two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

DoorName = Literal["bare", "openai", "chat", "live"]
Speculation = Literal["off", "prefill", "draft"]
Policy = Literal["first", "auto"]
Consistency = Literal["final", "early"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to ask a turn.

    Attributes:
        id: what files, options and tables call it.
        door: the way in; only ``live`` sees the text before it is final.
        routed: the model is found from the text ("auto"), not named.
        retrieves: documents come from the bridge, not with the request.
        consistency: whose documents the answer gets; None = as the server is configured.
        speculation: what may happen before the commit.
        pasted: the text appears with the commit, without any typing.
        pause_s: wait between the last key and the commit; None = the cadence's own.
        consensus: the policy that settles the answer; None = as the server is configured.
    """

    id: str
    title: str
    door: DoorName
    routed: bool = False
    retrieves: bool = False
    consistency: Consistency | None = None
    speculation: Speculation = "off"
    pasted: bool = False
    pause_s: float | None = None
    consensus: Policy | None = None

    @property
    def typed(self) -> bool:
        """Whether the text arrives over time."""
        return self.door == "live" and not self.pasted

    @property
    def needs_a_second_expert(self) -> bool:
        """Whether it shows nothing with an expert whose tokenizer no other one shares."""
        return self.consensus == "auto"


A = Arm("A", "request at end, bare engine in process", "bare")
V = Arm("V", "request at end, OpenAI-compatible server", "openai")
L = Arm("L", "request at end, LiveMind", "chat", consensus="first")
B = Arm("B", "typed: prefill", "live", speculation="prefill", consensus="first")
C = replace(B, id="C", title="typed: prefill, routed", routed=True)
D = replace(C, id="D", title="typed: prefill, routed, retrieval", retrieves=True)
R = replace(D, id="R", title="typed: prefill, routed, early documents", consistency="early")
E = replace(D, id="E", title="typed: prefill, routed, retrieval, draft", speculation="draft")
F = replace(E, id="F", title=f"{E.title}, consensus", consensus="auto")
G = replace(E, id="G", title="typed: prefill, routed, early documents, draft", consistency="early")
P = Arm("P", "pasted: no time ahead", "live", speculation="draft", pasted=True)

ARMS = {arm.id: arm for arm in (A, V, L, B, C, D, R, E, G, F, P)}
REFERENCES = ("A", "L", "V", "request-at-end")
"""Arms that begin with the whole text, best reference first; the others are held against them."""


def reference_of(arms: tuple[Arm, ...]) -> Arm | None:
    """Return the best reference among these arms, None without any."""
    found = {arm.id: arm for arm in arms}
    return next((found[name] for name in REFERENCES if name in found), None)
