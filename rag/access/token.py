"""The token that a bridge and its gateway share: a file of this user, made at the first start.

With it a bridge proves to be one before anything is told to it, and a client that it may write.
The token itself is never sent to a listener that has not proved itself.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

VARIABLE = "LIVEMIND_BRIDGE_TOKEN"
MIN_CHARS = 16


class TokenError(Exception):
    """The token cannot be had; the message says why and is fit to be shown."""


def default_file() -> Path:
    """Return where the token is kept: in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "livemind" / "bridge-token"


def shared_token(path: Path | None = None, *, make: bool = True) -> str | None:
    """Return the token: of ``LIVEMIND_BRIDGE_TOKEN``, else of the file.

    Args:
        path: the file; None = the user's.
        make: whether a file that is missing is made, for this user alone to read.

    Returns:
        None only where the file is missing and not to be made.

    Raises:
        TokenError: the file cannot be read or made, others can read it, or the token is too short.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return _checked(given, VARIABLE)
    path = path or default_file()
    try:
        if make:
            _make(path)
        if path.stat().st_mode & 0o077:
            raise TokenError(f"{path}: others can read the token; chmod 600 it")
        return _checked(path.read_text("ascii", "replace"), str(path))
    except FileNotFoundError:
        if not make:
            return None
        raise TokenError(f"{path}: cannot be made") from None
    except OSError as exc:
        raise TokenError(f"{path}: {exc.strerror or type(exc).__name__}") from None


def proof(token: str, challenge: str) -> str:
    """Return what only somebody who knows the token can answer to a challenge."""
    message = f"livemind-bridge\0{challenge}".encode("utf-8", "replace")
    return hmac.new(token.encode(), message, hashlib.sha256).hexdigest()


def proves(token: str, challenge: str, answer: object) -> bool:
    """Return whether this is the proof."""
    return isinstance(answer, str) and hmac.compare_digest(
        proof(token, challenge).encode(), answer.encode("utf-8", "replace")
    )


def opens(token: str, authorization: str | None) -> bool:
    """Return whether an Authorization header holds the token as a Bearer."""
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode("utf-8", "surrogateescape"), token.encode()
    )


def _make(path: Path) -> None:
    """Make the file with a new token unless it is there; of two at once one wins whole."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(new, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            os.rename(new, path)
            return
    finally:
        new.unlink(missing_ok=True)


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if len(token) < MIN_CHARS or not token.isascii() or not token.isprintable():
        raise TokenError(f"{where}: need a token of at least {MIN_CHARS} printable characters")
    return token
