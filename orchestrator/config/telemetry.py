"""The section ``telemetry``: where traces of turns are sent."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from .experts import Section

TRACES_PATH = "/v1/traces"


class TelemetryConfig(Section):
    """OpenTelemetry traces of turns: times and numbers, no text; needs ``livemind[otel]``."""

    otlp_endpoint: str | None = Field(
        None,
        max_length=2048,
        description="OTLP/HTTP receiver of traces, such as http://127.0.0.1:4318, to which "
        "/v1/traces is added, or a whole address; null: no traces. Headers for it are in the "
        "environment variable OTEL_EXPORTER_OTLP_HEADERS.",
    )
    service_name: str = Field(
        "livemind", min_length=1, max_length=256, description="Name of this service in traces."
    )
    sample_share: float = Field(
        1,
        ge=0,
        le=1,
        description="Share of the traces that begin here and are sent; a request that brings a "
        "trace's context decides for itself.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"got {value!r}, need an address such as http://127.0.0.1:4318")
        if parts.username or parts.password:
            raise ValueError("has a password in it, need one in OTEL_EXPORTER_OTLP_HEADERS")
        return value

    @property
    def traces_url(self) -> str | None:
        """The address to which traces are sent; None: nowhere."""
        if self.otlp_endpoint is None:
            return None
        parts = urlsplit(self.otlp_endpoint)
        return parts._replace(path=TRACES_PATH if parts.path in ("", "/") else parts.path).geturl()
