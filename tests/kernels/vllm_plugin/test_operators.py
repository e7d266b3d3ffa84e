"""Each operator inside vLLM against the one it replaces."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.kernels import dispatch

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")
if dispatch.isa() == "numpy":
    pytest.skip("the kernels were not compiled", allow_module_level=True)

from livemind.kernels.vllm_plugin import (  # noqa: E402
    dense_linear,
    entry,
    hooks,
    install,
    norms,
    penalties,
    q4_linear,
    sampling,
)

VOCABULARY = 3001


def vllm_module(name: str) -> Any:
    return importlib.import_module(f"vllm.{name}")


@pytest.fixture
def replaced() -> Iterator[SimpleNamespace]:
    """Sampling and penalties in place; what vLLM had, by name; everything put back afterwards."""
    by_rank = vllm_module("v1.sample.ops.topk_topp_sampler")
    seen = vllm_module("v1.sample.ops.penalties")
    processor = vllm_module("v1.sample.logits_processor.builtin").MinPLogitsProcessor
    vllm_module("v1.sample.rejection_sampler")
    originals = SimpleNamespace(
        apply_top_k_top_p=by_rank.apply_top_k_top_p,
        apply_all_penalties=seen.apply_all_penalties,
        min_p=processor.apply,
    )
    sampling.install()
    penalties.install()
    yield originals
    hooks.replace(by_rank, "apply_top_k_top_p", originals.apply_top_k_top_p)
    hooks.replace(seen, "apply_all_penalties", originals.apply_all_penalties)
    processor.apply = originals.min_p


def logits(rows: int, spread: float = 4.0, seed: int = 3) -> Any:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("spread", [0.5, 3.0, 8.0])
@pytest.mark.parametrize("ks", [None, (1, 50, VOCABULARY)])
@pytest.mark.parametrize("ps", [None, (0.1, 0.9, 1.0)])
def test_sampling_keeps_the_same_tokens_as_vllm(
    replaced: SimpleNamespace,
    spread: float,
    ks: tuple[int, ...] | None,
    ps: tuple[float, ...] | None,
) -> None:
    k = None if ks is None else torch.tensor(ks, dtype=torch.int32)
    p = None if ps is None else torch.tensor(ps)
    expected = replaced.apply_top_k_top_p(logits(3, spread), k, p)
    for user in ("v1.sample.ops.topk_topp_sampler", "v1.sample.rejection_sampler"):
        ours = vllm_module(user).apply_top_k_top_p
        assert ours is not replaced.apply_top_k_top_p
        found = ours(logits(3, spread), k, p)
        differing = (found.isinf() != expected.isinf()).sum(dim=1)
        assert differing.max() <= 1  # one token at the cut, where float32 sums round
        kept = ~(found.isinf() | expected.isinf())
        assert torch.equal(found[kept], expected[kept])


def test_sampling_min_p_keeps_the_same_tokens_as_vllm(replaced: SimpleNamespace) -> None:
    processor = SimpleNamespace(min_p_count=2, min_p=torch.tensor([[0.05], [0.0], [0.5]]))
    ours = vllm_module("v1.sample.logits_processor.builtin").MinPLogitsProcessor.apply
    found, expected = ours(processor, logits(3)), replaced.min_p(processor, logits(3))
    assert torch.equal(found, expected)
    assert found[0].isinf().any()
    processor.min_p_count = 0
    assert torch.equal(ours(processor, logits(3)), logits(3))


def test_sampling_call_that_the_kernel_refuses_is_left_to_vllm(
    replaced: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(hooks, "_said", set())
    monkeypatch.setattr(hooks.log, "warning", lambda text, *given: said.append(text % given))
    ours = vllm_module("v1.sample.ops.topk_topp_sampler").apply_top_k_top_p
    p = torch.tensor([0.5])
    for _ in range(2):
        wide = logits(1).double()
        assert torch.equal(ours(wide.clone(), None, p), replaced.apply_top_k_top_p(wide, None, p))
    assert said == [
        "LiveMind kernels: sampling leaves calls to vLLM: logits must be float32, got float64"
    ]


def test_penalties_equal_those_of_vllm(replaced: SimpleNamespace) -> None:
    prompt = torch.tensor([[1, 2, 3], [5, VOCABULARY, VOCABULARY]])
    output = [[2, 2, 9, -1], []]  # -1: a token that is still being computed
    each = [torch.tensor(pair) for pair in ([0.5, 0.0], [0.1, -0.2], [1.3, 0.7])]
    ours = vllm_module("v1.sample.sampler").apply_all_penalties
    found = ours(logits(2), prompt, *each, output)
    torch.testing.assert_close(
        found, replaced.apply_all_penalties(logits(2), prompt, *each, output)
    )
    assert (found != logits(2)).sum().item() == 5


@pytest.fixture
def ops() -> Iterator[Any]:
    """vLLM's operators with our norms first in line; as they were afterwards."""
    config = vllm_module("config.kernel").IrOpPriorityConfig
    found = vllm_module("ir.ops")
    both = (found.rms_norm, found.fused_add_rms_norm)
    before, set_default = [op._priority_impls for op in both], config.set_default
    norms.install_rms_norm()
    norms.install_fused_add_rms_norm()
    config.with_default(["native"]).set_default()
    yield found
    config.set_default = set_default
    for op, priority in zip(both, before, strict=True):
        op._priority_impls = priority
        op.impls.pop(norms.PROVIDER)


