"""The proposer inside the engine, on a runner made of arrays; with vLLM in test_expert."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm import configured, draft_runner, drafts
from livemind.backends.vllm.drafts import (
    DRAFT,
    DRAFT_ID,
    DraftProposer,
    DraftWorker,
    LookupProposer,
    allow_all_sampling,
    engine_arguments,
    missing_hook,
)

PROMPT = 3
CONTEXT = 64


class Engine:
    """A model runner's bookkeeping: requests in a batch, their tokens, and the proposer."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, proposer: type[DraftProposer] = DraftProposer
    ) -> None:
        monkeypatch.setattr(drafts, "prepare", lambda runner, most: None)
        self.requests: dict[str, Any] = {}
        self.input_batch = SimpleNamespace(req_ids=[])
        self.max_model_len = CONTEXT
        self.model_config = SimpleNamespace(get_vocab_size=lambda: 1000)
        self.tokens = np.zeros((128, CONTEXT), np.int32)
        self.lengths = np.full(128, PROMPT, np.int64)
        config = SimpleNamespace(num_speculative_tokens=15)
        self.drafter = proposer(SimpleNamespace(speculative_config=config))
        self.worker = DraftWorker()
        self.worker.model_runner = self

    def add(self, name: str, draft: object = None, **sampling: Any) -> None:
        extra = None if draft is None else {DRAFT: draft, DRAFT_ID: name}
        values = {"min_p": 0.0, "logit_bias": None, "max_tokens": 32, "extra_args": extra}
        values |= {"seed": None, "logprobs": None}
        params = SimpleNamespace(**values | sampling)
        self.requests[name] = SimpleNamespace(sampling_params=params, num_prompt_tokens=PROMPT)
        self.input_batch.req_ids.append(name)

    def step(self, *sampled: list[int]) -> list[list[int]]:
        for index, tokens in enumerate(sampled):
            begin = self.lengths[index]
            self.tokens[index, begin : begin + len(tokens)] = tokens
            self.lengths[index] += len(tokens)
        return self.drafter.propose(list(sampled), self.lengths, self.tokens, slot_mappings=None)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


def test_propose_continues_each_draft_and_nothing_else(engine: Engine) -> None:
    engine.add("plain")
    engine.add("drafted", [10, 11, 12, 13])
    engine.add("unfinished", [10])
    assert engine.worker.model_runner is engine
    assert engine.step([10], [10], []) == [[], [11, 12, 13], []]
    assert engine.step([11], [11, 12, 99], []) == [[], [], []]


def test_propose_without_a_draft_looks_up_the_prompt_unless_it_must_be_reproducible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(monkeypatch, LookupProposer)
    engine.add("plain")
    engine.add("seeded", seed=1)
    engine.add("explained", logprobs=2)
    engine.add("drafted", [8, 9])
    engine.add("biased", min_p=0.1)
    engine.tokens[:, :PROMPT] = [5, 6, 7]
    assert engine.step(*[[5]] * 5) == [[], [], [], [], []]
    assert engine.step(*[[6]] * 5) == [[], [], [], [], []]
    # 5 6 7 stands in the prompt, and 5 6 7 5 6 follows; the draft is none of it and left aside.
    looked_up = [5, 6, 7]
    assert engine.step(*[[7]] * 5) == [looked_up, [], [], looked_up, []]


def test_propose_of_requests_that_ended_keeps_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, LookupProposer)
    for name in ("a", "b"):
        engine.add(name)
    engine.step([5], [5])
    del engine.requests["a"]
    engine.input_batch.req_ids.remove("a")
    engine.step([5])
    assert set(engine.drafter._followed) == {"b"}


@pytest.mark.parametrize("sampling", [{"min_p": 0.1}, {"logit_bias": {7: 1.0}}], ids=str)
def test_propose_request_that_cannot_be_verified_gets_nothing(
    engine: Engine, sampling: dict[str, Any]
) -> None:
    engine.add("biased", [10, 11], **sampling)
    assert engine.step([10]) == [[]]


@pytest.mark.parametrize("draft", ["text", [1.5], {"a": 1}, [10, 5000, 11], [10, -1], [True]])
def test_propose_draft_from_a_stranger_is_harmless(engine: Engine, draft: object) -> None:
    engine.add("strange", draft)
    assert engine.step([10]) == [[]]


def test_propose_never_beyond_the_answer_or_the_context(engine: Engine) -> None:
    engine.add("short", list(range(10, 30)), max_tokens=3)
    assert engine.step([10]) == [[11]]  # and one more that the engine finds by itself
    engine.add("long", list(range(10, 30)), max_tokens=None)
    engine.lengths[1] = engine.requests["long"].num_prompt_tokens = CONTEXT - 4
    assert engine.step([11], [10])[1] == [11, 12]


