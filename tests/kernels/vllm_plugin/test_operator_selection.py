"""Which operators are chosen, by the environment and by an expert's keys."""

from __future__ import annotations

import pytest

from livemind.kernels.vllm_plugin.operator_selection import (
    OPERATORS,
    VARIABLE,
    chosen,
    environment,
    refusal,
)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", OPERATORS),
        ("on", OPERATORS),
        ("off", ()),
        (" Penalties , sampling", ("sampling", "penalties")),
    ],
)
def test_chosen_value_names_operators_in_their_order(text: str, names: tuple[str, ...]) -> None:
    assert chosen(text) == names


@pytest.mark.parametrize("text", ["rope", "sampling,", "on,sampling", "1"])
def test_chosen_unknown_name_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match=rf"{VARIABLE}: got .*sampling, penalties"):
        chosen(text)


@pytest.mark.parametrize(
    ("enabled", "optimizations", "value"),
    [
        (True, {}, None),
        (False, {}, "off"),
        (
            True,
            {"q4_linear": False},
            "sampling,penalties,rms_norm,fused_add_rms_norm,decoder_layer",
        ),
        (True, {"rope": False, "sampling": True}, ",".join(OPERATORS)),
        (True, dict.fromkeys(OPERATORS, False), "off"),
    ],
)
def test_environment_of_an_expert_says_what_is_on(
    enabled: bool, optimizations: dict[str, bool], value: str | None
) -> None:
    assert environment(enabled, optimizations).get(VARIABLE) == value


@pytest.mark.parametrize(
    ("name", "wanted", "eager", "reason"),
    [
        ("sampling", True, False, None),
        ("rms_norm", True, True, None),
        ("rms_norm", False, False, None),
        ("rms_norm", True, False, "needs enforce_eager"),
        ("rope", True, True, "stays with vLLM"),
        ("rope", False, True, None),
        ("fp8_kv_cache", True, True, "kv_cache_dtype"),
        ("warp_drive", False, True, "unknown, need one of sampling"),
    ],
)
def test_refusal_names_what_cannot_be_obeyed(
    name: str, wanted: bool, eager: bool, reason: str | None
) -> None:
    found = refusal(name, wanted, eager=eager)
    assert (found is None) if reason is None else (found is not None and reason in found)
