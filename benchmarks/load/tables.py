"""The tables of a ``load`` report, all from its own JSON."""

from __future__ import annotations

from ..figures.answer import Json
from ..figures.table import Table


def tables(content: Json) -> list[Table]:
    """Return the ladder, the gateways and the peers, of what was measured."""
    found = [_ladder(content)] if content.get("cases") else []
    makers = {"gateway": _gateway, "peers": _peers}
    return found + [make(content[part]) for part, make in makers.items() if content.get(part)]


def _ladder(content: Json) -> Table:
    names = ("sessions", "speculation", "done", "p50 ms", "p95 ms", "p99 ms", "turns/s", "on/off")
    rows = [
        [
            rung["sessions"],
            mode,
            f"{one['outcomes'].get('completed', 0)}/{one['asked']}",
            *(one["ttft_ms"][level] for level in ("p50", "p95", "p99")),
            one["turns_per_s"],
            rung["on_over_off"]["p95"] if mode == "on" else None,
        ]
        for rung in content["cases"]
        for mode, one in rung["modes"].items()
    ]
    note = f"ended: {content['stopped_by'] or 'all rungs run'}"
    return Table("Commit to first token against live sessions", names, rows, note)


def _gateway(part: Json) -> Table:
    names = ("arm", "asked for", "way", "answers", "req/s", "p50 ms", "p99 ms", "core busy")
    rows = []
    for one in part["arms"]:
        wait = one["ttft_ms" if one["way"] == "stream" else "total_ms"]
        told = [one[name] for name in ("arm", "aim", "way", "answers", "requests_per_s")]
        rows.append([*told, wait["p50"], wait["p99"], one["proxy_core_busy"]])
    title = f"Gateways before a fake expert, {part['users']} concurrent"
    return Table(title, names, rows, part["litellm_absent"] or "", text_columns=3)


def _peers(part: Json) -> Table:
    names = ("arm", "done", "ttft p50 ms", "p95 ms", "over vLLM p50")
    rows = [
        [
            name,
            f"{one['completed']}/{one['asked']}",
            *(one["ttft_ms"][level] for level in ("p50", "p95")),
            one["ratio_p50"],
        ]
        for name, one in part["arms"].items()
    ]
    return Table("One workload through every server", names, rows)
