"""A ``cpu`` report as tables."""

from __future__ import annotations

from collections.abc import Iterator

from ..figures.answer import Json
from ..figures.table import Table, percent


def tables(content: Json) -> Iterator[Table]:
    """Yield what every engine reached, and how that compares with llama.cpp."""
    limits, absent = content["limits"], content["absent"]
    rows, over = [], []
    for case in content["cases"]:
        told, rates, limit = case["told"], case["tokens_per_s"], case["share_of_limit"]
        formats = " ".join(filter(None, (told.get("dtype"), told.get("quantization"))))
        prefill = (rates["prefill"]["p50"], percent(limit["prefill"]))
        decode = (rates["decode"]["p50"], percent(limit["decode"]))
        row = (case["arm"], formats or "as the file", *prefill, *decode, rates["streams"]["p50"])
        rows.append(row)
        for figure, found in case["over_llama_cpp"].items():
            over.append((case["arm"], figure, *found.values()))
    note = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
    if limits is not None:
        read, added = limits["read_gb_per_s"], limits["gflop_per_s"]
        note = f"The machine: {read:.1f} GB/s, {added:.0f} GFLOP/s in float32. {note}".strip()
    if rows:
        streams = f"{content['config']['streams']} at once"
        columns = ("engine", "weights", "prefill", "%", "decode", "% ", streams)
        title = "Tokens per second; % = of what the machine can"
        yield Table(title, columns, rows, note, text_columns=2)
    if texts := content.get("perplexity"):
        told = [
            (name, found, content["summary"].get(f"cpu.{name}.perplexity_over_llama_cpp"))
            for name, found in texts.items()
        ]
        title = f"Perplexity of {content['config']['text_tokens']} tokens, the file's own weights"
        yield Table(title, ("engine", "perplexity", "over llama.cpp"), told)
    if over:
        told = ("engine", "tokens per second", "p50", "p10", "p90")
        yield Table("Over llama.cpp, round by round", told, over, text_columns=2)
