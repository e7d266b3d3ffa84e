"""What keeps the threads and the memory of a process from holding up its event loop."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.001
"""For so long a thread may keep the interpreter while the event loop wants it."""


@contextmanager
def responsive() -> Iterator[None]:
    """Hold the process, inside the block, in the state in which it serves.

    What is loaded before it is left out of garbage collections: a full one stops every thread for a
    tenth of a second or more once the encoder's libraries are there.
    """
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before_s)
