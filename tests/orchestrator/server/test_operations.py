"""Models, health, counters, keys, request ids: what operators and load balancers see."""

from __future__ import annotations

from typing import Any

import pytest

from livemind import kernels
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.backends.machine.processor import this_processor


def sample(doors: Any, name: str, **labels: str) -> float | None:
    value: float | None = doors.state.metrics.registry.get_sample_value(name, labels)
    return value


async def test_models_lists_every_expert_and_auto(serve: Any) -> None:
    async with serve(FakeExpert("one", max_model_len=100), FakeExpert("two")) as doors:
        _, answer = await doors.ask("GET", "/v1/models")
        assert answer["object"] == "list"
        assert [model["id"] for model in answer["data"]] == ["auto", "one", "two"]
        assert answer["data"][1]["max_model_len"] == 100
        assert answer["data"][1]["state"] == "ready"
        assert all(isinstance(model["created"], int) for model in answer["data"])


async def test_model_is_shown_by_id_and_unknown_is_404(serve: Any) -> None:
    async with serve() as doors:
        assert (await doors.ask("GET", "/v1/models/fake"))[1]["id"] == "fake"
        assert (await doors.ask("GET", "/v1/models/auto"))[1]["id"] == "auto"
        status, answer = await doors.ask("GET", "/v1/models/org/nope")
        assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_health_and_readiness_are_good_while_an_expert_can_answer(serve: Any) -> None:
    experts = {"fake": "ready"}
    async with serve() as doors:
        assert await doors.ask("GET", "/health") == (
            200,
            {"status": "ok", "models_loaded": 1, "models_available": 1, "experts": experts},
        )
        assert await doors.ask("GET", "/ready") == (200, {"status": "ready", "experts": experts})


async def test_readiness_ends_when_shutdown_begins_and_health_does_not(serve: Any) -> None:
    async with serve() as doors:
        doors.state.in_flight.stopping.set()
        status, answer = await doors.ask("GET", "/ready")
        assert (status, answer["status"]) == (503, "stopping")
        assert (await doors.ask("GET", "/health"))[0] == 200


