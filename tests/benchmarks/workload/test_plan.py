from __future__ import annotations

from livemind.benchmarks.harness.experts import EMBEDDED, RANDOM
from livemind.benchmarks.workload.arms import ARMS, A, B, F, L, V, reference_of
from livemind.benchmarks.workload.plan import (
    DRAFT,
    LIVE,
    PASTE,
    PREFILL,
    REQUEST_AT_END,
    Plan,
    ablation_blocks,
    quick_blocks,
)


def test_ablation_blocks_ask_every_conversation_once_in_every_arm() -> None:
    blocks = ablation_blocks((A, B), 5, 2)
    assert [block.conversations for block in blocks] == [(0, 1), (2, 3), (4,)]
    assert {block.arms for block in blocks} == {(A, B)}


def test_quick_blocks_give_every_paste_its_own_reference() -> None:
    blocks = quick_blocks(2)
    assert [block.arms[1:] for block in blocks] == [
        (LIVE, DRAFT), (PASTE,), (LIVE, PREFILL), (PASTE,),
    ]  # fmt: skip
    assert {block.arms[0] for block in blocks} == {REQUEST_AT_END}
    asked = [number for block in blocks for number in block.conversations]
    assert len(set(asked)) == len(asked)


def test_cases_first_of_each_expert_has_the_short_suffix() -> None:
    plan = Plan(
        (RANDOM, EMBEDDED),
        ablation_blocks((A, B), 3, 1),
        cadences=("typing-400", "speech-150"),
        documents_tokens=(1500, 0),
    )
    suffixes = [case.suffix for case in plan.cases()]
    assert suffixes[:4] == ["", ".speech-150.1500", ".typing-400.0", ".speech-150.0"]
    assert suffixes[4] == ".embedded"
    assert len(set(suffixes)) == len({case.name for case in plan.cases()}) == 8
    assert plan.steps() == 8 * 3 * 2


def test_reference_is_the_barest_arm_that_is_asked() -> None:
    assert reference_of((B, V, L, A)) == A
    assert reference_of((B, V, L)) == L
    assert reference_of((B, V)) == V
    assert reference_of((B,)) is None


def test_arms_have_letters_of_their_own() -> None:
    assert set(ARMS) == set("AVLBCDREGFP")


def test_plan_asks_for_consensus_only_where_experts_share_a_tokenizer() -> None:
    plan = Plan((RANDOM, EMBEDDED), ablation_blocks((A, F), 3, 1))
    assert [case.asks(F) for case in plan.cases()] == [False, True]
    assert all(case.asks(A) for case in plan.cases())
    assert plan.steps() == 3 + 2 * 3
