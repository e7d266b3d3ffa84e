"""Do load generators agree about one server, and its log-likelihoods with those of plain vLLM?

``python tests/clients/agreement.py``: guidellm, aiperf and ``vllm bench serve`` send prompts of one
length, one at a time and in blocks that take turns, to ``livemind serve``; the medians of their
times to the first token may differ by 10 %. The engine has a core that they do not run on, as
AIPerf alone keeps a second one busy. Then lm-eval scores the same answers there and on
vLLM's own server with the same weights: log-likelihoods may differ by 1e-3. Kept in
``results.json``, of which ``docs/clients.md`` is made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from livemind.benchmarks.harness.vllm_server import plain_vllm
from livemind.orchestrator.config.settings import Settings, load_settings

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE / "programs")]

import run  # type: ignore[import-not-found] # noqa: E402
from load_generators import (  # type: ignore[import-not-found] # noqa: E402
    ANSWER_TOKENS,
    prompts,
    written,
)

MOST_APART, MOST_NATS = 1.10, 1e-3
ENGINE_CORE, *OTHER_CORES = sorted(os.sched_getaffinity(0))
GENERATORS = ("guidellm_load", "aiperf_load", "vllm bench serve")
_BENCH = (
    "import sys; sys.path.append(sys.argv.pop(1)); import argparse; "
    "from vllm.benchmarks.serve import add_cli_args, main; "
    "p = argparse.ArgumentParser(); add_cli_args(p); main(p.parse_args())"
)


def alike(config: Path) -> dict[str, Any]:
    """Return the configuration with its first expert alone, computed as plain vLLM does it."""
    expert = load_settings(config).experts[0].model_dump(exclude_unset=True)
    expert |= {"quantization": None, "dtype": "float32", "cpu_cores": str(ENGINE_CORE)}
    return {"experts": [expert], "rag": {"enabled": False}, "speculation": {"mode": "off"}}


def ttft_ms(generator: str, url: str, model: str, tokenizer: Path, count: int) -> float:
    """Return the median time to the first token that a generator measures."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        if generator == GENERATORS[-1]:
            return _bench_ttft_ms(url, model, tokenizer, count, folder)
        texts = folder / "texts.json"
        texts.write_text(json.dumps(prompts(count)))
        python = run.ROOT / ".venv" / run.PROGRAMS[generator] / "bin/python"
        program = HERE / "programs" / f"{generator}.py"
        said = _said([str(python), str(program), url, model, str(texts)], tokenizer)
        return float(said.splitlines()[-1])


def _bench_ttft_ms(url: str, model: str, tokenizer: Path, count: int, folder: Path) -> float:
    # It reads prompts from a file with pandas, which guidellm has and vLLM does without.
    (pandas,) = (run.ROOT / ".venv/clients_aiperf/lib").glob("python*/site-packages")
    words = [sys.executable, "-c", _BENCH, str(pandas), "--backend", "openai-chat"]
    words += ["--base-url", url.removesuffix("/v1"), "--endpoint", "/v1/chat/completions"]
    words += ["--model", model, "--tokenizer", str(tokenizer), "--dataset-name", "custom"]
    words += ["--dataset-path", str(written(folder / "data.jsonl", "prompt", prompts(count)))]
    words += ["--num-prompts", str(count), "--custom-output-len", str(ANSWER_TOKENS)]
    words += ["--max-concurrency", "1", "--skip-chat-template", "--disable-tqdm", "--save-result"]
    words += ["--result-dir", str(folder), "--result-filename", "report.json"]
    _said(words, tokenizer)
    return float(json.loads((folder / "report.json").read_text())["median_ttft_ms"])


def log_likelihoods(url: str, model: str, tokenizer: Path) -> list[float]:
    """Return what lm-eval reads of a server, choice by choice."""
    python = run.ROOT / ".venv" / run.PROGRAMS["lm_evaluation"] / "bin/python"
    program = HERE / "programs/lm_evaluation.py"
    found: list[float] = json.loads(
        _said([str(python), str(program), url, model], tokenizer).splitlines()[-1]
    )
    return found


def _said(words: list[str], tokenizer: Path) -> str:
    environment = {**os.environ, "LIVEMIND_TOKENIZER": str(tokenizer), "HF_HUB_OFFLINE": "1"}
    apart = ["taskset", "--cpu-list", ",".join(map(str, OTHER_CORES))] if OTHER_CORES else []
    ended = subprocess.run(
        [*apart, *words], capture_output=True, text=True, timeout=run.LIMIT_S, env=environment
    )
    if ended.returncode:
        raise RuntimeError((ended.stdout + ended.stderr).strip()[-600:])
    return ended.stdout


async def plain_log_likelihoods(settings: Settings, tokenizer: Path, log: Path) -> list[float]:
    """Return the same of vLLM's own server."""
    spec = settings.experts[0].to_spec()
    async with plain_vllm(spec, log) as url:
        return await asyncio.to_thread(log_likelihoods, f"{url}/v1", spec.expert_id, tokenizer)


def main() -> int:
    """Return 1 if something is further apart than it may be."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", type=Path, default=run.ROOT / "configs/embedded.json")
    options.add_argument("--rounds", type=int, default=3, help="blocks of each generator (3)")
    options.add_argument("--requests", type=int, default=10, help="of a block (10)")
    given = options.parse_args()
    told, tokenizer = alike(given.config), run.model_folder(given.config)
    model = told["experts"][0]["expert_id"]
    times: dict[str, list[float]] = {name: [] for name in GENERATORS}
    logs = run.ROOT / "var"
    logs.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        config.write_text(json.dumps(told))
        with run.served(config, logs / "agreement-server.log") as url:
            ttft_ms(GENERATORS[-1], url, model, tokenizer, 2)  # the server's own warm-up
            for number in range(given.rounds):
                for name in GENERATORS[number:] + GENERATORS[:number]:
                    times[name].append(ttft_ms(name, url, model, tokenizer, given.requests))
                    print(f"round {number + 1}, {name}: TTFT p50 {times[name][-1]:.1f} ms")
            ours = log_likelihoods(url, model, tokenizer)
        theirs = asyncio.run(
            plain_log_likelihoods(load_settings(config), tokenizer, logs / "agreement-vllm.log")
        )
    medians = {name: statistics.median(found) for name, found in times.items()}
    apart = max(medians.values()) / min(medians.values())
    nats = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    print(f"medians {medians}: {apart:.3f} times apart, at most {MOST_APART:g}")
    print(f"{len(ours)} log-likelihoods: {nats:.2g} apart from plain vLLM's, at most {MOST_NATS:g}")
    kept = json.loads(run.RESULTS.read_text())
    kept["agreement"] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "ttft_ms": {name: round(ms, 1) for name, ms in medians.items()},
        "times_apart": round(apart, 3),
        "log_likelihoods": len(ours),
        "nats_apart": float(f"{nats:.2g}"),
    }
    run.RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return int(apart > MOST_APART or nats > MOST_NATS)


if __name__ == "__main__":
    sys.exit(main())
