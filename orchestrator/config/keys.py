"""API keys: from the configuration, the environment and a file that holds only their hashes.

Owns the form of that file. A key itself is known to its user alone; what is kept is its SHA-256,
which is enough for keys that are random.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator

from ..errors import ConfigError
from .experts import Section
from .file import read_json
from .problems import problem_lines
from .server import ServerConfig

Scope = Literal["ask", "ingest", "operate"]
ALL_SCOPES: tuple[Scope, ...] = get_args(Scope)


class ApiKey(BaseModel):
    """A key and what it may do."""

    model_config = Section.model_config

    name: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Its name in logs and metrics."
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the key, hexadecimal.")
    scopes: tuple[Scope, ...] = Field(
        ALL_SCOPES,
        min_length=1,
        description="ask: answers and sessions; ingest: documents; operate: /stats and /metrics.",
    )
    max_sessions: int | None = Field(
        None, ge=1, le=1_000_000, description="Live sessions at a time; null: the server's limit."
    )
    max_turns: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Answers in progress, others wait; null: the server's limit.",
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Tokens of prompts and answers; what is over waits; null: any number.",
    )
    speculated_tokens_per_minute: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Tokens computed before they are asked for; null: any number.",
    )
    expires: datetime | None = Field(
        None, description="When it stops to count, ISO 8601 with its offset; null: never."
    )

    @field_validator("expires", mode="before")
    @classmethod
    def _with_offset(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"got {value!r}, need a time such as 2027-01-31T00:00:00Z") from None
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)

    def expired(self) -> bool:
        """Return whether it does not count any more."""
        return self.expires is not None and self.expires.timestamp() <= time.time()


class KeyFile(BaseModel):
    """What a file of keys holds."""

    model_config = Section.model_config

    keys: tuple[ApiKey, ...] = Field(max_length=100_000, description="The keys.")


def digest_of(key: str) -> str:
    """Return what is kept of a key."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def needs_key(server: ServerConfig) -> bool:
    """Return whether requests need a key."""
    given = server.api_keys_env is not None and server.api_keys_env in os.environ
    return bool(server.api_keys) or server.api_keys_file is not None or given


def load_keys(server: ServerConfig) -> tuple[ApiKey, ...]:
    """Return all keys; none only where none is asked for.

    Raises:
        ConfigError: the file is wrong, the variable or the file holds no key, or two keys have one
            name.
    """
    if not needs_key(server):
        return ()
    keys = [
        *(
            _plain(f"key-{number}", secret.get_secret_value())
            for number, secret in enumerate(server.api_keys, 1)
        ),
        *_from_environment(server.api_keys_env),
        *(() if server.api_keys_file is None else read_key_file(server.api_keys_file)),
    ]
    if not keys:
        raise ConfigError(f"server.api_keys_file: {server.api_keys_file} holds no key")
    names = [key.name for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"server: two API keys are called {name!r}, need different names")
    return tuple(keys)


def read_key_file(path: Path) -> tuple[ApiKey, ...]:
    """Return the keys of a file.

    Raises:
        ConfigError: it cannot be read, or each problem with its place.
    """
    try:
        return KeyFile.model_validate(read_json(path)).keys
    except ValidationError as error:
        lines = "\n".join(f"{path}: {line}" for line in problem_lines(error, KeyFile))
        raise ConfigError(lines) from None


def _from_environment(variable: str | None) -> Iterator[ApiKey]:
    if variable is None or variable not in os.environ:
        return
    given = os.environ[variable].replace(",", " ").split()
    if not given:
        raise ConfigError(f"{variable} is set and holds no key")
    for number, key in enumerate(given, 1):
        yield _plain(f"env-{number}", key)


def _plain(name: str, key: str) -> ApiKey:
    return ApiKey(name=name, sha256=digest_of(key))
