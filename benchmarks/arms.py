"""The arms of the TTFT benchmark as an ablation: each typed arm has one thing more than the last.

Pure vocabulary. A *door* is the way in: ``bare`` = the engine in this process, ``openai`` = any
OpenAI-compatible server by the standard protocol alone, ``chat`` and ``live`` = LiveMind's two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DoorName = Literal["bare", "openai", "chat", "live"]
Speculation = Literal["off", "prefill", "draft"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to ask a turn.

    Attributes:
        id: what files, options and tables call it.
        door: the way in; only ``live`` sees the text before it is final.
        routed: the model is found from the text ("auto"), not named.
        retrieves: documents come from the bridge, not with the request.
        speculation: what may happen before the commit.
        pasted: the text appears with the commit, without any typing.
        pause_s: wait between the last key and the commit; None = the cadence's own.
    """

    id: str
    title: str
    door: DoorName
    routed: bool = False
    retrieves: bool = False
    speculation: Speculation = "off"
    pasted: bool = False
    pause_s: float | None = None

    @property
    def typed(self) -> bool:
        """Whether the text arrives over time."""
        return self.door == "live" and not self.pasted


A = Arm("A", "request at end, bare engine in process", "bare")
V = Arm("V", "request at end, OpenAI-compatible server", "openai")
L = Arm("L", "request at end, LiveMind", "chat")
B = Arm("B", "typed: prefill", "live", speculation="prefill")
C = Arm("C", "typed: prefill, routed", "live", routed=True, speculation="prefill")
D = Arm("D", "typed: prefill, routed, retrieval", "live", True, True, "prefill")
E = Arm("E", "typed: prefill, routed, retrieval, draft", "live", True, True, "draft")
P = Arm("P", "pasted: no time ahead", "live", speculation="draft", pasted=True)

ARMS = {arm.id: arm for arm in (A, V, L, B, C, D, E, P)}
REFERENCES = ("A", "L", "V", "request-at-end")
"""Arms that begin with the whole text, best reference first; the others are held against them."""
UNAVAILABLE = {"F": "consensus is not part of this version"}
"""Arms that have a name and a place in the summary, and why they cannot run."""
LETTERS = (*ARMS, *UNAVAILABLE)


def reference_of(arms: tuple[Arm, ...]) -> Arm | None:
    """Return the best reference among these arms, None without any."""
    found = {arm.id: arm for arm in arms}
    return next((found[name] for name in REFERENCES if name in found), None)
