"""Draw docs/plots/turn-clock.svg: a turn on one time line, each setting where it acts.

``python docs/generator/turn_clock.py`` prints it; the values are the configuration's defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from livemind import (
    ConsensusConfig,
    LazyLoadingConfig,
    RagConfig,
    RouterConfig,
    ServerConfig,
    SpeculationConfig,
)

WIDTH, HEIGHT, AXIS = 1240, 462, 208
LAST_LEFT = 1100  # beyond it settings end at their moment instead of beginning there
SECTIONS = {
    "speculation": SpeculationConfig(),
    "router": RouterConfig(),
    "rag": RagConfig(),
    "consensus": ConsensusConfig(),
    "lazy_loading": LazyLoadingConfig(),
    "server": ServerConfig(),
}
# Place, name, what happens, the row of its settings, and these.
MOMENTS = (
    (50, "first key", "", 0, ("speculation.mode", "speculation.start_delay_ms")),
    (
        190,
        "a word ends",
        "again at each",
        1,
        (
            "router.fast_expert",
            "speculation.slice_tokens",
            "speculation.slice_ms",
            "speculation.max_prefill_tokens",
            "rag.deadline_ms",
        ),
    ),
    (350, "silence in a word", "it counts as finished", 0, ("router.settle_ms",)),
    (
        500,
        "the route settles",
        "",
        1,
        ("router.stable_confidence", "router.stable_updates"),
    ),
    (
        660,
        "a pause",
        "documents freeze",
        0,
        (
            "speculation.sentence_pause_ms",
            "speculation.pause_ms",
            "speculation.draft_budget_tokens",
            "speculation.draft_budget_ms",
            "speculation.max_draft_tokens",
            "speculation.max_waste_ratio",
        ),
    ),
    (
        860,
        "commit",
        "the final text counts",
        1,
        (
            "rag.commit_wait_ms",
            "rag.consistency",
            "router.deadline_ms",
            "lazy_loading.on_cold",
            "lazy_loading.queue_timeout_s",
            "consensus.deadline_ms",
        ),
    ),
    (1010, "first token", "", 0, ("speculation.foreground_share",)),
    (1180, "done", "", 1, ("server.turn_timeout_s",)),
)
# Row above the axis, first and last place, name, class.
WORK = (
    (
        0,
        190,
        1004,
        "routed, and passages fetched, at every word and once more for the final text",
        "ask",
    ),
    (1, 190, 500, "prefill: the fast expert", "fill"),
    (1, 506, 860, "prefill: the routed expert", "fill"),
    (2, 660, 860, "draft, hidden", "draft"),
    (2, 1010, 1180, "the answer", "answer"),
)
STYLE = """\
.card{fill:#fff;stroke:#d0d7de}.line{stroke:#57606a;stroke-width:2}.lead{stroke:#d0d7de}
text{font:13px system-ui,sans-serif;fill:#1f2328}.name{font-weight:600}
.note{fill:#57606a;font-size:12px}
.key{font:11.5px ui-monospace,monospace;paint-order:stroke;stroke:#fff;stroke-width:5px}
.dot{fill:#1f2328}.ask{fill:#ddf4ff}.fill{fill:#dafbe1}
.draft{fill:#fff8c5}.answer{fill:#fbefff}
@media(prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#30363d}.line{stroke:#9198a1}
.lead{stroke:#30363d}text{fill:#f0f6fc}.key{stroke:#0d1117}.note{fill:#9198a1}.dot{fill:#f0f6fc}.ask{fill:#0c2d6b}
.fill{fill:#0f5323}.draft{fill:#653e03}.answer{fill:#4c2889}}"""


def svg() -> str:
    """Return the picture."""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    about = "A turn from the first key to the end of the answer, with the settings that act in it"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{about}">',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
        *_work(),
        f'<path class="line" fill="none" d="M30 {AXIS}H{WIDTH - 24}m-8 -5l8 5l-8 5"/>',
        *_moments(),
        "</svg>",
    ]
    return "\n".join([*lines, ""])


def _work() -> Iterator[str]:
    for row, first, last, name, kind in WORK:
        y, width = 20 + 34 * row, last - first
        yield f'<rect class="{kind}" x="{first}" y="{y}" width="{width}" height="26" rx="4"/>'
        yield f'<text x="{first + 10}" y="{y + 18}">{escape(name)}</text>'


def _moments() -> Iterator[str]:
    for x, _, _, row, _ in MOMENTS:  # first, so that the text lies over them
        yield f'<path class="lead" d="M{x} {AXIS}V{230 + 112 * row}"/>'
    for x, name, note, row, keys in MOMENTS:
        top = 244 + 112 * row
        yield f'<circle class="dot" cx="{x}" cy="{AXIS}" r="5"/>'
        yield f'<text class="name" x="{x - 6}" y="{AXIS - 30}">{escape(name)}</text>'
        yield f'<text class="note" x="{x - 6}" y="{AXIS - 14}">{escape(note)}</text>'
        for place, key in enumerate(keys):
            anchor = ' text-anchor="end"' if x > LAST_LEFT else ""
            at = f'x="{x + 6 if anchor else x - 6}" y="{top + 16 * place}"{anchor}'
            yield f'<text class="key" {at}>{escape(f"{key} {_default(key)}")}</text>'


def _default(key: str) -> str:
    section, _, name = key.partition(".")
    value = getattr(SECTIONS[section], name)
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(svg(), end="")
