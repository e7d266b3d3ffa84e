"""What an engine is given and what it turned out to do with it: settings taken away, capabilities.

Pure but for the log: the requests are ``self_test.py``'s, the engine is ``expert.py``'s.
"""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from ..base import Capabilities
from ..spec import ExpertSpec
from .drafts import is_ours
from .render import Renderer
from .self_test import SelfTest

log = logging.getLogger(__name__)

_KEEPS_NOTHING = "its engine keeps nothing of a prompt"


def capabilities_of(
    config: Any, renderer: Renderer, spec: ExpertSpec, *, images: bool
) -> Capabilities:
    """Return what vLLM's effective configuration says; it silently differs from what was asked.

    Prefix caching for one is taken back on a CPU for MLA (DeepSeek-V2).
    """
    why_no_cut = renderer.why_no_cut
    if why_no_cut is None and not config.cache_config.enable_prefix_caching:
        why_no_cut = _KEEPS_NOTHING
    if why_no_cut is not None:
        log.warning("expert %s prepares no open turn: %s", spec.expert_id, why_no_cut)
    dtype = str(config.model_config.dtype).removeprefix("torch.")
    cached = str(config.cache_config.cache_dtype)
    return Capabilities(
        tokenizer_id=renderer.tokenizer_id,
        open_turn_prefill=why_no_cut is None,
        why_no_open_turn=why_no_cut,
        max_model_len=config.model_config.max_model_len,
        prefix_block_tokens=config.cache_config.block_size,
        max_tokens_default=spec.max_tokens_default,
        images=images,
        drafts=is_ours(config.speculative_config),
        dtype=dtype,
        kv_cache_dtype=dtype if cached == "auto" else cached,
    )


def after_self_test(able: Capabilities, found: SelfTest, expert_id: str) -> Capabilities:
    """Return what speculation may do with an engine that did this."""
    log.info("expert %s, blocks of %d: %s", expert_id, able.prefix_block_tokens, found)
    if not found.reuses and able.open_turn_prefill:
        why = "an answer behind a found prefix is another one" if found.again else _KEEPS_NOTHING
        log.warning("expert %s prepares no open turn: %s", expert_id, why)
        able = replace(able, open_turn_prefill=False, why_no_open_turn=why)
    if able.drafts and not found.verifies:
        why = "a right one changed an answer" if found.accepted else "it refused a right one"
        log.warning("expert %s verifies no drafts: %s", expert_id, why)
        able = replace(able, drafts=False)
    return replace(able, self_test=str(found))
