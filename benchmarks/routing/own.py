"""A domain that the user adds with ten examples: is it found, and does it leave the others alone?

Each built-in domain in turn is taken for the user's: the router gets ten of its prompts as examples
under another name and nothing else of it. The classifier was trained with that domain, but its
score for it is not used; the other four are scored as ever.
"""

from __future__ import annotations

import random

from ...orchestrator.routing.dataset import DOMAINS, Prompt, load_prompts
from ...orchestrator.routing.model import RouteModel
from ...orchestrator.routing.router import Router, TextEmbedding
from ...orchestrator.routing.selection import Candidate
from ..figures.answer import Json, Number
from ..figures.stats import share

EXAMPLES = 10
OWN = "own"


async def own_domains(
    embedding: TextEmbedding, model: RouteModel, held_out: list[Prompt]
) -> tuple[Json, dict[str, Number]]:
    """Return accuracy on whole held-out prompts, per domain and over all."""
    cases: Json = {}
    right = 0
    for domain in DOMAINS:
        known = [p.text for p in load_prompts("train") if p.domain == domain]
        examples = random.Random(domain).sample(known, EXAMPLES)
        names = [OWN if name == domain else name for name in DOMAINS]
        candidates = [Candidate(name, name, 0) for name in names]
        router = Router(embedding, {OWN: examples}, candidates, names[0], model=model)
        await router.start()
        found = [(await router.estimate(p.text)).domain for p in held_out]
        wanted = [OWN if p.domain == domain else p.domain for p in held_out]
        hits = [a == b for a, b in zip(found, wanted, strict=True)]
        mine = [hit for hit, name in zip(hits, wanted, strict=True) if name == OWN]
        cases[domain] = {
            "own_found": share(sum(mine), len(mine)),
            "others_right": share(sum(hits) - sum(mine), len(hits) - len(mine)),
        }
        right += sum(hits)
    total = len(DOMAINS) * len(held_out)
    return cases, {"routing.accuracy.with_own_domain": share(right, total)}
