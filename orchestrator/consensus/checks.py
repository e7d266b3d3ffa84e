"""Whether a choice of consensus can be carried out here; if not, which field is wrong and why."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidRequest
from .choice import Consensus


def check(choice: Consensus, known: Sequence[str], most_loaded: int) -> Consensus:
    """Return the choice.

    Args:
        choice: of a request.
        known: ids of all experts.
        most_loaded: how many experts can be in memory at a time.

    Raises:
        InvalidRequest: with the field that is wrong.
    """
    for name in choice.experts:
        if name not in known:
            raise _wrong("experts", f"no expert {name!r}; there are {', '.join(known)}")
    if len(set(choice.experts)) < len(choice.experts):
        raise _wrong("experts", "an expert is named twice")
    if len(choice.experts) > most_loaded:
        message = f"{len(choice.experts)} experts, but only {most_loaded} are loaded at a time"
        raise _wrong("experts", f"{message} (lazy_loading.max_loaded_experts)")
    if choice.policy == "vote" and len(known) < 2:
        raise _wrong("policy", '"vote" needs two experts, one is configured', "not_available")
    if (choice.answer == "label") != bool(choice.labels):
        message = 'labels and answer "label" belong together'
        raise _wrong("labels" if choice.answer == "label" else "answer", message)
    return choice


def _wrong(field: str, message: str, code: str = "invalid_value") -> InvalidRequest:
    return InvalidRequest(f"consensus.{field}: {message}", param=f"consensus.{field}", code=code)
