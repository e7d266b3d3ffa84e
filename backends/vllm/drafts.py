"""Lossless drafts inside vLLM: what its engine processes load through its own hooks.

``DraftProposer`` is the "custom_class" proposer: it takes a request's draft from its
``SamplingParams.extra_args`` and proposes the next tokens of it, which the engine verifies in one
step; with no draft it proposes nothing and a step is a plain step. ``LookupProposer`` proposes then
what followed the last tokens earlier in the prompt or the answer. ``DraftWorker`` is the worker
extension: it hands the model runner to the proposer and takes what is drafted later.

A ``vllm serve`` verifies drafts when it is started with ``server_arguments`` and LiveMind is
installed beside it; they travel in ``vllm_xargs`` then. vLLM's interface for proposers
is declared experimental: ``missing_hook`` says whether this vLLM has what is used here.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from ..drafts import DraftCursor
from ..prompt_lookup import PromptLookup
from .draft_runner import prepare

log = logging.getLogger(__name__)

# Keys of SamplingParams.extra_args, and so of vllm_xargs.
DRAFT = "livemind_draft"
DRAFT_ID = "livemind_draft_id"
# On CPUs a step over a new number of tokens costs some milliseconds once, since oneDNN prepares its
# matrix products by number of rows: proposals have one of these lengths.
PROPOSAL_LENGTHS = (3, 7, 15)
MOST_TOKENS = PROPOSAL_LENGTHS[-1]
# Positions that the drafts of all requests may add to one step: beyond it a step is bound by
# computing, not by reading the weights, and guesses cost their full price.
STEP_POSITIONS = 48
MOST_EARLY_PUSHES = 256


def engine_arguments(max_num_seqs: int, *, lookup: bool = False) -> dict[str, object]:
    """Return vLLM's engine arguments that let requests bring drafts.

    With ``lookup`` those without one get drafts out of their prompt. The schedule by batch size is
    constant. It is given because vLLM otherwise pads a request whose whole prompt is cached with
    guesses of its own.
    """
    proposer = LookupProposer if lookup else DraftProposer
    return {
        "speculative_config": {
            "method": "custom_class",
            "model": f"{__name__}.{proposer.__name__}",
            "num_speculative_tokens": MOST_TOKENS,
            "num_speculative_tokens_per_batch_size": [[1, max_num_seqs, MOST_TOKENS]],
        },
        "worker_extension_cls": f"{__name__}.{DraftWorker.__name__}",
    }


def server_arguments(max_num_seqs: int) -> list[str]:
    """Return the same as arguments of ``vllm serve``."""
    arguments = engine_arguments(max_num_seqs)
    return [
        *("--speculative-config", json.dumps(arguments["speculative_config"])),
        *("--worker-extension-cls", str(arguments["worker_extension_cls"])),
    ]


def missing_hook() -> str | None:
    """Return what this process's vLLM lacks for drafts, None if it has everything."""
    from dataclasses import fields
    from importlib import import_module
    from inspect import signature

    try:
        config = import_module("vllm.config.speculative").SpeculativeConfig
        known = {field.name for field in fields(config)}
        for name in ("method", "model", "num_speculative_tokens_per_batch_size"):
            if name not in known:
                return f"SpeculativeConfig.{name}"
        proposers = import_module("vllm.v1.spec_decode.custom_class_proposer")
        if list(signature(proposers.create_custom_proposer).parameters) != ["vllm_config"]:
            return "create_custom_proposer(vllm_config)"
        builtin = import_module("vllm.v1.sample.logits_processor.builtin")
        _ = builtin.MinPLogitsProcessor, builtin.LogitBiasLogitsProcessor
        _ = import_module("vllm.utils.torch_utils").PIN_MEMORY
    except (ImportError, AttributeError, TypeError) as error:
        return " ".join(str(error).split())
    return None


