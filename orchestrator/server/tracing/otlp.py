"""Where spans are sent: an OTLP receiver, through OpenTelemetry's SDK.

The packages of ``livemind[otel]`` are imported when ``otlp_spans`` is called and not before.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...config.telemetry import TelemetryConfig
from ...errors import ConfigError
from .spans import Spans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor


def check_installed(telemetry: TelemetryConfig) -> None:
    """Raise ConfigError where traces are wanted and cannot be sent."""
    if telemetry.otlp_endpoint is None:
        return
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec(
            "opentelemetry.sdk.trace"
        )
    except ModuleNotFoundError:
        found = None
    if found is None:
        message = "needs OpenTelemetry, which is not installed: pip install 'livemind[otel]'"
        raise ConfigError(f"telemetry.otlp_endpoint: {message}")


def otlp_spans(telemetry: TelemetryConfig, processor: SpanProcessor | None = None) -> Spans:
    """Return what writes spans to ``telemetry.otlp_endpoint``, or to this processor.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    check_installed(telemetry)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    from .sdk_spans import GivenIds, SdkSpans

    ids = GivenIds()
    told = {"service.name": telemetry.service_name, "service.version": version("livemind")}
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource.create(told),
        id_generator=ids,
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=telemetry.traces_url)
    provider.add_span_processor(processor or BatchSpanProcessor(exporter))
    return SdkSpans(provider, ids, telemetry.sample_share, exporter.shutdown)
