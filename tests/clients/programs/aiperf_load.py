"""AIPerf: one request after the other, streamed and whole."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from load_generators import ANSWER_TOKENS, REQUESTS, ended_well, prompts, written

PACKAGES = ("aiperf",)
LINES = (
    "aiperf profile --model auto --url http://HOST:8000 --endpoint-type chat --streaming "
    "--tokenizer FOLDER --concurrency 1 --request-count 20"
)


def measured(url: str, model: str, texts: list[str], *options: str) -> Any:
    """Return aiperf's report of these prompts."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = written(folder / "data.jsonl", "text", texts)
        words = [str(Path(sys.executable).with_name("aiperf")), "profile", "--model", model]
        words += ["--url", url.removesuffix("/v1"), *options]
        words += ["--tokenizer", os.environ["LIVEMIND_TOKENIZER"], "--concurrency", "1"]
        words += ["--input-file", str(data), "--custom-dataset-type", "single_turn"]
        words += ["--request-count", str(len(texts)), "--output-artifact-dir", str(folder / "out")]
        words += ["--extra-inputs", f"max_tokens:{ANSWER_TOKENS}", "--ui", "none"]
        words += ["--no-gpu-telemetry", "--no-server-metrics"]
        ended_well(words, folder)
        (report,) = (folder / "out").rglob("profile_export_aiperf.json")
        return json.loads(report.read_text())


def ttft_ms(report: Any) -> float:
    """Return the median time to the first token."""
    return float(report["time_to_first_token"]["p50"])


def plain(url: str, model: str) -> None:
    """Whole answers."""
    report = measured(url, model, prompts(), "--endpoint-type", "chat")
    assert report["request_count"]["avg"] == REQUESTS


def stream(url: str, model: str) -> None:
    """Streamed ones, with times and tokens."""
    report = measured(url, model, prompts(), "--endpoint-type", "chat", "--streaming")
    assert report["request_count"]["avg"] == REQUESTS
    assert ttft_ms(report) > 0


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[3]).read_text())
    print(ttft_ms(measured(*sys.argv[1:3], asked, "--endpoint-type", "chat", "--streaming")))