def allow_all_sampling() -> None:
    """Let vLLM's request validation pass ``min_p`` and ``logit_bias`` to an engine with drafts.

    vLLM refuses them beside any speculative decoding; here requests that use them simply get no
    proposals, and the runner has the processors that obey them. Entry point of the
    ``vllm.general_plugins`` group, which every ``vllm serve`` of the environment calls: with a vLLM
    that looks otherwise it does nothing. Idempotent; changes nothing for other speculative methods.
    """
    try:
        from vllm.sampling_params import SamplingParams

        original = SamplingParams._validate_spec_decode
    except (ImportError, AttributeError) as exc:
        log.warning("LiveMind drafts: min_p and logit_bias stay refused beside them: %s", exc)
        return
    if getattr(original, "knows_livemind", False):
        return

    def validate(self: Any, speculative_config: Any) -> None:
        if not is_ours(speculative_config):
            original(self, speculative_config)

    validate.knows_livemind = True  # type: ignore[attr-defined]
    SamplingParams._validate_spec_decode = validate


def is_ours(speculative_config: Any) -> bool:
    """Whether an engine's speculative decoding is the verification of drafts."""
    model = getattr(speculative_config, "model", None)
    return model in {f"{__name__}.{one.__name__}" for one in (DraftProposer, LookupProposer)}


