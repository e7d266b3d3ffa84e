"""Domains: those that routing knows by itself, their other names, and those no text reaches."""

from __future__ import annotations

from collections.abc import Collection, Iterable

BUILTIN = ("general", "technical", "coding", "multilingual", "multimodal")
EVERY = "all"
"""The domain of an expert that is nobody's specialist."""
_SUFFIX = "_expert"


def domain_name(name: str) -> str:
    """Return the name that a domain has here.

    The original system called some of them after their expert: ``multilingual_expert``.
    """
    plain = name.strip().lower().replace("-", "_").removesuffix(_SUFFIX)
    return plain if plain in BUILTIN else name


def unreachable(domains: Iterable[str], described: Collection[str]) -> list[str]:
    """Return the domains of experts that no text is routed to.

    Args:
        domains: of the experts that routing chooses from; a single one gets everything.
        described: domains with example questions of their own.
    """
    distinct = list(dict.fromkeys(domains))
    if len(distinct) == 1:
        return []
    return [name for name in distinct if name not in BUILTIN and name not in described]
