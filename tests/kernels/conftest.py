"""Every implementation that can run here: NumPy, and each tier of the compiled module."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from livemind import kernels
from livemind.kernels import reference


@pytest.fixture(params=kernels.tiers())
def tier(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module whose kernels run on one tier."""
    if request.param == "numpy":
        yield reference
        return
    from livemind.kernels import _native

    before = _native.isa()
    _native.select(request.param)
    yield _native
    _native.select(before)
