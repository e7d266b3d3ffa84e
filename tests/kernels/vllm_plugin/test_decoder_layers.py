"""Decoder layers of vLLM's with packed weights: what our one function gives for their modules."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.kernels import dispatch

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")
if dispatch.isa() == "numpy":
    pytest.skip("the kernels were not compiled", allow_module_level=True)

from vllm import _custom_ops  # noqa: E402

from livemind.kernels.vllm_plugin import (  # noqa: E402
    decoder_attention,
    decoder_layers,
    quantization,
)

METADATA = (
    "causal", "query_start_loc", "seq_lens", "block_table", "scheduler_metadata", "dynamic_causal"
)  # fmt: skip
LONG = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 32,
    "short_factor": [1.0] * 16, "long_factor": [2.0] * 16, "factor": 2.0,
}  # fmt: skip
SIZE, INNER, HEADS, KV_HEADS, HEAD = 128, 96, 4, 2, 32


@pytest.fixture
def made(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a maker of layers whose attention is a formula instead of vLLM's."""
    settings.compilation_config.static_forward_context.clear()  # names that are taken
    numbers = itertools.count()

    def make(kind: str, bits: int | None, **more: object) -> Any:
        from transformers import LlamaConfig, MistralConfig, Qwen2Config

        shape: dict[str, object] = {
            "hidden_size": SIZE, "intermediate_size": INNER, "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "num_hidden_layers": 1,
        }  # fmt: skip
        config_type = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}[kind]
        config = config_type(**shape | more)
        kinds: dict[int | None, Any] = {
            4: quantization.Q4Config,
            8: quantization.Q8Config,
            None: lambda: None,
        }
        packing = kinds[bits]()
        name = f"model.layers.{next(numbers)}"
        layer_type = next(each for each, _, _ in decoder_layers.KINDS if kind in each.__module__)
        if kind == "qwen2":
            config.rope_parameters = {"rope_theta": 10000.0, "rope_type": "default"}
            layer = layer_type(config, settings.cache_config, packing, prefix=name)
        else:
            whole = SimpleNamespace(
                model_config=SimpleNamespace(hf_config=config),
                cache_config=settings.cache_config,
                quant_config=packing,
            )
            layer = layer_type(whole, prefix=name, config=config)
        draw = torch.Generator().manual_seed(5)
        for parameter in layer.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) * 0.2)
        for module in layer.modules():
            if hasattr(module, "quant_method"):
                module.quant_method.process_weights_after_loading(module)
        monkeypatch.setattr(layer.self_attn.attn, "forward", attended)
        layer.self_attn.attn.isa = "none"  # set by vLLM when a cache is made
        return layer.eval()

    written: list[Any] = []

    def cache(key: Any, value: Any, *_: object, **__: object) -> None:
        written[:] = [key, value]

    def attend(query: Any, output: Any, **_: object) -> None:
        output.copy_(attended(query, *written).view(output.shape))

    def context(name: str) -> tuple[Any, ...]:
        attention = settings.compilation_config.static_forward_context[name]
        metadata = SimpleNamespace(**dict.fromkeys(METADATA), num_actual_tokens=None)
        return metadata, attention, torch.empty(1, KV_HEADS, 4, 2 * HEAD), []

    monkeypatch.setattr(_custom_ops, "cpu_attn_reshape_and_cache", cache)
    monkeypatch.setattr(_custom_ops, "cpu_attention_with_kv_cache", attend)
    monkeypatch.setattr(decoder_attention, "get_attention_context", context)
    return make


