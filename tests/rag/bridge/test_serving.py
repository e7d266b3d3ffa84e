"""The state in which a process serves, and that it is left as it was found."""

from __future__ import annotations

import gc
import sys

import pytest

from livemind.rag.bridge.serving import SWITCH_S, responsive


def test_responsive_block_hands_over_soon_and_spares_what_is_loaded() -> None:
    before_s = sys.getswitchinterval()
    with responsive():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
        assert gc.get_freeze_count() > 1_000
    assert sys.getswitchinterval() == pytest.approx(before_s)
    assert gc.get_freeze_count() == 0
