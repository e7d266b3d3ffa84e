"""GuideLLM: one request after the other, streamed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from load_generators import ANSWER_TOKENS, REQUESTS, ended_well, prompts, written

PACKAGES = ("guidellm",)
LINES = (
    "guidellm run --backend kind=openai_http,target=http://HOST:8000,model=auto "
    "--profile kind=synchronous --constraint kind=max_requests,count=20 "
    "--tokenizer kind=huggingface_auto,tokenizer=FOLDER "
    "--data kind=synthetic_text,prompt_tokens=128,output_tokens=16"
)


def measured(url: str, model: str, texts: list[str], form: str = "/v1/chat/completions") -> Any:
    """Return guidellm's report of these prompts."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = written(folder / "data.jsonl", "prompt", texts, output_tokens_count=ANSWER_TOKENS)
        target, tokenizer = url.removesuffix("/v1"), os.environ["LIVEMIND_TOKENIZER"]
        words = [str(Path(sys.executable).with_name("guidellm")), "run", "--disable-console"]
        words += [
            "--backend",
            f"kind=openai_http,target={target},model={model},request_format={form}",
        ]
        words += ["--profile", "kind=synchronous"]
        words += ["--constraint", f"kind=max_requests,count={len(texts)}"]
        words += ["--tokenizer", f"kind=huggingface_auto,model={tokenizer}"]
        words += ["--data", f"kind=json_file,path={data}"]
        words += ["--output", f"kind=json,path={folder / 'report.json'}"]
        ended_well(words, folder)
        return json.loads((folder / "report.json").read_text())["benchmarks"][0]


def ttft_ms(report: Any) -> float:
    """Return the median time to the first token."""
    found = report["metrics"]["time_to_first_token_ms"]["successful"]
    return float(found["percentiles"]["p50"])


def stream(url: str, model: str) -> None:
    """Every request succeeds, and its tokens are counted."""
    report = measured(url, model, prompts())
    totals = report["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (REQUESTS, 0), totals
    assert ttft_ms(report) > 0
    assert report["metrics"]["output_token_count"]["successful"]["mean"] > 0


def responses(url: str, model: str) -> None:
    """The same over the Responses API."""
    report = measured(url, model, prompts(), "/v1/responses")
    assert report["metrics"]["request_totals"]["successful"] == REQUESTS


if __name__ == "__main__":
    print(ttft_ms(measured(sys.argv[1], sys.argv[2], json.loads(Path(sys.argv[3]).read_text()))))
