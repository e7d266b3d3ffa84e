"""The section ``server``: where it listens, who gets in, and the limits of a session."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from .experts import Section, from_folder, header_name, is_host_entry

AFFINITY_FIELDS = ("live_session", "session", "prompt_cache_key", "user")
HEADER_PREFIX = "header:"


class ServerConfig(Section):
    """The HTTP and WebSocket server and the limits of a session."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    api_keys: tuple[SecretStr, ...] = Field(
        (), max_length=10_000, description="Keys of which a request needs one; empty: none needed."
    )
    api_keys_env: str | None = Field(
        "LIVEMIND_API_KEYS",
        min_length=1,
        max_length=256,
        description="Environment variable with further keys, blanks or commas between them.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="JSON file with further keys, hashed, with name, scopes, limits and expiry, as "
        "`livemind keys` writes it; read again at SIGHUP.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        max_length=1024,
        description="Names that requests may call the server by beside those of this machine; "
        "*.NAME: all below it; *: any. With keys and none listed any name will do.",
    )
    allowed_origins: tuple[str, ...] = Field(
        (),
        max_length=1024,
        description="Origins of web pages that may use the server beside those of this machine, "
        "such as https://app.example; *: any.",
    )
    playground: bool | None = Field(
        None,
        description="Serve the page at / and the operator's view at /ops; null: where host is an "
        "address of this machine alone.",
    )
    max_body_bytes: int = Field(
        1_048_576,
        ge=1024,
        le=1 << 30,
        description="Largest request body or frame, bytes; images come on top.",
    )
    body_timeout_s: float = Field(
        30, gt=0, le=3600, description="A request whose body takes longer gets a 408, seconds."
    )
    max_tokens_policy: Literal["refuse", "clamp"] = Field(
        "refuse",
        description="An answer length that does not fit the context: refuse the request, or clamp: "
        "take it as an upper bound, as for the model auto.",
    )
    max_text_chars: int = Field(
        100_000, ge=1, le=10_000_000, description="Longest text of one turn, characters."
    )
    max_stored_responses: int = Field(
        1024, ge=0, le=1_000_000, description="Answers of /v1/responses that are kept; 0: none."
    )
    max_stored_bytes: int = Field(
        67_108_864, ge=0, le=1 << 40, description="Size of all kept answers together."
    )
    affinity_from: tuple[str, ...] = Field(
        (f"{HEADER_PREFIX}X-Session-Id", *AFFINITY_FIELDS),
        max_length=16,
        description="Where the key of a conversation comes from, first found first: header:NAME, "
        "the fields session, prompt_cache_key and user, or live_session, its own id. Without any "
        "it is its instructions and first user message. Its requests stay on one remote server.",
    )
    session_cookie: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Name of a cookie with the id of a live session over HTTP, for balancers that "
        "go by cookies; null: none.",
    )
    lame_duck_s: float = Field(
        0,
        ge=0,
        le=3600,
        description="After SIGTERM /ready says 503 and everything else goes on for this long, so "
        "that balancers and clients move, seconds; then no request is taken any more.",
    )
    max_sessions: int = Field(
        1024, ge=1, le=1_000_000, description="Live sessions at a time; one more gets a 429."
    )
    session_idle_timeout_s: float = Field(
        900, gt=0, le=86_400, description="A session without input ends after this, seconds."
    )
    max_queued_events: int = Field(
        2048,
        ge=16,
        le=1_000_000,
        description="Events of a session that wait for a slow client; then it is cut.",
    )
    max_queued_bytes: int = Field(
        8_388_608,
        ge=65_536,
        le=1 << 40,
        description="Text of a session that waits for a slow client, bytes; then it is cut.",
    )
    send_timeout_s: float = Field(
        10, gt=0, le=600, description="A client that takes no data for this long is cut, seconds."
    )
    max_concurrent_turns: int = Field(
        64, ge=1, le=100_000, description="Answers in progress; one more waits."
    )
    max_waiting_turns: int = Field(
        256, ge=0, le=100_000, description="Answers that wait to begin; one more gets a 429."
    )
    turn_wait_s: float = Field(
        30, gt=0, le=3600, description="An answer that has waited this long gets a 429, seconds."
    )
    turn_timeout_s: float = Field(300, gt=0, le=86_400, description="Longest turn, seconds.")
    drain_timeout_s: float = Field(
        10, ge=0, le=3600, description="After SIGTERM answers in progress get this long, seconds."
    )
    busy_polling: bool = Field(
        False,
        description="The event loop does not sleep while requests are answered or live sessions "
        "are open: a little faster, for a core that experts of this machine would miss.",
    )

    @field_validator("api_keys")
    @classmethod
    def _can_be_sent(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for index, key in enumerate(keys):
            text = key.get_secret_value()
            if not text.strip():
                raise ValueError(f"[{index}] is blank, need a key")
            if text != text.strip() or not text.isprintable():
                raise ValueError(f"[{index}] has blanks around it or cannot be printed")
        return keys

    @field_validator("api_keys_file")
    @classmethod
    def _resolve_keys(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return None if value is None else from_folder(value, info)

    @field_validator("affinity_from")
    @classmethod
    def _are_sources(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        for index, source in enumerate(sources):
            if source.startswith(HEADER_PREFIX):
                header_name(source.removeprefix(HEADER_PREFIX))
            elif source not in AFFINITY_FIELDS:
                known = ", ".join(AFFINITY_FIELDS)
                raise ValueError(f"[{index}]: got {source!r}, need {HEADER_PREFIX}NAME, {known}")
        return sources

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            bare = parts.scheme and parts.netloc and not (parts.path.strip("/") or parts.query)
            if origin not in ("*", "null") and not bare:
                raise ValueError(
                    f"got {origin!r}, need an origin such as https://app.example, or *"
                )
        return origins

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and not is_host_entry(host):
                raise ValueError(f"got {host!r}, need a host name, *.NAME, an address or *")
        return hosts
