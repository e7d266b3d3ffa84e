"""Dense weights that vLLM loads and our kernels compute with, layer by layer and in an engine."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from livemind.backends.zoo.catalog import MODELS
from livemind.kernels import dispatch, quantized

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")
if dispatch.isa() == "numpy":
    pytest.skip("the kernels were not compiled", allow_module_level=True)

from livemind.kernels.vllm_plugin import quantization  # noqa: E402

ROWS, INPUTS, OUTPUTS = 5, 64, 48


def random(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def near(found: Any, exact: Any, share: float) -> bool:
    return bool((found - exact).norm() <= share * exact.norm())


@pytest.mark.parametrize(("bits", "share"), [(4, 0.12), (8, 0.015)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layer_packed_at_load_computes_what_the_dense_one_does(
    settings: Any, bits: int, share: float, dtype: Any
) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    config = {4: quantization.Q4Config, 8: quantization.Q8Config}[bits]()
    layer = ReplicatedLinear(
        INPUTS, OUTPUTS, params_dtype=dtype, quant_config=config, prefix="up_proj"
    )
    weight, x, bias = random(OUTPUTS, INPUTS), random(ROWS, INPUTS), random(OUTPUTS)
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(bias)
    layer.quant_method.process_weights_after_loading(layer)
    assert not hasattr(layer, "weight")
    found = layer(x.to(dtype))[0]
    assert found.dtype == dtype
    rounding = 0.0 if dtype == torch.float32 else 0.005
    assert near(found.float(), x @ weight.T + bias, share + rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "bits"), [("Q4_0", 4), ("Q4_1", 4), ("Q5_0", 8), ("F32", 8)])
def test_linear_layer_in_8_bits_keeps_4_where_the_weights_had_no_more(
    settings: Any, kind: str, bits: int, dtype: Any
) -> None:
    """Weights that came from a GGUF file's blocks of 4 bits lose nothing in 4 bits of ours."""
    from gguf import GGMLQuantizationType, quants
    from vllm.model_executor.layers.linear import ReplicatedLinear

    stored = GGMLQuantizationType[kind]
    weight = random(OUTPUTS, INPUTS).numpy()
    if kind != "F32":
        weight = quants.dequantize(quants.quantize(weight, stored), stored)
    layer = ReplicatedLinear(
        INPUTS, OUTPUTS, bias=False, params_dtype=dtype, quant_config=quantization.Q8Config(),
        prefix="up_proj",
    )  # fmt: skip
    layer.weight.data.copy_(torch.from_numpy(weight))
    layer.quant_method.process_weights_after_loading(layer)
    assert layer.packed_bits == bits
    kept: Any = quantized.Q4Weight if bits == 4 else quantized.Q8Weight
    parts = (getattr(layer, name).numpy() for name in ("codes", "scales", "offsets"))
    lost = kept(*parts, OUTPUTS, 32).unpack() - weight
    rounding = 1e-6 if dtype == torch.float32 else 0.003
    assert abs(lost).max() <= (rounding if bits == 4 else 0.02) * abs(weight).max()
    x = random(ROWS, INPUTS)
    found = layer(x.to(dtype))[0].float()
    assert near(found, x @ torch.from_numpy(weight).T, 0.015)


def test_embedding_packed_at_load_gives_rows_and_logits_and_is_its_own_head(settings: Any) -> None:
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        VocabParallelEmbedding,
    )

    config, words = quantization.Q4Config(), 200
    embedding = VocabParallelEmbedding(
        words, INPUTS, params_dtype=torch.float32, quant_config=config
    )
    head = ParallelLMHead(words, INPUTS, params_dtype=torch.float32, quant_config=config)
    rows = random(words, INPUTS)
    embedding.weight_loader(embedding.weight, rows)
    head = head.tie_weights(embedding)
    assert head is embedding  # the rows are kept once
    embedding.quant_method.process_weights_after_loading(embedding)
    ids = torch.tensor([[3, 199, 0], [17, 16, 15]])
    assert near(embedding(ids), rows[ids], 0.006)
    x = random(ROWS, INPUTS)
    logits = head.quant_method.apply(head, x)[:, :words]
    assert near(logits, x @ rows.T, 0.015)


def test_head_tied_to_a_dense_embedding_packs_a_copy(settings: Any) -> None:
    """Some of vLLM's models (Cohere) do not tell their embedding of the quantization."""
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        VocabParallelEmbedding,
    )

    embedding = VocabParallelEmbedding(128, INPUTS, params_dtype=torch.float32)
    head = ParallelLMHead(
        128, INPUTS, params_dtype=torch.float32, quant_config=quantization.Q8Config()
    )
    rows = random(128, INPUTS)
    embedding.weight_loader(embedding.weight, rows)
    head = head.tie_weights(embedding)
    head.quant_method.process_weights_after_loading(head)
    x = random(ROWS, INPUTS)
    assert near(head.quant_method.apply(head, x), x @ rows.T, 0.015)
    assert torch.equal(embedding(torch.tensor([5])), rows[5:6])


@pytest.mark.parametrize(
    ("inputs", "name"), [(40, "up_proj"), (64, "layers.0.self_attn.kv_b_proj")]
)
def test_layer_without_whole_groups_or_read_elsewhere_stays_dense(
    settings: Any, inputs: int, name: str
) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear, UnquantizedLinearMethod

    layer = ReplicatedLinear(inputs, OUTPUTS, quant_config=quantization.Q4Config(), prefix=name)
    assert type(layer.quant_method) is UnquantizedLinearMethod


def test_weights_that_are_stored_quantized_are_refused() -> None:
    with pytest.raises(ValueError, match="quantized already \\(awq\\)"):
        quantization.Q4Config.from_config({"quant_method": "awq"})


PROGRAM = """
import sys
from vllm import LLM, SamplingParams

method, model = sys.argv[1:]
engine = LLM(
    model, quantization=None if method == "dense" else method, dtype="float32", enforce_eager=True,
    max_model_len=256, kv_cache_memory_bytes=2**25, max_num_seqs=2,
)
question = [{"role": "user", "content": "What is the port of Kestrel?"}]
greedy = SamplingParams(max_tokens=24, temperature=0.0)
[answer] = engine.chat([question], greedy, use_tqdm=False)
print("tokens", *answer.outputs[0].token_ids)
"""


def answered(method: str) -> list[str]:
    """Return the tokens of an engine's answer, in a process of its own."""
    environment = {
        **os.environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TORCHDYNAMO_DISABLE": "1",
    }
    words = [sys.executable, "-c", PROGRAM, method, str(MODELS / "general")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    [tokens] = [line for line in done.stdout.splitlines() if line.startswith("tokens ")]
    return tokens.split()[1:]


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_engines_with_packed_weights_begin_as_the_dense_one() -> None:
    """Through vLLM's own settings, loader and sampler, with the plugin as it is installed."""
    dense, *packed = map(answered, ("dense", "q8", "q4"))
    assert len(dense) > 4
    assert [tokens[:4] for tokens in packed] == [dense[:4]] * 2
