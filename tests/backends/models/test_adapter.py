"""Only what is a plain addition to a model's own weights is merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livemind.backends.models.adapter import CONFIG, READING, merge, read_adapter
from livemind.backends.models.errors import ModelImportError

from .conftest import FF, HIDDEN, write_adapter

torch = pytest.importorskip("torch")


def block() -> Any:
    """Return ``model.layers.0.mlp.down_proj``, as a Llama names it."""
    names = ("down_proj", "mlp", "0", "layers", "model")
    module = torch.nn.Linear(FF, HIDDEN, bias=False)
    for name in names:
        outer = torch.nn.Module()
        outer.add_module(name, module)
        module = outer
    return module


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "use_dora is true"),
        ({"peft_type": "IA3"}, 'peft_type is "IA3"'),
        ({"bias": "all"}, 'bias is "all"'),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"r": 0}, "r is 0"),
        ({"r": "many"}, "ValueError"),
        ({"lora_alpha": None}, "TypeError"),
    ],
)
def test_adapter_that_is_no_plain_addition_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelImportError, match=said):
        read_adapter(write_adapter(tmp_path / "a", **changes))


def test_adapter_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match=CONFIG):
        read_adapter(tmp_path)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 3.0), (True, 6 / 2**0.5)])
def test_adapter_scale_follows_its_rank(tmp_path: Path, rslora: bool, scale: float) -> None:
    assert read_adapter(write_adapter(tmp_path / "a", use_rslora=rslora)).scale == scale


def test_adapter_of_another_shape_changes_nothing(tmp_path: Path) -> None:
    model, adapter = block(), read_adapter(write_adapter(tmp_path / "a", shape=(HIDDEN, FF + 1)))
    before = model.state_dict()["model.layers.0.mlp.down_proj.weight"].clone()
    with pytest.raises(ModelImportError, match=f"weights, the model's are {HIDDEN} by {FF}"):
        merge(model, adapter)
    assert torch.equal(model.state_dict()["model.layers.0.mlp.down_proj.weight"], before)


def test_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match="has no such"):
        merge(torch.nn.Linear(2, 2), read_adapter(write_adapter(tmp_path / "a")))


def test_adapter_that_is_shipped_can_be_merged() -> None:
    assert read_adapter(READING).scale > 0