async def test_readiness_ends_when_every_expert_has_failed_and_health_does_not(
    serve: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        expert.start_error = ExpertUnavailable("fake", "no memory")
        expert.crash()
        await doors.chat()
        await doors.chat()
        await eventually(lambda: doors.mind.experts()[0].state == "failed")
        status, answer = await doors.ask("GET", "/ready")
        assert (status, answer["status"]) == (503, "failed")
        status, answer = await doors.ask("GET", "/health")
        assert (status, answer["status"]) == (200, "failed")


async def test_stats_join_engine_and_server(serve: Any) -> None:
    async with serve() as doors:
        await doors.chat()
        await doors.chat(n=0)
        _, stats = await doors.ask("GET", "/stats")
        assert stats["turns"]["completed"] == 1
        server = stats["server"]
        assert server["turns_completed"] == 1
        assert server["requests"] == 2
        assert server["requests_refused"] == 1
        assert server["completion_tokens"] == 2
        assert server["sessions"] == 0


async def test_expert_that_loads_tells_its_progress_in_stats_metrics_and_events(
    serve: Any,
) -> None:
    slow = FakeExpert("slow", start_s=60)
    lazy = {"enabled": True, "warmup_pool_size": 0, "max_loaded_experts": 1}
    async with serve(slow, lazy_loading=lazy) as doors, doors.mind.session() as session:
        session.append("hello there ")
        told: list[float] = []
        async for event in session.events():
            if event.type == "expert.updated":
                assert event.state == "loading"
                told.append(event.progress)
            if len(told) == 3:
                break
        assert told == sorted(told)
        assert 0.0 < told[-1] < 1.0
        [shown] = (await doors.ask("GET", "/stats"))[1]["experts"]
        assert (shown["state"], shown["counts"]["loads"]) == ("loading", 0)
        assert 0.0 < shown["progress"] < 1.0
        states = ("loading", "ready")
        shares = [sample(doors, "livemind_expert_state", expert="slow", state=s) for s in states]
        assert shares == [1.0, 0.0]
        assert (sample(doors, "livemind_expert_load_progress", expert="slow") or 0.0) > 0.0
        transitions = "livemind_expert_transitions_total"
        assert sample(doors, transitions, expert="slow", what="loads") == 0.0


async def test_stats_name_the_processor_and_what_experts_compute_in(serve: Any) -> None:
    async with serve() as doors:
        stats = (await doors.ask("GET", "/stats"))[1]
        assert stats["processor"]["instruction_sets"] == list(this_processor().instruction_sets)
        assert stats["processor"]["kernels"] == kernels.isa()
        [shown] = stats["experts"]
        assert (shown["dtype"], shown["kv_cache_dtype"]) == (None, None)  # a fake computes nothing
        assert (shown["why_no_open_turn"], shown["quantization"]) == (None, None)


async def test_metrics_count_turns_tokens_ttft_and_requests(serve: Any) -> None:
    async with serve() as doors:
        await doors.chat("one two three")
        async with doors.http.get(doors.url + "/metrics") as response:
            text = await response.text()
            assert response.headers["Content-Type"].startswith("text/plain")
        assert "# TYPE livemind_ttft_seconds histogram" in text
        assert sample(doors, "livemind_turns_total", expert="fake", status="completed") == 1
        assert sample(doors, "livemind_ttft_seconds_count", expert="fake") == 1
        assert sample(doors, "livemind_tokens_total", expert="fake", kind="completion") == 3
        route = {"route": "/v1/chat/completions", "method": "POST", "status": "200"}
        assert sample(doors, "livemind_http_requests_total", **route) == 1
        assert sample(doors, "livemind_sessions") == 0


async def test_metrics_of_speculation_balance_per_stage(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(type="session.update", speculation="draft")
        await socket.send(type="input_text.append", text="one two three four five?")
        await socket.until("draft.created")
        await socket.send(type="input_text.commit")
        await socket.until("response.done")
        for stage in ("prefill", "draft"):
            spent, used, wasted = (
                sample(doors, "livemind_speculation_tokens_total", stage=stage, outcome=outcome)
                for outcome in ("speculated", "adopted", "wasted")
            )
            assert spent is not None
            assert used is not None
            assert spent == used + (wasted or 0)
        adopted = sample(
            doors, "livemind_speculation_tokens_total", stage="draft", outcome="adopted"
        )
        assert adopted is not None
        assert adopted > 0


async def test_metrics_labels_do_not_grow_with_unknown_paths(serve: Any) -> None:
    async with serve() as doors:
        for number in range(3):
            await doors.ask("GET", f"/scan/{number}")
        found = {"route": "unknown", "method": "GET", "status": "404"}
        assert sample(doors, "livemind_http_requests_total", **found) == 3


KEY = {"Authorization": "Bearer right"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic right"},
        {"Authorization": ""},
    ],
    ids=["none", "wrong", "basic", "empty"],
)
async def test_api_key_missing_or_wrong_is_401(serve: Any, headers: Any) -> None:
    async with serve(api_keys=["other", "right"]) as doors:
        for path in ("/v1/models", "/stats", "/metrics", "/v1/live"):
            async with doors.http.get(doors.url + path, headers=headers) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
                assert (await response.json())["error"]["type"] == "authentication_error"


async def test_api_key_right_opens_both_doors_and_health_needs_none(serve: Any) -> None:
    async with serve(api_keys=["other", "right"]) as doors:
        assert (await doors.ask("GET", "/v1/models", headers=KEY))[0] == 200
        assert (await doors.ask("GET", "/health"))[0] == 200
        assert (await doors.ask("GET", "/ready"))[0] == 200
        async with doors.live(headers=KEY) as socket:
            await socket.send(type="input_text.commit", text="a")
            await socket.until("response.done")


async def test_request_id_is_given_back_or_made(serve: Any, body: Any) -> None:
    async with serve() as doors:
        url = doors.url + "/v1/chat/completions"
        for stream in (False, True):
            headers = {"X-Request-Id": "abc-1"}
            request = body(stream=stream)
            async with doors.http.post(url, json=request, headers=headers) as response:
                assert response.headers["X-Request-Id"] == "abc-1"
        headers = {"X-Request-Id": "no spaces allowed"}
        async with doors.http.get(doors.url + "/health", headers=headers) as response:
            assert response.headers["X-Request-Id"].startswith("req_")
