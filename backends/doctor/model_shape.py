"""The shape of a model from its config.json: layers, KV cache, context, parameters.

KV bytes follow vLLM's cache specs (vllm/v1/kv_cache_interface.py): keys and values of the KV heads
for every token, a window of them for sliding layers, one latent for MLA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

# What published files leave out because it is the default of the model's class in transformers.
_CLASS_DEFAULTS: Mapping[str, Json] = {
    "gemma2": {"sliding_window": 4096, "sliding_window_pattern": 2, "tie_word_embeddings": True},
    "gemma3_text": {
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "tie_word_embeddings": True,
        "vocab_size": 262_208,
    },
    "cohere": {"tie_word_embeddings": True},
    "cohere2": {"sliding_window_pattern": 4, "tie_word_embeddings": True},
}
# Their max_position_embeddings include the factor of rope_scaling (vLLM, config/model.py).
_SCALED_ALREADY = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "default", "mrope")
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_STATE_LAYERS = ("mamba", "linear_attention", "conv", "recurrent")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model's shape.

    Attributes:
        full_layers, window_layers: layers that cache every token, or the last ``window`` ones.
        kv_elements: numbers cached per token and layer; None = not known for this model.
        context_limit: longest context, tokens; None = the file does not say.
        default_model_len: what vLLM takes when ``max_model_len`` is not given, tokens.
        state_layers: layers with a state of fixed size instead, not counted.
        head_dim: numbers of one attention head.
    """

    model_type: str
    full_layers: int
    window_layers: int
    window: int | None
    kv_elements: int | None
    context_limit: int | None
    default_model_len: int | None
    vocabulary: int | None
    hidden: int | None
    intermediate: int | None
    experts: int | None = None
    state_layers: int = 0
    head_dim: int | None = None

    def kv_bytes_per_token(self, element_bytes: int) -> int | None:
        """Return the KV cache of one token within every window, bytes."""
        return self.sequence_bytes(1, element_bytes, 1)

    def sequence_bytes(
        self, tokens: int, element_bytes: int, step_tokens: int, block: int = 1
    ) -> int | None:
        """Return the KV cache of one request of this length, bytes.

        Args:
            tokens: length of the request.
            element_bytes: of a cached number.
            step_tokens: most tokens of one engine step; a window holds that many more.
            block: tokens of a block; only whole ones are taken, for a window one more as it need
                not begin with one.
        """
        if self.kv_elements is None:
            return None
        seen = tokens if self.window is None else min(tokens, self.window - 1 + step_tokens)
        whole, part = (-(-count // block) * block for count in (tokens, seen))
        part += block if block > 1 else 0
        positions = self.full_layers * whole + self.window_layers * part
        return positions * self.kv_elements * element_bytes

    def longest(
        self, pool: int, element_bytes: int, step_tokens: int, block: int = 1
    ) -> int | None:
        """Return the longest request whose cache fits in ``pool`` bytes, tokens; 0 = none does."""
        if self.kv_elements is None:
            return None
        low, high = 0, 1 << 31
        while high - low > 1:
            middle = (low + high) // 2
            need = self.sequence_bytes(middle, element_bytes, step_tokens, block)
            low, high = (middle, high) if need is not None and need <= pool else (low, middle)
        return low


def text_config(config: Json) -> Json:
    """Return the part about text, with the defaults of its class."""
    inner = config.get("text_config") or config.get("llm_config") or {}
    merged = {**config, **inner} if isinstance(inner, Mapping) else dict(config)
    return {**_CLASS_DEFAULTS.get(str(merged.get("model_type")), {}), **merged}


def model_shape(config: Json) -> ModelShape | None:
    """Return the shape, None if the file does not describe a transformer."""
    text = text_config(config)
    layers = _number(text, "num_hidden_layers", "n_layer", "num_layers")
    heads = _number(text, "num_attention_heads", "n_head")
    if layers is None or heads is None:
        return None
    hidden = _number(text, "hidden_size", "n_embd")
    full, window_layers, states = _layer_kinds(text, layers)
    context, default = _context(text)
    return ModelShape(
        model_type=str(text.get("model_type", "")),
        full_layers=full,
        window_layers=window_layers,
        window=_number(text, "sliding_window") if window_layers else None,
        kv_elements=_kv_elements(text, heads, hidden),
        context_limit=context,
        default_model_len=default,
        vocabulary=_number(text, "vocab_size"),
        hidden=hidden,
        intermediate=_number(text, "intermediate_size", "n_inner"),
        experts=_number(text, "num_local_experts", "num_experts", "n_routed_experts"),
        state_layers=states,
        head_dim=_head_dim(text, heads, hidden),
    )


def _number(config: Json, *keys: str) -> int | None:
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _head_dim(text: Json, heads: int, hidden: int | None) -> int | None:
    return _number(text, "head_dim") or (None if hidden is None else hidden // heads)


def _kv_elements(text: Json, heads: int, hidden: int | None) -> int | None:
    latent = _number(text, "kv_lora_rank")
    if latent is not None:
        return latent + (_number(text, "qk_rope_head_dim") or 0)
    head = _head_dim(text, heads, hidden)
    # Falcon: multi_query means one KV head.
    shared = 1 if text.get("multi_query") is True else heads
    kv_heads = _number(text, "num_key_value_heads", "num_kv_heads") or shared
    return None if head is None else 2 * kv_heads * head


def _layer_kinds(text: Json, layers: int) -> tuple[int, int, int]:
    """Return how many layers cache everything, a window, or a state of fixed size."""
    window = _number(text, "sliding_window")
    kinds = text.get("layer_types") or text.get("layers_block_type")
    if isinstance(kinds, list):
        sliding = sum("sliding" in str(kind) for kind in kinds) if window else 0
        states = sum(any(word in str(kind) for word in _STATE_LAYERS) for kind in kinds)
        return max(len(kinds) - sliding - states, 0), sliding, states
    limit = _number(text, *_CONTEXT_KEYS)
    wide = window is None or (limit is not None and window >= limit)
    if wide or text.get("use_sliding_window") is False:
        return layers, 0, 0
    pattern = _number(text, "sliding_window_pattern")
    if pattern is not None:
        full = layers // pattern
        return full, layers - full, 0
    if str(text.get("model_type", "")).startswith("qwen"):
        full = min(layers, int(text.get("max_window_layers") or 0))
        return full, layers - full, 0
    return 0, layers, 0


def _context(text: Json) -> tuple[int | None, int | None]:
    """Return the longest context, and the one that vLLM takes by itself."""
    limit = _number(text, *_CONTEXT_KEYS)
    if limit is None:
        return None, None
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if not isinstance(scaling, Mapping):
        return limit, limit
    kind = str(scaling.get("rope_type", scaling.get("type", "default")))
    factor = scaling.get("factor")
    gemma = "gemma3" in str(text.get("model_type", ""))
    if kind not in _SCALED_ALREADY and isinstance(factor, int | float) and not gemma:
        limit = int(limit * factor)
    original = _number(text, "original_max_position_embeddings")
    return limit, original if kind == "longrope" and original is not None else limit


def estimated_parameters(config: Json) -> int | None:
    """Return about how many weights the language model has, from its shape alone.

    Counts attention, gated feed-forward (each expert's) and embeddings; norms, biases and a vision
    tower are left out.
    """
    text, shape = text_config(config), model_shape(config)
    if shape is None or not (shape.hidden and shape.intermediate and shape.vocabulary):
        return None
    heads = _number(text, "num_attention_heads", "n_head") or 1
    head = _number(text, "head_dim") or shape.hidden // heads
    kv = shape.kv_elements or 2 * heads * head
    attention = shape.hidden * (2 * heads * head + kv)
    width = _number(text, "moe_intermediate_size") or shape.intermediate
    feed_forward = 3 * shape.hidden * (width if shape.experts else shape.intermediate)
    layers = shape.full_layers + shape.window_layers + shape.state_layers
    embeddings = shape.vocabulary * shape.hidden * (1 if text.get("tie_word_embeddings") else 2)
    return layers * (attention + (shape.experts or 1) * feed_forward) + embeddings
