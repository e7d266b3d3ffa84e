"""What is refused by name, and what is not because it may be possible."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from livemind.backends.base import Capabilities
from livemind.orchestrator.config.consensus import check
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.errors import InvalidRequest

REMOTE = {"kind": "remote", "base_urls": ["http://one"], "model": "m"}
NOTHING: dict[str, Capabilities] = {}


def settings(strong: dict[str, Any], **sections: Any) -> Settings:
    experts = [{"expert_id": "fast", "model_path": "./f"}, {"expert_id": "strong", **strong}]
    router = {"fast_expert": "fast"}
    return Settings.model_validate({"experts": experts, "router": router, **sections})


@pytest.mark.parametrize(
    ("strong", "loaded", "message"),
    [
        (REMOTE, NOTHING, "'strong' does not verify drafts"),
        ({"model_path": "./s", "verify_drafts": False}, NOTHING, "verify_drafts"),
        ({"model_path": "./s"}, {"strong": Capabilities("a", drafts=False)}, "verify_drafts"),
        (
            {"model_path": "./s"},
            {"strong": Capabilities("a", drafts=True), "fast": Capabilities("b")},
            "different tokenizers",
        ),
    ],
    ids=["remote", "off", "lacks the hooks", "tokenizers"],
)
def test_check_draft_that_cannot_be_is_refused(
    strong: dict[str, Any], loaded: dict[str, Capabilities], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        check(Consensus("draft"), settings(strong), "strong", loaded.get)
    assert refused.value.param == "consensus.policy"


@pytest.mark.parametrize(
    ("strong", "loaded"),
    [
        ({"model_path": "./s"}, NOTHING),
        ({**REMOTE, "verify_drafts": True}, NOTHING),
        (
            {"model_path": "./s"},
            {"strong": Capabilities("a", drafts=True), "fast": Capabilities("a")},
        ),
    ],
    ids=["not loaded", "remote", "alike"],
)
def test_check_draft_that_may_be_is_taken(
    strong: dict[str, Any], loaded: dict[str, Capabilities]
) -> None:
    check(Consensus("draft"), settings(strong), "strong", loaded.get)


def test_check_more_experts_than_fit_into_memory_are_refused() -> None:
    small = settings({"model_path": "./s"}, lazy_loading={"max_loaded_experts": 1})
    with pytest.raises(InvalidRequest, match=r"max_loaded_experts"):
        check(Consensus("vote", ("fast", "strong")), small, None, NOTHING.get)


def test_check_experts_of_other_machines_fit_into_memory() -> None:
    servers = [{"expert_id": name, **REMOTE} for name in ("a", "b", "c")]
    remote = Settings.model_validate({"experts": servers})
    check(Consensus("vote", ("a", "b", "c")), remote, None, NOTHING.get)


@pytest.mark.parametrize(
    ("experts", "consensus", "field"),
    [
        ("a", {"policy": "vote"}, "policy"),
        ("a", {"policy": "verify"}, "policy"),
        ("ab", {"policy": "verify"}, "policy"),
        ("ab", {"policy": "draft"}, "policy"),
        ("ab", {"experts": ["a", "a"]}, "experts"),
        ("ab", {"experts": ["c"]}, "experts"),
        ("abc", {"quorum": 3}, "quorum"),
        ("ab", {"accuracy": {"a": {"alchemy": 0.9}}}, "accuracy.a.alchemy"),
    ],
    ids=[
        "one votes",
        "one verifies",
        "no author",
        "drafts",
        "twice",
        "stranger",
        "quorum",
        "domain",
    ],
)
def test_settings_default_that_is_impossible_is_refused_by_name(
    experts: str, consensus: dict[str, Any], field: str
) -> None:
    given = {"experts": [{"expert_id": name, **REMOTE} for name in experts], "consensus": consensus}
    with pytest.raises(ValidationError, match=re.escape(f"consensus.{field}: ")):
        Settings.model_validate(given)


def test_settings_default_draft_is_taken_where_one_expert_may_verify() -> None:
    experts = [
        {"expert_id": "a", **REMOTE},
        {"expert_id": "b", **REMOTE, "verify_drafts": True},
    ]
    Settings.model_validate({"experts": experts, "consensus": {"policy": "draft"}})
