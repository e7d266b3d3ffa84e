"""Whether a listener is the bridge that it is taken for: it proves that it knows the token."""

from __future__ import annotations

import secrets

import httpx

from ..access.token import proves

MAX_ANSWER_BYTES = 65_536


async def identify(url: str, token: str, *, timeout_s: float = 2.0) -> str | None:
    """Return what the bridge at the URL answers from, None if it does not prove to be ours.

    The token is not sent.

    Raises:
        httpx.ConnectError: nothing listens there.
    """
    challenge = secrets.token_urlsafe(24)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=timeout_s, trust_env=False) as http:
            answer = await http.get("/v1/identity", params={"challenge": challenge})
        told = answer.json() if len(answer.content) <= MAX_ANSWER_BYTES else None
    except httpx.ConnectError:
        raise
    except (httpx.HTTPError, ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(serves := told.get("serves"), str):
        return None
    return serves if proves(token, f"{challenge}\0{serves}", told.get("proof")) else None
