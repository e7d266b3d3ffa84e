"""Measure the embedded experts on held-out questions: `python -m livemind.backends.zoo.evaluate`.

Every expert answers the same seeded held-out prompts of every domain, greedily, with the library's
own Llama in bfloat16, in float32 where that is emulated. An answer counts when it is exact; code
counts when it computes the right values (see `check.py`).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from rich.progress import track

from ..machine.processor import this_processor
from .catalog import model_names, model_path
from .check import is_correct
from .data import DOMAINS, Example, examples
from .tokenizer import PAD, load_tokenizer, render, token_id

SEED: Final = 2026
_BATCH: Final = 50
_ANSWER_TOKENS: Final = 32


class Answerer:
    """Greedy answers of one model directory."""

    def __init__(self, directory: Path) -> None:
        """Load the model with transformers, in bfloat16; in float32 where that is emulated."""
        from transformers import AutoModelForCausalLM

        native = this_processor().multiplies_bfloat16
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.bfloat16 if native else torch.float32
        ).eval()
        self._tokenizer = load_tokenizer()
        self._pad = token_id(PAD)

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Example]) -> list[str]:
        """Return one answer per prompt, in order; prompts of similar length share a batch."""
        rows = [
            self._tokenizer.encode(render(prompt.messages, generate=True)).ids for prompt in prompts
        ]
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        found = [""] * len(rows)
        for begin in range(0, len(order), _BATCH):
            chosen = order[begin : begin + _BATCH]
            length = max(len(rows[number]) for number in chosen)
            ids = torch.full((len(chosen), length), self._pad)
            mask = torch.zeros_like(ids)
            for place, number in enumerate(chosen):
                ids[place, length - len(rows[number]) :] = torch.tensor(rows[number])
                mask[place, length - len(rows[number]) :] = 1
            output = self._model.generate(
                ids, attention_mask=mask, max_new_tokens=_ANSWER_TOKENS, do_sample=False
            )
            for number, answer in zip(chosen, output[:, length:].tolist(), strict=True):
                found[number] = self._tokenizer.decode(answer, skip_special_tokens=True)
        return found


def held_out(domain: str, count: int) -> list[Example]:
    """Return the first `count` held-out prompts of a domain."""
    return list(itertools.islice(examples(domain, "held_out", SEED), count))


def score(answerer: Answerer, prompts: Sequence[Example]) -> dict[str, Any]:
    """Return the share of correct answers, over all prompts and per kind of question."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for prompt, answer in zip(prompts, answerer.answers(prompts), strict=True):
        kinds[prompt.turn.kind].append(is_correct(prompt.turn, answer))
    hits = [hit for kind in kinds.values() for hit in kind]
    return {
        "questions": len(hits),
        "exact": sum(hits) / len(hits),
        "by_kind": {
            kind: {"questions": len(v), "exact": sum(v) / len(v)}
            for kind, v in sorted(kinds.items())
        },
    }


def markdown(report: dict[str, Any]) -> str:
    """Return the table of a report: one row per expert, one column per domain, in per cent."""
    lines = ["| expert | " + " | ".join(DOMAINS) + " |", "|---|" + "---:|" * len(DOMAINS)]
    for expert, cells in report["experts"].items():
        lines.append(
            f"| {expert} | "
            + " | ".join(f"{100 * cells[domain]['exact']:.1f}" for domain in DOMAINS)
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write the JSON report and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m livemind.backends.zoo.evaluate", description=__doc__
    )
    parser.add_argument(
        "--questions", type=int, default=300, help="held-out questions per expert and domain"
    )
    parser.add_argument("--experts", nargs="+", choices=model_names(), default=list(model_names()))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="report to write; other experts in it are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = {domain: held_out(domain, arguments.questions) for domain in DOMAINS}
    report: dict[str, Any] = {
        "seed": SEED,
        "questions_per_cell": arguments.questions,
        "decoding": "greedy",
        "experts": {},
    }
    if arguments.json and arguments.json.exists():
        earlier = json.loads(arguments.json.read_text("utf-8"))
        if {**earlier, "experts": {}} == report:
            report = earlier
    for expert in track(arguments.experts, description="experts"):
        answerer = Answerer(model_path(expert))
        cells = {domain: score(answerer, prompts[domain]) for domain in DOMAINS}
        report["experts"][expert] = cells
    report["experts"] = {n: report["experts"][n] for n in model_names() if n in report["experts"]}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(markdown(report))


if __name__ == "__main__":
    main()
