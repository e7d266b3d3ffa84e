"""Does a text go to the right domain in every language, how early, and does it stay there?

409 prompts in nineteen languages, in the register of people who type for themselves, which
training does not read. Twice for each encoder: every expert reads every language, so that what a
text is about decides; and as configured by default, where what is neither English nor Spanish is
multilingual.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table

from ...orchestrator.routing.dataset import DOMAINS, FOREIGN_DOMAIN, HOUSE_LANGUAGES, Prompt
from ...orchestrator.routing.model import RouteModel
from ...orchestrator.routing.router import Router, TextEmbedding
from ...orchestrator.routing.selection import Candidate
from ..bench import UsageError
from ..figures.answer import Json, Number
from ..figures.stats import p50, share
from ..routing.quality import Routed, route_all

PROMPTS = Path(__file__).parents[1] / "data" / "routing_registers.jsonl"
BLIND = PROMPTS.with_name("routing_blind.jsonl"), PROMPTS.with_name("routing_blind_2.jsonl")
"""By other hands, and never looked into: their totals were seen (docs/routing.md)."""
BELOW = 0.35
EVERYWHERE, HOUSE = "every language", "English and Spanish"
"""What the experts read."""


def load_registers(file: Path = PROMPTS) -> list[Prompt]:
    """Return the prompts of a file; each is a family of its own.

    Raises:
        UsageError: it cannot be read, or a line is no prompt.
    """
    found: list[Prompt] = []
    try:
        for line in file.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["domain"] not in DOMAINS:
                raise ValueError(f"domain {row['domain']!r}, need one of {', '.join(DOMAINS)}")
            name = f"{file.stem}-{len(found)}"
            found.append(Prompt(row["text"], row["domain"], row["language"], name, "test"))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        told = f"no {exc}" if isinstance(exc, KeyError) else exc
        raise UsageError(f"--prompts: {file}: line {len(found) + 1}: {told}") from None
    return found


async def by_language(
    embedding: TextEmbedding, model: RouteModel, prompts: Sequence[Prompt]
) -> list[Json]:
    """Return a case for each language and for what the experts read.

    Args:
        embedding: of the encoder that ``model`` reads.
        model: the shipped one.
        prompts: each a family of its own.
    """
    languages = list(dict.fromkeys(prompt.language for prompt in prompts))
    cases = []
    for reads, known in ((EVERYWHERE, languages), (HOUSE, list(HOUSE_LANGUAGES))):
        candidates = [Candidate(domain, domain, 0) for domain in DOMAINS]
        router = Router(
            embedding, {}, candidates, "general",
            model=model, languages=known, default_below=BELOW,
        )  # fmt: skip
        await router.start()
        routed = await route_all(router, [_expected(prompt, known) for prompt in prompts])
        for language in languages:
            mine = [one for one in routed if one.prompt.language == language]
            told = {"encoder": model.encoder, "reads": reads, "language": language}
            cases.append({**told, **_counted(mine)})
    return cases


def routing_summary(cases: Sequence[Json]) -> dict[str, Number]:
    """Return shares over all languages, over English and Spanish alone and over the others."""
    summary: dict[str, Number] = {}
    for encoder, reads in _kinds(cases):
        start = f"languages.{encoder}.routing.{'all' if reads == EVERYWHERE else 'house'}"
        mine = [c for c in cases if (c["encoder"], c["reads"]) == (encoder, reads)]
        for name, some in (
            ("", mine),
            *((f".{code}", [c for c in mine if c["language"] == code]) for code in HOUSE_LANGUAGES),
            (".other", [case for case in mine if case["language"] not in HOUSE_LANGUAGES]),
        ):
            total = sum(case["prompts"] for case in some)
            fired = sum(case["fired"] for case in some)
            shares = [part for case in some for part in case["shares"]]
            summary[f"{start}{name}.accuracy.full"] = share(sum(c["whole"] for c in some), total)
            summary[f"{start}{name}.accuracy.half"] = share(sum(c["half"] for c in some), total)
            summary[f"{start}{name}.stable.correct_share"] = share(
                sum(c["lasted"] for c in some), fired
            )
            summary[f"{start}{name}.stable.right_share"] = share(
                sum(c["stable_right"] for c in some), fired
            )
            summary[f"{start}{name}.stable.median_share_of_input"] = p50(shares)
    return summary


def routing_tables(cases: Sequence[Json]) -> list[Table]:
    """Return right routes by language, a table for each of what the experts read."""
    found = []
    for encoder, reads in _kinds(cases):
        table = Table("language", "whole", "half", "stable", "right", "lasted", "of", box=SIMPLE)
        table.title = f"right domain: {encoder}, experts read {reads}"
        for case in cases:
            if (case["encoder"], case["reads"]) == (encoder, reads):
                names = ("language", "whole", "half", "fired", "stable_right", "lasted", "prompts")
                table.add_row(*(str(case[name]) for name in names))
        found.append(table)
    return found


def _kinds(cases: Sequence[Json]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((case["encoder"], case["reads"]) for case in cases))


def _expected(prompt: Prompt, known: Sequence[str]) -> Prompt:
    if prompt.language in known:
        return prompt
    return Prompt(prompt.text, FOREIGN_DOMAIN, prompt.language, prompt.family, prompt.split)


def _counted(routed: Sequence[Routed]) -> Json:
    fired = [(one, at) for one in routed if (at := one.stable_at) is not None]
    shares = [
        1.0 if (at := one.stable_at) is None else (at + 1) / len(one.estimates) for one in routed
    ]
    return {
        "prompts": len(routed),
        "whole": sum(one.right(1.0) for one in routed),
        "half": sum(one.right(0.5) for one in routed),
        "fired": len(fired),
        "stable_right": sum(one.estimates[at].domain == one.prompt.domain for one, at in fired),
        "lasted": sum(one.estimates[at].expert == one.estimates[-1].expert for one, at in fired),
        "shares": shares,
    }