def rows(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def test_norms_equal_vllms_native_ones(ops: Any) -> None:
    weight = rows(512, seed=1)
    for x in (rows(7, 512), rows(2, 3, 512), rows(7, 1024)[:, :512]):
        found = ops.rms_norm(x, weight, 1e-6)
        assert ops.rms_norm.dispatch(x, weight, 1e-6).provider == norms.PROVIDER
        native = ops.rms_norm.impls["native"].impl_fn(x, weight, 1e-6)
        assert found.shape == native.shape
        assert (found != native).float().mean() < 0.001  # where a sum lies next to a rounding
    x, residual = rows(7, 512), rows(7, 512, seed=2) * 4
    native = ops.fused_add_rms_norm.impls["native"].impl_fn(x, residual, weight, 1e-6)
    kept = residual.clone()
    functional = ops.fused_add_rms_norm(x, residual, weight, 1e-6)
    assert torch.equal(residual, kept)
    found = ops.fused_add_rms_norm.maybe_inplace(x, residual, weight, 1e-6)
    assert found[0] is x
    for pair in (functional, found):
        assert (pair[0] != native[0]).float().mean() < 0.001
        assert torch.equal(pair[1], native[1])


@pytest.mark.parametrize(
    ("weight", "size"), [(None, None), (rows(512).float(), None), (rows(512), 256)]
)
def test_norms_of_another_kind_stay_native(ops: Any, weight: Any, size: int | None) -> None:
    assert ops.rms_norm.dispatch(rows(2, 512), weight, 1e-6, size).provider == "native"


def test_norms_inside_a_compiled_graph_stay_native(ops: Any) -> None:
    def norm(x: Any, weight: Any) -> Any:
        return ops.rms_norm._inner_call(x, weight, 1e-6)

    compiled = torch.compile(norm, backend="eager", fullgraph=True)
    x, weight = rows(3, 64), rows(64, seed=1)
    native = ops.rms_norm.impls["native"].impl_fn(x, weight, 1e-6)
    assert torch.equal(compiled(x, weight), native)


def test_norms_priority_that_somebody_set_is_kept(ops: Any) -> None:
    config = vllm_module("config.kernel").IrOpPriorityConfig
    chosen = config.with_default(["native"], rms_norm=[norms.PROVIDER])
    chosen.set_default()
    assert ops.rms_norm.get_priority() == [norms.PROVIDER, "native"]
    assert ops.fused_add_rms_norm.get_priority() == [norms.PROVIDER, "native"]


INPUTS, OUTPUTS, GROUP = 256, 64, 128


def gptq_layer(kind: Any, zero_points: bool) -> tuple[Any, Any, Any]:
    """A layer as vLLM hands it over, its configuration, and its weights (outputs, inputs)."""
    generator = torch.Generator().manual_seed(5)
    codes = torch.randint(0, 16, (INPUTS, OUTPUTS), generator=generator)
    zeros = torch.randint(0, 16, (INPUTS // GROUP, OUTPUTS), generator=generator)
    scales = (torch.rand(INPUTS // GROUP, OUTPUTS, generator=generator) * 0.01).bfloat16()
    pack = vllm_module(
        "model_executor.layers.quantization.utils.quant_utils"
    ).pack_quantized_values_into_int32

    def parameter(data: Any, **where: int) -> Any:
        made = torch.nn.Parameter(data, requires_grad=False)
        for name, value in where.items():
            setattr(made, name, value)
        return made

    layer = torch.nn.Module()
    layer.bias = None
    packed = pack(codes.int(), kind, 0)
    layer.qweight = parameter(packed, input_dim=0, output_dim=1, packed_dim=0)
    layer.scales = parameter(scales, input_dim=0, output_dim=1)
    by_output = pack(zeros.t().contiguous().int(), kind, 0)
    layer.qzeros = parameter(by_output, input_dim=1, output_dim=0, packed_dim=0)
    zero = zeros.repeat_interleave(GROUP, 0) if zero_points else 8
    weights = (codes - zero) * scales.float().repeat_interleave(GROUP, 0)
    config = vllm_module("model_executor.kernels.linear.mixed_precision").MPLinearLayerConfig(
        full_weight_shape=(INPUTS, OUTPUTS),
        partition_weight_shape=(INPUTS, OUTPUTS),
        weight_type=kind,
        act_type=torch.bfloat16,
        group_size=GROUP,
        zero_points=zero_points,
    )
    return layer, config, weights.t()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    """Our linear kernel, first in vLLM's list, on a processor without AMX; out of it afterwards."""
    linear = vllm_module("model_executor.kernels.linear")
    known = linear._POSSIBLE_KERNELS[vllm_module("platforms").PlatformEnum.CPU]
    before = list(known)
    q4_linear.install()
    with pytest.MonkeyPatch.context() as processor:
        processor.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        yield linear
    known[:] = before


@pytest.mark.parametrize("zero_points", [True, False], ids=["awq", "gptq"])
def test_q4_linear_product_is_that_of_the_unpacked_weights(kernel: Any, zero_points: bool) -> None:
    types = vllm_module("scalar_type").scalar_types
    kind = types.uint4 if zero_points else types.uint4b8
    layer, config, weights = gptq_layer(kind, zero_points)
    chosen = kernel.choose_mp_linear_kernel(config)
    assert chosen is q4_linear.LiveMindQ4LinearKernel
    made = chosen(config, "qweight", "scales", "qzeros")
    made.process_weights_after_loading(layer)
    assert layer.qweight.dtype == torch.uint8  # packed by us, not left to vLLM
    x, bias = rows(2, 3, INPUTS), rows(OUTPUTS, seed=9)
    exact = x.float() @ weights.t() + bias.float()
    found = made.apply_weights(layer, x, bias)
    assert found.shape == (2, 3, OUTPUTS)
    assert ((found.float() - exact).norm() / exact.norm()).item() < 0.015


@pytest.mark.parametrize("operator", [True, False], ids=["vllm", "dense"])
@pytest.mark.parametrize("zero_points", [True, False], ids=["awq", "gptq"])
def test_q4_linear_weights_that_cannot_be_packed_are_computed_by_another(
    kernel: Any, monkeypatch: pytest.MonkeyPatch, operator: bool, zero_points: bool
) -> None:
    if operator and not dense_linear.vllm_has_operator():
        pytest.skip("vLLM has no int4 operator on this processor")
    types = vllm_module("scalar_type").scalar_types
    layer, config, weights = gptq_layer(types.uint4 if zero_points else types.uint4b8, zero_points)

    def fail(*args: object) -> None:
        raise ValueError("scales and zeros must be finite")

    monkeypatch.setattr(q4_linear, "pack_q4", fail)
    monkeypatch.setattr(q4_linear, "vllm_has_operator", lambda: operator)
    made = q4_linear.LiveMindQ4LinearKernel(config, "qweight", "scales", "qzeros")
    made.process_weights_after_loading(layer)
    x, bias = rows(3, INPUTS), rows(OUTPUTS, seed=9)
    found = made.apply_weights(layer, x, bias).float()
    exact = x.float() @ weights.t() + bias.float()
    assert ((found - exact).norm() / exact.norm()).item() < 0.01


@pytest.mark.parametrize("operator", [True, False], ids=["vllm", "dense"])
def test_q4_linear_layer_of_another_form_goes_where_it_can_be_computed(
    kernel: Any, monkeypatch: pytest.MonkeyPatch, operator: bool
) -> None:
    """Groups of four inputs: not ours, and without an operator not vLLM's either."""
    monkeypatch.setattr(dense_linear, "vllm_has_operator", lambda: operator)
    _, config, _ = gptq_layer(vllm_module("scalar_type").scalar_types.uint4, True)
    config.group_size = 4
    chosen = kernel.choose_mp_linear_kernel(config)
    vllms = vllm_module("model_executor.kernels.linear.mixed_precision").CPUWNA16LinearKernel
    assert chosen is (vllms if operator else dense_linear.DenseLinearKernel)


def test_vllm_has_operator_says_what_its_extension_holds() -> None:
    """A newer vLLM may bring the operator to AVX2; then the dense kernel is left out by itself."""
    vllm_module("_custom_ops")
    names = torch._C._dispatch_get_all_op_names()
    assert dense_linear.vllm_has_operator() == ("_C::cpu_gemm_wna16" in names)


@pytest.mark.parametrize(
    "change",
    [{"group_size": 4}, {"act_type": torch.float64}, {"zero_points": False}],
    ids=["group", "activations", "zero_points"],
)
def test_q4_linear_other_layers_are_left_to_vllm(kernel: Any, change: dict[str, Any]) -> None:
    _, config, _ = gptq_layer(vllm_module("scalar_type").scalar_types.uint4, True)
    for name, value in change.items():
        setattr(config, name, value)
    possible, why = q4_linear.LiveMindQ4LinearKernel.can_implement(config)
    assert not possible
    assert why


@pytest.mark.parametrize(
    ("home", "name", "value"),
    [
        (hooks, "KNOWN_VERSION", (0, 31)),
        (dispatch, "isa", lambda: "numpy"),
    ],
)
def test_install_where_it_does_not_fit_leaves_vllm_alone(
    monkeypatch: pytest.MonkeyPatch, home: Any, name: str, value: Any
) -> None:
    monkeypatch.setattr(home, name, value)
    original = vllm_module("v1.sample.ops.topk_topp_sampler").apply_top_k_top_p
    with pytest.raises(hooks.Different):
        install.install(("sampling",))
    assert vllm_module("v1.sample.ops.topk_topp_sampler").apply_top_k_top_p is original


def test_install_operator_with_other_parameters_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def changed(logits: object, k: object, p: object, more: object) -> None: ...

    module = vllm_module("v1.sample.ops.topk_topp_sampler")
    monkeypatch.setattr(module, "apply_top_k_top_p", changed)
    said = install.install(("sampling",))
    assert said.endswith(
        "none; without sampling: "
        "vllm.v1.sample.ops.topk_topp_sampler.apply_top_k_top_p takes other parameters"
    )
    assert module.apply_top_k_top_p is changed


def test_register_wrong_choice_is_logged_and_not_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(entry, "_registered", False)
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("LIVEMIND_VLLM_KERNELS", "smapling")
    entry.register()
    assert 'got "smapling"' in caplog.text


def test_register_in_a_front_end_leaves_vllm_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_registered", False)
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    entry.register()
    assert not entry._registered
