"""Counters whose children are found quickly: prometheus_client looks them up behind a lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram


def counter(
    name: str, text: str, labels: Sequence[str], *, registry: CollectorRegistry
) -> Callable[..., Counter]:
    """Return what finds the counter of some labels' values; there are few, and none is removed."""
    return cache(Counter(name, text, labels, registry=registry).labels)


def histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    *,
    buckets: Sequence[float],
    registry: CollectorRegistry,
) -> Callable[..., Histogram]:
    """Return what finds the histogram of some labels' values."""
    return cache(Histogram(name, text, labels, buckets=buckets, registry=registry).labels)
