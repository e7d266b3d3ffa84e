"""What is read from the headers and counts of servers that tell nonsense."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from livemind.backends.remote.events import usage_of
from livemind.backends.remote.refusals import LONGEST_RETRY_AFTER_S, retry_after_s


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("1e9", LONGEST_RETRY_AFTER_S),
        ("inf", LONGEST_RETRY_AFTER_S),
        ("-inf", 0.0),
        ("nan", 1.0),
        ("NaN", 1.0),
        ("-nan", 1.0),
        ("soon", 1.0),
        ("", 1.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", 1.0),
    ],
)
def test_retry_after_is_read_as_a_bounded_number(told: str, seconds: float) -> None:
    assert retry_after_s({"Retry-After": told}) == seconds


def test_retry_after_that_is_a_date_is_counted_from_now() -> None:
    told = formatdate(time.time() + 30, usegmt=True)
    assert 25 < retry_after_s({"Retry-After": told}) <= 30


@pytest.mark.parametrize("cached", [-1, 11, 1.5, "3", None, [], 2**70])
def test_cached_tokens_that_cannot_be_are_not_known(cached: object) -> None:
    told = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": cached}}
    usage = usage_of({"usage": told})
    assert usage is not None
    assert usage.cached_tokens is None
