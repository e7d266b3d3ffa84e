"""``livemind bench vllm-plugin``: what counts as the same, and what the report says."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livemind.backends.base import TokenLogprob
from livemind.benchmarks import cli
from livemind.benchmarks.bench import BenchmarkFailed
from livemind.benchmarks.plugin import bench
from livemind.benchmarks.plugin.agreement import chi_square, compare
from livemind.benchmarks.plugin.engines import Answer, Engines
from livemind.benchmarks.plugin.models import _packed
from livemind.benchmarks.reporting.outputs import CHARTS

BEST = (("a", 7, -0.7), ("b", 8, -0.71), ("c", 9, -2.0))


def answer(*tokens: int) -> Answer:
    entries = [TokenLogprob("a", token, -0.7, BEST) for token in tokens]
    return Answer(list(tokens), entries)


@pytest.mark.parametrize(
    ("theirs", "ours", "verdict", "gap"),
    [
        ((7, 7), (7, 7), "identical", None),
        ((7, 7), (7, 8), "tie", 0.01),
        ((7, 7), (9, 7), "different", 1.3),
        ((7, 7), (5, 7), "different", None),
        ((7, 7), (7,), "different", None),
    ],
)
def test_compare_first_differing_token_decides(
    theirs: tuple[int, ...], ours: tuple[int, ...], verdict: str, gap: float | None
) -> None:
    found = compare(answer(*theirs), answer(*ours))
    assert found == (verdict, None if gap is None else pytest.approx(gap))


def test_chi_square_of_the_same_distribution_is_about_its_degrees_of_freedom() -> None:
    rng = np.random.default_rng(4)
    share = np.array([0.4, 0.3, 0.2, 0.08] + [0.001] * 20)
    one, other, skewed = (
        rng.choice(24, 2000, p=p).tolist() for p in (share, share, np.roll(share, 1))
    )
    statistic, degrees = chi_square(one, other)
    assert degrees == 4  # the twenty rare ones share a bin
    assert statistic < 15
    assert chi_square(one, skewed)[0] > 500
    assert chi_square([1, 1], [1, 1]) == (0.0, 0)


def test_chi_square_equals_that_of_scipy() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    one, other = [1] * 50 + [2] * 30 + [3] * 20, [1] * 80 + [2] * 80 + [3] * 40
    expected = scipy_stats.chi2_contingency([[50, 30, 20], [80, 80, 40]])
    statistic, degrees = chi_square(one, other)
    assert statistic == pytest.approx(expected.statistic)
    assert degrees == expected.dof


def test_packed_codes_are_found_where_vllm_reads_them() -> None:
    codes = np.random.default_rng(1).integers(0, 16, (3, 16), np.uint8)
    raw = (_packed(codes)[:, :, None] >> np.arange(0, 32, 4)) & 15
    assert (raw[:, :, [0, 4, 1, 5, 2, 6, 3, 7]].reshape(3, 16) == codes).all()


class FakeEngines:
    """Stands for two engines: ``with`` takes half the time."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.order: list[str] = []
        self.noise = itertools.count()

    async def together(self, arm: str, params: list[Any]) -> tuple[list[Answer], float]:
        self.order.append(arm)
        answers = [answer(*[7] * (one.max_tokens - self.lost)) for one in params]
        return answers, (2.0 if arm == "without" else 1.0) * (1 + next(self.noise) % 2)


SIZE = bench.Size(4, {2: 8}, prompts=1, fillers=1, draws=1, questions=1)


async def test_case_arms_take_turns_and_the_first_turn_does_not_count() -> None:
    engines = FakeEngines()
    case = await bench._case(engines, SIZE, 2, 0.9)  # type: ignore[arg-type]
    assert engines.order[:4] == ["with", "without", "without", "with"]
    assert [len(seconds) for seconds in case["seconds"].values()] == [4, 4]
    gains = [
        slow / fast
        for slow, fast in zip(case["seconds"]["without"], case["seconds"]["with"], strict=True)
    ]
    assert case["gain"]["p50"] == pytest.approx(np.median(gains))
    assert case["tokens_per_s"]["with"] == pytest.approx(16 / np.median(case["seconds"]["with"]))


async def test_case_missing_tokens_end_the_run() -> None:
    with pytest.raises(BenchmarkFailed, match="14 tokens, not 16"):
        await bench._case(FakeEngines(lost=1), SIZE, 2, 0.9)  # type: ignore[arg-type]


def test_engines_that_do_not_differ_end_the_run(tmp_path: Path) -> None:
    engines = Engines(Path("m"), tmp_path)
    (tmp_path / "m-without.log").write_text("x\n(pid=1) LiveMind kernels: off\n")
    (tmp_path / "m-with.log").write_text("LiveMind kernels (avx2): sampling, penalties\n")
    assert engines.active() == {"without": "off", "with": "(avx2): sampling, penalties"}
    (tmp_path / "m-with.log").write_text("LiveMind kernels: off\n")
    with pytest.raises(BenchmarkFailed, match="do not differ"):
        engines.active()


def test_summary_has_every_number_and_ties_count_as_the_same_only_where_said() -> None:
    greedy = {"answers": 4, "identical": 2, "tie": 1, "different": 1}
    content = {
        "name": "vllm-plugin",
        "cases": [
            {"case": "v32k_bf16.top_p_0.9.batch_1", "gain": {"p50": 1.5, "p10": 1.4, "p90": 1.7}}
        ],
        "agreement": {
            "technical": {"greedy": greedy},
            "v32k_bf16": {"greedy": {**greedy, "identical": 0, "tie": 0, "different": 4}},
            "v32k_int4": {"greedy": greedy},
            "float32": {"greedy": {**greedy, "identical": 3, "different": 0}},
            "perplexity": {"ratio_by_group": {"32": 1.004}},
        },
    }
    summary = bench._summary(content)
    assert set(summary) == set(bench.MEANING)
    assert summary["plugin.greedy.identical_share"] == 0.75
    assert summary["plugin.greedy.identical_share_strict"] == 0.5
    assert summary["plugin.greedy.identical_share.random_weights"] == 0
    assert summary["plugin.greedy.identical_share_strict.float32"] == 0.75
    assert summary["plugin.greedy.identical_share_strict.sampling_and_penalties"] is None
    assert summary["plugin.q4.perplexity_ratio.group_32"] == 1.004
    assert summary["plugin.tokens_per_s_gain.v32k_bf16.top_p_0.9.batch_1"] == 1.5
    assert summary["plugin.tokens_per_s_gain.v32k_bf16.top_p_1.0.batch_1"] is None
    pytest.importorskip("matplotlib")
    from livemind.benchmarks.reporting.charts import kernels

    assert CHARTS["vllm-plugin"][0] == "charts.kernels"
    (chart,) = kernels.charts(content)
    assert b"1.5" in chart.svg().encode()


def test_kernels_chart_per_peer_and_one_of_the_limits() -> None:
    pytest.importorskip("matplotlib")
    from livemind.benchmarks.reporting.charts import kernels

    ratio = {"p50": 2.0, "p10": 1.9, "p90": 2.2}
    case = {"kernel": "softmax", "case": "n8", "share_of_limit": 0.5}
    cases = [{**case, "speedup": {"torch": ratio}}, {**case, "speedup": {"scalar": ratio}}]
    names = [chart.name for chart in kernels.charts({"name": "kernels", "cases": cases})]
    assert names == ["kernels-vs-torch", "kernels-vs-scalar", "kernels-share-of-limit"]


def test_run_negative_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["vllm-plugin", "--seed", "-1"])
    assert "--seed: got -1, need >= 0" in capsys.readouterr().err
