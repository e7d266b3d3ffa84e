"""Training: batches, the model against the library's Llama, resuming, and what the experts know."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from livemind.backends.zoo import data
from livemind.backends.zoo.catalog import model_path
from livemind.backends.zoo.evaluate import Answerer
from livemind.backends.zoo.model import FAST, load_weights, logits_at, new_model, save_model
from livemind.backends.zoo.tokenizer import load_tokenizer
from livemind.backends.zoo.training.batches import exact, pool
from livemind.backends.zoo.training.recipes import RECIPES
from livemind.backends.zoo.training.train import Run

SHAPE = data.Shape(turns=(2, 3))


def test_pool_targets_are_exactly_the_answers() -> None:
    tokenizer = load_tokenizer()
    batch = pool(tokenizer, data.topics("technical"), "train", SHAPE, "t", 10_000, 4)[0]
    answers = {
        tokenizer.decode(batch.targets[batch.answers == number].tolist())
        for number in range(int(batch.answers.max()) + 1)
    }
    rng = random.Random("t")
    expected = {
        turn.answer
        for _ in range(4)
        for turn in data.conversation(rng.choice(data.topics("technical")), rng, "train", SHAPE)[1]
    }
    assert answers == expected


def test_exact_one_wrong_token_spoils_its_answer_only() -> None:
    batch = pool(load_tokenizer(), data.topics("general"), "train", SHAPE, "e", 10_000, 4)[0]
    logits = torch.nn.functional.one_hot(batch.targets, 4096).float()
    logits[0] = -logits[0]
    hits = exact(logits, batch)
    assert not hits[0]
    assert hits[1:].all()


def test_model_saved_gives_the_same_logits_where_answers_are_scored(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = new_model(FAST, seed=1)
    save_model(model, FAST, tmp_path)
    load_weights(model, tmp_path)
    ids = torch.randint(0, 3000, (2, 37), generator=torch.Generator().manual_seed(0))
    scored = torch.tensor([3, 36, 40, 73])
    library = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        ours = logits_at(model, ids, scored)
        theirs = library(ids).logits.flatten(0, 1)[scored]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_run_lowers_the_loss_and_resumed_continues_where_it_stopped(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPES["fast"], batch_tokens=512)

    def run(checkpoint: Path) -> Run:
        return Run(recipe, seed=0, steps=4, checkpoint=checkpoint)

    whole, first = run(tmp_path / "whole.pt"), run(tmp_path / "cut.pt")
    losses = [whole.train_step(batch)[0] for batch in whole.batches()]
    source = first.batches()
    before = [first.train_step(next(source))[0] for _ in range(2)]
    first.save()
    second = run(tmp_path / "cut.pt")
    after = [second.train_step(batch)[0] for batch in second.batches()]
    assert before + after == pytest.approx(losses, rel=1e-4)
    assert min(losses[1:]) < 0.8 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("expert", "floor"), [("fast", 0.6), ("technical", 0.8)], ids=["fast", "technical"]
)
def test_expert_handbook_questions_reach_the_floor(expert: str, floor: float) -> None:
    sections = [entry for entry in data.handbook() if entry[0] == "technical"]
    rng = random.Random(0)
    prompts = []
    for domain, topic, record in sections:
        passages = [record.text, rng.choice(sections)[2].text]
        content = data.render_documents(list(dict.fromkeys(passages)))
        for turn in topic.turns_of(rng, record)[:2]:
            messages = (
                {"role": "documents", "content": content},
                {"role": "user", "content": turn.question},
            )
            prompts.append(data.Example(messages, turn, domain))
    answers = Answerer(model_path(expert)).answers(prompts)
    hits = [answer == prompt.turn.answer for answer, prompt in zip(answers, prompts, strict=True)]
    assert sum(hits) / len(hits) >= floor
