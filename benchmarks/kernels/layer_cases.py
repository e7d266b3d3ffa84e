"""What ``livemind bench kernels`` measures inside a transformer, against torch and vLLM's ops."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from ...kernels import quantized as packing, reference
from .case import Arm, Case

HIDDEN, INNER = 2048, 6144  # of a model with 1.7 billion parameters


def _torch() -> Any:
    import torch

    return torch


def norms(native: ModuleType, seed: int) -> Iterator[Case]:
    """RMSNorm, and with the residual added, in bfloat16, against vLLM's C++ ops."""
    torch = _torch()
    generator = torch.Generator().manual_seed(seed)
    for tokens in (1, 8, 256):
        x, residual = (
            torch.randn(tokens, HIDDEN, generator=generator).bfloat16() for _ in range(2)
        )
        weight, out = torch.ones(HIDDEN).bfloat16(), torch.empty_like(x)
        case = Case("rms_norm", f"t{tokens}", partial(native.rms_norm, x, weight, 1e-6, out))
        case.bytes = 2 * x.numel() * 2
        case.peers["torch"] = partial(torch.nn.functional.rms_norm, x, (HIDDEN,), weight, 1e-6)
        case.vllm(lambda: partial(torch.ops._C.rms_norm, out, x, weight, 1e-6))  # noqa: B023
        yield case
        case = Case("add_rms_norm", f"t{tokens}",
                    partial(native.fused_add_rms_norm, x, residual, weight, 1e-6))  # fmt: skip
        case.bytes = 4 * x.numel() * 2
        case.vllm(lambda: partial(torch.ops._C.fused_add_rms_norm, x, residual, weight, 1e-6))  # noqa: B023
        yield case


def activations(native: ModuleType, seed: int) -> Iterator[Case]:
    """SwiGLU and RoPE in bfloat16."""
    torch = _torch()
    generator = torch.Generator().manual_seed(seed)
    for tokens in (1, 8, 256):
        x = torch.randn(tokens, 2 * INNER, generator=generator).bfloat16()
        out = torch.empty(tokens, INNER).bfloat16()
        case = Case("swiglu", f"t{tokens}", partial(native.swiglu, x, out))
        case.bytes = 3 * out.numel() * 2
        case.peers["torch"] = partial(_torch_swiglu, x)
        case.vllm(lambda: partial(torch.ops._C.silu_and_mul, out, x))  # noqa: B023
        yield case
        q = torch.randn(tokens, 16, 128, generator=generator).bfloat16()
        positions = torch.arange(tokens)
        angles = torch.outer(positions.float(), 1e4 ** (-torch.arange(64) / 64))
        table = torch.cat([angles.cos(), angles.sin()], 1)
        case = Case("rope", f"t{tokens}", partial(native.rope, q, positions, table))
        case.bytes = 2 * q.numel() * 2
        case.vllm(lambda: partial(torch.ops._C.rotary_embedding, positions,  # noqa: B023
                                  q.view(q.shape[0], -1).clone(), None, 128,  # noqa: B023
                                  table.bfloat16(), True))  # noqa: B023  # fmt: skip
        yield case


def _torch_swiglu(x: Any) -> Any:
    return _torch().nn.functional.silu(x[..., :INNER]) * x[..., INNER:]