def test_propose_the_end_of_the_answer_is_left_to_the_step_before_it(engine: Engine) -> None:
    engine.add("whole", [10, 11, 12, 13, 2], all_stop_token_ids={2})
    assert engine.step([10]) == [[11, 12, 13]]
    assert engine.step([11, 12, 13]) == [[]]


@pytest.mark.parametrize(
    ("drafted", "most", "length"),
    [(1, 32, 3), (3, 32, 3), (4, 32, 7), (7, 32, 7), (9, 32, 15), (40, 32, 7), (5, 7, 5)],
)
def test_propose_is_filled_up_to_one_of_few_lengths_where_there_is_room(
    engine: Engine, drafted: int, most: int, length: int
) -> None:
    draft = list(range(10, 11 + drafted))
    engine.add("some", draft, max_tokens=most)
    (proposal,) = engine.step([10])
    assert proposal[:drafted] == draft[1 : 1 + len(proposal)]
    assert len(proposal) == length


def test_propose_large_batch_shares_the_positions_of_a_step(engine: Engine) -> None:
    for number in range(24):
        engine.add(f"r{number}", list(range(10, 30)))
    proposals = engine.step(*[[10]] * 24)
    assert 0 < sum(map(len, proposals)) <= drafts.STEP_POSITIONS


def test_propose_on_a_runner_that_differs_gives_up_and_says_so(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.add("drafted", [10, 11])
    del engine.requests["drafted"].num_prompt_tokens
    with caplog.at_level(logging.ERROR):
        assert [engine.step([10]), engine.step([11])] == [[[]], [[]]]
    assert len(caplog.messages) == 1


def test_push_before_and_after_the_request_begins_extends_its_draft(engine: Engine) -> None:
    engine.worker.livemind_push_draft("late", [12])
    engine.add("late", [10, 11])
    assert engine.step([10]) == [[11, 12, 12]]
    engine.worker.livemind_push_draft("late", [13, 14])
    assert engine.step([11, 12, 13]) == [[14, 14, 14]]


def test_push_to_requests_that_never_begin_is_bounded(engine: Engine) -> None:
    for number in range(drafts.MOST_EARLY_PUSHES + 50):
        engine.drafter.push(f"never-{number}", [1])
    assert len(engine.drafter._early) == drafts.MOST_EARLY_PUSHES


def test_propose_requests_that_ended_are_forgotten(engine: Engine) -> None:
    for number in range(100):
        engine.requests.clear()
        engine.input_batch.req_ids.clear()
        engine.lengths[0] = PROMPT
        engine.add(f"r{number}", [10, 11])
        assert engine.step([10]) == [[11, 11, 11]]
    assert len(engine.drafter._followed) < 20
    assert len(engine.drafter._by_draft_id) < 20


def test_allow_all_sampling_lets_only_our_engines_take_everything() -> None:
    sampling_params = pytest.importorskip("vllm.sampling_params")
    exceptions = pytest.importorskip("vllm.exceptions")
    allow_all_sampling()
    allow_all_sampling()
    arguments = engine_arguments(4)["speculative_config"]
    assert isinstance(arguments, dict)
    params = sampling_params.SamplingParams(min_p=0.5, logit_bias={7: 1.0})
    params._validate_spec_decode(SimpleNamespace(model=arguments["model"]))
    with pytest.raises(exceptions.VLLMValidationError, match="speculative"):
        params._validate_spec_decode(SimpleNamespace(model="ngram"))


def test_expert_on_a_vllm_without_hooks_starts_without_drafts_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("vllm")
    assert missing_hook() is None
    spec = ExpertSpec("e", model_path="m")
    assert configured.that_this_vllm_obeys(spec) is spec
    monkeypatch.delattr("vllm.v1.spec_decode.custom_class_proposer.create_custom_proposer")
    with caplog.at_level(logging.WARNING):
        assert configured.that_this_vllm_obeys(spec).verify_drafts is False
    assert len(caplog.messages) == 1
    assert "create_custom_proposer" in caplog.messages[0]


def test_expand_on_cpu_each_drafted_position_gets_its_requests_own_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = pytest.importorskip("vllm.v1.sample.rejection_sampler")
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(sampler, "expand_batch_to_tokens", sampler.expand_batch_to_tokens)
    draft_runner._expand_on_cpu()
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)  # the second request has no draft
    temperature = torch.tensor([0.5, 9.0, 0.0])
    expanded = sampler.expand_batch_to_tokens(temperature, ends, 5, replace_from=0, replace_to=1)
    assert expanded.tolist() == [0.5, 0.5, 1.0, 1.0, 1.0]
    assert temperature.tolist() == [0.5, 9.0, 0.0]
    top_k = torch.tensor([4, 1, 3], dtype=torch.int32)
    assert sampler.expand_batch_to_tokens(top_k, ends, 5).tolist() == [4, 4, 3, 3, 3]
