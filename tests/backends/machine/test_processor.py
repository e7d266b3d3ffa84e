"""The processor: what its flags mean, and that vLLM means the same."""

from __future__ import annotations

import pytest

from livemind.backends.machine.processor import Processor, read_processor, this_processor

AVX2 = ("avx2", "fma", "f16c")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl")


def processor(*sets: str) -> Processor:
    return Processor("", "x86_64", sets)


def test_read_processor_x86_keeps_the_sets_that_choose_kernels() -> None:
    lines = ["processor\t: 0", "model name\t: A B", "flags\t\t: fpu avx2 fma sse2 avx512_bf16"]
    found = read_processor([*lines, "model name\t: other core"], "x86_64")
    assert found == Processor("A B", "x86_64", ("avx2", "fma", "avx512_bf16"))


def test_read_processor_arm_reads_features() -> None:
    found = read_processor(["Features\t: fp asimd asimdhp bf16 i8mm crc32"], "aarch64")
    assert found.instruction_sets == ("asimd", "asimdhp", "bf16", "i8mm")
    assert found.multiplies_bfloat16
    assert found.multiplies_float16


def test_read_processor_nothing_to_read_knows_nothing() -> None:
    assert not read_processor([], "x86_64").known


@pytest.mark.parametrize(
    ("sets", "avx512", "bfloat16"),
    [(AVX2, False, False), (AVX512, True, False), ((*AVX512, "avx512_bf16"), True, True)],
)
def test_processor_tiers_of_x86(sets: tuple[str, ...], avx512: bool, bfloat16: bool) -> None:
    found = processor(*sets)
    assert (found.has_avx512, found.multiplies_bfloat16) == (avx512, bfloat16)


def test_this_processor_has_avx512_exactly_where_torch_says_so() -> None:
    torch = pytest.importorskip("torch")
    if not this_processor().known:
        pytest.skip("this system does not tell")
    assert this_processor().has_avx512 == torch.cpu._is_avx512_supported()
    assert this_processor().has("amx_tile") == torch.cpu._is_amx_tile_supported()


@pytest.mark.parametrize("head_dim", [32, 64, 80, 96, 128])
@pytest.mark.parametrize(
    "sets", [AVX2, AVX512, (*AVX512, "amx_tile")], ids=["avx2", "avx512", "amx"]
)
def test_kv_cache_refusal_is_that_of_vllm(
    sets: tuple[str, ...], head_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    attention = pytest.importorskip("vllm.v1.attention.backends.cpu_attn")
    found = processor(*sets)
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: found.has_avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: found.has("amx_tile"))
    try:
        attention._get_attn_isa(torch.bfloat16, 32, head_dim, "fp8")
    except NotImplementedError:
        refuses = True
    else:
        refuses = False
    assert (found.kv_cache_refusal(head_dim) is not None) == refuses
