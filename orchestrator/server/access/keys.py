"""The API keys in force, and which request shows which."""

from __future__ import annotations

from collections.abc import Iterable

from ...config.keys import ApiKey, Scope, digest_of
from ...errors import Forbidden, Unauthorized

DOCUMENTS = "/v1/documents"
ASKED = frozenset({"/detokenize", "/rerank", "/score", "/tokenize", "/tokenizer_info"})
"""Paths for those who ask that stand below no version, as vLLM has them."""


class Keyring:
    """The keys in force; replaced as a whole. Without any everyone is let in.

    Only hashes are looked up, so how long that takes tells nothing of the keys.
    """

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self.replace(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Put other keys in force."""
        self._keys = {key.sha256: key for key in keys}

    def owns(self, owner: str | None) -> bool:
        """Return whether this owner of a session may still use it."""
        if owner is None:
            return not self._keys
        key = self._keys.get(owner)
        return key is not None and not key.expired()

    def by_owner(self, owner: str | None) -> ApiKey | None:
        """Return the key that an owner stands for, None without keys."""
        return None if owner is None else self._keys.get(owner)

    def bearer(self, authorization: str | None) -> ApiKey:
        """Return the key of an Authorization header.

        Raises:
            Unauthorized: there is none, or it is not in force.
        """
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise Unauthorized("Authorization: need a Bearer API key", code="missing_api_key")
        return self.shown(given.strip())

    def shown(self, secret: str) -> ApiKey:
        """Return the key that this text is. Raises Unauthorized: none that is in force."""
        key = self._keys.get(digest_of(secret))
        if key is None:
            raise Unauthorized("Authorization: unknown API key")
        if key.expired():
            raise Unauthorized("Authorization: the API key has expired", code="expired_api_key")
        return key


def asks(path: str) -> bool:
    """Return whether a path is for those who ask, and not for those who operate the server."""
    return path.startswith(("/v1/", "/v2/")) or path in ASKED


def needed_scope(path: str) -> Scope:
    """Return what a key must be allowed to do to ask for a path."""
    if path == DOCUMENTS or path.startswith(f"{DOCUMENTS}/"):
        return "ingest"
    return "ask" if asks(path) else "operate"


def check_scope(key: ApiKey, path: str) -> None:
    """Refuse a key that may not do this.

    Raises:
        Forbidden: with the scope that is needed.
    """
    scope = needed_scope(path)
    if scope not in key.scopes:
        raise Forbidden(f"Authorization: the key {key.name!r} has no scope {scope!r}")
