"""Looks for network events without sleeping while requests are answered (``server.busy_polling``).

A core that sleeps until the next byte has to be woken and finds its caches cold; in a virtual
machine the hypervisor takes part in it. HAProxy's ``busy-polling`` is the same remedy at the same
price: the core of the event loop is busy all that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class BusyPolling:
    """Keeps the running event loop from sleeping.

    Args:
        wanted: whether to go on; asked in every turn of the loop.

    Attributes:
        running: whether it does.
    """

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted = wanted
        self.running = False

    def begin(self) -> None:
        """Poll until it is not wanted any more. Idempotent."""
        if not self.running:
            self.running = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self.running = self._wanted()
        if self.running:
            asyncio.get_running_loop().call_soon(self._look)
