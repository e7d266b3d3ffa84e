"""The experts that take part in one answer, held until it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ...backends.base import Expert
from ...backends.errors import ExpertError, ExpertUnavailable
from ...backends.pool.pool import Pool


@dataclass(frozen=True, slots=True)
class Panel:
    """The experts that are here, and why others are not.

    Attributes:
        experts: by id, loaded, the routed one first.
        absent: the reason by id.
        failure: of the routed expert, where it could not be loaded.
    """

    experts: Mapping[str, Expert]
    absent: Mapping[str, str]
    failure: ExpertError | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """The compute groups they run in."""
        return tuple(dict.fromkeys(e.capabilities.compute_group for e in self.experts.values()))


@asynccontextmanager
async def convene(
    pool: Pool,
    leader: str,
    others: Sequence[str] = (),
    *,
    instead: Sequence[str] = (),
    patience_s: float | None = None,
    wake: bool = False,
) -> AsyncIterator[Panel]:
    """Hold the leader, loading it if need be, and those of the others that are loaded.

    An expert that is not loaded is absent; with ``wake`` it is loaded for the next time. A leader
    that cannot be loaded, or not within ``patience_s``, is absent if one of ``instead`` is here:
    of the others those that can answer without it.

    Raises:
        ExpertError: the leader cannot be loaded and nobody can answer instead.
    """
    if not others:
        async with pool.acquire(leader) as sole:
            yield Panel({leader: sole}, {})
        return
    experts: dict[str, Expert] = {}
    absent: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        failure: ExpertError | None = None
        alone = not any(pool.ready(expert) for expert in instead)
        try:
            async with asyncio.timeout(None if alone else patience_s):
                experts[leader] = await stack.enter_async_context(pool.acquire(leader))
        except ExpertError as error:
            absent[leader], failure = error.message, error
        except TimeoutError:
            absent[leader] = "not loaded in time"
            failure = ExpertUnavailable(leader, absent[leader])
        for expert in others:
            if pool.ready(expert) is not None:
                experts[expert] = await stack.enter_async_context(pool.acquire(expert))
            else:
                if wake:
                    pool.wake(expert)
                absent[expert] = "not loaded"
        if failure is not None and not experts.keys() & set(instead):
            raise failure
        yield Panel(experts, absent, failure)
