"""The consensus benchmark on scripted experts, and its command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.backends.spec import ExpertSpec
from livemind.benchmarks import cli
from livemind.benchmarks.answers.questions import AskedQuestion
from livemind.benchmarks.consensus import (
    bench as consensus_bench,
    drafts,
    mix as consensus_mix,
    typed as consensus_typed,
)
from livemind.benchmarks.consensus.accuracy import accuracy
from livemind.benchmarks.consensus.ask import Asker, Way
from livemind.benchmarks.consensus.drafts import texts, times
from livemind.benchmarks.consensus.mix import mix
from livemind.benchmarks.consensus.model_questions import ModelQuestions
from livemind.benchmarks.consensus.plan import Plan, Recorder, settings
from livemind.benchmarks.consensus.questions import GeneratedKey, natural, questions
from livemind.benchmarks.consensus.rows import Row
from livemind.benchmarks.consensus.summary import cases, summary
from livemind.benchmarks.consensus.typed import typed
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.rag.encoder.fake import FakeEmbedder

PLAN = Plan(
    ("technical", "coding"), ("accuracy",), per_set=1, validation=2, identical=4, pairs=2, mix=2,
    typed=1, seed=1,
)  # fmt: skip


def answers(plan: Plan) -> dict[str, str]:
    """The right answer to every question, by its text and what was said before."""
    asked = questions(plan.domains, plan.per_set, plan.seed)
    for count, seed in ((4, 1_000_001), (4, 2), (2, 3), (1, 4), (2, 5)):
        asked += natural(plan.domains, count, seed)
    keyed = [(one, one.key) for one in asked]
    return {
        _key(one.history, one.text): key.turn.answer
        for one, key in keyed
        if isinstance(key, GeneratedKey)
    }


def _key(history: Sequence[Message], text: str) -> str:
    return repr([(one.role, one.content) for one in history]) + text


def minds(plan: Plan, wrong: frozenset[str] = frozenset(), token_s: float = 0.0) -> LiveMind:
    """A LiveMind whose experts know every answer, but for those that are always wrong."""
    known = answers(plan)

    def create(spec: ExpertSpec) -> FakeExpert:
        def answer(messages: Sequence[Message]) -> str:
            said = [one for one in messages if one.role != "system"]
            if spec.expert_id in wrong:
                return "I have no idea of it"
            return known.get(_key(said[:-1], said[-1].content), "Nobody has asked that")

        return FakeExpert(spec.expert_id, answer=answer, token_s=token_s, drafts=True)

    config = Settings.model_validate(settings(plan, "/dev/null"))
    return LiveMind(config, create=create, embedder=FakeEmbedder)


async def run(part: Any, plan: Plan = PLAN, **more: Any) -> list[Row]:
    async with minds(plan, **more) as mind:
        recorder = Recorder(plan, Asker(mind), lambda text: None)
        await part(recorder)
    return recorder.rows


async def test_accuracy_asks_every_question_in_every_arm() -> None:
    rows = await run(accuracy, wrong=frozenset({"coding"}))
    assert {row.outcome for row in rows} == {"completed"}
    measured = [row for row in rows if row.part == "accuracy"]
    arms = {"alone.fast", "alone.technical", "alone.coding", "draft", "verify", "vote", "samples"}
    asked = {(row.arm, row.question) for row in measured}
    assert asked == {(arm, number) for arm in arms for number in range(8)}
    found = summary(cases(rows, seed=1))
    assert found["consensus.fast.accuracy"] == found["consensus.oracle.accuracy"] == 1.0
    assert found["consensus.single.accuracy"] == found["consensus.samples.accuracy"] == 1.0
    first = found["consensus.first.accuracy"]
    assert first == sum(row.leader == "technical" for row in measured) / len(measured)
    assert found["consensus.samples.tokens_per_shown"] == pytest.approx(2.0)


async def test_drafts_that_come_true_leave_the_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "WAIT_S", 0.15)
    monkeypatch.setattr(drafts, "TOGETHER_WAIT_S", 0.15)
    monkeypatch.setattr("livemind.benchmarks.consensus.drafts.made.without_its_end", str)
    rows = await run(texts, token_s=0.001)
    assert [row.verdict for row in rows] == ["identical"] * 4
    rows = await run(times, token_s=0.001)
    pairs = {(row.arm, row.kind, row.question) for row in rows}
    assert pairs == {
        (arm, kind, n)
        for arm in ("first", "draft")
        for kind in ("right", "pause", "wrong")
        for n in range(2)
    }


async def test_typed_asks_every_policy_with_the_same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus_typed, "CHARS_PER_MINUTE", 60_000.0)
    rows = await run(typed)
    assert {row.arm for row in rows} == {"first", "draft", "verify", "vote"}
    assert {(row.outcome, row.right) for row in rows} == {("completed", True)}


async def test_mix_every_typist_types_the_same_keys_with_and_without_drafts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consensus_mix, "CADENCES", ("typing-60000", "typing-30000"))
    rows = await run(mix, token_s=0.001)
    pairs = {(row.arm, row.question, row.kind) for row in rows}
    assert pairs == {
        (arm, number, f"typing-{60000 // (number + 1)}")
        for arm in ("alone", "first", "draft")
        for number in range(2)
    }
    assert {(row.outcome, row.right) for row in rows} == {("completed", True)}
    assert {row.verdict for row in rows if row.arm != "alone"} == {"identical"}
    (case,) = cases(rows, seed=1)
    assert case["texts"]["identical_share"] == 1.0
    assert summary([case])["consensus.draft.completion_speedup.p50"] is not None


async def test_ask_of_a_model_that_is_not_there_is_an_outcome() -> None:
    (question,) = natural(PLAN.domains, 1, 1)
    async with minds(PLAN) as mind:
        asked = await Asker(mind).ask(question, Way("nobody"))
    assert asked.outcome == "failed"
    assert "nobody" in str(asked.error)


# ---- the command


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Minds:
        @staticmethod
        def from_config(config: Settings) -> LiveMind:
            return minds(PLAN)

    monkeypatch.setattr(consensus_bench, "LiveMind", Minds)
    monkeypatch.setattr(consensus_typed, "CHARS_PER_MINUTE", 60_000.0)


def bench(file: Path, *more: str) -> int:
    sizes = ["--questions", "1", "--validation", "1", "--typed", "1"]
    fixed = ["consensus", "--domains", "technical,coding", *sizes, "--json", str(file)]
    return cli.main([*fixed, *more])


@pytest.mark.usefixtures("fake_engine")
def test_bench_writes_a_report_that_can_be_drawn_and_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, page = tmp_path / "consensus.json", tmp_path / "page.html"
    assert bench(file, "--parts", "accuracy") == 0
    first = json.loads(file.read_text())
    assert first["summary"]["consensus.fast.accuracy"] is not None
    assert first["summary"]["consensus.vote.settled_before_commit_share"] is None
    assert bench(file, "--parts", "typed", "--keep", "--html", str(page)) == 0
    both = json.loads(file.read_text())
    assert [case["name"] for case in both["cases"]] == ["accuracy", "typed"]
    assert both["summary"]["consensus.fast.accuracy"] == first["summary"]["consensus.fast.accuracy"]
    assert both["summary"]["consensus.vote.settled_before_commit_share"] is not None
    assert page.read_text().count("<svg") == 2 + 2 + 2
    with pytest.raises(SystemExit):
        bench(file, "--keep", "--seed", "2")


@pytest.mark.usefixtures("fake_engine")
def test_bench_interrupted_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def half(recorder: Recorder) -> None:
        await typed(recorder)
        raise KeyboardInterrupt

    monkeypatch.setitem(consensus_bench.PERFORM, "typed", half)
    file = tmp_path / "consensus.json"
    assert bench(file, "--parts", "typed") == 130
    report = json.loads(file.read_text())
    assert report["interrupted"] is True
    assert len(report["turns"]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parts", "typed,slow"], "--parts: got 'slow', need some of accuracy, texts, times"),
        (["--domains", "fast"], "--domains: got 'fast', need some of general"),
        (["--questions", "0"], "--questions: got 0, need >= 1"),
        (["--seed", "2026"], "--seed: got 2026, need >= 1 and <= 999"),
        (["--keep"], "--keep: needs --json FILE"),
    ],
)
def test_bench_bad_option_is_refused_by_name(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["consensus", *options])
    assert message in capsys.readouterr().err


def test_plan_steps_are_questions() -> None:
    assert PLAN.steps() == 2 * (2 + 4)
    assert replace(PLAN, parts=("texts", "times", "typed")).steps() == 4 + 2 + 1
    assert replace(PLAN, domains=("coding",)).steps() == 2 + 3


# ---- any models


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Folders of two models; the second knows every answer, the first says the same to all."""
    folders = [tmp_path / name for name in ("small", "large")]
    for folder in folders:
        folder.mkdir()
        (folder / "config.json").write_text('{"max_position_embeddings": 4096}')
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    known = ModelQuestions("large")
    asked = [*known.measured(20, 1), *known.validation(30, 1)]
    right = {one.text: one.key.right[0] for one in asked if isinstance(one.key, AskedQuestion)}

    def create(spec: ExpertSpec) -> FakeExpert:
        def answer(messages: Sequence[Message]) -> str:
            said = right.get(messages[-1].content, "") if spec.expert_id == "large" else "Maybe"
            return f"It is {said} of course"

        return FakeExpert(spec.expert_id, answer=answer, token_s=0.0, drafts=True)

    class Minds:
        @staticmethod
        def from_config(config: Settings) -> LiveMind:
            return LiveMind(config, create=create, embedder=FakeEmbedder)

    monkeypatch.setattr(consensus_bench, "LiveMind", Minds)
    return ",".join(map(str, folders))


