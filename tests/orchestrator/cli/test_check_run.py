"""``livemind check --run``: what started experts did becomes findings; all of them are stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livemind.backends.base import Capabilities
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.cli import check, check_run, entry
from livemind.orchestrator.cli.check_run import run_findings
from livemind.orchestrator.config.settings import Settings


class Asked(FakeExpert):
    """Says that it was asked, and prepares nothing; ``broken`` does not start."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self_test="as before", why_no_open_turn="it forgets")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    experts: list[Asked] = []

    def create(spec: ExpertSpec) -> Asked:
        expert = Asked(spec.expert_id)
        if spec.expert_id == "broken":
            expert.start_error = ExpertUnavailable("broken", "no room")
        experts.append(expert)
        return expert

    monkeypatch.setattr(check_run, "create_expert", create)
    monkeypatch.setattr(check, "import_failures", lambda architectures: {})
    return experts


EXPERTS = [
    {"expert_id": "far", "kind": "remote", "base_urls": ["http://h"], "model": "m"},
    {"expert_id": "broken", "model_path": "zoo:fast"},
    {"expert_id": "whole", "model_path": "zoo:fast"},
]


def test_check_run_tells_what_each_local_expert_did_and_stops_it(made: list[Asked]) -> None:
    found = run_findings(Settings.model_validate({"experts": EXPERTS}))
    assert [(f.severity, f.code, f.where) for f in found] == [
        ("error", "start_failed", "experts[1]"),
        ("info", "self_test", "experts[2]"),
        ("warning", "open_turn", "experts[2]"),
    ]
    assert "no room" in found[0].why
    assert "as before" in found[1].why
    assert "it forgets" in found[2].why
    assert [(expert.expert_id, expert.stops) for expert in made] == [("broken", 1), ("whole", 1)]


@pytest.mark.parametrize("run", [True, False])
def test_check_starts_experts_only_when_asked(
    made: list[Asked], tmp_path: Path, capsys: pytest.CaptureFixture[str], run: bool
) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"experts": [EXPERTS[2]]}))
    assert entry.main(["check", str(file), "--json", *(["--run"] if run else [])]) == 0
    codes = [finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert ("self_test" in codes, len(made)) == (run, int(run))
