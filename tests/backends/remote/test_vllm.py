"""The remote expert against vLLM's own OpenAI server, started from this installation."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from msgspec.structs import replace

from livemind.backends.base import Chunk, Draft, GenerationParams, Message, Priority, TokenPrompt
from livemind.backends.errors import ExpertUnavailable, PromptRejected
from livemind.backends.remote.expert import RemoteExpert
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.drafts import server_arguments

from ..conftest import Run

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GREEDY = GenerationParams(max_tokens=24, temperature=0.0, ignore_eos=True)
KEY = "sk-of-the-test"
START_LIMIT_S = 400


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a vLLM server with the tiny model and yield its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny_model)),
        *("--served-model-name", "tiny", "--port", str(port), "--host", "127.0.0.1"),
        *("--max-model-len", "1800", "--enforce-eager", "--block-size", "32"),
        *("--kv-cache-memory-bytes", str(2**27), "--enable-prompt-tokens-details"),
        *("--api-key", KEY),
        *("--max-num-seqs", "16", *server_arguments(16)),
    ]
    environment = {
        **os.environ,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 15)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def expert(run: Run, server: str) -> Iterator[RemoteExpert]:
    os.environ["LIVEMIND_TEST_KEY"] = KEY
    spec = ExpertSpec(
        "remote",
        kind="remote",
        model="tiny",
        base_urls=(server,),
        api_key_env="LIVEMIND_TEST_KEY",
        verify_drafts=True,
    )
    made = RemoteExpert(spec)
    run(made.start())
    yield made
    run(made.stop())
    del os.environ["LIVEMIND_TEST_KEY"]


async def collect(
    expert: RemoteExpert,
    prompt: TokenPrompt,
    params: GenerationParams = GREEDY,
    draft: Draft | None = None,
) -> list[Chunk]:
    stream = expert.generate(
        prompt, params, priority=Priority.FOREGROUND, request_id="r", draft=draft
    )
    return [chunk async for chunk in stream]


def test_start_learns_limit_and_open_turns(expert: RemoteExpert) -> None:
    assert expert.capabilities.max_model_len == 1800
    assert expert.capabilities.open_turn_prefill


def test_generate_streams_text_tokens_logprobs_and_usage(run: Run, expert: RemoteExpert) -> None:
    prompt = expert.render([Message("user", "Hello there, you")], open_turn=False)
    params = GenerationParams(max_tokens=24, temperature=0.0, ignore_eos=True, logprobs=2)
    chunks = run(collect(expert, prompt, params))
    assert len(chunks) > 1
    assert sum(len(chunk.token_ids) for chunk in chunks) == 24
    entries = [entry for chunk in chunks for entry in chunk.logprobs or ()]
    ids = [token for chunk in chunks for token in chunk.token_ids]
    assert [entry.token_id for entry in entries] == ids
    assert all(len(entry.top) == 2 and entry.logprob <= 0 for entry in entries)
    assert chunks[-1].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 24
    plain = run(collect(expert, prompt))
    assert "".join(c.text for c in plain) == "".join(c.text for c in chunks)


def test_prefill_open_turn_makes_the_final_prompt_cached(run: Run, expert: RemoteExpert) -> None:
    text = " ".join(f"word{number}" for number in range(60))
    opened = expert.render([Message("user", f"open {text} unfin")], open_turn=True)
    result = run(expert.prefill(opened, priority=Priority.SPECULATIVE))
    assert result.cached == 0
    assert result.computed > 100
    final = expert.render([Message("user", f"open {text} unfinished")], open_turn=False)
    usage = run(collect(expert, final))[-1].usage
    assert usage is not None
    assert usage.cached_tokens == result.computed // 32 * 32


def test_generate_draft_is_verified_by_the_server(
    run: Run, expert: RemoteExpert, server: str
) -> None:
    prompt = expert.render([Message("user", "Draft this")], open_turn=False)
    plain = run(collect(expert, prompt))
    text = "".join(chunk.text for chunk in plain)
    ids = [token for chunk in plain for token in chunk.token_ids]
    before = run(metric(server, "vllm:spec_decode_num_accepted_tokens_total"))
    drafted = run(collect(expert, prompt, draft=ids))
    assert "".join(chunk.text for chunk in drafted) == text
    assert run(metric(server, "vllm:spec_decode_num_accepted_tokens_total")) >= before + 15
    assert drafted[-1].usage is not None
    assert drafted[-1].usage.accepted_draft_tokens == 24
    predicted = run(collect(expert, prompt, replace(GREEDY, prediction=text)))
    assert "".join(chunk.text for chunk in predicted) == text
    assert predicted[-1].usage is not None
    assert predicted[-1].usage.rejected_draft_tokens is not None


@pytest.mark.parametrize("changed", [{"min_p": 0.5}, {"logit_bias": ((7, 100.0),)}])
def test_generate_sampling_that_vllm_refuses_beside_speculation_works(
    run: Run, expert: RemoteExpert, changed: dict[str, Any]
) -> None:
    prompt = expert.render([Message("user", "Bias this")], open_turn=False)
    chunks = run(collect(expert, prompt, replace(GREEDY, **changed), [1, 2, 3]))
    ids = [token for chunk in chunks for token in chunk.token_ids]
    assert len(ids) == 24
    assert (set(ids) == {7}) is ("logit_bias" in changed)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.accepted_draft_tokens is None


def test_generate_plain_prompt_completes(run: Run, expert: RemoteExpert) -> None:
    chunks = run(collect(expert, expert.tokenize("The quick brown")))
    assert "".join(chunk.text for chunk in chunks)
    assert chunks[-1].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 24


def test_generate_refusal_is_the_requests_fault(run: Run, expert: RemoteExpert) -> None:
    prompt = expert.render([Message("user", "Hello there, you")], open_turn=False)
    with pytest.raises(PromptRejected, match="temperature") as caught:
        run(collect(expert, prompt, GenerationParams(temperature=-1.0)))
    assert "http" not in caught.value.message


def test_generate_prompt_too_long_has_the_common_code(run: Run, expert: RemoteExpert) -> None:
    prompt = expert.render([Message("user", "word " * 3000)], open_turn=False)
    with pytest.raises(PromptRejected) as caught:
        run(collect(expert, prompt))
    assert caught.value.code == "context_length_exceeded"


def test_generate_closed_stream_closes_its_connection(
    run: Run, expert: RemoteExpert, server: str
) -> None:
    """Which is what makes vLLM abort; when it notices depends on how busy it is."""
    port = urlsplit(server).port

    def open_connections() -> int:
        pairs = psutil.Process().net_connections("tcp")
        return sum(pair.status == "ESTABLISHED" and pair.raddr.port == port for pair in pairs)

    async def main() -> tuple[int, int]:
        prompt = expert.render([Message("user", "Endless")], open_turn=False)
        params = GenerationParams(max_tokens=1500, temperature=0.0, ignore_eos=True)
        stream = expert.generate(prompt, params, priority=Priority.FOREGROUND, request_id="r")
        await anext(stream)
        during = open_connections()
        await stream.aclose()
        await asyncio.sleep(0)
        return during, open_connections()

    during, after = run(main())
    assert after < during


async def metric(server: str, name: str) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{server}/metrics")).text
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name + "{")]
    return sum(map(float, values))


def test_start_wrong_key_is_refused(run: Run, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG_KEY", "sk-wrong")
    spec = ExpertSpec(
        "remote", kind="remote", model="tiny", base_urls=(server,), api_key_env="WRONG_KEY"
    )
    with pytest.raises(ExpertUnavailable, match="refuses the API key"):
        run(RemoteExpert(spec).start())