class DraftProposer:
    """Proposes, for each request of a batch, the next tokens of the draft it brought.

    Lives in the process that computes and is called by the model runner after every step.

    Args:
        vllm_config: vLLM's, of the engine.
    """

    looks_up = False

    def __init__(self, vllm_config: Any) -> None:
        self._most = int(vllm_config.speculative_config.num_speculative_tokens)
        self._runner: Any = None
        self._vocabulary = 0
        self._followed: dict[str, _Followed | None] = {}
        self._by_draft_id: dict[str, _Followed] = {}
        self._early: OrderedDict[str, list[int]] = OrderedDict()

    def attach(self, runner: Any) -> None:
        """Take the model runner, which knows the requests; called once.

        Raises:
            RuntimeError: the runner is not one that this module understands.
        """
        prepare(runner, self._most)
        self._vocabulary = int(runner.model_config.get_vocab_size())
        self._runner = runner

    def load_model(self, *args: object, **kwargs: object) -> None:
        """There is no model to load."""

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: Any,
        token_ids_cpu: Any,
        slot_mappings: object = None,
    ) -> list[list[int]]:
        """Return the tokens to verify in the next step, one list per request of the batch.

        Args:
            sampled_token_ids: what the last step yielded, in the order of the batch.
            num_tokens_no_spec: int array [requests]; prompt and answer together.
            token_ids_cpu: int array [requests, max_model_len]; prompt and answer.
            slot_mappings: not used.
        """
        proposals: list[list[int]] = [[] for _ in sampled_token_ids]
        if self._runner is None:
            return proposals
        try:
            self._propose(sampled_token_ids, num_tokens_no_spec, token_ids_cpu, proposals)
        except Exception:  # a guess is not worth an engine
            log.exception("no more drafts are verified: this vLLM differs from what is known")
            self._runner = None
            return [[] for _ in sampled_token_ids]
        return proposals

    def _propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: Any,
        token_ids_cpu: Any,
        proposals: list[list[int]],
    ) -> None:
        requests = self._runner.requests
        if len(self._followed) > len(requests):  # each keeps its prompt
            self._forget(requests)
        req_ids = self._runner.input_batch.req_ids
        most = min(self._most, max(1, STEP_POSITIONS // max(1, len(sampled_token_ids))))
        for index, sampled in enumerate(sampled_token_ids):
            if not sampled:
                continue  # its prompt is not finished
            followed = self._follow(req_ids[index], requests, token_ids_cpu[index])
            if followed is not None:
                length = int(num_tokens_no_spec[index])
                answered = token_ids_cpu[index, followed.known : length].tolist()
                room = self._runner.max_model_len - length - 1
                proposal = followed.step(answered, min(most, room))
                if all(0 <= token < self._vocabulary for token in proposal):
                    proposals[index] = proposal

    def push(self, draft_id: str, tokens: Sequence[int]) -> None:
        """Append to the draft of a request, also of one that has not begun."""
        followed = self._by_draft_id.get(draft_id)
        if followed is not None:
            followed.cursor.extend(tokens)
            return
        self._early.setdefault(draft_id, []).extend(tokens)
        while len(self._early) > MOST_EARLY_PUSHES:
            self._early.popitem(last=False)

    def _follow(self, req_id: str, requests: Any, token_ids: Any) -> _Followed | None:
        if req_id not in self._followed:
            request = requests[req_id]
            params = request.sampling_params
            extra = getattr(params, "extra_args", None) or {}
            looks_up = self.looks_up and not _reproducible(params)
            followed = None
            if (DRAFT in extra or looks_up) and not _biased(params):
                prompt = token_ids[: request.num_prompt_tokens].tolist() if looks_up else None
                draft_id = str(extra.get(DRAFT_ID, ""))
                followed = _Followed(request, extra.get(DRAFT, []), draft_id, prompt)
                if followed.draft_id:
                    self._by_draft_id[followed.draft_id] = followed
                    followed.cursor.extend(self._early.pop(followed.draft_id, ()))
            self._followed[req_id] = followed
        return self._followed[req_id]

    def _forget(self, requests: Any) -> None:
        for req_id in [req_id for req_id in self._followed if req_id not in requests]:
            followed = self._followed.pop(req_id)
            if followed is not None:
                self._by_draft_id.pop(followed.draft_id, None)


class LookupProposer(DraftProposer):
    """Takes the draft of a request that brought none, or left its own, from its prompt."""

    looks_up = True


class _Followed:
    """One request with its draft; ``known`` counts the tokens that the cursor has seen."""

    def __init__(
        self, request: Any, draft: object, draft_id: str, prompt: Sequence[int] | None
    ) -> None:
        self.known = int(request.num_prompt_tokens)
        self.draft_id = draft_id
        params = request.sampling_params
        limit = params.max_tokens
        self._last = None if limit is None else self.known + int(limit)
        self._ends: frozenset[int] = frozenset(getattr(params, "all_stop_token_ids", ()))
        self.cursor = DraftCursor(_token_ids(draft))
        self._lookup = None if prompt is None else PromptLookup(prompt)

    def step(self, answered: Sequence[int], most: int) -> list[int]:
        self.known += len(answered)
        self.cursor.advance(answered)
        if self._lookup is not None:
            self._lookup.advance(answered)
        if self._last is not None:  # one more token comes from the step itself
            most = min(most, self._last - self.known - 1)
        proposal = self._propose(max(0, most))
        # A step finds the token behind what it verifies by itself: an end is not worth a position.
        if proposal and proposal[-1] in self._ends:
            proposal = self._propose(len(proposal) - 1)
        return _filled_up(proposal, most)

    def _propose(self, most: int) -> list[int]:
        proposal = self.cursor.propose(most)
        if proposal or self._lookup is None:
            return proposal
        return self._lookup.propose(most)


class DraftWorker:
    """Worker extension: vLLM adds it to the bases of its worker class."""

    _livemind_runner: Any = None

    @property
    def model_runner(self) -> Any:
        """The worker's attribute of this name, so that the proposer meets the runner at once."""
        return self._livemind_runner

    @model_runner.setter
    def model_runner(self, runner: Any) -> None:
        drafter = getattr(runner, "drafter", None)
        if isinstance(drafter, DraftProposer):
            drafter.attach(runner)
        self._livemind_runner = runner

    def livemind_push_draft(self, draft_id: str, tokens: Sequence[int]) -> None:
        """Append drafted tokens to a request's draft; for ``collective_rpc``."""
        drafter = getattr(self._livemind_runner, "drafter", None)
        if isinstance(drafter, DraftProposer):
            drafter.push(draft_id, tokens)


def _filled_up(proposal: list[int], most: int) -> list[int]:
    """Return a proposal of one of the usual lengths, as far as ``most`` allows.

    It is filled up with its last token, which is verified like the rest and seldom comes true.
    """
    length = next((usual for usual in PROPOSAL_LENGTHS if usual >= len(proposal)), 0)
    if not proposal or not len(proposal) < length <= most:
        return proposal
    return proposal + proposal[-1:] * (length - len(proposal))


def _token_ids(draft: object) -> list[int]:
    """Return a draft that came with a request; what is no list of token ids is no draft."""
    if not isinstance(draft, list) or not all(type(token) is int for token in draft):
        log.warning("a request's %s is not a list of token ids: ignored", DRAFT)
        return []
    return draft


def _reproducible(params: Any) -> bool:
    """Whether the same request must take the same steps whatever runs beside it.

    A seed's random numbers are spent by the step; log-probabilities are rounded by its width.
    """
    return params.seed is not None or params.logprobs is not None


def _biased(params: Any) -> bool:
    """Whether vLLM cannot verify this request: its verification knows neither of the two."""
    return bool(params.min_p or params.logit_bias)