def attended(query: Any, key: Any, value: Any) -> Any:
    """Something that every query, key and value has a part in."""
    rows = query.shape[0]
    query = query.reshape(rows, HEADS, HEAD)
    key, value = key.reshape(rows, KV_HEADS, HEAD), value.reshape(rows, KV_HEADS, HEAD)
    share = torch.sigmoid(query * key.repeat_interleave(HEADS // KV_HEADS, 1))
    return (share * value.repeat_interleave(HEADS // KV_HEADS, 1)).reshape(rows, HEADS * HEAD)


def inputs(rows: int) -> tuple[Any, Any, Any]:
    draw = torch.Generator().manual_seed(rows)
    hidden, residual = torch.randn(2, rows, SIZE, generator=draw)
    return torch.arange(rows), hidden, residual


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 5, 70])
@pytest.mark.parametrize("first", [True, False])
def test_packed_decoder_layer_gives_what_its_modules_give(
    made: Callable[..., Any], kind: str, bits: int, rows: int, first: bool
) -> None:
    layer = made(kind, bits)
    packed = decoder_layers.PackedDecoderLayer.of(layer)
    assert packed is not None
    positions, hidden, residual = inputs(rows)
    with torch.inference_mode():
        before = None if first else residual.clone()
        more = {"t_cond": None} if kind == "mistral" else {}  # as its model calls it
        expected = type(layer).forward(layer, positions, hidden.clone(), before, **more)
        for _ in range(2):  # its buffers are used again
            found = packed(positions, hidden.clone(), None if first else residual.clone())
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_packed_decoder_layer_without_residual_leaves_its_input_as_residual(
    made: Callable[..., Any],
) -> None:
    packed = decoder_layers.PackedDecoderLayer.of(made("llama", 8))
    assert packed is not None
    positions, hidden, _ = inputs(3)
    with torch.inference_mode():
        added, residual = packed(positions, hidden, None)
    assert residual is hidden
    assert added.data_ptr() != hidden.data_ptr()


@pytest.mark.parametrize(
    ("kind", "bits", "more"),
    [
        ("llama", None, {}),
        ("qwen2", 8, {"qk_norm": True}),
        ("mistral", 8, {"llama_4_scaling": {"original_max_position_embeddings": 8, "beta": 0.1}}),
        ("llama", 8, {"rope_parameters": LONG, "max_position_embeddings": 64}),
        ("llama", 8, {"intermediate_size": 104}),  # no whole groups: that layer stays dense
    ],
)
def test_decoder_layer_that_is_more_than_packed_and_plain_stays_with_vllm(
    made: Callable[..., Any], kind: str, bits: int | None, more: dict[str, object]
) -> None:
    assert decoder_layers.PackedDecoderLayer.of(made(kind, bits, **more)) is None


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The layers that computed here, in order, once the operator is installed."""
    for kind, _, _ in decoder_layers.KINDS:
        monkeypatch.setattr(kind, "forward", kind.forward)  # put back afterwards
    decoder_layers.install()
    found: list[Any] = []
    call = decoder_layers.PackedDecoderLayer.__call__

    def counted(self: Any, *arguments: Any) -> Any:
        found.append(self)
        return call(self, *arguments)

    monkeypatch.setattr(decoder_layers.PackedDecoderLayer, "__call__", counted)
    return found


@pytest.mark.parametrize(
    ("kind", "bits", "more", "here"),
    [
        ("llama", 8, {}, True),
        ("qwen2", 4, {}, True),
        ("mistral", 8, {"t_cond": None}, True),  # as its model calls it
        ("llama", None, {}, False),
    ],
)
def test_installed_forward_computes_packed_layers_and_leaves_others_alone(
    made: Callable[..., Any],
    computed: list[Any],
    kind: str,
    bits: int | None,
    more: dict[str, Any],
    here: bool,
) -> None:
    layer = made(kind, bits)
    positions, hidden, residual = inputs(2)
    original = type(layer).forward.__wrapped__
    with torch.inference_mode():
        expected = original(layer, positions, hidden.clone(), residual.clone(), **more)
        for _ in range(2):
            found = layer(positions, hidden.clone(), residual.clone(), **more)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(computed) == 2 * here


def test_installed_forward_leaves_what_it_cannot_know_to_vllm(
    made: Callable[..., Any], computed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, hidden, residual = inputs(2)

    def run(layer: Any, **more: Any) -> None:
        with torch.inference_mode():
            layer(positions, hidden.clone(), residual.clone(), **more)

    run(made("mistral", 8), t_cond=torch.ones(1))
    with monkeypatch.context() as patch:  # the cache is sent to another engine
        patch.setattr(decoder_layers, "has_kv_transfer_group", lambda: True)
        run(made("llama", 8))
    with monkeypatch.context() as patch:  # a layer unlike any that is known
        patch.setattr(decoder_layers, "_is_plain", lambda layer: 1 / 0)
        run(made("llama", 8))
    assert computed == []
    run(made("llama", 8))
    assert len(computed) == 1


def test_buffers_of_small_steps_are_shared_within_a_thread_alone() -> None:
    heads = decoder_attention.Heads(HEADS, KV_HEADS, HEAD)

    def buffers(rows: int) -> Any:
        return decoder_attention.AttentionBuffers.of(rows, heads, torch.float32)

    assert buffers(3) is buffers(3)
    assert buffers(3) is not buffers(4)
    assert buffers(1000) is not buffers(1000)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(buffers, 3).result() is not buffers(3)
