"""Which of vLLM's parsers reads the tool calls of a model, told from its chat template's marks.

Owns the table alone; the names are those of vLLM's registry.
"""

from __future__ import annotations

import re

NONE = "none"
"""As a setting: read nothing out of the answers."""

# The first parser counts all of whose marks stand in the template.
_TOOL_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("deepseek_v31", ("tool▁calls▁begin", "tool▁sep", "thinking")),
    ("deepseek_v3", ("tool▁calls▁begin",)),
    ("kimi_k2", ("<|tool_calls_section_begin|>",)),
    ("minimax_m2", ("<minimax:tool_call>",)),
    ("glm45", ("<arg_key>", "<tool_call>")),
    ("qwen3_coder", ("<function=", "<tool_call>")),
    ("seed_oss", ("<seed:tool_call>",)),
    ("longcat", ("<longcat_tool_call>",)),
    ("functiongemma", ("<start_function_call>",)),
    ("lfm2", ("<|tool_call_start|>",)),
    ("mistral", ("[TOOL_CALLS]",)),
    ("llama4_pythonic", ("<|header_start|>", "ipython")),
    ("llama3_json", ("<|start_header_id|>", "ipython")),
    ("phi4_mini_json", ("<|tool|>", "<|tool_call|>")),
    ("granite", ("<|tool_call|>", "<|start_of_role|>")),
    ("internlm", ("<|plugin|>",)),
    ("jamba", ("<tool_calls>",)),
    ("hermes", ("<tool_call>",)),
)
_KNOWS_TOOLS = re.compile(r"\btools\b")


def tool_parser(template: str) -> str | None:
    """Return the parser of a template's tool calls, None if its marks are not known.

    A template without a place for tools is told of them in words, and of Hermes' marks.
    """
    if not _KNOWS_TOOLS.search(template):
        return "hermes"
    return next((name for name, marks in _TOOL_MARKS if all(m in template for m in marks)), None)
