"""What an OTLP receiver gets over HTTP, and what is said where none can be asked."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from livemind.orchestrator.cli.check import check
from livemind.orchestrator.config.telemetry import TelemetryConfig
from livemind.orchestrator.errors import ConfigError
from livemind.orchestrator.server.metrics import Metrics
from livemind.orchestrator.server.tracing.otlp import check_installed
from livemind.orchestrator.server.tracing.traces import Traces


async def test_receiver_gets_the_spans_when_the_server_stops(serve: Any) -> None:
    asked: list[ExportTraceServiceRequest] = []

    async def traces(request: web.Request) -> web.Response:
        asked.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", traces)
    async with TestServer(app) as receiver:
        telemetry = {"otlp_endpoint": str(receiver.make_url("")), "service_name": "town"}
        async with serve(telemetry=telemetry) as server:
            status, _ = await server.chat("hello there")
            assert status == 200
    resource = asked[0].resource_spans[0]
    told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    names = {span.name for span in resource.scope_spans[0].spans}
    assert told["service.name"] == "town"
    assert names == {"turn", "chat fake", "first_token"}


async def test_receiver_that_is_gone_changes_no_answer(serve: Any, unused_tcp_port: int) -> None:
    telemetry = {"otlp_endpoint": f"http://127.0.0.1:{unused_tcp_port}"}
    async with serve(telemetry=telemetry) as server:
        status, _ = await server.chat("hello there")
    assert status == 200


def test_trace_that_cannot_be_told_ends_no_turn(caplog: pytest.LogCaptureFixture) -> None:
    from livemind import ResponseDone
    from livemind.orchestrator.server.tracing.traces import turn_trace

    class Broken:
        def saw(self, event: object) -> None:
            raise RuntimeError("a prompt")

    outer = turn_trace.set(Broken())  # type: ignore[arg-type]
    try:
        Metrics(Traces(TelemetryConfig())).turn_done(ResponseDone("r", 1, "completed"))
    finally:
        turn_trace.reset(outer)
    assert "a turn was not traced: RuntimeError" in caplog.text
    assert "a prompt" not in caplog.text


@pytest.fixture
def without_otel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)


@pytest.mark.usefixtures("without_otel")
def test_endpoint_without_the_packages_names_what_to_install() -> None:
    with pytest.raises(
        ConfigError, match=r"telemetry\.otlp_endpoint: .*pip install 'livemind\[otel\]'"
    ):
        check_installed(TelemetryConfig(otlp_endpoint="http://127.0.0.1:4318"))


@pytest.mark.usefixtures("without_otel")
def test_check_says_that_the_packages_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "livemind.json"
    file.write_text(
        '{"experts": [{"expert_id": "r", "kind": "remote", "base_urls": ["http://127.0.0.1:9"], '
        '"model": "m"}], "telemetry": {"otlp_endpoint": "http://127.0.0.1:4318"}}'
    )
    asked = Namespace(memory="8GiB", models=None, file=file, run=False, json=True, strict=False)
    assert check(asked) == 1
    assert "livemind[otel]" in capsys.readouterr().out


@pytest.mark.usefixtures("without_otel")
def test_no_endpoint_needs_no_packages() -> None:
    check_installed(TelemetryConfig())
    Metrics(Traces(TelemetryConfig()))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://traces.example/otlp/v1/traces", "https://traces.example/otlp/v1/traces"),
    ],
)
def test_endpoint_without_a_path_gets_the_usual_one(given: str, url: str) -> None:
    assert TelemetryConfig(otlp_endpoint=given).traces_url == url


@pytest.mark.parametrize("given", ["127.0.0.1:4318", "grpc://h:1", "http://", "http://a:b@h:4318"])
def test_endpoint_that_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="need "):
        TelemetryConfig(otlp_endpoint=given)
