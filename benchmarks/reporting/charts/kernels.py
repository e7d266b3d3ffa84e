"""The plots of ``kernels`` and ``vllm-plugin`` reports: how many times faster, case by case."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.answer import Json
from .shared import Bar, bars, spread
from .style import Chart

_PEERS = {
    "scalar": "the scalar tier",
    "numpy": "NumPy",
    "torch": "torch",
    "vllm": "vLLM's own operator",
    "numkong": "NumKong",
}


def charts(content: Json) -> Iterator[Chart]:
    """Yield one plot per peer of the kernels, or the gains of the plugin."""
    if content["name"] == "vllm-plugin":
        yield _gains(content)
        return
    peers = dict.fromkeys(peer for case in content["cases"] for peer in case["speedup"])
    for peer in peers:
        found = [
            spread(f"{case['kernel']} {case['case']}", case["speedup"][peer])
            for case in content["cases"]
            if peer in case["speedup"]
        ]
        yield bars(
            f"kernels-vs-{peer.replace('_', '-')}",
            f"Kernels against {_PEERS.get(peer, peer)}",
            found,
            "time of the peer over ours",
            caption="Medians over turns on the same data, one thread; from p10 to p90.",
            reference=1.0,
            reference_label="as fast",
            log_x=True,
        )
    limited = [
        Bar(f"{case['kernel']} {case['case']}", case["share_of_limit"])
        for case in content["cases"]
        if case["share_of_limit"] is not None
    ]
    yield bars(
        "kernels-share-of-limit",
        "Kernels against the machine",
        limited,
        "share of what the machine can read or multiply and add",
        caption="Data that fit a cache may exceed what the memory can deliver.",
        reference=1.0,
        reference_label="limit",
    )


def _gains(content: Json) -> Chart:
    found = [
        spread(
            case["case"].replace(".top_p_", ", top_p ").replace(".batch_", ", batch "), case["gain"]
        )
        for case in content["cases"]
    ]
    return bars(
        "plugin-gain",
        "Tokens per second of vLLM with the kernels over without",
        found,
        "times as many tokens per second",
        caption="Medians over turns of two engines that are asked in turn; from p10 to p90.",
        reference=1.0,
        reference_label="as fast",
    )