def test_bench_experts_are_asked_closed_and_open_questions_in_their_own_forms(
    models: str, tmp_path: Path
) -> None:
    file = tmp_path / "consensus.json"
    sizes = ["--questions", "3", "--validation", "4", "--parts", "accuracy"]
    assert cli.main(["consensus", "--experts", models, *sizes, "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    summary = report["summary"]
    assert summary["consensus.strong.accuracy"] == summary["consensus.first.accuracy"] == 1.0
    assert summary["consensus.fast.accuracy"] == 0.0
    # "Maybe" has neither a number nor yes or no: it abstains where the form is closed.
    assert summary["consensus.vote.accuracy.number"] == 1.0
    assert summary["consensus.vote.accuracy.choice"] == 1.0
    assert summary["consensus.vote.accuracy.in_domain"] is None
    votes = [one for one in report["turns"] if one["part"] == "accuracy" and one["arm"] == "vote"]
    closed = [one for one in votes if one["set"] != "open"]
    assert len(votes) == 9
    assert all(one["abstained"] == ["fast"] for one in closed)
    assert report["config"]["models"] == ["model small", "model large"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--experts", "{0}"], "need two models or more, no two alike"),
        (["--experts", "{0},{0}"], "need two models or more, no two alike"),
        (["--experts", "{0},/nowhere"], "--experts: got '/nowhere', need random, embedded, or"),
        (["--experts", "{0},{1}", "--domains", "coding"], "--domains: the embedded experts have"),
        (["--experts", "{0},{1}", "--verdict", "ask me"], "--verdict: invalid choice: 'ask me'"),
    ],
)
def test_bench_experts_that_cannot_be_asked_are_refused_by_name(
    options: list[str], message: str, models: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = models.split(",")
    with pytest.raises(SystemExit):
        cli.main(["consensus", *(one.format(*folders) for one in options)])
    assert message in capsys.readouterr().err.replace("\n", " ")
