"""What is refused by name, and what is not because it may be possible."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.backends.base import Capabilities
from livemind.orchestrator.config import Settings
from livemind.orchestrator.consensus.checks import check
from livemind.orchestrator.consensus.choice import Consensus
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


@pytest.mark.parametrize("policy", ["verify", "vote"])
def test_settings_policy_that_needs_two_experts_is_refused_with_one(policy: str) -> None:
    experts = [{"expert_id": "only", "model_path": "./o"}]
    with pytest.raises(ValueError, match=r"consensus\.policy"):
        Settings.model_validate({"experts": experts, "consensus": {"policy": policy}})
