"""The workload of ``--quick``: what a processor of given speeds is asked."""

from __future__ import annotations

import pytest

from livemind.backends.machine.speeds import Speeds
from livemind.benchmarks.harness.experts import EMBEDDED, RANDOM
from livemind.benchmarks.ttft.scale import SHORTEST_DOCUMENTS, WHOLE_S, fitting, scaled
from livemind.benchmarks.workload.plan import Plan, quick_blocks


def speeds(fastest_ns: float) -> Speeds:
    return Speeds({}, "probe", {"float32": fastest_ns, "bfloat16": 9 * fastest_ns})


@pytest.mark.parametrize(
    ("product_ns", "parameters", "documents"),
    [
        (0.005, 100_000_000, 1500),
        (0.0079, 100_000_000, 1500),
        (0.0081, 50_000_000, 1500),
        (0.0121, 25_000_000, 1500),
        (0.032, 12_000_000, 1500),
        (0.09, 6_000_000, 1500),
        (0.24, 6_000_000, 625),
        (100.0, 6_000_000, SHORTEST_DOCUMENTS),
    ],
)
def test_fitting_is_the_largest_that_is_short_enough(
    product_ns: float, parameters: int, documents: int
) -> None:
    found = fitting(speeds(product_ns), 1500)
    assert (found.parameters, found.documents_tokens) == (parameters, documents)
    assert found.scaled == ((parameters, documents) != (100_000_000, 1500))
    took_s = parameters * documents * product_ns * 1e-9
    assert took_s <= WHOLE_S or documents == SHORTEST_DOCUMENTS


def test_fitting_without_a_measurement_is_whole() -> None:
    assert not fitting(Speeds({}, "flags"), 1500).scaled


def test_fitting_never_lengthens_documents() -> None:
    assert fitting(speeds(100.0), 40).documents_tokens == 40


def test_scaled_plan_has_the_smaller_model_and_says_so() -> None:
    plan = Plan((RANDOM, EMBEDDED), quick_blocks(1))
    found = scaled(plan, fitting(speeds(0.03), 1500))
    random, embedded = found.experts
    assert (random.expert_id, random.random_params) == ("random-12m", 12_000_000)
    assert (random.name, random.suffix) == (RANDOM.name, RANDOM.suffix)
    assert embedded == EMBEDDED
    assert fitting(speeds(0.03), 1500).told() == (
        "Scaled to this processor: 12M parameters, documents of 1500 tokens; the products alone of "
        "100M would take 4.5 s. Compare it with runs of this workload only."
    )
