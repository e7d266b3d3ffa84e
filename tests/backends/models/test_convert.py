"""The real converter on a tiny Llama: the folder holds the file's own numbers and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livemind.backends.models import convert
from livemind.backends.models.adapter import WEIGHTS
from livemind.backends.models.conversion import Conversion
from livemind.backends.models.importer import Wishes, import_model

from .conftest import Told, write_adapter, write_gguf

pytest.importorskip("torch")
LORA = "base_model.model.model.layers.0.mlp.down_proj"


@pytest.mark.slow
@pytest.mark.timeout(300)  # two processes import transformers
def test_converted_folder_has_the_weights_words_and_ends_of_the_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    gguf, folder = tmp_path / "tiny.gguf", tmp_path / "tiny"
    tensors = write_gguf(gguf, described={"general.sampling.temp": 0.5})
    told = Told()
    adapter = write_adapter(tmp_path / "adapter")
    wishes = Wishes(system='Be "brief".\nAlways.', adapter=str(adapter))
    receipt = import_model(gguf, folder, told, wishes)
    assert (receipt.architecture, receipt.license) == ("LlamaForCausalLM", "apache-2.0")
    assert receipt.warnings == ()
    assert "converting tensors" in told.stages
    assert told.done[-1] == len(tensors)
    weights = load_file(folder / "model.safetensors")
    up, down = (load_file(adapter / WEIGHTS)[f"{LORA}.lora_{which}.weight"] for which in "BA")
    np.testing.assert_allclose(
        weights["model.layers.0.mlp.down_proj.weight"],
        tensors["blk.0.ffn_down.weight"] + 6 / 2 * up @ down,
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_array_equal(
        weights["model.layers.0.mlp.up_proj.weight"], tensors["blk.0.ffn_up.weight"]
    )
    np.testing.assert_array_equal(
        weights["model.embed_tokens.weight"], tensors["token_embd.weight"]
    )
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [0, 2]  # the file's own and the template's <|im_end|>
    assert generation["temperature"] == 0.5
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer.encode("Zoë 12: 世界", add_special_tokens=False)) == (
        "Zoë 12: 世界"
    )
    # Digits stand alone under this split rule, so that the blank before one stays with the newline.
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("\n 42")) == ["ĊĠ", "4", "2"]
    turn = [{"role": "user", "content": "hi"}]
    asked = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    said = '<|im_start|>system\nBe "brief".\nAlways.<|im_end|>\n'
    assert asked == said + "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    told_so = [{"role": "system", "content": "No."}, *turn]
    assert "brief" not in tokenizer.apply_chat_template(told_so, tokenize=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"leave_out": "blk.0.ffn_up.weight"}, "lacks 1 tensors"),
        ({"described": {"general.architecture": "abacus"}}, "abacus"),
    ],
    ids=["tensor", "architecture"],
)
def test_converter_refuses_what_it_cannot_fill(
    tmp_path: Path, changes: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gguf = tmp_path / "tiny.gguf"
    write_gguf(gguf, **changes)
    how = Conversion("float32", {}).as_json()
    assert convert.main([str(gguf), str(tmp_path / "tiny"), how]) == 1
    said = json.loads(capsys.readouterr().out)
    assert told in said["error"]
    assert not (tmp_path / "tiny").exists()
