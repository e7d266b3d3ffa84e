"""Two reports of one benchmark, key by key: what differs, how surely, and what makes it unfair.

B is held against A: "better" means that B is better. An interval says how much the turns of these
two runs scatter; it cannot know how much the machine drifts between two runs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from ..bench import UsageError
from ..figures.answer import Json
from ..figures.estimates import LEVEL, ROUNDS, Interval, Sample, difference, shared_units
from ..harness.experts import RANDOM_PARAMS
from ..names import offered
from .reports import Report, doubts

SCHEMA = "livemind.bench-compare/1"
PAIRED_SHARE = 0.8
"""Runs are paired where each has at least this share of its conversations in common."""
_LOWER = re.compile(
    r"(_ms|_ms_|\.ms\.|_over_(?!litellm|aurelio)|cost_multiplier|wasted?\b|\.ece\b|error|failed)"
)
_HIGHER = re.compile(
    r"(accuracy|recall|_share|\.share|share_of_limit|speedup|_gain|rps|goodput|tokens_per_s"
    r"|bend_sessions|\.right\b|\.full\b|\.half\b|frozen\b|final\b)"
)
_LEADS = re.compile(r"median_share_of_input")
_PER_ARM = frozenset({"arm_definitions", "cold_cache"})
_FREE = frozenset({"arms", "turns", "experts", "cadences", "documents_tokens"})
"""Parts of the configuration that say which turns are asked, not how one is asked."""

Verdict = Literal["better", "worse", "no difference shown", "different", "equal", "not judged"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One summary key of both runs.

    Attributes:
        difference: b - a; None when one is unknown.
        ratio: b / a; None when one is unknown or a is 0.
        interval: of the difference, 95 %; None where the turns cannot tell.
        paired: whether the same conversations were drawn in both; None without an interval.
        why: why there is no verdict; empty where there is one.
    """

    key: str
    a: float | None
    b: float | None
    difference: float | None
    ratio: float | None
    interval: Interval | None
    paired: bool | None
    verdict: Verdict
    why: str = ""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval's ends."""
        return None if self.interval is None else (self.interval.low, self.interval.high)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both reports, what makes comparing them doubtful, and every key."""

    a: Report
    b: Report
    warnings: list[str]
    differences: list[Difference]

    def told(self) -> str:
        """Return how many numbers have which verdict, in one sentence."""
        counted = Counter(one.verdict for one in self.differences)
        known = sum(one.difference is not None for one in self.differences)
        judged = known - sum(
            one.verdict in ("not judged", "equal") and one.difference is not None
            for one in self.differences
        )
        return (
            f"Of {known} numbers that both runs know, {judged} can be judged: "
            f"{counted['better']} better, {counted['worse']} worse, {counted['different']} "
            f"different, {counted['no difference shown']} without a difference shown."
        )

    def content(self) -> Json:
        """Return the comparison as JSON."""
        return {
            "schema": SCHEMA,
            "name": self.a.name,
            **{
                side: {"file": str(one.file), "commit": one.content.get("commit")}
                for side, one in (("a", self.a), ("b", self.b))
            },
            "warnings": self.warnings,
            "method": {"bootstrap_rounds": ROUNDS, "level": LEVEL},
            "keys": {
                one.key: {name: value for name, value in asdict(one).items() if name != "key"}
                for one in self.differences
            },
        }


def compare(a: Report, b: Report) -> Comparison:
    """Return every summary key of both reports, in the order of a, then what only b has.

    Raises:
        UsageError: the reports are of different benchmarks.
    """
    if a.name != b.name:
        raise UsageError(f"{b.file}: name: got {b.name!r}, need {a.name!r} as in {a.file}")
    warnings = list(_warnings(a.content, b.content))
    behind = [samples_of(one) for one in (a, b)]
    alike = _same_asking(a.content, b.content)
    keys = dict.fromkeys([*a.summary, *b.summary])
    other_work = a.name == "ttft" and _work(a.content) != _work(b.content)
    if other_work:
        sides = [_told(_work(one.content)) for one in (a, b)]
        warnings.insert(0, f"another workload: {sides[0]} in A, {sides[1]} in B")
    found = [_difference(key, a, b, behind, alike=alike) for key in keys]
    if other_work:
        found = [_not_judged(one) for one in found]
    return Comparison(a, b, warnings, found)


def samples_of(report: Report) -> dict[str, Sample]:
    """Return what is behind the summary, by key; only samples that yield the reported number.

    Raises:
        UsageError: the report lacks a part that its benchmark always writes.
    """
    samples = offered(report.name, "samples")
    if samples is None or "turns" not in report.content:
        return {}
    try:
        found: dict[str, Sample] = samples(report.content)
    except (KeyError, TypeError, ValueError) as exc:
        raise UsageError(f"{report.file}: not a whole {report.name} report: {exc!r}") from None
    return {
        key: sample
        for key, sample in found.items()
        if _agrees(sample.value(), report.summary.get(key))
    }


def better_is(key: str) -> Literal["lower", "higher"] | None:
    """Return which way a number is better, by its name; None when the name does not say."""
    if _LEADS.search(key):
        return "lower"
    if _HIGHER.search(key):
        return "higher"
    return "lower" if _LOWER.search(key) else None


def _difference(
    key: str, a: Report, b: Report, behind: list[dict[str, Sample]], *, alike: bool
) -> Difference:
    before, after = a.summary.get(key), b.summary.get(key)
    if before is None or after is None:
        why = "not known in " + " and ".join(
            name for name, value in (("A", before), ("B", after)) if value is None
        )
        return Difference(key, before, after, None, None, None, None, "not judged", why)
    gap, over = after - before, after / before if before else None
    one, other = (samples.get(key) for samples in behind)
    if one is None or other is None:
        why = "one number each: the report keeps no values behind it"
        verdict: Verdict = "equal" if gap == 0 else "not judged"
        return Difference(key, before, after, gap, over, None, None, verdict, why)
    paired = alike and _mostly_shared(one, other)
    spread = difference(one, other, paired=paired)
    if spread is None:
        needed = max(one.needed, other.needed)
        have = min(len(one.distinct()), len(other.distinct()))
        why = f"too few conversations: {have}, need {needed} for an interval"
        return Difference(key, before, after, gap, over, None, None, "not judged", why)
    return Difference(key, before, after, gap, over, spread, paired, _verdict(key, spread))


def _work(content: Json) -> dict[str, object]:
    """Return what one question asks of the processor: the size of the model and of the documents.

    Reports of before there was a choice are of 100 million parameters.
    """
    config = content["config"]
    random = "random" in (config.get("experts") or ())
    return {
        "parameters": config.get("random_params", RANDOM_PARAMS) if random else None,
        "documents_tokens": next(iter(config.get("documents_tokens") or ()), None),
    }


def _not_judged(one: Difference) -> Difference:
    return replace(one, interval=None, paired=None, verdict="not judged", why="another workload")


def _verdict(key: str, spread: Interval) -> Verdict:
    if spread.low <= 0.0 <= spread.high:
        return "no difference shown"
    wanted = better_is(key)
    if wanted is None:
        return "different"
    return "better" if (spread.high < 0.0) == (wanted == "lower") else "worse"


def _mostly_shared(a: Sample, b: Sample) -> bool:
    common = len(shared_units(a, b))
    return common > 0 and all(common >= PAIRED_SHARE * len(one.distinct()) for one in (a, b))


def _agrees(found: float | None, reported: float | None) -> bool:
    if found is None or reported is None:
        return False
    return abs(found - reported) <= 1e-9 * max(1.0, abs(reported))


def _same_asking(a: Json, b: Json) -> bool:
    configs = _of_shared_arms(a["config"], b["config"])
    return a.get("seed") == b.get("seed") and not any(
        key not in _FREE for key, _, _ in _differing(*configs)
    )


def _of_shared_arms(a: Json, b: Json) -> tuple[Json, Json]:
    """Return the configurations without what they say of arms that only one of them has."""
    found = []
    for own, other in ((a, b), (b, a)):
        definitions, foreign = _definitions(own), _definitions(other)
        caches, elsewhere = own.get("cold_cache") or {}, other.get("cold_cache") or {}
        reduced = {key: value for key, value in own.items() if key not in _PER_ARM}
        reduced |= {f"arm {n}": told for n, told in definitions.items() if n in foreign}
        reduced |= {f"cold cache of {n}": told for n, told in caches.items() if n in elsewhere}
        found.append(reduced)
    return found[0], found[1]


def _definitions(config: Json) -> dict[str, Json]:
    return {one["id"]: one for one in config.get("arm_definitions") or ()}


def _differing(a: Mapping[str, object], b: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) != b.get(key):
            yield key, _told(a.get(key)), _told(b.get(key))


def _told(value: object) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _warnings(a: Json, b: Json) -> Iterator[str]:
    for side, one in (("A", a), ("B", b)):
        yield from doubts(one, side)
    busy = {"load_average_1m", "turn_costs"}
    parts = {part: (a[part], b[part]) for part in ("machine", "versions")}
    if a.get("dtypes") and b.get("dtypes"):  # older reports do not tell
        parts["dtypes"] = (a["dtypes"], b["dtypes"])
    parts["config"] = _of_shared_arms(a["config"], b["config"])
    for part, sides in parts.items():
        for key, before, after in _differing(*sides):
            if key not in busy:
                yield f"{part}.{key} differs: {before} in A, {after} in B"
    if a.get("seed") != b.get("seed"):
        yield f"seed differs: {_told(a.get('seed'))} in A, {_told(b.get('seed'))} in B"
