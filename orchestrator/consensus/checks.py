"""Whether a choice of consensus can be carried out here; if not, which field is wrong and why."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidRequest
from .choice import Consensus


def check(choice: Consensus, known: Sequence[str], fast: str | None, most_loaded: int) -> Consensus:
    """Return the choice.

    Args:
        choice: of a request.
        known: ids of all experts.
        fast: id of the fast one.
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
    if choice.policy in ("verify", "vote") and len(known) < 2:
        message = f'"{choice.policy}" needs two experts, one is configured'
        raise _wrong("policy", message, "not_available")
    if choice.policy == "verify" and fast is None:
        message = '"verify" needs router.fast_expert, which writes'
        raise _wrong("policy", message, "not_available")
    if choice.quorum > len(known) - 1 and choice.quorum > 1:
        message = f"got {choice.quorum}, but there are {len(known) - 1} experts beside the author"
        raise _wrong("quorum", message)
    if (choice.answer == "label") != bool(choice.labels):
        message = 'labels and answer "label" belong together'
        raise _wrong("labels" if choice.answer == "label" else "answer", message)
    return choice


def _wrong(field: str, message: str, code: str = "invalid_value") -> InvalidRequest:
    return InvalidRequest(f"consensus.{field}: {message}", param=f"consensus.{field}", code=code)
