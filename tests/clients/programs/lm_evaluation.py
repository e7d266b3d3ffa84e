"""The evaluation harness lm-eval: answers, and how probable given ones are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask

PACKAGES = ("lm_eval",)
LINES = (
    "lm_eval run --model local-completions --model_args "
    "model=general,base_url=http://HOST:8000/v1/completions,tokenizer=FOLDER --tasks …; "
    "local-chat-completions with base_url=…/v1/chat/completions --apply_chat_template to generate"
)
QUESTIONS = (
    ("The capital of France is", " Paris", " Rome"),
    ("The opposite of hot is", " cold", " blue"),
    ("Two and two are", " four", " green"),
    ("A week has seven", " days", " ships"),
    ("Water is made of hydrogen and", " oxygen", " paper"),
    ("The sun rises in the", " east", " night"),
)


def _evaluated(url: str, model: str, kind: str, task: dict[str, Any]) -> Any:
    """Run one task over the questions; return lm-eval's result."""
    tokenizer = os.environ["LIVEMIND_TOKENIZER"]
    path = "chat/completions" if "chat" in kind else "completions"
    arguments = {"model": model, "base_url": f"{url}/{path}", "tokenizer": tokenizer}
    arguments |= {"tokenizer_backend": "huggingface", "num_concurrent": 2, "max_retries": 1}
    with TemporaryDirectory() as folder:
        lines = [json.dumps({"q": q, "good": good, "bad": bad}) for q, good, bad in QUESTIONS]
        Path(folder, "questions.jsonl").write_text("\n".join(lines) + "\n")
        files = {"test": str(Path(folder, "questions.jsonl"))}
        common = {"task": "questions", "dataset_path": "json", "test_split": "test"}
        config = {**common, "dataset_kwargs": {"data_files": files}, "doc_to_text": "{{q}}", **task}
        return simple_evaluate(
            model=kind,
            model_args=arguments,
            tasks=[ConfigurableTask(config=config)],
            apply_chat_template="chat" in kind,
            log_samples=True,
            bootstrap_iters=0,
        )


def log_likelihoods(url: str, model: str) -> list[float]:
    """Return the log-likelihood of every choice of every question."""
    task = {
        "output_type": "multiple_choice",
        "doc_to_choice": "{{[good, bad]}}",
        "doc_to_target": 0,
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    found = _evaluated(url, model, "local-completions", task)
    samples = sorted(found["samples"]["questions"], key=lambda sample: sample["doc_id"])
    return [float(one[0][0]) for sample in samples for one in sample["resps"]]


def plain(url: str, model: str) -> None:
    """Answers to questions, over chat."""
    task = {
        "output_type": "generate_until",
        "doc_to_target": "{{good}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    found = _evaluated(url, model, "local-chat-completions", task)
    assert all(sample["resps"][0][0] for sample in found["samples"]["questions"])


def scores(url: str, model: str) -> None:
    """The right answers are the more probable ones, mostly."""
    found = log_likelihoods(url, model)
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert all(value < 0 for value in found)
    assert sum(good > bad for good, bad in pairs) >= 4, pairs


if __name__ == "__main__":
    import sys

    print(json.dumps(log_likelihoods(*sys.argv[1:3])))
