"""The options of ``livemind bench ttft``: what was typed becomes a plan, or is refused by name."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...backends.machine.speeds import Speeds
from ...backends.zoo.random_weights import parse_parameters
from ..bench import UsageError, add_common, checked, number, positive, some_of
from ..figures.answer import Json
from ..figures.measure import Slo
from ..harness.experts import EMBEDDED, EXPERTS, ROUTED, expert_of, random_expert
from ..workload.arms import ARMS, Arm
from ..workload.arrivals import KINDS, Arrivals
from ..workload.conversations import FILLER
from ..workload.plan import (
    INTERFERENCE,
    QUICK_CASES,
    ExpertCase,
    Plan,
    ablation_blocks,
    quick_blocks,
    speech_arms,
)
from ..workload.prompts import read_prompts
from ..workload.recordings import BUNDLED, MAX_MS, is_recording, read_recording
from ..workload.typing_model import CADENCES, cadence
from .scale import Workload, fitting, scaled

QUICK_TURNS, TURNS, SELF_CHECK_TURNS = 5, 20, 500
MAX_TURNS, MAX_DOCUMENTS_TOKENS = 100_000, 1_000_000
INTERFERENCE_PAIRS = 3
TALKS = number(int, 1, MAX_TURNS)
UNKNOWN_SERVER = "the server is not LiveMind; only V (request at end) can be asked of it"
_FOREIGN_ARMS = ("V",)
_COMMIT_AFTER = "own,0,800"


@dataclass(frozen=True, slots=True)
class Requested:
    """What one call asks for.

    Attributes:
        options: as they were given, each by itself in its limits.
        turns: conversations per case, or answers of the self-check.
        workload: what ``--quick`` asks of this processor; None = exactly what was asked for.
    """

    options: argparse.Namespace
    plan: Plan
    turns: int
    slo: Slo
    workload: Workload | None = None

    @property
    def may_scale(self) -> bool:
        """Whether nobody has said what is to be asked, and of whom."""
        told = self.options
        given = (told.base_url, told.params, told.documents, told.prompts)
        own = any(expert.folder for expert in self.plan.experts)
        return told.quick and not own and all(value is None for value in given)

    def fitted(self, speeds: Speeds) -> Requested:
        """Return the same with a workload that a processor of these speeds can do in time."""
        if not self.may_scale:
            return self
        workload = fitting(speeds, self.plan.documents_tokens[0])
        return replace(self, plan=scaled(self.plan, workload), workload=workload)

    def config(self) -> Json:
        """Return the options as the report keeps them."""
        plan = self.plan
        return {
            "quick": self.options.quick,
            "experts": [expert.name for expert in plan.experts],
            "random_params": next((e.random_params for e in plan.experts if e.random_params), None),
            "workload": None if self.workload is None else asdict(self.workload),
            "arms": [arm.id for arm in plan.arms],
            "cadences": list(plan.cadences),
            "documents_tokens": list(plan.documents_tokens),
            "turns": self.turns,
            "turns_per_conversation": plan.turns_per_conversation,
            "prompts": None if plan.prompts is None else len(plan.prompts),
            "max_tokens": plan.max_tokens,
            "arrivals": plan.arrivals.kind,
            "concurrency": plan.arrivals.concurrency,
            "rate_per_s": plan.arrivals.rate_per_s,
            "per_block": max((len(block.conversations) for block in plan.blocks), default=0),
            "slo_ttft_ms": self.slo.ttft_ms,
            "slo_tpot_ms": self.slo.tpot_ms,
            "base_url": self.options.base_url,
            "arm_definitions": [asdict(arm) for arm in plan.arms],
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    arms = "; ".join(f"{arm.id} {arm.title}" for arm in ARMS.values())
    add = parser.add_argument
    add("--arms", type=some_of(tuple(ARMS)), metavar="LIST", help=f"comma-separated: {arms}")
    names = ", ".join(EXPERTS)
    told = f"only this one: {names}, or the folder of any model of this machine"
    add("--expert", action="append", type=checked(expert_of), metavar="NAME|DIR", help=told)
    add("--case", action="append", choices=QUICK_CASES, help="only this one (with --quick)")
    add("--turns", type=TALKS, metavar="N", help=f"conversations per case ({TURNS})")
    quick = f"{QUICK_TURNS} turns per expert, main arms only"
    add_common(parser, "of questions, typing and order", quick)

    work = parser.add_argument_group("what is asked")
    add = work.add_argument
    names, recorded = ", ".join(CADENCES), ", ".join(BUNDLED)
    told = (
        f"comma-separated: {names}, typing-N (typing-400); or recorded partial transcripts, asked "
        f"with passages of the handbook unless --documents is given: {recorded}, FILE.jsonl"
    )
    add("--cadence", type=checked(_cadences), metavar="LIST", help=told)
    told = (
        "of a recording: commit so long after the last partial, comma-separated; own = when the "
        f"final transcript came ({_COMMIT_AFTER})"
    )
    add("--commit-after-ms", type=checked(_commits), metavar="LIST", help=told)
    told = "of a recording: every live arm with early documents too (rag.consistency)"
    add("--early", action="store_true", help=told)
    speed = checked(lambda text: _cadences(f"typing-{text}"))
    add("--cpm", type=speed, metavar="N", help="the same as --cadence typing-N")
    told, lengths = "tokens of documents, comma-separated (1500)", checked(_lengths)
    add("--documents", type=lengths, metavar="LIST", help=told)
    turns = number(int, 1, 100)
    add("--conversation-turns", type=turns, default=1, metavar="N", help="turns of each (1)")
    told = "yours, a JSON object a line: question or messages, documents, max_tokens"
    add("--prompts", type=Path, metavar="FILE", help=told)
    told = (
        "size of the model with random weights, such as 25m (100m; with --quick what this "
        "processor prefills in about two seconds, unless --params or --documents is given)"
    )
    add("--params", type=checked(parse_parameters), metavar="N", help=told)
    length = number(int, 1, 1_000_000)
    add("--max-tokens", type=length, default=32, metavar="N", help="length of an answer (32)")

    load = parser.add_argument_group("users")
    add = load.add_argument
    add("--arrivals", choices=KINDS, default="closed", help="closed: each user asks when answered")
    add("--concurrency", type=int, default=1, metavar="N", help="users at a time, closed (1)")
    add("--rate", type=float, metavar="R", help="conversations per second, open loop")
    add("--block", type=TALKS, metavar="N", help="conversations between two changes of the arm")
    add("--slo-ttft-ms", type=positive, metavar="MS", help="goodput: longest time to first token")
    add("--slo-tpot-ms", type=positive, metavar="MS", help="goodput: longest time per later token")

    where = parser.add_argument_group("against what")
    add = where.add_argument
    add("--base-url", metavar="URL", help="a running server, LiveMind or any OpenAI-compatible one")
    add("--model", metavar="NAME", help="the model to ask there")
    add("--api-key-env", metavar="VAR", help="environment variable that holds its key")
    add("--self-check", action="store_true", help="measure the harness against a known latency")
    add("--server-log", type=Path, metavar="FILE", help="keep the server's output")


def requested(options: argparse.Namespace) -> Requested:
    """Return what the options ask for.

    Raises:
        UsageError: naming option, value and limit.
    """
    recorded = any(map(is_recording, options.cadence or ()))
    default = SELF_CHECK_TURNS if options.self_check else QUICK_TURNS if options.quick else TURNS
    if options.api_key_env is not None and not os.environ.get(options.api_key_env):
        raise UsageError(f"--api-key-env: the environment has no {options.api_key_env}")
    for name in ("model", "api_key_env"):
        if getattr(options, name) is not None and options.base_url is None:
            raise UsageError(f"--{name.replace('_', '-')}: only with --base-url")
    if options.base_url is not None and not options.base_url.startswith(("http://", "https://")):
        raise UsageError(f"--base-url: got {options.base_url}, need http:// or https://")
    if options.commit_after_ms is not None and not recorded:
        raise UsageError("--commit-after-ms: only with a recording as --cadence")
    if options.early and not recorded:
        raise UsageError("--early: only with a recording as --cadence; see --arms, R and G")
    turns = options.turns or default
    plan = _speech_plan(options) if recorded else _plan(options, turns)
    if recorded:
        turns = sum(len(block.conversations) for block in plan.blocks)
    slo = Slo(options.slo_ttft_ms, options.slo_tpot_ms)
    return Requested(options, plan, turns, slo)


def _plan(options: argparse.Namespace, turns: int) -> Plan:
    experts = _experts(options)
    prompts = None if options.prompts is None else read_prompts(options.prompts)
    if options.cpm is not None and options.cadence is not None:
        raise UsageError("--cpm: not together with --cadence")
    documents = options.documents or (1500,)
    if prompts is not None:
        if options.documents is not None:
            raise UsageError("--documents: --prompts brings its own")
        documents = (0,)
    arrivals = _arrivals(options)
    common = {
        "experts": experts,
        "cadences": options.cadence or options.cpm or ("typing-400",),
        "documents_tokens": documents,
        "prompts": prompts,
        "seed": options.seed,
        "max_tokens": options.max_tokens,
    }
    if options.quick:
        _only_without_quick(options)
        cases = tuple(options.case or QUICK_CASES)
        pairs = INTERFERENCE_PAIRS if INTERFERENCE in cases else 0
        blocks = quick_blocks(turns, cases)
        return Plan(blocks=blocks, interference_pairs=pairs, **common)
    if options.case is not None:
        raise UsageError("--case: only with --quick; see --arms")
    per_block = options.block or _block_size(arrivals)
    return Plan(
        blocks=ablation_blocks(_arms(options), turns, per_block),
        arrivals=arrivals,
        turns_per_conversation=options.conversation_turns,
        **common,
    )


def _speech_plan(options: argparse.Namespace) -> Plan:
    """Return what a recording asks: every utterance at the end, and live with each commit."""
    _only_without_a_recording(options)
    if simulated := [name for name in options.cadence if not is_recording(name)]:
        raise UsageError(f"--cadence: {simulated[0]} is no recording; ask them one after the other")
    turns = options.conversation_turns
    recordings = tuple(map(read_recording, options.cadence))
    if len({one.name for one in recordings}) < len(recordings):
        raise UsageError("--cadence: two files have one name")
    if options.turns is not None:
        recordings = tuple(one.taken(options.turns * turns, options.seed) for one in recordings)
    arrivals = _arrivals(options)
    longest = max(max(1, len(one.utterances) // turns) for one in recordings)
    per_block = options.block or _block_size(arrivals)
    commits = options.commit_after_ms or _commits(_COMMIT_AFTER)
    return Plan(
        experts=_speech_expert(options),
        blocks=ablation_blocks(speech_arms(commits, early=options.early), longest, per_block),
        cadences=tuple(one.name for one in recordings),
        documents_tokens=options.documents or (0,),
        turns_per_conversation=turns,
        recordings=recordings,
        seed=options.seed,
        max_tokens=options.max_tokens,
        arrivals=arrivals,
    )


def _only_without_a_recording(options: argparse.Namespace) -> None:
    for name in ("quick", "self_check", "cpm", "arms", "case", "prompts"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')}: not together with a recording")


def _speech_expert(options: argparse.Namespace) -> tuple[ExpertCase, ...]:
    """Return who is asked: the routed experts, unless one is named."""
    if options.model is None and not options.params and options.expert in (None, [EMBEDDED]):
        return (ROUTED,)
    found = _experts(options)
    if len(found) > 1:
        raise UsageError("--expert: one at a time with a recording")
    return found


def _arrivals(options: argparse.Namespace) -> Arrivals:
    try:
        return Arrivals(options.arrivals, options.concurrency, options.rate)
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def _block_size(arrivals: Arrivals) -> int:
    """Alone: one. Together: enough that beginning and end of a block are a small part of it."""
    return max(10, 2 * arrivals.concurrency) if arrivals.overlap else 1


def _only_without_quick(options: argparse.Namespace) -> None:
    for name, default in (
        ("arms", None), ("arrivals", "closed"), ("concurrency", 1), ("rate", None), ("block", None),
        ("conversation_turns", 1),
    ):  # fmt: skip
        if getattr(options, name) != default:
            raise UsageError(f"--{name.replace('_', '-')}: not together with --quick")


def _experts(options: argparse.Namespace) -> tuple[ExpertCase, ...]:
    if options.model is None:
        found = options.expert or [*EXPERTS.values()]
        size = options.params
        if len({one.expert_id for one in found}) < len(found):
            raise UsageError("--expert: the same one twice")
        found = [
            replace(e, suffix=f".{e.name}") if e.folder and n else e for n, e in enumerate(found)
        ]
        return tuple(random_expert(size) if size and e.random_weights else e for e in found)
    if options.params is not None:
        raise UsageError("--params: not together with --model")
    if options.expert is not None:
        raise UsageError("--model: not together with --expert")
    named = next((one for one in EXPERTS.values() if one.expert_id == options.model), None)
    return (
        ExpertCase(options.model, FILLER, options.model, options.model, "")
        if named is None
        else named,
    )


def _arms(options: argparse.Namespace) -> tuple[Arm, ...]:
    names = options.arms or tuple(ARMS)
    if options.base_url is not None:
        if "A" in (options.arms or ()):
            raise UsageError("--arms: A: the bare engine runs here, not at --base-url")
        own = _FOREIGN_ARMS if options.model else [name for name in ARMS if name not in "AV"]
        names = options.arms or own
    return tuple(ARMS[name] for name in names)


def _cadences(text: str) -> tuple[str, ...]:
    """Return the names of cadences; ValueError for one that there is not."""
    for name in text.split(","):
        if not is_recording(name):
            cadence(name)
    return tuple(dict.fromkeys(text.split(",")))


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(map(number(int, 0, MAX_DOCUMENTS_TOKENS), text.split(",")))


def _commits(text: str) -> tuple[int | None, ...]:
    """Return when a recording's turns are committed; None = as recorded."""
    after_ms = number(int, 0, MAX_MS)
    return tuple(dict.fromkeys(None if one == "own" else after_ms(one) for one in text.split(",")))
