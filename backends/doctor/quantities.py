"""Memory sizes as text."""

from __future__ import annotations

import re

GIB = 2**30
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return bytes of ``128GiB``, ``64 GB`` or ``1024``.

    Raises:
        ValueError: not a size, or zero.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f'got "{text}", need a size such as 128GiB')
    units = _BINARY if match[3] else _UNITS
    size = int(float(match[1]) * units[match[2].lower()])
    if size <= 0:
        raise ValueError(f'got "{text}", need more than zero bytes')
    return size


def gib(size: float) -> str:
    """Return a size as text, ``51.1 GiB``."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
