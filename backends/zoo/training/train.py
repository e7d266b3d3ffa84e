"""Train an expert on a CPU: `python -m livemind.backends.zoo.training.train --expert technical`.

A specialist learns the words and phrasings of its domain alone; `general` and `multilingual` begin
from the weights of `technical`, which holds the shared lookup skill, with its words forgotten. The
fast expert is smaller and learns all domains. Batches and initial weights depend on the seed and
the step alone, so a resumed run sees the same data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from ...machine.processor import this_processor
from ..model import load_weights, logits_at, new_model, save_model
from ..tokenizer import domain_words, load_tokenizer
from .batches import Batch, exact, pool, stream
from .optim import optimizers, schedule
from .recipes import RECIPES, Recipe

MODELS: Final = Path(__file__).parents[1] / "models"
_CHECKPOINT_STEPS: Final = 50
_REPORT_STEPS: Final = 50


def start_from(model: LlamaForCausalLM, directory: Path) -> None:
    """Load the weights of another expert, but keep the own embeddings of domain words."""
    embedding = model.get_input_embeddings().weight
    fresh = embedding.detach().clone()
    load_weights(model, directory)
    tokenizer = load_tokenizer()
    single = [ids for word in domain_words() if len(ids := tokenizer.encode(f" {word}").ids) == 1]
    rows = torch.tensor(sorted({ids[0] for ids in single}))
    with torch.no_grad():
        embedding[rows] = fresh[rows]


class Run:
    """One training run: the model, its optimizers and how far it has come."""

    def __init__(self, recipe: Recipe, *, seed: int, steps: int, checkpoint: Path) -> None:
        """Create a run, or continue the one that `checkpoint` holds."""
        self.recipe, self.seed, self.steps, self.checkpoint = recipe, seed, steps, checkpoint
        self.model = new_model(recipe.size, prior=recipe.prior, seed=seed)
        if recipe.start:
            start_from(self.model, MODELS / recipe.start)
        self.optimizers = optimizers(self.model, recipe.matrix_lr, recipe.other_lr)
        self.rates = [
            group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups
        ]
        self.step = 0
        self.seconds = 0.0
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self.seconds = state["step"], state["seconds"]
        self.held_out = pool(
            load_tokenizer(),
            recipe.topics(),
            "held_out",
            recipe.stages[-1].shape,
            "report",
            recipe.batch_tokens,
            96,
        )

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of the remaining steps, stage by stage."""
        begin = 0
        for number, stage in enumerate(self.recipe.stages):
            end = (
                begin + round(stage.share * self.steps)
                if number + 1 < len(self.recipe.stages)
                else self.steps
            )
            source = stream(
                load_tokenizer(),
                self.recipe.topics(),
                stage.shape,
                f"{self.recipe.name}|{self.seed}|{number}",
                self.recipe.batch_tokens,
            )
            for step in range(begin, end):
                batch = next(source)
                if step >= self.step:
                    yield batch
            begin = end

    def train_step(self, batch: Batch) -> tuple[float, float]:
        """Update the weights once; return the loss and the share of exact answers of the batch."""
        factor = schedule(self.step, self.steps)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with torch.autocast("cpu", torch.bfloat16, enabled=this_processor().multiplies_bfloat16):
            logits = logits_at(self.model, batch.ids, batch.positions)
        loss = F.cross_entropy(logits.float(), batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item(), exact(logits, batch).float().mean().item()

    @torch.no_grad()
    def held_out_exact(self) -> float:
        """Return the share of exact answers on held-out conversations of the last stage's shape."""
        with torch.autocast("cpu", torch.bfloat16, enabled=this_processor().multiplies_bfloat16):
            hits = [
                exact(logits_at(self.model, batch.ids, batch.positions), batch)
                for batch in self.held_out
            ]
        return torch.cat(hits).float().mean().item()

    def save(self) -> None:
        """Write the checkpoint; an interrupted write leaves the previous one in place."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)


def train(run: Run, *, quiet: bool = False) -> None:
    """Train to the last step, with a progress bar, reports on held-out data and checkpoints."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[report]}"),
    )
    with Progress(*columns, disable=quiet) as progress:
        task = progress.add_task(run.recipe.name, total=run.steps, completed=run.step, report="")
        began = time.monotonic() - run.seconds
        losses: list[float] = []
        for batch in run.batches():
            losses.append(run.train_step(batch)[0])
            run.seconds = time.monotonic() - began
            progress.update(task, completed=run.step)
            if run.step % _REPORT_STEPS == 0 or run.step == run.steps:
                recent = losses[-_REPORT_STEPS:]
                loss = sum(recent) / len(recent)
                report = f"loss {loss:.3f}  held-out exact {run.held_out_exact():.3f}"
                progress.update(task, report=report)
                progress.console.print(f"step {run.step:5d}  {run.seconds / 60:5.1f} min  {report}")
            if run.step % _CHECKPOINT_STEPS == 0 or run.step == run.steps:
                run.save()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m livemind.backends.zoo.training.train", description=__doc__
    )
    parser.add_argument("--expert", required=True, choices=sorted(RECIPES), help="what to train")
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="CPU threads (two runs with one each beat one with two)",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("zoo-train"), help="directory of checkpoints"
    )
    parser.add_argument("--out", type=Path, help="model directory to write (default: models/NAME)")
    parser.add_argument("--quiet", action="store_true", help="no progress output")
    return parser.parse_args()


def main() -> None:
    """Train the expert named on the command line and write its model directory."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    recipe = RECIPES[arguments.expert]
    run = Run(
        recipe,
        seed=arguments.seed,
        steps=arguments.steps or recipe.steps,
        checkpoint=arguments.work / f"{recipe.name}.pt",
    )
    train(run, quiet=arguments.quiet)
    save_model(run.model, recipe.size, arguments.out or MODELS / recipe.name)
    minutes = run.seconds / 60
    print(f"{recipe.name}: held-out exact {run.held_out_exact():.3f} after {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
