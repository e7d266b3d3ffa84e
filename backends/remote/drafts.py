"""A draft as a vLLM server takes it: token ids, tokenized by that server where it is text."""

from __future__ import annotations

import logging

from ..base import Draft, GenerationParams
from ..drafts import DraftFeed
from ..errors import ExpertError
from .http import RemoteServers

log = logging.getLogger(__name__)


async def drafted_tokens(
    servers: RemoteServers, model: str, key: str, params: GenerationParams, draft: Draft | None
) -> list[int] | None:
    """Return the draft of a request, None if there is none or the server cannot verify it.

    Args:
        servers: of the expert.
        model: the name they serve it by.
        key: decides, as for the request itself, which of them is asked.
        params: of the request.
        draft: of the request; default its prediction. Of a feed what has been drafted by now.
    """
    draft = params.prediction if draft is None else draft
    if draft is None or params.min_p or params.logit_bias:
        return None
    if isinstance(draft, DraftFeed):
        return list(draft.tokens)
    if not isinstance(draft, str):
        return list(draft)
    body = {"model": model, "prompt": draft, "add_special_tokens": False}
    try:
        answer = await servers.post_json("/tokenize", body, key=key)
        return [int(token) for token in answer["tokens"]]
    except (ExpertError, LookupError, TypeError, ValueError):
        log.warning("model %s: its server cannot tokenize a prediction, which is ignored", model)
        return None
