"""What the values of the seam promise."""

from __future__ import annotations

from livemind.backends.base import GenerationParams


def test_params_that_differ_in_the_prediction_alone_are_equal() -> None:
    one, other = GenerationParams(seed=1, prediction="a"), GenerationParams(seed=1)
    assert one == other
    assert (one != other) is False
    assert hash(one) == hash(other)


def test_params_that_differ_in_what_is_sampled_are_not_equal() -> None:
    one = GenerationParams(seed=1, prediction="a")
    assert one != GenerationParams(seed=2, prediction="a")
    assert one != GenerationParams(seed=1, ignore_eos=True, prediction="a")
    assert one != "a"