def q4(native: ModuleType, seed: int) -> Iterator[Case]:
    """A 4-bit linear layer, 2048 to 12288, against vLLM's int4 path and bfloat16 by oneDNN."""
    torch = _torch()
    outputs, inputs, group = 12288, HIDDEN, 128
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 16, (outputs, inputs), np.uint8)
    scales = rng.uniform(0.01, 0.02, (outputs, inputs // group)).astype(np.float32)
    weight = packing.pack_q4(codes, scales)
    narrow = torch.from_numpy(weight.unpack()).bfloat16()
    for rows in (1, 8, 64):
        x = torch.from_numpy(rng.standard_normal((rows, inputs), np.float32)).bfloat16()
        out = torch.empty(rows, outputs).bfloat16()
        case = Case("q4", f"m{rows}", partial(native.q4_linear, x, weight, None, out))
        if rows == 1:
            case.bytes = weight.codes.nbytes + weight.scales.nbytes + weight.offsets.nbytes
        case.work = f"({rows}, {inputs}) x ({outputs}, {inputs}), groups of {group}"
        case.scalar = rows == 1
        case.vllm(partial(_vllm_int4, codes, scales, x))
        if "vllm" in case.peers:
            case.peers["vllm_int4"] = case.peers.pop("vllm")
        case.vllm(partial(_vllm_bf16, narrow, x))
        if "vllm" in case.peers:
            case.peers["vllm_bf16"] = case.peers.pop("vllm")
        case.peers["torch_bf16"] = partial(torch.nn.functional.linear, x, narrow)
        yield case


def _vllm_int4(codes: Any, scales: Any, x: Any) -> Arm:
    torch = _torch()
    from vllm import _custom_ops as ops
    from vllm.model_executor.layers.quantization.utils.quant_utils import (
        pack_quantized_values_into_int32,
    )
    from vllm.scalar_type import scalar_types

    # as CPUWNA16LinearKernel lays them out after loading: blocks of 16 outputs
    whole = torch.from_numpy(codes.T.astype(np.int32)).contiguous()
    inputs = whole.shape[0]
    packed = pack_quantized_values_into_int32(whole, scalar_types.uint4b8, 1)
    packed = packed.view(inputs, -1, 2).permute(1, 0, 2).reshape(-1, inputs * 2).contiguous()
    factors = torch.from_numpy(scales.T.copy()).bfloat16()
    return partial(ops.cpu_gemm_wna16, x, packed, factors, None, None, 8, "vec")


def _vllm_bf16(weight: Any, x: Any) -> Arm:
    from vllm import _custom_ops as ops

    handler = ops.create_onednn_mm(weight.t(), 32)
    return partial(ops.onednn_mm, handler, x, None)


def fp8(native: ModuleType, seed: int) -> Iterator[Case]:
    """A page of a KV cache to 8-bit floats and back."""
    torch = _torch()
    x = torch.randn(256, 4096, generator=torch.Generator().manual_seed(seed)).bfloat16()
    back = torch.empty_like(x)
    for form, dtype in (("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)):
        out = torch.empty(x.shape, dtype=dtype)
        case = Case("fp8_encode", form, partial(native.fp8_encode, x, form, 1.0, out))
        case.bytes = 3 * x.numel()
        case.peers["torch"] = partial(x.to, dtype)
        yield case
        case = Case("fp8_decode", form, partial(native.fp8_decode, out, form, 1.0, back))
        case.bytes = 3 * x.numel()
        case.peers["torch"] = partial(out.to, torch.bfloat16)
        yield case


def dense(native: ModuleType, seed: int) -> Iterator[Case]:
    """Matrix product and attention: where LiveMind leaves the work to torch and vLLM, and why."""
    torch = _torch()
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((512, 512), np.float32) for _ in range(2))
    out = np.empty((512, 512), np.float32)
    case = Case("matmul", "512", partial(native.matmul, a, b, out), operations=2 * 512**3)
    case.peers["numpy"] = partial(np.matmul, a, b, out=out)
    case.peers["torch"] = partial(torch.mm, torch.from_numpy(a), torch.from_numpy(b))
    if hasattr(native, "acl_matmul"):
        case.peers["acl"] = partial(native.acl_matmul, a, b, out)
    yield case
    for keys in (256, 512, 2048):
        q = torch.randn(8, 16, 64).bfloat16()
        k, v = (torch.randn(8, keys, 64).bfloat16() for _ in range(2))
        result = torch.empty_like(q)
        ours = partial(native.attention, q, k, v, None, False, None, result)
        case = Case("attention", f"{keys}", ours, operations=4 * 8 * 16 * keys * 64)
        case.peers["direct"] = partial(native.attention, q, k, v, None, False, False, result)
        case.peers["flash"] = partial(native.attention, q, k, v, None, False, True, result)
        case.peers["torch"] = partial(
            torch.nn.functional.scaled_dot_product_attention, q[None], k[None], v[None]
        )
        if keys == 2048:
            a, b, c = (x.float().numpy() for x in (q, k, v))
            case.peers["numpy"] = partial(reference.attention, a, b, c, causal=False)
        yield case
